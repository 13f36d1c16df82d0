"""Delivery of queued messages: the loop that leases due messages of each lane and attempts them.

A lane is the queue of an account, or of a server without a login.
Guarantees: one lane never delays another one, whether its account cannot send or it has ten thousand messages; the
messages of one lane are attempted in the order of their submission; an account or server that can send again is tried
at once. A message that causes an internal error or a crash three times is held, and stops no other message.
A step of the wall clock changes no message's wait.
Not here: who may send now (relay.dispatch, relay.pacing), one attempt (relay.queue_attempts), the commit of its result
(relay.settling), sessions and their limits (delivery).
RFC 5321 section 4.5.4.1.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.account_availability import AccountAvailability
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.crash_suspects import CrashSuspects
from senderproxy.relay.decide import Decision
from senderproxy.relay.dispatch import LaneQueue, LaneQueues
from senderproxy.relay.dsn_queueing import ReportBuilder
from senderproxy.relay.overdue import OverdueCheck
from senderproxy.relay.pacing import BurstPacing
from senderproxy.relay.ports import (
    NO_ACCOUNT,
    Accounts,
    Arrival,
    Claim,
    Courier,
    CrashJournal,
    Dispatcher,
    Outcomes,
    Spool,
    SpoolError,
)
from senderproxy.relay.queue_attempts import QueueAttempts
from senderproxy.relay.queue_timer import QueueTimer
from senderproxy.relay.queue_work import QueueWork
from senderproxy.relay.recipient_updates import shortest_wait
from senderproxy.relay.settling import ResultWriter
from senderproxy.retry import RetryPolicy
from senderproxy.routing.hops import INTERNAL_LANE, MX_LANE, SMARTHOST_LANE
from senderproxy.tracking.record import ACCOUNT_LANE, Blocked, Lane

_log = logging.getLogger("senderproxy.relay")

_ATTEMPTS: Final = 500  # attempts in progress at most, of all lanes together; bounds memory and open files
_SPOOL_RETRY: Final = 5.0  # seconds until a lane is read again after an error of the spool
_KINDS: Final = frozenset({ACCOUNT_LANE, SMARTHOST_LANE, INTERNAL_LANE, MX_LANE})  # of lanes that are attempted here
_CANCEL_TIME: Final = 1.0  # seconds for cancelled attempts at a stop: a disk that hangs must not delay it


class Runner(Dispatcher):
    """The delivery loop; spool and `policy` may be replaced at any time."""

    def __init__(
        self,
        spool: Spool,
        relay: MessageRelay,
        report_builder: ReportBuilder,
        accounts: Accounts,
        courier: Courier,
        clock: Clock,
        policy: RetryPolicy,
        journal: CrashJournal,
    ) -> None:
        self._clock = clock
        self._queues = LaneQueues()
        self._availability = AccountAvailability(accounts, relay, courier, clock)
        self._pacing = BurstPacing()
        self._attempts = QueueAttempts(relay, report_builder, clock, policy, journal, self._get_spool, self._attempted)
        self.results = ResultWriter(self._get_spool, clock, self._note_lane, self._dispatch_all)
        self._suspects = CrashSuspects(
            journal,
            self._get_spool,
            clock,
            self._queues,
            self._availability,
            self._attempts,
            self.results,
            self._start_attempt,
            self._dispatch_all,
        )
        self._overdue = OverdueCheck(self._get_spool, self._attempts, self.results, self._blocked_queues)
        self._tasks: set[asyncio.Task[None]] = set()  # attempts, and what else a stop waits for
        self._claim_loops: dict[Lane, asyncio.Task[None]] = {}
        self._timer = QueueTimer(self._dispatch_all)
        self.work = QueueWork(self._queues, self._availability, self._tasks, clock)
        self._is_stopped = True
        self.use_spool(spool)

    def use_spool(self, spool: Spool) -> None:
        """Deliver the messages of this spool from now on."""
        self.spool = spool
        spool.on_wake(self._wake_queue)

    @property
    def policy(self) -> RetryPolicy:
        return self._attempts.policy

    @policy.setter
    def policy(self, policy: RetryPolicy) -> None:
        self._attempts.policy = policy

    # ---- start and stop ----

    async def start(self) -> None:
        """Read the due times from the spool, and begin. Raises SpoolError."""
        due = await self.spool.due()
        self._is_stopped = False
        if retry := self._suspects.retry():
            self._spawn(retry)
        self._note_all(due)

    async def stop(self, grace: float) -> None:
        """Start nothing more; cancel attempts that do not end within `grace` seconds. Their messages stay queued."""
        self._is_stopped = True
        self._suspects.stop()
        self._overdue.cancel()
        self._timer.cancel()
        for claim_loop in self._claim_loops.values():
            claim_loop.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_TIME)

    # ---- for the intake (Dispatcher) ----

    def message_incoming(self, account: str) -> bool:
        if self._pacing.message_incoming(self._clock.monotonic()):
            self._dispatch_ready()
        if account == NO_ACCOUNT:
            return False
        queue = self._queues.get(Lane.of_account(account))
        if self._is_stopped or queue.due_at is not None or not self._free_slots(queue):
            return False
        self._pacing.messages_sent()
        queue.running += 1
        return True

    def release_slot(self, account: str) -> None:
        queue = self._queues.get(Lane.of_account(account))
        queue.running -= 1
        self._dispatch(queue)

    def start_reserved(self, claim: Claim) -> None:
        claim.submission.message.body.retain()
        self._spawn(self._run(claim, self._queues.get(_lane_of(claim))))

    def adopt_attempt(self, claim: Claim, decision: Decision, attempt: "asyncio.Task[Outcomes]") -> None:
        queue = self._queues.get(_lane_of(claim))
        queue.running += 1
        claim.submission.message.body.retain()
        self._spawn(self._run(claim, queue, decision, attempt))

    def message_queued(self, arrival: Arrival) -> None:
        wait = shortest_wait(arrival.states)
        if wait is not None:
            for lane in {Lane.of_account(arrival.account), *arrival.lanes.values()}:
                self._note_lane(lane, self._clock.monotonic() + wait)

    # ---- for the service ----

    def note_due(self, account: str, due_at: float = 0.0) -> None:
        """A message of this account waits that is due then, in monotonic seconds; at once if nothing else is said."""
        self._note_lane(Lane.of_account(account), due_at)

    def note_lane_due(self, lane: Lane) -> None:
        """A message of this lane is due now, whatever has blocked it: an operator asks for it."""
        self._note_lane(lane, 0.0)
        self._wake_lane(lane)

    def _note_lane(self, lane: Lane, due_at: float) -> None:
        """As `note_due`; a lane of an unknown kind, of a later version, is left alone."""
        if lane.kind in _KINDS:
            queue = self._queues.get(lane)
            queue.note_due(due_at)
            self._dispatch(queue)

    def wake(self, account: str | None = None) -> None:
        """Try this account, or all lanes, at once: it may be able to send again, or its queue has changed."""
        if account is not None:
            self._wake_lane(Lane.of_account(account))
            return
        for queue in self._queues:
            self._wake_lane(queue.lane)

    def _wake_lane(self, lane: Lane) -> None:
        queue = self._queues.find(lane)
        if queue is not None:
            queue.unblock(self._clock.monotonic())
            self._dispatch(queue)

    def account_can_send(self, account: str) -> None:
        """A message of this account was accepted upstream, queued or passed through; or its problem is solved."""
        for each in (account, *self._availability.forget_waiting(account)):
            self.lane_can_send(Lane.of_account(each))

    def lane_can_send(self, lane: Lane) -> None:
        """As `account_can_send`, for any lane."""
        queue = self._queues.find(lane)
        if queue is not None and (queue.failures or queue.blocked_by is not None):
            self._wake_lane(lane)

    @property
    def blocked(self) -> Mapping[Lane, Blocked]:
        """The lanes that cannot send."""
        return self._queues.blocked(self._clock.now(), self._clock.monotonic())

    # ---- dispatch ----

    def _free_slots(self, queue: LaneQueue) -> int:
        """The number of messages of the lane that may be attempted now."""
        monotonic = self._clock.monotonic()
        if queue.blocked_until > monotonic or self._is_paused or not self._pacing.may_send(monotonic):
            return 0
        return queue.free_slots(self._availability.connections(queue))

    @property
    def _is_paused(self) -> bool:
        """True while no attempt may be started, for any lane."""
        return len(self._tasks) >= _ATTEMPTS or self.results.is_blocked or self._suspects.is_active

    def _ready_slots(self, queue: LaneQueue) -> int:
        """The number of messages of the lane that are to be leased now, as far as is known."""
        return self._free_slots(queue) if queue.is_due(self._clock.monotonic()) else 0

    def _blocked_queues(self) -> list[LaneQueue]:
        """The queues of the lanes that cannot send; asks for each one's availability."""
        return [q for q in self._queues if not self._free_slots(q) and q.is_blocked(self._clock.monotonic())]

    def _dispatch(self, queue: LaneQueue) -> None:
        """Start the lane's messages that may be sent, or set the timer for the next one."""
        if self._is_stopped:
            return
        if not queue.claiming:
            if self._ready_slots(queue):
                queue.claiming = True
                self._claim_loops[queue.lane] = asyncio.create_task(self._claim_messages(queue))
            else:
                self._set_timer(queue)
        self._overdue.schedule(self.check_overdue)

    async def _claim_messages(self, queue: LaneQueue) -> None:
        """Lease the lane's due messages and start their attempts, as long as it has a slot."""
        try:
            while not self._is_stopped and (slots := self._ready_slots(queue)):
                changes = queue.changes
                count = self._pacing.reserve(min(slots, _ATTEMPTS - len(self._tasks)), self._clock.monotonic())
                claims = await _claim(self.spool, queue.lane, count, self._pacing)
                for claim in claims:
                    self._start_attempt(claim)
                if not claims and changes == queue.changes:
                    wait = (await self.spool.due(queue.lane)).get(queue.lane)
                    if changes == queue.changes:
                        queue.due_at = None if wait is None else self._clock.monotonic() + wait.total_seconds()
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, account=queue.lane.name, why=error.message, hint=error.hint)
            queue.blocked_until = self._clock.monotonic() + _SPOOL_RETRY
        finally:
            queue.claiming = False
            self._claim_loops.pop(queue.lane, None)
            if not self._is_stopped:
                self._set_timer(queue)

    def _set_timer(self, queues: LaneQueue | LaneQueues) -> None:
        if not self._is_paused:
            self._timer.set(queues.seconds_until_ready(self._clock.monotonic(), self._pacing.burst_until))

    def _dispatch_all(self) -> None:
        """Start the messages that may be sent, of all lanes, and set the timer for the next one."""
        if self._is_stopped:
            return
        self._timer.cancel()
        self._dispatch_ready()
        self._set_timer(self._queues)

    def _dispatch_ready(self) -> None:
        """Start the messages that may be sent, of all lanes, up to the allowance of a burst."""
        allowance = self._pacing.allowance(self._clock.monotonic())
        for queue in self._queues:
            if allowance < 1:
                break
            if not queue.claiming and self._ready_slots(queue):
                self._queues.serve_last(queue)
                self._dispatch(queue)
                allowance -= 1

    # ---- attempts ----

    def _start_attempt(self, claim: Claim) -> "asyncio.Task[None]":
        queue = self._queues.get(_lane_of(claim))
        queue.running += 1
        return self._spawn(self._run(claim, queue))

    async def _run(
        self,
        claim: Claim,
        queue: LaneQueue,
        decision: Decision | None = None,
        running: "asyncio.Task[Outcomes] | None" = None,
    ) -> None:
        """Attempt the message, or join the `running` attempt, and write the result."""
        try:
            update = await self._attempts.attempt(claim, decision, running)
        finally:
            queue.running -= 1
            claim.submission.message.body.close()
            self._dispatch(queue)
        await self.results.write(claim, update)

    def _attempted(self, lane: Lane, outcomes: Outcomes) -> None:
        self._availability.record_outcomes(self._queues.get(lane), outcomes, self.policy)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if len(self._tasks) == _ATTEMPTS - 1:
            self._dispatch_all()  # the limit was reached; others wait

    def check_overdue(self) -> None:
        """Look for delayed and expired messages. Called by a timer while messages wait."""
        self._overdue.cancel()
        if self._is_stopped:
            return
        if self._queues.are_active():
            self._overdue.schedule(self.check_overdue)
            self._spawn(self._overdue.run())
        self._queues.drop_idle()

    def _get_spool(self) -> Spool:
        return self.spool

    def _wake_queue(self, lane: Lane | None) -> None:
        """Messages of this lane, or of any, may be due that no call here has reported."""
        if lane is not None:
            self._note_lane(lane, 0.0)
        elif not self._is_stopped:
            self.wake()
            self._spawn(_read_due(self.spool, self._note_all))

    def _note_all(self, due: Mapping[Lane, timedelta]) -> None:
        for lane, wait in due.items():
            self._note_lane(lane, self._clock.monotonic() + wait.total_seconds())


async def _claim(spool: Spool, lane: Lane, count: int, pacing: BurstPacing) -> Sequence[Claim]:
    """Lease so many messages on places reserved by a burst; free ones are given back."""
    claims: Sequence[Claim] = ()
    try:
        claims = await spool.claim(lane, count)
    finally:
        pacing.messages_sent(len(claims) - count)
    return claims


async def _read_due(spool: Spool, note: Callable[[Mapping[Lane, timedelta]], None]) -> None:
    """Note the due times of all lanes."""
    try:
        note(await spool.due())
    except SpoolError as error:
        event(_log, log_events.QUEUE_READ_FAILED, why=error.message, hint=error.hint)


def _lane_of(claim: Claim) -> Lane:
    """The lane of an attempt's slot; that of the account if its recipients are in several."""
    return Lane.of_account(claim.account) if claim.lane is None else claim.lane
