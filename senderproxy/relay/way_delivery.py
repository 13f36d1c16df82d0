"""Delivery of one message by several ways at once: each part of its recipients by its own.

Guarantees: each recipient has one outcome, by its own way; an error or the end of the service in one part leaves the
outcomes of the others. A recipient that a server without a login hands back is sent by the author's account, and
by nothing else.
Not here: the ways (relay.ways), one part (relay.attempt).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import Outcomes
from senderproxy.relay.ways import AccountWay, HopWay, NoWay, RoutedOutcomes, Way

_log: Final = logging.getLogger("senderproxy.relay")

_AT_ONCE: Final = 8  # ways of one message at the same time; a message to many domains may have hundreds
_STOPPED: Final = Deferred(reply(451, "4.3.2", "senderproxy is shutting down"))
_FAULT: Final = Deferred(reply(451, "4.3.0", "Internal error of senderproxy; see its log"))

DeliverPart = Callable[[Submission, Decision, Sequence[ForwardPath]], Awaitable[Outcomes]]


@dataclass(frozen=True, slots=True)
class _Part:
    """Recipients with the same way. `decision`: for them alone."""

    decision: Decision
    recipients: Sequence[ForwardPath]
    sent_by: str


async def deliver_by_ways(
    deliver: DeliverPart, submission: Submission, decision: Decision, recipients: Sequence[ForwardPath]
) -> RoutedOutcomes:
    """Deliver to each recipient by its way. Cancelled before a final dot, it raises CancelledError."""
    outcomes: dict[ForwardPath, Outcome] = {}
    sent_by: dict[ForwardPath, str] = {}
    for path in recipients:
        if isinstance(way := decision.way_of(path), NoWay):
            outcomes[path], sent_by[path] = _refused(way), ""
    by_account = replace(decision, ways=None)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def run(part: _Part) -> None:
        async with slots:
            result = await deliver(submission, part.decision, part.recipients)
        for path, outcome in result.items():
            if not (isinstance(outcome, Deferred) and outcome.handed_back):
                outcomes[path], sent_by[path] = outcome, part.sent_by
        back = [path for path in result if path not in outcomes]
        if back:
            first = result[back[0]]
            event(_log, log_events.WAY_HANDED_BACK, id=submission.id, way=part.sent_by, reply=first.reply)
            result = await deliver(submission, by_account, back)
            outcomes.update(result)
            sent_by.update(dict.fromkeys(result, _account(by_account)))

    tasks = {asyncio.create_task(run(part)): part for part in _parts(decision, by_account, recipients)}
    was_cancelled = await _wait_all(tasks)
    _settle(submission, tasks, outcomes, sent_by, was_cancelled=was_cancelled)
    return RoutedOutcomes({path: outcomes[path] for path in recipients}, sent_by)


def _parts(decision: Decision, by_account: Decision, recipients: Sequence[ForwardPath]) -> list[_Part]:
    """The parts, the author's account first."""
    groups: dict[str, list[ForwardPath]] = {_account(by_account): []}
    ways: dict[str, Way] = {}
    for path in recipients:
        way = decision.way_of(path)
        if isinstance(way, NoWay):
            continue
        name = _account(by_account) if way is None else str(way)
        groups.setdefault(name, []).append(path)
        if way is not None:
            ways[name] = way
    return [_Part(_decision_of(ways.get(name), by_account), paths, name) for name, paths in groups.items() if paths]


def _decision_of(way: Way | None, by_account: Decision) -> Decision:
    match way:
        case AccountWay(route, plan):
            return replace(by_account, route=route, plan=plan)
        case HopWay(hop, plan):
            return replace(by_account, plan=plan, hop=hop)
        case _:
            return by_account


def _account(decision: Decision) -> str:
    return f"account {decision.route.account.id}"


def _refused(way: NoWay) -> Outcome:
    answer = way.refusal.reply
    return Deferred(answer) if answer.is_transient else Failed(answer)


async def _wait_all(tasks: Mapping["asyncio.Task[None]", _Part]) -> bool:
    """Wait for all parts; True if the caller was cancelled, and the parts with it, except after a final dot."""
    was_cancelled = False
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            was_cancelled = True
            for task in pending:
                task.cancel()
    return was_cancelled


def _settle(
    submission: Submission,
    tasks: Mapping["asyncio.Task[None]", _Part],
    outcomes: dict[ForwardPath, Outcome],
    sent_by: dict[ForwardPath, str],
    *,
    was_cancelled: bool,
) -> None:
    """Complete the outcomes of parts that were cancelled or failed. Raises if no part has an outcome."""
    if was_cancelled and not outcomes:
        raise asyncio.CancelledError
    faults = [fault for task in tasks if not task.cancelled() and (fault := task.exception()) is not None]
    if faults and not outcomes:
        raise faults[0]
    for fault in faults:
        event(_log, log_events.WAY_FAILED, fault=fault, id=submission.id)
    for task, part in tasks.items():
        instead = _STOPPED if task.cancelled() else _FAULT
        for path in part.recipients:
            if path not in outcomes:
                outcomes[path], sent_by[path] = instead, part.sent_by
