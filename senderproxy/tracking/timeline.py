"""Timeline of a message: one line for each event, then its current state. PURE.

Guarantees: one line for each event, in order, with the recipients it concerns unless it concerns all; then one line for
each group of recipients in the same state. An event without some of today's facts still has a sentence.
Not here: the messages shown and the output (cli.track, cli.queue).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reasons import is_text_of_ours, part_in_words, reason_in_words, value_in_words
from senderproxy.tracking.record import (
    Blocked,
    CopyState,
    Event,
    EventKind,
    Lane,
    MessageRecord,
    RecipientState,
    RecipientStatus,
)
from senderproxy.translation import N_, _, ngettext, shown_text

WORDS_COLUMN: Final = 21  # where the words of a line begin, after a time and two blanks
_NAMED: Final = 3  # recipients that a sentence lists; more would not fit on a line
_SLOW: Final = 10.0  # seconds; the duration of a longer attempt is shown


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `when` is the local time, or `now` for the current state."""

    when: str
    words: str

    def __str__(self) -> str:
        return f"{self.when:<{WORDS_COLUMN - 2}}  {self.words}"


def headline(record: MessageRecord, zone: tzinfo | None) -> str:
    """The message in one line: id, reverse-path, author, recipients, size, time of reception, subject if it is kept."""
    kind = (
        _("report {id} on message {message}").format(id=record.id, message=record.report_on)
        if record.report_on
        else _("message {id}").format(id=record.id)
    )
    differs = record.author and record.author != record.reverse_path
    recipients = len(record.recipients)
    parts = (
        _("from {path}").format(path=record.reverse_path or "<>"),
        *([_("author {author}").format(author=record.author)] if differs else ()),
        ngettext("to {count} recipient", "to {count} recipients", recipients).format(count=recipients),
        size_in_words(record.size),
        format_time(record.received_at, zone),
        *([_("subject: {subject}").format(subject=record.subject)] if record.subject else ()),
    )
    return f"{kind}: {', '.join(parts)}"


def timeline_lines(record: MessageRecord, events: Sequence[Event], zone: tzinfo | None, now: datetime) -> list[Line]:
    """The events of a message and its current state. `zone`: None for the time zone of this machine."""
    lines = [Line(format_time(event.at, zone), _sentence(event, record)) for event in events]
    if record.client and not any(event.kind is EventKind.ACCEPTED for event in events):
        # A message that passed through was never accepted: its events are only those of its relaying.
        received = _("received from {client} at listener {listener}").format(
            client=record.client, listener=record.listener
        )
        lines.insert(0, Line(format_time(record.received_at, zone), received))
    return lines + [Line(_("now"), words) for words in current_state(record, zone, now)]


def format_time(time: datetime, zone: tzinfo | None) -> str:
    """The time in that zone; in the time zone of this machine if it is None."""
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def size_in_words(octets: int) -> str:
    """A size, rounded, with its unit."""
    if octets < 1000:
        return ngettext("{count} byte", "{count} bytes", octets).format(count=octets)
    return f"{octets / 1000:.0f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


