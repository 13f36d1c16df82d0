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
from senderproxy.relay.ports import (
    Arrival,
    Claim,
    JobClaim,
    JobTotals,
    Lease,
    NewJob,
    SpoolError,
    SpoolFull,
    SpoolUpdate,
    Totals,
)
from senderproxy.spool.sqlite.clock_step import ClockStep
from senderproxy.spool.sqlite.upstream_id import upstream_id
from senderproxy.tracking.age_buckets import AGE_BUCKETS, age_bucket
from senderproxy.tracking.record import (
    ACCOUNT_LANE,
    Event,
    HourCount,
    Lane,
    MessageRecord,
    Query,
    RecipientState,
    RecipientStatus,
)


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
class JobEntry:
    """One job."""

    job: NewJob
    message: str
    added_at: datetime
    due_at: datetime
    attempts: int = 0
    why: str = ""
    lease: str = ""  # id; empty: none


@dataclass(slots=True)
class Entry:
    """One message."""

    number: int
    submission: Submission
    size: int
    account: str
    author: str
    states: dict[ForwardPath, RecipientState]  # without the time left
    due: dict[ForwardPath, datetime]  # of the waiting recipients
    lanes: dict[ForwardPath, Lane]
    events: list[Event] = field(default_factory=list)
    faults: int = 0
    leases: dict[str, Lane | None] = field(default_factory=dict)  # by id; None: of all lanes
    finished_at: datetime | None = None

    @property
    def waiting(self) -> list[RecipientState]:
        return [state for state in self.states.values() if state.status is RecipientStatus.WAITING]

    @property
    def is_finished(self) -> bool:
        return all(state.status.is_final for state in self.states.values())

    def due_at(self, lane: Lane) -> datetime | None:
        return min((at for path, at in self.due.items() if self.lanes[path] == lane), default=None)

    def is_free(self, lane: Lane | None) -> bool:
        if lane is None:
            return not self.leases
        return lane not in self.leases.values() and None not in self.leases.values()


