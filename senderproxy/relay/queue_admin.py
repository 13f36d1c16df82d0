"""Queue queries and changes by an operator, for the running service and for a spool without a service.

Guarantees: answers are plain values for JSON, in bounded pages. Every change holds the message's lease, so it never
happens during an attempt: a message in progress is left unchanged, and the answer says so. Each change is one commit
with its event, which names the operator; a cancelled message is reported in the same commit.
Not here: transport of the requests (control, cli), the report (relay.dsn_queueing), the next attempt (relay.runner).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import ForwardPath
from senderproxy.relay.dsn_queueing import StatesWithReports
from senderproxy.relay.ports import Claim, Spool, SpoolError, SpoolUpdate
from senderproxy.tracking.queue_words import QueueAction
from senderproxy.tracking.record import (
    Blocked,
    Event,
    EventKind,
    Lane,
    MessageRecord,
    Query,
    RecipientState,
    RecipientStatus,
)
from senderproxy.tracking.serialize import Entry, blocked_entry, event_entry, read_query, record_entry
from senderproxy.translation import N_, _

PAGE: Final = 200  # messages in one answer at most
CHANGED_AT_ONCE: Final = 200  # messages in one request at most; each change is a commit
COUNTED_HOURS: Final = 31 * 24  # hours that are counted at most
_PAGE_OCTETS: Final = 1_000_000  # octets of one answer, approximately; a line on the control socket is bounded
_BATCH: Final = 50  # changes at the same time; their commits may share a sync
_AT_ONCE: Final = timedelta()  # delay of a message that an operator makes due
_HEADER_SHOWN: Final = 64_000  # octets; a header of any real message is shorter

States: TypeAlias = Mapping[ForwardPath, RecipientState]
Handler: TypeAlias = Callable[[Mapping[str, Any]], Coroutine[Any, Any, Entry]]


IN_PROGRESS: Final = N_("an attempt is in progress; try again in a moment")
NO_SUCH_MESSAGE: Final = N_("no such message")
NOT_WAITING: Final = N_("no recipient is waiting or held")
IS_HELD: Final = N_("it is held; release it first")
NOT_HELD: Final = N_("it is not held")
ALREADY_HELD: Final = N_("it is already held")


class QueueAdmin:
    """Handlers for an operator's requests."""

    def __init__(
        self,
        spool: Callable[[], Spool],
        clock: Clock,
        report_cancellation: Callable[[Claim, States], Awaitable[StatesWithReports]],
        on_due: Callable[[Lane], None] = lambda lane: None,  # noqa: ARG005
        blocked: Callable[[], Mapping[Lane, Blocked]] = dict,
    ) -> None:
        """Arguments are functions if the service may replace their results.

        `spool`: the spool now in use; `report_cancellation`: the report on a cancelled message; `on_due`: called with
        a lane that has messages due now; `blocked`: the lanes that cannot send.
        """
        self._spool = spool
        self._clock = clock
        self._report_cancellation = report_cancellation
        self._on_due = on_due
        self._blocked = blocked

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by request name."""
        return {
            "queue.totals": self._answer_totals,
            "queue.list": self._answer_list,
            "queue.show": self._answer_show,
            "queue.change": self._answer_change,
            "track": self._answer_track,
            "counts": self._answer_counts,
        }

    # ---- queries ----

    async def totals(self) -> Entry:
        """The number, size, age and deferral reasons of the waiting messages of each account; the number of jobs."""
        blocked = self._blocked()
        return {
            "jobs": [
                {
                    "kind": one.kind,
                    "lane": str(one.lane),
                    "count": one.count,
                    "unreadable": one.unreadable,
                    "age": one.age.total_seconds(),
                }
                for one in await self._spool().job_totals()
            ],
            "accounts": [
                {
                    "account": total.account,
                    "waiting": total.waiting,
                    "held": total.held,
                    "size": total.size,
                    "oldest": total.oldest.isoformat(),
                    "by_age": list(total.by_age),
                    "reasons": dict(total.reasons),
                    "blocked": blocked_entry(blocked.get(Lane.of_account(total.account))),
                }
                for total in await self._spool().totals()
            ],
        }

    async def list_messages(self, query: Query, limit: int = PAGE, after: str | None = None) -> Entry:
        """A page of messages, and its last id, if more follow."""

        async def entry(record: MessageRecord) -> Entry:
            return self._entry(record)

        return await self._page(query, limit, after, entry)

    async def track(self, query: Query, limit: int = PAGE, after: str | None = None) -> Entry:
        """As `list_messages`, each message with its events."""

        async def entry(record: MessageRecord) -> Entry:
            events = await self._spool().events(record.id)
            return self._entry(record) | {"events": [event_entry(event) for event in events]}

        return await self._page(query, limit, after, entry)

    async def show(self, message_id: str) -> Entry:
        """One message with its events and its header; `message` is None if it is unknown."""
        record = await self._record(message_id)
        if record is None:
            return {"message": None}
        events = await self._spool().events(record.id)
        header = await self._spool().header(record.id)
        return {
            "message": self._entry(record) | {"events": [event_entry(event) for event in events]},
            "header": header.raw[:_HEADER_SHOWN].decode("utf-8", "replace") if header is not None else None,
        }

    async def counts_by_hour(self, hours: int) -> Entry:
        """The recipients of the messages of so many hours, at most those of a month, by hour and status."""
        since = self._clock.now() - timedelta(hours=max(1, min(hours, COUNTED_HOURS)))
        found = await self._spool().counts_by_hour(since)
        return {"counts": [[one.hour.isoformat(), one.status.value, one.recipients] for one in found]}

    def _entry(self, record: MessageRecord) -> Entry:
        blocked = self._blocked()
        lanes = {lane: blocked[lane] for lane in record.lanes.values() if lane in blocked}
        account = blocked.get(Lane.of_account(record.account))
        return record_entry(replace(record, blocked=account, blocked_lanes=lanes))

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

    # ---- changes ----

    async def change(self, action: QueueAction, ids: Sequence[str], by: str, *, report: bool = True) -> Entry:
        """Change these messages; return the ids that were changed (`changed`) and the others with a reason (`left`).

        `by`: the operator's name, for the events; `report`: whether a cancelled message is reported to its author.
        Raises SpoolError.
        """
        changed: list[str] = []
        left: list[Entry] = []
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            reasons = await asyncio.gather(*(self._change_one(action, one, by, report=report) for one in batch))
            for message_id, reason in zip(batch, reasons, strict=True):
                if reason:
                    left.append({"id": message_id, "why": reason})
                else:
                    changed.append(message_id)
        return {"changed": changed, "left": left}

    async def _change_one(self, action: QueueAction, message_id: str, by: str, *, report: bool) -> str:
        """The reason why nothing was changed; empty if it was changed."""
        spool = self._spool()
        claim = await spool.claim_one(message_id)
        if claim is None:
            reason = await self._reason(message_id)
            return "" if action is QueueAction.RETRY and reason == IN_PROGRESS else reason
        try:
            update = await self._update(action, claim, by, report=report)
            if isinstance(update, str):
                await spool.settle(claim, SpoolUpdate({}, faults=claim.faults))
                return update
            await spool.settle(claim, update)
        except BaseException:
            with suppress(SpoolError):  # ends the lease after any error; this needs no disk
                await spool.settle(claim, SpoolUpdate({}, faults=claim.faults))
            raise
        finally:
            claim.submission.message.body.close()
        if action in (QueueAction.RETRY, QueueAction.RELEASE):
            for lane in await self._lanes(claim):
                self._on_due(lane)
        for arrival in update.reports:
            self._on_due(Lane.of_account(arrival.account))
        return ""

    async def _lanes(self, claim: Claim) -> Iterable[Lane]:
        """The lanes of the leased recipients."""
        if claim.lane is not None:
            return [claim.lane]
        record = await self._record(claim.submission.id)
        return {Lane.of_account(claim.account), *(() if record is None else record.lanes.values())}

    async def _reason(self, message_id: str) -> str:
        record = await self._record(message_id)
        if record is None:
            return NO_SUCH_MESSAGE
        if all(state.status.is_final for state in record.recipients.values()):
            return NOT_WAITING
        return IN_PROGRESS

    async def _update(self, action: QueueAction, claim: Claim, by: str, *, report: bool) -> SpoolUpdate | str:
        """The change, or the reason why there is none."""
        now = self._clock.now()
        waiting = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.WAITING}
        held = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.HELD}
        match action:
            case QueueAction.RETRY:
                states = {path: replace(state, due_in=_AT_ONCE) for path, state in waiting.items()}
                return _operator_update(EventKind.RETRIED, states, by, now, claim.faults) if states else IS_HELD
            case QueueAction.HOLD:
                why = f"held by {by}"
                states = {
                    path: replace(s, status=RecipientStatus.HELD, due_in=None, why=why) for path, s in waiting.items()
                }
                return _operator_update(EventKind.HELD, states, by, now, claim.faults) if states else ALREADY_HELD
            case QueueAction.RELEASE:
                states = {
                    path: replace(s, status=RecipientStatus.WAITING, due_in=_AT_ONCE, why="")
                    for path, s in held.items()
                }
                return _operator_update(EventKind.RELEASED, states, by, now, 0) if states else NOT_HELD
            case QueueAction.CANCEL:
                return await self._cancelled(claim, by, now, report=report)

    async def _cancelled(self, claim: Claim, by: str, now: datetime, *, report: bool) -> SpoolUpdate | str:
        states = {
            path: replace(s, status=RecipientStatus.CANCELLED, due_in=None, why="") for path, s in claim.due.items()
        }
        update = _operator_update(EventKind.CANCELLED, states, by, now, claim.faults)
        if report:
            reported = await self._report_cancellation(claim, states)
            if held := next((s for s in reported.states.values() if s.status is RecipientStatus.HELD), None):
                return _("{reason}; to cancel it without a report: --no-report").format(reason=held.why)
            events = (*update.events, *reported.events)
            return replace(update, states=reported.states, events=events, reports=reported.reports)
        why = {"why": f"{by} cancelled it without a report"}
        return replace(update, events=(*update.events, Event(now, EventKind.UNREPORTED, _named(states), why)))

    # ---- request handlers ----

    async def _answer_totals(self, _request: Mapping[str, Any]) -> Entry:
        return await self.totals()

    async def _answer_list(self, request: Mapping[str, Any]) -> Entry:
        return await self.list_messages(*_paged(request))

    async def _answer_track(self, request: Mapping[str, Any]) -> Entry:
        return await self.track(*_paged(request))

    async def _answer_counts(self, request: Mapping[str, Any]) -> Entry:
        hours = request.get("hours")
        return await self.counts_by_hour(hours if isinstance(hours, int) else COUNTED_HOURS)

    async def _answer_show(self, request: Mapping[str, Any]) -> Entry:
        return await self.show(str(request.get("id")))

    async def _answer_change(self, request: Mapping[str, Any]) -> Entry:
        try:
            action = QueueAction(request.get("act"))
        except ValueError as error:
            text = _("Unknown action {action}.").format(action=repr(request.get("act")))
            raise SenderproxyError(text, hint=_("Use the same version of the command and the service.")) from error
        ids = request.get("ids") or []
        if not (isinstance(ids, list) and all(isinstance(one, str) for one in ids)):
            raise SenderproxyError(_("The ids of the messages are not a list."))
        if len(ids) > CHANGED_AT_ONCE:
            text = _("One request can change at most {count} messages.")
            raise SenderproxyError(text.format(count=CHANGED_AT_ONCE))
        return await self.change(
            action, ids, str(request.get("by") or "unknown"), report=request.get("report") is not False
        )


def _operator_update(kind: EventKind, states: States, by: str, now: datetime, faults: int) -> SpoolUpdate:
    return SpoolUpdate(states, [Event(now, kind, _named(states), {"by": by})], faults=faults)


def _named(states: States) -> tuple[str, ...]:
    return tuple(str(path) for path in states)


def _paged(request: Mapping[str, Any]) -> tuple[Query, int, str | None]:
    try:
        query = read_query(request.get("query") or {})
    except (ValueError, TypeError) as error:
        raise SenderproxyError(_("Invalid query: {error}.").format(error=error)) from error
    after = request.get("after")
    limit = request.get("limit")
    return query, limit if isinstance(limit, int) else PAGE, str(after) if after is not None else None
