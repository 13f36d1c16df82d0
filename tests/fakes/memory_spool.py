"""MemorySpool: relay.ports.Spool without a disk; trusted because it passes tests/ports/test_spool.py like the real one."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from senderproxy.clock import Clock
from senderproxy.mail.address import Address, AddressError, ForwardPath, NullPath, parse_address, parse_pattern
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import Arrival, Claim, SpoolError, SpoolFull, SpoolUpdate, Totals
from senderproxy.spool.sqlite.upstream_id import upstream_id
from senderproxy.tracking.age_buckets import AGE_BUCKETS, age_bucket
from senderproxy.tracking.record import Event, MessageRecord, Query, RecipientState, RecipientStatus


@dataclass(frozen=True, slots=True)
class KeptBody:
    """The octets of a body in memory, with its properties."""

    octets: bytes
    is_ascii: bool
    has_long_lines: bool

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def disk(self) -> None:
        return None

    def blocks(self) -> Iterator[bytes]:
        if self.octets:
            yield self.octets

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(slots=True)
class Entry:
    """One message."""

    number: int
    submission: Submission
    size: int
    account: str
    author: str
    states: dict[ForwardPath, RecipientState]
    events: list[Event] = field(default_factory=list)
    faults: int = 0
    leased: bool = False
    finished_at: datetime | None = None

    @property
    def waiting(self) -> list[RecipientState]:
        return [state for state in self.states.values() if state.status is RecipientStatus.WAITING]

    @property
    def is_finished(self) -> bool:
        return all(state.status.is_final for state in self.states.values())

    @property
    def due_at(self) -> datetime:
        return min(state.due_at for state in self.waiting if state.due_at)


class MemorySpool:
    """relay.ports.Spool in memory. `fault`, if set, is raised by every method; `full`, by those that write."""

    def __init__(self, clock: Clock, history: timedelta = timedelta(days=30)) -> None:
        self.fault: SpoolError | None = None
        self.full: SpoolFull | None = None
        self.entries: dict[str, Entry] = {}
        self._clock = clock
        self._history = history
        self._number = 0

    # in

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        self._raise_fault()
        self._raise_full()
        ids = [arrival.submission.id for arrival in arrivals]
        if len(set(ids)) < len(ids) or any(ident in self.entries for ident in ids):
            raise SpoolError("a message of that id is there already")
        entries = [self._add(arrival) for arrival in arrivals]
        if not leased:
            return []
        return [self._lease(entry, lambda state: state.status is RecipientStatus.WAITING) for entry in entries]

    def note(self, arrival: Arrival) -> None:
        if self.fault is None and arrival.submission.id not in self.entries:
            self._add(arrival)

    def _add(self, arrival: Arrival) -> Entry:
        self._number += 1
        submission = arrival.submission
        entry = Entry(
            self._number,
            submission,
            submission.message.size,
            arrival.account,
            arrival.author,
            {path: _due(arrival.states[path], submission.received_at) for path in submission.envelope.recipients},
            list(arrival.events),
        )
        self.entries[submission.id] = entry
        if entry.is_finished:
            entry.finished_at = self._clock.now()
        else:
            body = submission.message.body
            kept = KeptBody(b"".join(body.blocks()), body.is_ascii, body.has_long_lines)
            entry.submission = replace(submission, message=Message(submission.message.header, kept))
        return entry

    # out

    async def claim(self, account: str, now: datetime) -> Claim | None:
        def is_due(state: RecipientState) -> bool:
            return state.status is RecipientStatus.WAITING and state.due_at is not None and state.due_at <= now

        return self._first(
            lambda entry: entry.account == account and entry.due_at <= now, lambda entry: entry.due_at, is_due
        )

    async def claim_expired(self, account: str, received_before: datetime) -> Claim | None:
        return self._first(
            lambda entry: entry.account == account and entry.submission.received_at < received_before,
            lambda entry: entry.submission.received_at,
            lambda state: state.status is RecipientStatus.WAITING,
        )

    async def claim_undelayed(self, received_before: datetime) -> Claim | None:
        def is_undelayed(state: RecipientState) -> bool:
            return state.status is RecipientStatus.WAITING and not state.delay_reported

        return self._first(
            lambda entry: entry.submission.received_at < received_before and any(map(is_undelayed, entry.waiting)),
            lambda entry: entry.submission.received_at,
            is_undelayed,
        )

    async def claim_one(self, message_id: str) -> Claim | None:
        self._raise_fault()
        entry = self.entries.get(message_id)
        if entry is None or entry.leased or entry.is_finished:
            return None
        return self._lease(entry, lambda state: not state.status.is_final)

    def _first(
        self,
        fits: Callable[[Entry], bool],
        key: Callable[[Entry], datetime],
        takes: Callable[[RecipientState], bool],
    ) -> Claim | None:
        self._raise_fault()
        found = [entry for entry in self.entries.values() if entry.waiting and not entry.leased and fits(entry)]
        if not found:
            return None
        return self._lease(min(found, key=lambda entry: (key(entry), entry.number)), takes)

    def _lease(self, entry: Entry, takes: Callable[[RecipientState], bool]) -> Claim:
        entry.leased = True
        due = {path: state for path, state in entry.states.items() if takes(state)}
        return Claim(entry.submission, entry.account, entry.author, due, entry.faults)

    # what becomes of it

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        entry = self.entries.get(claim.submission.id)
        if entry is None or not entry.leased:
            raise ValueError(f"message {claim.submission.id} is not leased")
        self._raise_fault()
        if verdict.states or verdict.events or verdict.reports or verdict.account is not None or verdict.faults:
            self._raise_full()
            await self.accept(*verdict.reports)
            for path, state in verdict.states.items():
                entry.states[path] = _due(state, entry.submission.received_at)
            entry.events += verdict.events
            entry.account = entry.account if verdict.account is None else verdict.account
            entry.faults = verdict.faults
            entry.finished_at = self._clock.now() if entry.is_finished else None
        entry.leased = False

    async def due(self, account: str | None = None) -> Mapping[str, datetime]:
        self._raise_fault()
        found: dict[str, datetime] = {}
        for entry in self.entries.values():
            if entry.waiting and not entry.leased and account in (None, entry.account):
                found[entry.account] = min(entry.due_at, found.get(entry.account, entry.due_at))
        return found

    async def shift(self, step: timedelta) -> None:
        self._raise_fault()
        for entry in self.entries.values():
            if entry.is_finished:
                continue
            entry.submission = replace(entry.submission, received_at=entry.submission.received_at + step)
            for path, state in entry.states.items():
                if state.status is RecipientStatus.WAITING and state.due_at is not None:
                    entry.states[path] = replace(state, due_at=state.due_at + step)

    # what people ask

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        self._raise_fault()
        if after is not None and after not in self.entries:
            return []
        try:
            found = [entry for entry in self.entries.values() if _fits(entry, query)]
        except AddressError:
            return []
        found.sort(key=lambda entry: entry.number, reverse=not query.unfinished)
        if after is not None:
            mark = self.entries[after].number
            found = [e for e in found if (e.number > mark if query.unfinished else e.number < mark)]
        return [_record(entry) for entry in found[:limit]]

    async def events(self, message_id: str) -> Sequence[Event]:
        self._raise_fault()
        entry = self.entries.get(message_id)
        return [] if entry is None else list(entry.events)

    async def header(self, message_id: str) -> HeaderSection | None:
        self._raise_fault()
        entry = self.entries.get(message_id)
        return None if entry is None or entry.is_finished else entry.submission.message.header

    async def totals(self) -> Sequence[Totals]:
        self._raise_fault()
        of: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if not entry.is_finished:
                of.setdefault(entry.account, []).append(entry)
        return [self._total(account, entries) for account, entries in sorted(of.items())]

    def _total(self, account: str, entries: list[Entry]) -> Totals:
        held = sum(any(s.status is RecipientStatus.HELD for s in e.states.values()) for e in entries)
        ages = Counter(age_bucket(self._clock.now() - e.submission.received_at) for e in entries)
        reasons = Counter(
            words for e in entries for s in e.states.values() if not s.status.is_final and (words := _reason(s))
        )
        return Totals(
            account,
            waiting=len(entries) - held,
            held=held,
            size=sum(e.size for e in entries),
            oldest=min(e.submission.received_at for e in entries),
            by_age=tuple(ages[index] for index in range(AGE_BUCKETS)),
            reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:5]),
        )

    # beside the port

    async def sweep(self, now: datetime) -> None:
        """Delete messages older than the history."""
        for ident, entry in list(self.entries.items()):
            if entry.finished_at is not None and entry.finished_at < now - self._history:
                del self.entries[ident]

    def restart(self) -> None:
        """A new process: no message is leased."""
        for entry in self.entries.values():
            entry.leased = False

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _raise_full(self) -> None:
        if self.full is not None:
            raise self.full


def _due(state: RecipientState, received_at: datetime) -> RecipientState:
    if state.status is not RecipientStatus.WAITING:
        return replace(state, due_at=None)
    return state if state.due_at is not None else replace(state, due_at=received_at)


def _reason(state: RecipientState) -> str:
    if state.status is RecipientStatus.HELD and state.why:
        return state.why
    return "" if state.reply is None else state.reply.text


def _matches(text: str, address: Address | NullPath) -> bool:
    return not isinstance(address, NullPath) and parse_pattern(text).matches(address)


def _fits(entry: Entry, query: Query) -> bool:
    submission = entry.submission
    message_id = _message_id(entry)
    checks = (
        query.id is None or query.id == submission.id or (message_id and message_id in (query.id, f"<{query.id}>")),
        query.account is None or query.account == entry.account,
        query.sender is None
        or _matches(query.sender, parse_address(entry.author))
        or _matches(query.sender, submission.envelope.reverse_path),
        any(_recipient_fits(path, state, query) for path, state in entry.states.items()),
        not (query.unfinished and entry.is_finished),
        query.since is None or submission.received_at >= query.since,
        query.until is None or submission.received_at < query.until,
    )
    return all(checks)


def _recipient_fits(path: ForwardPath, state: RecipientState, query: Query) -> bool:
    """True if one recipient matches all conditions about recipients."""
    named = upstream_id(state.reply) if state.reply is not None and state.status is RecipientStatus.DELIVERED else None
    return (
        (query.recipient is None or _matches(query.recipient, path))
        and (query.upstream_id is None or named == query.upstream_id)
        and (query.status is None or state.status is query.status)
    )


def _message_id(entry: Entry) -> str:
    values = entry.submission.message.header.values("Message-ID")
    return values[0].decode("ascii", "replace").replace("\r\n", "").strip() if values else ""


def _record(entry: Entry) -> MessageRecord:
    submission = entry.submission
    return MessageRecord(
        id=submission.id,
        received_at=submission.received_at,
        client=str(submission.client),
        listener=submission.listener,
        reverse_path=str(submission.envelope.reverse_path),
        author=entry.author,
        account=entry.account,
        size=entry.size,
        message_id=_message_id(entry),
        report_on=submission.report_on,
        recipients=dict(entry.states),
        leased=entry.leased,
    )
