"""What a person asks of the queue, and does to it: the same for the running service and for a spool at rest.

Guarantees: answers are plain values, ready for JSON, a bounded page at a time. Whatever is changed is changed under a
lease, so never in the middle of an attempt: a message that is being tried is left alone, and the answer says so. Each
change is one commit with its event, which names the person; a cancelled message is reported in the same commit.
Not here: how it is asked for (control, cli), the report (relay.dsn_queueing), the next attempt (relay.runner).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import ForwardPath
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.dsn_queueing import DsnRequest, Reporter
from senderproxy.relay.ports import Arrival, Claim, Spool, SpoolError, SpoolUpdate
from senderproxy.tracking.record import Blocked, Event, EventKind, MessageRecord, Query, RecipientState, RecipientStatus
from senderproxy.tracking.serialize import Entry, blocked_entry, event_entry, read_query, record_entry

PAGE: Final = 200  # messages in one answer at most
CHANGED_AT_ONCE: Final = 200  # messages that one request changes at most; each is a commit
_PAGE_OCTETS: Final = 1_000_000  # of one answer, about; the socket's lines are bounded
_TOGETHER: Final = 50  # commits that may share a sync
_HEADER_SHOWN: Final = 64_000  # octets

States: TypeAlias = Mapping[ForwardPath, RecipientState]
Handler: TypeAlias = Callable[[Mapping[str, Any]], Coroutine[Any, Any, Entry]]


class CancelReporting(Protocol):
    """Cancelled recipients as they are written down, with the events and reports that belong to them."""

    @property
    def states(self) -> States: ...

    @property
    def events(self) -> Sequence[Event]: ...

    @property
    def reports(self) -> Sequence[Arrival]: ...


class QueueAction(Enum):
    """What a person does to messages."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


BEING_TRIED: Final = "it is being tried right now; try again in a moment"
NOT_HERE: Final = "there is no such message"
ENDED: Final = "nothing of it waits any more"
IS_HELD: Final = "it is held; release it, and it is tried at once"
NOT_HELD: Final = "it is not held"
HELD_ALREADY: Final = "it is held already"


