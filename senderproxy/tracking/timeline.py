"""The story of a message in plain sentences, from its record and its events. PURE.

Guarantees: one line for each thing that happened, in order, with whom it was about where not everybody; then where the
message stands now, for each recipient. An event with fewer facts than today's still makes a sentence.
Not here: which messages are told of (cli.track, the web page), what is printed where.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from senderproxy.tracking.record import Blocked, Event, EventKind, MessageRecord, RecipientState, RecipientStatus

_NAMED: Final = 3  # recipients in one sentence
_SLOW: Final = 10.0  # seconds that an attempt may take without being remarked on


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence; `when` is the local time, or `now` for how things stand."""

    when: str
    words: str

    def __str__(self) -> str:
        return f"{self.when:<19}  {self.words}"


def headline(record: MessageRecord, zone: tzinfo | None) -> str:
    """Which message this is."""
    path = record.reverse_path or "<>"
    written = f", written by {record.author}" if record.author and record.author != record.reverse_path else ""
    kind = f"report {record.id} on message {record.report_on}" if record.report_on else f"message {record.id}"
    to = _count(len(record.recipients), "recipient")
    return f"{kind}: from {path}{written}, to {to}, {size_in_words(record.size)}, {at(record.received_at, zone)}"


def timeline_lines(record: MessageRecord, events: Sequence[Event], zone: tzinfo | None, now: datetime) -> list[Line]:
    """What happened, and where it stands now."""
    lines = [Line(at(event.at, zone), _sentence(event, record)) for event in events]
    if record.client and not any(event.kind is EventKind.ACCEPTED for event in events):
        # What only passed through was never ours, and its story tells what was done with it alone.
        lines.insert(0, Line(at(record.received_at, zone), f"came from {record.client} at listener {record.listener}"))
    return lines + [Line("now", words) for words in current_state(record, zone, now)]


def at(moment: datetime, zone: tzinfo | None) -> str:
    """A moment on the office's clock; on this machine's where no zone is named."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def size_in_words(octets: int) -> str:
    """A size as people say it."""
    if octets < 1000:
        return f"{octets} bytes"
    return f"{octets / 1000:.0f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


def time_in_words(length: timedelta) -> str:
    """A length of time as people say it."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h" if seconds < 48 * 3600 else f"{round(seconds / 86400)} days"


# ---- what happened ----


def _sentence(event: Event, record: MessageRecord) -> str:
    return _SENTENCES[event.kind](event.facts, _whom(event.recipients, record))


def _whom(recipients: Sequence[str], record: MessageRecord) -> str:
    """` for carl@...`; nothing where all are meant and there is only one, or nobody is named."""
    if not recipients:
        return ""
    if len(recipients) == len(record.recipients) > 1:
        return f" for all {len(recipients)} recipients"
    return f" for {named(recipients)}"


def named(recipients: Sequence[str]) -> str:
    """The first of them by name, the others by number."""
    shown = ", ".join(recipients[:_NAMED])
    return shown if len(recipients) <= _NAMED else f"{shown} and {len(recipients) - _NAMED} more"


def _count(count: int, what: str, several: str = "") -> str:
    return f"{count} {what if count == 1 else several or what + 's'}"


def _accepted(facts: Mapping[str, str], _: str) -> str:
    client = facts.get("client", "")
    if facts.get("mode") == "report":
        return "written here"
    taken = f"taken from {client}" if client else "taken"
    listener = f" at listener {facts['listener']}" if facts.get("listener") else ""
    account = f", account {facts['account']}" if facts.get("account") else ""
    author = f", author {facts['author']}" if facts.get("author") else ""
    mode = f" ({facts['mode']})" if facts.get("mode") else ""
    return f"{taken}{listener}{mode}{author}{account}"


def _changed(facts: Mapping[str, str], _: str) -> str:
    old = f" instead of {facts['old']}" if facts.get("old") else ""
    reason = f", because {facts['reason']}" if facts.get("reason") else ""
    what = facts.get("what", "something")
    return f"{what} left as {facts['new']}{old}{reason}" if facts.get("new") else f"{what} left out{reason}"


_NO: Final = ("", "no", "false", "0")
_OUTCOMES: Final = {"delivered": "the provider took it", "deferred": "not now", "failed": "refused"}


def _attempted(facts: Mapping[str, str], whom: str) -> str:
    outcome = _OUTCOMES.get(facts.get("outcome", ""), "tried")
    account = f" (account {facts['account']})" if facts.get("account") else ""
    slow = f". That took {facts['seconds']} s" if _seconds(facts) >= _SLOW else ""
    maybe = ". The provider may have it nevertheless" if facts.get("maybe_taken", "no").lower() not in _NO else ""
    return f"{outcome}{whom}{account}{_said(facts)}{maybe}{slow}"


def _seconds(facts: Mapping[str, str]) -> float:
    try:
        return float(facts.get("seconds", "0"))
    except ValueError:
        return 0.0


def _said(facts: Mapping[str, str]) -> str:
    return f": {facts['reply']}" if facts.get("reply") else ""