def time_in_words(length: timedelta) -> str:
    """A duration, rounded, with its unit."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    days = round(seconds / 86400)
    return ngettext("{count} day", "{count} days", days).format(count=days)


# ---- events ----


def _sentence(event: Event, record: MessageRecord) -> str:
    return _SENTENCES[event.kind](event.facts, _for_recipients(event.recipients, record))


def _for_recipients(recipients: Sequence[str], record: MessageRecord) -> str:
    """` for carl@...`; empty for an event of the message as a whole."""
    if not recipients:
        return ""
    count = len(recipients)
    if count == len(record.recipients) > 1:
        return ngettext(" for all {count} recipient", " for all {count} recipients", count).format(count=count)
    return _(" for {recipients}").format(recipients=named(recipients))


def named(recipients: Sequence[str]) -> str:
    """The first recipients, and the number of the others."""
    shown = ", ".join(recipients[:_NAMED])
    more = len(recipients) - _NAMED
    return (
        shown
        if more <= 0
        else ngettext("{shown} and {count} more", "{shown} and {count} more", more).format(shown=shown, count=more)
    )


def _accepted(facts: Mapping[str, str], _recipients: str) -> str:
    if facts.get("mode") == "report":
        return _("report created")
    client = facts.get("client", "")
    accepted = _("accepted from {client}").format(client=client) if client else _("accepted")
    listener = _(" at listener {listener}").format(listener=facts["listener"]) if facts.get("listener") else ""
    mode = f" ({facts['mode']})" if facts.get("mode") else ""
    author = _(", author {author}").format(author=facts["author"]) if facts.get("author") else ""
    account = _(", account {account}").format(account=facts["account"]) if facts.get("account") else ""
    return f"{accepted}{listener}{mode}{author}{account}"


def _changed(facts: Mapping[str, str], recipients: str) -> str:
    what = facts.get("what", "")
    field = part_in_words(what) or _("a field")
    reason = _(", because {reason}").format(reason=reason_in_words(facts["reason"])) if facts.get("reason") else ""
    if is_text_of_ours(what) and facts.get("new"):
        return f"{field}: {value_in_words(what, facts['new'])}{recipients}{reason}"
    if not {"old", "new"} & facts.keys():  # a subject, whose text is not stored here
        return _("{field} changed").format(field=field) + recipients + reason
    if not facts.get("new"):
        return _("{field} removed").format(field=field) + recipients + reason
    old = _(" from {old}").format(old=facts["old"]) if facts.get("old") else ""
    return _("{field} changed{old} to {new}").format(field=field, old=old, new=facts["new"]) + recipients + reason


_NO: Final = ("", "no", "false", "0")
_OUTCOMES: Final = {
    "delivered": N_("accepted by the provider"),
    "deferred": N_("deferred by the provider"),
    "failed": N_("refused by the provider"),
}

_BY_WAY: Final = {  # of a server without a login
    "delivered": N_("accepted by the server"),
    "deferred": N_("deferred by the server"),
    "failed": N_("refused by the server"),
}


def _attempted(facts: Mapping[str, str], recipients: str) -> str:
    outcome = _(_OUTCOMES.get(facts.get("outcome", ""), N_("attempted")))
    account = _by_account(facts)
    if facts.get("way"):
        outcome = _(_BY_WAY.get(facts.get("outcome", ""), N_("attempted")))
        account = f" ({facts['way']})"
    slow = _("; took {seconds} s").format(seconds=facts["seconds"]) if _seconds(facts) >= _SLOW else ""
    is_unknown = facts.get("maybe_taken", "no").lower() not in _NO
    maybe = _("; the provider may have accepted it nevertheless") if is_unknown else ""
    sender = _("; the sender replaced by {address}").format(address=facts["sent_as"]) if facts.get("sent_as") else ""
    return f"{outcome}{recipients}{account}{_reply(facts)}{sender}{_footer(facts)}{maybe}{slow}"


def _footer(facts: Mapping[str, str]) -> str:
    """A note about the footer of a message that left."""
    match facts.get("footer"):
        case None | "":
            return ""
        case "added":
            return _("; with its footer")
        case reason:
            return _("; without its footer: {reason}").format(reason=_(reason))


_CAUSES: Final = {
    "unreachable": N_("whose provider cannot be reached"),
    "suspended": N_("which is suspended"),
    "paused": N_("which is paused"),
    "limit": N_("which has reached its limit"),
}
_UNKNOWN_CAUSE: Final = N_("which cannot send")


def _by_account(facts: Mapping[str, str]) -> str:
    """The account that sent; for a fallback also the account of the message, and why that did not."""
    if not facts.get("account"):
        return ""
    if not facts.get("instead_of"):
        return _(" (account {account})").format(account=facts["account"])
    text = _(" (account {account}, the fallback of {first}, {cause}: {why})")
    cause = _(_CAUSES.get(facts.get("cause", ""), _UNKNOWN_CAUSE))
    return text.format(account=facts["account"], first=facts["instead_of"], cause=cause, why=facts.get("why", ""))


def _seconds(facts: Mapping[str, str]) -> float:
    try:
        return float(facts.get("seconds", "0"))
    except ValueError:
        return 0.0


def _reply(facts: Mapping[str, str]) -> str:
    return f": {facts['reply']}" if facts.get("reply") else ""


def _hint(facts: Mapping[str, str]) -> str:
    return _(". To fix: {hint}").format(hint=facts["hint"]) if facts.get("hint") else ""


def _by(facts: Mapping[str, str]) -> str:
    return _(" by {user}").format(user=facts["by"]) if facts.get("by") else ""


def _why(facts: Mapping[str, str]) -> str:
    return f": {facts['why']}" if facts.get("why") else ""


_REPORTS: Final = {
    "failed": N_("failure report"),
    "expired": N_("expiry report"),
    "delayed": N_("delay report"),
    "cancelled": N_("cancellation report"),
}


def _reported(facts: Mapping[str, str], recipients: str) -> str:
    kind = _(_REPORTS.get(facts.get("kind", ""), N_("report")))
    to = facts.get("to") or _("the author")
    report = f" ({facts['report']})" if facts.get("report") else ""
    return _("{report} sent to {address}").format(report=kind, address=to) + recipients + report


_COPIES: Final = {
    CopyState.WAITING.value: N_("copy for the Sent folder waits"),
    CopyState.STORED.value: N_("copy stored in the Sent folder"),
    CopyState.LOST.value: N_("copy for the Sent folder lost"),
    CopyState.GIVEN_UP.value: N_("copy for the Sent folder given up"),
    CopyState.DROPPED.value: N_("copy for the Sent folder dropped: the account has no copies any more"),
}


def _copy(facts: Mapping[str, str], _recipients: str) -> str:
    state = facts.get("state", "")
    if state == CopyState.STORED.value and facts.get("folder"):
        words = _("copy stored in the folder {folder}").format(folder=facts["folder"])
    else:
        words = _(_COPIES.get(state, N_("copy for the Sent folder")))
    account = _(" (account {account})").format(account=facts["account"]) if facts.get("account") else ""
    why = f": {shown_text(facts.get('why_text', '')) or _(facts['why'])}" if facts.get("why") else ""
    note = f"; {_(facts['note'])}" if facts.get("note") else ""
    return words + account + why + note


_SENTENCES: Final[Mapping[EventKind, Callable[[Mapping[str, str], str], str]]] = {
    EventKind.ACCEPTED: _accepted,
    EventKind.REFUSED: lambda facts, _recipients: _("refused to the client") + _reply(facts) + _hint(facts),
    EventKind.CHANGED: _changed,
    EventKind.ATTEMPTED: _attempted,
    EventKind.DISCARDED: lambda facts, recipients: _("discarded") + recipients + _reply(facts),
    EventKind.HELD: lambda facts, recipients: _("held") + recipients + _by(facts) + _why(facts),
    EventKind.RELEASED: lambda facts, recipients: _("released") + recipients + _by(facts),
    EventKind.RETRIED: lambda facts, recipients: _("retry requested") + recipients + _by(facts),
    EventKind.CANCELLED: lambda facts, recipients: _("cancelled") + recipients + _by(facts),
    EventKind.EXPIRED: lambda facts, recipients: _("expired, given up") + recipients + _reply(facts),
    EventKind.REPORTED: _reported,
    EventKind.UNREPORTED: lambda facts, recipients: _("no report sent") + recipients + _why(facts),
    EventKind.FAULT: lambda facts, recipients: _("internal error in an attempt") + recipients + _why(facts),
    EventKind.COPY: _copy,
}


# ---- current state ----


def current_state(record: MessageRecord, zone: tzinfo | None, now: datetime) -> list[str]:
    """One sentence for each group of recipients in the same state."""
    groups: dict[str, list[str]] = {}
    for path, state in record.recipients.items():
        groups.setdefault(_state_in_words(path, state, record, zone, now), []).append(str(path))
    count = len(record.recipients)
    if len(groups) == 1 and count > 1:
        everyone = ngettext("all {count} recipient", "all {count} recipients", count).format(count=count)
        return [f"{everyone}: {words}" for words in groups]
    return [f"{named(paths)}: {words}" for words, paths in groups.items()]


def _state_in_words(
    path: ForwardPath, state: RecipientState, record: MessageRecord, zone: tzinfo | None, now: datetime
) -> str:
    blocked, lane = record.blocked_for(path), record.lanes.get(path)
    last = _("; last reply: {reply}").format(reply=state.reply) if state.reply else ""
    match state.status:
        case RecipientStatus.WAITING if record.leased:
            return _("attempt in progress")
        case RecipientStatus.WAITING:
            time = next_try(record.due_at(state), blocked, zone, now)
            # A reply without an attempt is that of a blocked account.
            attempts = "" if not state.tries and (state.reply or blocked) else f"{_attempts(state)}, "
            waiting = _("waiting, {attempts}next attempt {time}").format(attempts=attempts, time=time)
            if lane is not None:
                waiting = _("{waiting} by {way}").format(waiting=waiting, way=way_in_words(lane))
            return waiting + _blocked_by(blocked, state, last, lane)
        case RecipientStatus.HELD:
            why = _("held: {why}").format(why=state.why) if _needs_held(state.why) else state.why or _("held")
            return f"{why} ({_attempts(state)}){last}"
        case RecipientStatus.DELIVERED:
            return _("delivered")
        case RecipientStatus.FAILED:
            return _("refused") + last
        case RecipientStatus.EXPIRED:
            return _("given up after {attempts}").format(attempts=_attempts(state)) + last
        case RecipientStatus.CANCELLED:
            return _("cancelled")
        case RecipientStatus.DISCARDED:
            return _("discarded")
        case RecipientStatus.DEFERRED:
            return _("deferred, and not queued: the client still has it") + last


def _needs_held(why: str) -> bool:
    return bool(why) and not why.startswith("held")  # as in `held by root`


def next_try(due_at: datetime | None, blocked: Blocked | None, zone: tzinfo | None, now: datetime) -> str:
    """The time of the next attempt, and how long until then; not before the account can send."""
    if due_at is None:
        return _("unknown")
    if blocked is not None:
        if blocked.until is None:
            return _("when its account can send again")
        due_at = max(due_at, blocked.until)
    return _("now") if due_at <= now else _with_distance(due_at, zone, now)


def blocked_in_words(blocked: Blocked, zone: tzinfo | None, now: datetime) -> str:
    """The end of a block of an account."""
    if blocked.until is None:
        return _("until the cause is fixed")
    return _("until {time}").format(time=_with_distance(blocked.until, zone, now))


def _with_distance(time: datetime, zone: tzinfo | None, now: datetime) -> str:
    return _("{time} (in {distance})").format(time=format_time(time, zone), distance=time_in_words(time - now))


def way_in_words(lane: Lane) -> str:
    """A lane as the log names it: `smarthost relay`, `account anna`."""
    return f"{lane.kind} {lane.name}"


def _blocked_by(blocked: Blocked | None, state: RecipientState, last: str, lane: Lane | None) -> str:
    """The reason why the account or server is blocked; often the last reply."""
    if blocked is None:
        return last
    text = _("; its account cannot send: {why}") if lane is None else _("; it takes nothing now: {why}")
    reason = text.format(why=blocked.why)
    return reason if blocked.why == str(state.reply) else reason + last


def _attempts(state: RecipientState) -> str:
    if not state.tries:
        return _("no attempt yet")
    return ngettext("{count} attempt", "{count} attempts", state.tries).format(count=state.tries)