class QueueAdmin:
    """The operator's questions and acts. `spool` is asked each time: the service may have to open it anew."""

    def __init__(
        self,
        spool: Callable[[], Spool],
        clock: Clock,
        tell_of_cancelling: Callable[[Claim, States], CancelReporting],
        woken: Callable[[str], None] = lambda _: None,
        blocked: Callable[[], Mapping[str, Blocked]] = dict,
    ) -> None:
        """`woken` is told whose messages are due now, `blocked` asked which accounts cannot send."""
        self._spool = spool
        self._clock = clock
        self._tell_of_cancelling = tell_of_cancelling
        self._woken = woken
        self._blocked = blocked

    def handlers(self) -> Mapping[str, Handler]:
        """By what a request says it wants done."""
        return {
            "queue.totals": self._answer_totals,
            "queue.list": self._answer_list,
            "queue.show": self._answer_show,
            "queue.change": self._answer_change,
            "track": self._answer_track,
        }

    # ---- questions ----

    async def totals(self) -> Entry:
        """How much waits, for each account, since when and why."""
        blocked = self._blocked()
        return {
            "accounts": [
                {
                    "account": total.account,
                    "waiting": total.waiting,
                    "held": total.held,
                    "size": total.size,
                    "oldest": total.oldest.isoformat(),
                    "by_age": list(total.by_age),
                    "reasons": dict(total.reasons),
                    "blocked": blocked_entry(blocked.get(total.account)),
                }
                for total in await self._spool().totals()
            ]
        }

    async def list_messages(self, query: Query, limit: int = PAGE, after: str | None = None) -> Entry:
        """A page of messages, and the id to ask for the next one with."""

        async def entry(record: MessageRecord) -> Entry:
            return self._entry(record)

        return await self._page(query, limit, after, entry)

    async def track(self, query: Query, limit: int = PAGE, after: str | None = None) -> Entry:
        """The same, each with what happened to it."""

        async def entry(record: MessageRecord) -> Entry:
            events = await self._spool().events(record.id)
            return self._entry(record) | {"events": [event_entry(event) for event in events]}

        return await self._page(query, limit, after, entry)

    async def show(self, message_id: str) -> Entry:
        """One message with its history and its header; `message` is None where there is none."""
        record = await self._record(message_id)
        if record is None:
            return {"message": None}
        events = await self._spool().events(record.id)
        header = await self._spool().header(record.id)
        return {
            "message": self._entry(record) | {"events": [event_entry(event) for event in events]},
            "header": header.raw[:_HEADER_SHOWN].decode("utf-8", "replace") if header is not None else None,
        }

    def _entry(self, record: MessageRecord) -> Entry:
        return record_entry(replace(record, blocked=self._blocked().get(record.account)))

    async def _page(
        self, query: Query, limit: int, after: str | None, entry: Callable[[MessageRecord], Awaitable[Entry]]
    ) -> Entry:
        limit = max(1, min(limit, PAGE))
        records = await self._spool().find(query, limit=limit, after=after)
        entries: list[Entry] = []
        octets = 0
        for record in records:
            one = await entry(record)
            octets += len(json.dumps(one))
            if entries and octets > _PAGE_OCTETS:
                break
            entries.append(one)
        more = len(entries) < len(records) or len(records) == limit
        return {"messages": entries, "next": entries[-1]["id"] if entries and more else None}

    async def _record(self, message_id: str) -> MessageRecord | None:
        found = await self._spool().find(Query(id=message_id), limit=PAGE)
        return next((record for record in found if record.id == message_id), None)

    # ---- acts ----

    async def change(self, act: QueueAction, ids: Sequence[str], by: str, *, report: bool = True) -> Entry:
        """Do it to these messages; which were changed, and why the others were not. Raises SpoolError."""
        done: list[str] = []
        left: list[Entry] = []
        for start in range(0, len(ids), _TOGETHER):
            some = ids[start : start + _TOGETHER]
            answers = await asyncio.gather(*(self._change_one(act, one, by, report=report) for one in some))
            for message_id, why_not in zip(some, answers, strict=True):
                if why_not:
                    left.append({"id": message_id, "why": why_not})
                else:
                    done.append(message_id)
        return {"changed": done, "left": left}

    async def _change_one(self, act: QueueAction, message_id: str, by: str, *, report: bool) -> str:
        """Why nothing was done; empty where it was."""
        spool = self._spool()
        claim = await spool.claim_one(message_id)
        if claim is None:
            why_not = await self._why_not(message_id)
            return "" if act is QueueAction.RETRY and why_not == BEING_TRIED else why_not
        try:
            verdict = self._verdict(act, claim, by, report=report)
            if isinstance(verdict, str):
                await spool.settle(claim, SpoolUpdate({}, faults=claim.faults))
                return verdict
            await spool.settle(claim, verdict)
        except BaseException:
            with suppress(SpoolError):  # the lease must end, whatever went wrong; that needs no disk
                await spool.settle(claim, SpoolUpdate({}, faults=claim.faults))
            raise
        finally:
            claim.submission.message.body.close()
        if act in (QueueAction.RETRY, QueueAction.RELEASE):
            self._woken(claim.account)
        for arrival in verdict.reports:
            self._woken(arrival.account)
        return ""

    async def _why_not(self, message_id: str) -> str:
        record = await self._record(message_id)
        if record is None:
            return NOT_HERE
        if all(state.status.is_final for state in record.recipients.values()):
            return ENDED
        return BEING_TRIED

    def _verdict(self, act: QueueAction, claim: Claim, by: str, *, report: bool) -> SpoolUpdate | str:
        """What it changes, or why it changes nothing."""
        now = self._clock.now()
        waiting = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.WAITING}
        held = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.HELD}
        match act:
            case QueueAction.RETRY:
                states = {path: replace(state, due_at=now) for path, state in waiting.items()}
                return _written(EventKind.RETRIED, states, by, now, claim.faults) if states else IS_HELD
            case QueueAction.HOLD:
                why = f"held by {by}"
                states = {
                    path: replace(s, status=RecipientStatus.HELD, due_at=None, why=why) for path, s in waiting.items()
                }
                return _written(EventKind.HELD, states, by, now, claim.faults) if states else HELD_ALREADY
            case QueueAction.RELEASE:
                states = {
                    path: replace(s, status=RecipientStatus.WAITING, due_at=now, why="") for path, s in held.items()
                }
                return _written(EventKind.RELEASED, states, by, now, 0) if states else NOT_HELD
            case QueueAction.CANCEL:
                return self._cancelled(claim, by, now, report=report)

    def _cancelled(self, claim: Claim, by: str, now: datetime, *, report: bool) -> SpoolUpdate | str:
        states = {
            path: replace(s, status=RecipientStatus.CANCELLED, due_at=None, why="") for path, s in claim.due.items()
        }
        written = _written(EventKind.CANCELLED, states, by, now, claim.faults)
        if report:
            told = self._tell_of_cancelling(claim, states)
            if held := next((state for state in told.states.values() if state.status is RecipientStatus.HELD), None):
                return f"{held.why}; to cancel it all the same: --no-report"
            return replace(written, states=told.states, events=(*written.events, *told.events), reports=told.reports)
        why = {"why": f"{by} cancelled it without a report"}
        return replace(written, events=(*written.events, Event(now, EventKind.UNREPORTED, _named(states), why)))

    # ---- requests ----

    async def _answer_totals(self, _: Mapping[str, Any]) -> Entry:
        return await self.totals()

    async def _answer_list(self, request: Mapping[str, Any]) -> Entry:
        return await self.list_messages(*_paged(request))

    async def _answer_track(self, request: Mapping[str, Any]) -> Entry:
        return await self.track(*_paged(request))

    async def _answer_show(self, request: Mapping[str, Any]) -> Entry:
        return await self.show(str(request.get("id")))

    async def _answer_change(self, request: Mapping[str, Any]) -> Entry:
        try:
            act = QueueAction(request.get("act"))
        except ValueError as error:
            raise SenderproxyError(f"Unknown act {request.get('act')!r}.", hint="The versions may differ.") from error
        ids = [str(one) for one in request.get("ids") or ()]
        if len(ids) > CHANGED_AT_ONCE:
            raise SenderproxyError(f"At most {CHANGED_AT_ONCE} messages can be changed by one request.")
        return await self.change(
            act, ids, str(request.get("by") or "somebody"), report=request.get("report") is not False
        )


def telling_with(reporter: Reporter, relay: MessageRelay) -> Callable[[Claim, States], CancelReporting]:
    """Reports on what is cancelled, made like all others."""

    def tell(claim: Claim, states: States) -> CancelReporting:
        case = DsnRequest(claim.submission, claim.account, relay.report_recipient(claim.submission))
        return reporter.tell_of_cancelling(case, states)

    return tell


def _written(what: EventKind, states: States, by: str, now: datetime, faults: int) -> SpoolUpdate:
    return SpoolUpdate(states, [Event(now, what, _named(states), {"by": by})], faults=faults)


def _named(states: States) -> tuple[str, ...]:
    return tuple(str(path) for path in states)


def _paged(request: Mapping[str, Any]) -> tuple[Query, int, str | None]:
    try:
        query = read_query(request.get("query") or {})
    except (ValueError, TypeError) as error:
        raise SenderproxyError(f"That is no question about messages: {error}.") from error
    after = request.get("after")
    limit = request.get("limit")
    return query, limit if isinstance(limit, int) else PAGE, str(after) if after is not None else None