def _by(facts: Mapping[str, str]) -> str:
    return f" by {facts['by']}" if facts.get("by") else ""


def _why(facts: Mapping[str, str]) -> str:
    return f": {facts['why']}" if facts.get("why") else ""


_KINDS: Final = {
    "failed": " that it could not be delivered",
    "expired": " that it was given up",
    "delayed": " that it is late",
    "cancelled": " that it was cancelled",
}


def _reported(facts: Mapping[str, str], whom: str) -> str:
    to = facts.get("to") or "the author"
    report = f" (report {facts['report']})" if facts.get("report") else ""
    return f"told {to}{_KINDS.get(facts.get('kind', ''), ' what happened')}{whom}{report}"


_SENTENCES: Final[Mapping[EventKind, Callable[[Mapping[str, str], str], str]]] = {
    EventKind.ACCEPTED: _accepted,
    EventKind.REFUSED: lambda facts, _: f"not taken from the client{_said(facts)}",
    EventKind.CHANGED: _changed,
    EventKind.ATTEMPTED: _attempted,
    EventKind.DISCARDED: lambda facts, whom: f"discarded{whom}{_said(facts)}",
    EventKind.HELD: lambda facts, whom: f"held{whom}{_by(facts)}{_why(facts)}",
    EventKind.RELEASED: lambda facts, whom: f"released{whom}{_by(facts)}",
    EventKind.RETRIED: lambda facts, whom: f"to be tried at once{whom}, asked{_by(facts) or ' by hand'}",
    EventKind.CANCELLED: lambda facts, whom: f"cancelled{whom}{_by(facts)}",
    EventKind.EXPIRED: lambda facts, whom: f"given up{whom}, tried for as long as the settings say{_said(facts)}",
    EventKind.REPORTED: _reported,
    EventKind.UNREPORTED: lambda facts, whom: f"nobody is told{whom}{_why(facts)}",
    EventKind.FAULT: lambda facts, whom: f"an error here, in the middle of an attempt{whom}{_why(facts)}",
}


# ---- where it stands ----


def current_state(record: MessageRecord, zone: tzinfo | None, now: datetime) -> list[str]:
    """One sentence for each group of recipients that stand alike."""
    groups: dict[str, list[str]] = {}
    for path, state in record.recipients.items():
        groups.setdefault(_state_in_words(state, record, zone, now), []).append(str(path))
    if len(groups) == 1 and len(record.recipients) > 1:
        return [f"all {len(record.recipients)} recipients: {words}" for words in groups]
    return [f"{named(paths)}: {words}" for words, paths in groups.items()]


def _state_in_words(state: RecipientState, record: MessageRecord, zone: tzinfo | None, now: datetime) -> str:
    last = f"; the last answer: {state.reply}" if state.reply else ""
    match state.status:
        case RecipientStatus.WAITING if record.leased:
            return "being tried right now"
        case RecipientStatus.WAITING:
            soon = next_try(state.due_at, record.blocked, zone, now)
            # What keeps its whole account back is no try of this message.
            tries = "" if not state.tries and (state.reply or record.blocked) else f"{_tries(state)}, "
            return f"waiting, {tries}next try {soon}{_stopped(record.blocked, state, last)}"
        case RecipientStatus.HELD:
            why = f"held: {state.why}" if state.why and not state.why.startswith("held") else state.why or "held"
            return f"{why} ({_tries(state)}){last}"
        case RecipientStatus.DELIVERED:
            return "delivered"
        case RecipientStatus.FAILED:
            return f"refused{last}"
        case RecipientStatus.EXPIRED:
            return f"given up after {_count(state.tries, 'try', 'tries')}{last}"
        case RecipientStatus.CANCELLED:
            return "cancelled"
        case RecipientStatus.DISCARDED:
            return "discarded"
        case RecipientStatus.DEFERRED:
            return f"not taken: its client has it still{last}"


def next_try(due_at: datetime | None, blocked: Blocked | None, zone: tzinfo | None, now: datetime) -> str:
    """When it is tried again: the clock's time, and how long that is from now; not before its account can send."""
    if due_at is None:
        return "unknown"
    if blocked is not None:
        if blocked.until is None:
            return "as soon as its account can send again"
        due_at = max(due_at, blocked.until)
    return "now" if due_at <= now else f"{at(due_at, zone)} (in {time_in_words(due_at - now)})"


def blocked_in_words(blocked: Blocked, zone: tzinfo | None, now: datetime) -> str:
    """For how long an account cannot send."""
    if blocked.until is None:
        return "until that is mended"
    return f"before {at(blocked.until, zone)} (in {time_in_words(blocked.until - now)})"


def _stopped(blocked: Blocked | None, state: RecipientState, last: str) -> str:
    """What keeps its account from sending, which is often what was said last."""
    if blocked is None:
        return last
    stopped = f"; its account cannot send: {blocked.why}"
    return stopped if blocked.why == str(state.reply) else stopped + last


def _tries(state: RecipientState) -> str:
    return f"tried {_count(state.tries, 'time')}" if state.tries else "not tried yet"