class MemorySpool:
    """relay.ports.Spool in memory. `fault`, if set, is raised by every method; `full`, by those that write."""

    def __init__(self, clock: Clock, history: timedelta = timedelta(days=30)) -> None:
        self.fault: SpoolError | None = None
        self.full: SpoolFull | None = None
        self.entries: dict[str, Entry] = {}
        self._clock = clock
        self._history = history
        self.jobs: list[JobEntry] = []
        self._number = 0
        self._leases = 0
        self._wake: Callable[[Lane | None], None] = lambda _: None
        self._step = ClockStep()
        self._step.start(clock.now(), clock.monotonic())

    # time

    def on_wake(self, wake: Callable[[Lane | None], None]) -> None:
        self._wake = wake

    def age(self, claim: Claim) -> timedelta | None:
        self._now()
        if not self._step.ages_trusted(self._clock.monotonic()):
            return None
        entry = next((entry for entry in self.entries.values() if claim.lease.id in entry.leases), None)
        submission = claim.submission if entry is None else entry.submission
        return self._clock.now() - submission.received_at

    def _now(self) -> datetime:
        """The time, after a move of what waits if the clock was set."""
        now = self._clock.now()
        step = self._step.detect(now, self._clock.monotonic())
        if step is not None:
            for entry in self.entries.values():
                if not entry.is_finished:
                    received_at = entry.submission.received_at + step
                    entry.submission = replace(entry.submission, received_at=received_at)
                    entry.due = {path: due_at + step for path, due_at in entry.due.items()}
            for job in self.jobs:
                job.due_at, job.added_at = job.due_at + step, job.added_at + step
            self._wake(None)
        return now

    # in

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        self._raise_fault()
        self._raise_full()
        ids = [arrival.submission.id for arrival in arrivals]
        if len(set(ids)) < len(ids) or any(ident in self.entries for ident in ids):
            raise SpoolError("a message of that id is there already")
        now = self._now()
        entries = [self._add(arrival, now) for arrival in arrivals]
        if not leased:
            return []
        return [
            self._lease(entry, lambda entry, path: entry.states[path].status is RecipientStatus.WAITING, None)
            for entry in entries
        ]

    def note(self, arrival: Arrival) -> None:
        if self.fault is None and arrival.submission.id not in self.entries:
            self._add(arrival, self._clock.now())

    def _add(self, arrival: Arrival, now: datetime) -> Entry:
        self._number += 1
        submission = arrival.submission
        entry = Entry(
            self._number,
            submission,
            submission.message.size,
            arrival.account,
            arrival.author,
            {path: replace(arrival.states[path], due_in=None) for path in submission.envelope.recipients},
            {
                path: submission.received_at if state.due_in is None else now + state.due_in
                for path, state in arrival.states.items()
                if state.status is RecipientStatus.WAITING
            },
            {
                path: arrival.lanes.get(path, Lane.of_account(arrival.account))
                for path in submission.envelope.recipients
            },
            list(arrival.events),
        )
        self.entries[submission.id] = entry
        self._add_jobs(arrival.jobs, submission.id, now)
        if entry.is_finished:
            entry.finished_at = self._clock.now()
        if not entry.is_finished or self._holds(submission.id):
            body = submission.message.body
            kept = KeptBody(b"".join(body.blocks()), body.is_ascii, body.has_long_lines)
            entry.submission = replace(submission, message=Message(submission.message.header, kept))
        return entry

    # out

    async def claim(self, lane: Lane, limit: int) -> Sequence[Claim]:
        now = self._now()

        def is_due(entry: Entry, path: ForwardPath) -> bool:
            return entry.lanes[path] == lane and path in entry.due and entry.due[path] <= now

        return self._first(lambda entry: entry.due_at(lane), is_due, lane, limit)

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        now = self._now()
        if not self._step.ages_trusted(self._clock.monotonic()):
            return []

        def is_expired(entry: Entry, path: ForwardPath) -> bool:
            return now - entry.submission.received_at > age and entry.lanes[path] == lane and path in entry.due

        return self._first(lambda entry: entry.submission.received_at, is_expired, lane, limit)

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        now = self._now()

        def is_undelayed(entry: Entry, path: ForwardPath) -> bool:
            is_old = now - entry.submission.received_at > age
            return is_old and path in entry.due and not entry.states[path].delay_reported

        return self._first(lambda entry: entry.submission.received_at, is_undelayed, None, limit)

    async def claim_one(self, message_id: str) -> Claim | None:
        self._raise_fault()
        entry = self.entries.get(message_id)
        if entry is None or entry.leases or entry.is_finished:
            return None
        return self._lease(entry, lambda entry, path: not entry.states[path].status.is_final, None)

    def _first(
        self,
        key: Callable[[Entry], datetime | None],
        takes: Callable[[Entry, ForwardPath], bool],
        lane: Lane | None,
        limit: int,
    ) -> Sequence[Claim]:
        self._raise_fault()
        found = [
            (at, entry.number, entry)
            for entry in self.entries.values()
            if entry.is_free(lane)
            and any(takes(entry, path) for path in entry.states)
            and (at := key(entry)) is not None
        ]
        return [self._lease(entry, takes, lane) for _, _, entry in sorted(found, key=lambda one: one[:2])[:limit]]

    def _lease(self, entry: Entry, takes: Callable[[Entry, ForwardPath], bool], lane: Lane | None) -> Claim:
        self._leases += 1
        lease = str(self._leases)
        entry.leases[lease] = lane
        due = {path: state for path, state in entry.states.items() if takes(entry, path)}
        lanes = {entry.lanes[path] for path in due}
        only = lanes.pop() if len(lanes) == 1 else None
        account = only.name if only is not None and only.kind == ACCOUNT_LANE else entry.account
        return Claim(Lease(lease), only, entry.submission, account, entry.author, due, entry.faults)

    # what becomes of it

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        entry = self.entries.get(claim.submission.id)
        if entry is None or claim.lease.id not in entry.leases:
            raise ValueError(f"message {claim.submission.id} is not leased")
        self._raise_fault()
        moves = verdict.lanes or verdict.account is not None
        if verdict.states or verdict.events or verdict.reports or verdict.jobs or moves or verdict.faults:
            self._raise_full()
            await self.accept(*verdict.reports)
            now = self._now()
            for path, state in verdict.states.items():
                entry.states[path] = replace(state, due_in=None)
                due_at = entry.due.pop(path, now) if state.due_in is None else now + state.due_in
                if state.status is RecipientStatus.WAITING:
                    entry.due[path] = due_at
                else:
                    entry.due.pop(path, None)
            entry.events += verdict.events
            if verdict.account is not None:
                entry.account = verdict.account
                leased = entry.leases[claim.lease.id]
                for path, state in entry.states.items():
                    if not state.status.is_final and leased in (None, entry.lanes[path]):
                        entry.lanes[path] = Lane.of_account(verdict.account)
            entry.lanes |= verdict.lanes
            self._add_jobs(verdict.jobs, claim.submission.id, now)
            entry.faults = verdict.faults
            entry.finished_at = self._clock.now() if entry.is_finished else None
        del entry.leases[claim.lease.id]
        if (
            entry.is_finished
            and not verdict.leaves_history
            and not any(one.message == claim.submission.id for one in self.jobs)
        ):
            del self.entries[claim.submission.id]
        if claim.lane is None:
            self._wake(None)

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        self._raise_fault()
        found: dict[Lane, timedelta] = {}
        now = self._now()
        for entry in self.entries.values():
            for path, at in entry.due.items():
                where = entry.lanes[path]
                if lane in (None, where) and entry.is_free(where):
                    found[where] = min(at - now, found.get(where, at - now))
        return found

    # jobs

    def _add_jobs(self, jobs: Sequence[NewJob], message: str, now: datetime) -> None:
        self.jobs += [JobEntry(job, message, now, now + job.due_in) for job in jobs]

    def _holds(self, message: str) -> bool:
        return any(one.message == message and one.job.holds_content for one in self.jobs)

    async def claim_jobs(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        self._raise_fault()
        now = self._now()
        due = [one for one in self.jobs if (one.job.kind, one.job.lane) == (kind, lane) and one.due_at <= now]
        claims: list[JobClaim] = []
        for one in sorted((one for one in due if not one.lease), key=lambda one: one.due_at)[:limit]:
            self._leases += 1
            one.lease = str(self._leases)
            submission = self.entries[one.message].submission if one.job.holds_content else None
            age = now - one.added_at
            claims.append(
                JobClaim(Lease(one.lease), kind, lane, one.job.payload, one.attempts, one.why, submission, age)
            )
        return claims

    async def settle_job(
        self, claim: JobClaim, *, retry_in: timedelta | None = None, why: str = "", events: Sequence[Event] = ()
    ) -> None:
        self._raise_fault()
        found = [one for one in self.jobs if one.lease == claim.lease.id]
        if not found:
            raise ValueError(f"the job of kind {claim.kind} is not leased")
        self.entries[found[0].message].events += events
        if retry_in is None:
            self.jobs.remove(found[0])
        else:
            found[0].due_at = self._now() + retry_in
            found[0].attempts, found[0].why, found[0].lease = found[0].attempts + 1, why, ""

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        self._raise_fault()
        now, found = self._now(), dict[Lane, timedelta]()
        for one in self.jobs:
            if one.job.kind == kind and not one.lease:
                found[one.job.lane] = min(one.due_at - now, found.get(one.job.lane, one.due_at - now))
        return found

    async def job_totals(self) -> Sequence[JobTotals]:
        self._raise_fault()
        now = self._now()
        ages: dict[tuple[str, Lane], list[timedelta]] = {}
        for one in self.jobs:
            ages.setdefault((one.job.kind, one.job.lane), []).append(now - one.added_at)
        return [JobTotals(*of, len(found), 0, max(found)) for of, found in sorted(ages.items())]

    # what people ask

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        self._raise_fault()
        if after is not None and after not in self.entries:
            return []
        try:
            found = [entry for entry in self.entries.values() if _fits(entry, query)]
        except AddressError:
            return []
        now = self._now()
        found.sort(key=lambda entry: entry.number, reverse=not query.unfinished)
        if after is not None:
            mark = self.entries[after].number
            found = [e for e in found if (e.number > mark if query.unfinished else e.number < mark)]
        return [_record(entry, now) for entry in found[:limit]]

    async def events(self, message_id: str) -> Sequence[Event]:
        self._raise_fault()
        entry = self.entries.get(message_id)
        return [] if entry is None else list(entry.events)

    async def header(self, message_id: str) -> HeaderSection | None:
        self._raise_fault()
        entry = self.entries.get(message_id)
        if entry is None or (entry.is_finished and not self._holds(message_id)):
            return None
        return entry.submission.message.header

    async def totals(self) -> Sequence[Totals]:
        self._raise_fault()
        self._now()
        of: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if not entry.is_finished:
                of.setdefault(entry.account, []).append(entry)
        return [self._total(account, entries) for account, entries in sorted(of.items())]

    async def counts_by_hour(self, since: datetime) -> Sequence[HourCount]:
        self._raise_fault()
        counts = Counter(
            (entry.submission.received_at.replace(minute=0, second=0, microsecond=0), state.status)
            for entry in self.entries.values()
            if entry.submission.received_at >= since
            for state in entry.states.values()
        )
        return [HourCount(hour, status, count) for (hour, status), count in sorted(counts.items(), key=str)]

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
            has_job = any(one.message == ident for one in self.jobs)
            if entry.finished_at is not None and entry.finished_at < now - self._history and not has_job:
                del self.entries[ident]

    def restart(self) -> None:
        """A new process: no message is leased."""
        for entry in self.entries.values():
            entry.leases.clear()
        for job in self.jobs:
            job.lease = ""
        self._step.start(self._clock.now(), self._clock.monotonic())

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _raise_full(self) -> None:
        if self.full is not None:
            raise self.full


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


def _record(entry: Entry, now: datetime) -> MessageRecord:
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
        recipients={
            path: replace(state, due_in=entry.due[path] - now if path in entry.due else None)
            for path, state in entry.states.items()
        },
        as_of=now,
        leased=bool(entry.leases),
        lanes={
            path: entry.lanes[path]
            for path, state in entry.states.items()
            if not state.status.is_final and entry.lanes[path] != Lane.of_account(entry.account)
        },
    )
