"""Delivery of queued messages: the loop that leases due messages of each account and attempts them.

Guarantees: the queue of one account never delays another one's, whether the account cannot send or has ten thousand
messages; the messages of one account are attempted in the order of their submission; an account that can send again is
tried at once. A message that causes an internal error or a crash three times is held, and stops no other message.
A step of the wall clock changes no message's wait.
Not here: who may send now (relay.dispatch, relay.pacing), one attempt (relay.queue_attempts), the commit of its result
(relay.settling), sessions and their limits (delivery).
RFC 5321 section 4.5.4.1.
"""

import asyncio
import logging
import math
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.relay.account_availability import AccountAvailability
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.clock_step import step_while_stopped
from senderproxy.relay.clock_watch import ClockWatch
from senderproxy.relay.crash_suspects import CrashSuspects
from senderproxy.relay.decide import Decision
from senderproxy.relay.dispatch import AccountQueue, AccountQueues
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
from senderproxy.relay.recipient_updates import earliest_due
from senderproxy.relay.settling import ResultWriter
from senderproxy.retry import RetryPolicy
from senderproxy.tracking.record import Blocked

_log = logging.getLogger("senderproxy.relay")

_ATTEMPTS: Final = 500  # attempts in progress at most, of all accounts together; bounds memory and open files
_SPOOL_RETRY: Final = 5.0  # seconds until an account's queue is read again after an error of the spool
_TIMER_SLACK: Final = 0.001  # seconds that the timer is late, so that the message is due when it fires
_CANCEL_TIME: Final = 1.0  # seconds for cancelled attempts at a stop: a disk that hangs must not delay it


class Runner(Dispatcher):
    """The delivery loop; `spool` and `policy` may be replaced at any time."""

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
        self.spool = spool
        self._clock = clock
        self._queues = AccountQueues()
        self._availability = AccountAvailability(accounts, relay, courier, clock)
        self._pacing = BurstPacing()
        self._clock_watch = ClockWatch(clock, self._get_spool, self._queues, self._spawn, self.wake)
        self._attempts = QueueAttempts(
            relay, report_builder, clock, policy, journal, self._clock_watch, self._record_outcomes
        )
        self._results = ResultWriter(self._get_spool, clock, self._clock_watch, self.note_due, self._dispatch_all)
        self._suspects = CrashSuspects(
            journal,
            self._get_spool,
            clock,
            self._queues,
            self._availability,
            self._attempts,
            self._results,
            self._start_attempt,
            self._dispatch_all,
        )
        self._overdue = OverdueCheck(
            self._get_spool, clock, self._clock_watch, self._attempts, self._results, self._blocked_queues
        )
        self._tasks: set[asyncio.Task[None]] = set()  # attempts, and what else a stop waits for
        self._claim_loops: dict[str, asyncio.Task[None]] = {}  # by account
        self._timer: asyncio.TimerHandle | None = None  # one for all accounts
        self._is_stopped = True

    @property
    def policy(self) -> RetryPolicy:
        return self._attempts.policy

    @policy.setter
    def policy(self, policy: RetryPolicy) -> None:
        self._attempts.policy = policy

    # ---- start and stop ----

    async def start(self) -> None:
        """Read the due times from the spool, and begin. Raises SpoolError."""
        due = dict(await self.spool.due())
        now = self._clock.now()
        self._clock_watch.start()
        self._is_stopped = False
        step = step_while_stopped(due.values(), now, self.policy)
        if step is not None:
            await self._clock_watch.shift(step)
            due = dict.fromkeys(due, now)
        if retry := self._suspects.retry():
            self._spawn(retry)
        for account, due_at in due.items():
            self.note_due(account, due_at)

    async def stop(self, grace: float) -> None:
        """Start nothing more; cancel attempts that do not end within `grace` seconds. Their messages stay queued."""
        self._is_stopped = True
        self._clock_watch.stop()
        self._suspects.stop()
        self._overdue.cancel()
        if self._timer is not None:
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

    def check_clock(self) -> "asyncio.Task[None] | None":
        return self._clock_watch.check()

    def message_incoming(self, account: str) -> bool:
        if self._pacing.message_incoming(self._clock.monotonic()):
            self._dispatch_ready()
        if account == NO_ACCOUNT:
            return False
        queue = self._queues.get(account)
        if self._is_stopped or queue.due_at is not None or not self._has_slot(queue):
            return False
        self._pacing.message_sent()
        queue.running += 1
        return True

    def release_slot(self, account: str) -> None:
        queue = self._queues.get(account)
        queue.running -= 1
        self._dispatch(queue)

    def start_reserved(self, claim: Claim) -> None:
        claim.submission.message.body.retain()
        self._spawn(self._run(claim, self._queues.get(claim.account)))

    def adopt_attempt(self, claim: Claim, decision: Decision, attempt: "asyncio.Task[Outcomes]") -> None:
        queue = self._queues.get(claim.account)
        queue.running += 1
        claim.submission.message.body.retain()
        self._spawn(self._run(claim, queue, decision, attempt))

    def message_queued(self, arrival: Arrival) -> None:
        due_at = earliest_due(arrival.states)
        if due_at is not None:
            self.note_due(arrival.account, due_at)

    # ---- for the service ----

    def note_due(self, account: str, due_at: datetime) -> None:
        """A message of this account waits that is due then."""
        queue = self._queues.get(account)
        queue.note_due(due_at)
        self._dispatch(queue)

    def wake(self, account: str | None = None) -> None:
        """Try this account, or all of them, at once: it may be able to send again, or its queue has changed."""
        now = self._clock.now()
        for queue in self._queues if account is None else filter(None, [self._queues.find(account)]):
            queue.unblock(now)
            self._dispatch(queue)

    def account_can_send(self, account: str) -> None:
        """A message of this account was accepted upstream, queued or passed through; or its problem is solved."""
        queue = self._queues.find(account)
        if queue is not None and (queue.failures or queue.blocked_by is not None):
            self.wake(account)

    @property
    def blocked(self) -> Mapping[str, Blocked]:
        """The accounts that cannot send."""
        return self._queues.blocked(self._clock.now(), self._clock.monotonic())

    # ---- dispatch ----

    def _has_slot(self, queue: AccountQueue) -> bool:
        """True if one more message of the account may be attempted now."""
        monotonic = self._clock.monotonic()
        if queue.blocked_until > monotonic or self._is_paused or not self._pacing.may_send(monotonic):
            return False
        return queue.has_free_slot(self._availability.connections(queue))

    @property
    def _is_paused(self) -> bool:
        """True while no attempt may be started, for any account."""
        return len(self._tasks) >= _ATTEMPTS or self._results.is_blocked or self._suspects.is_active

    def _is_ready(self, queue: AccountQueue) -> bool:
        return queue.is_due(self._clock.now()) and self._has_slot(queue)

    def _blocked_queues(self) -> list[AccountQueue]:
        """The queues of the accounts that cannot send; asks for each account's availability."""
        return [q for q in self._queues if not self._has_slot(q) and q.is_blocked(self._clock.monotonic())]

    def _dispatch(self, queue: AccountQueue) -> None:
        """Start the account's messages that may be sent, or set the timer for the next one."""
        if self._is_stopped:
            return
        if not queue.claiming:
            if self._is_ready(queue):
                queue.claiming = True
                self._claim_loops[queue.account] = asyncio.create_task(self._claim_messages(queue))
            else:
                self._set_timer_for(queue)
        self._overdue.schedule(self.check_overdue)

    async def _claim_messages(self, queue: AccountQueue) -> None:
        """Lease the account's due messages and start their attempts, as long as it has a slot."""
        try:
            while not self._is_stopped and self._is_ready(queue):
                if shifting := self._clock_watch.check():
                    await wait_done(shifting)
                    continue  # the due times have changed
                changes = queue.changes
                self._pacing.message_sent()
                claim = await self.spool.claim(queue.account, self._clock.now())
                if claim is not None:
                    self._start_attempt(claim)
                elif changes == queue.changes:
                    due_at = (await self.spool.due(queue.account)).get(queue.account)
                    if changes == queue.changes:
                        queue.due_at = due_at
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, account=queue.account, why=error.message, hint=error.hint)
            queue.blocked_until = self._clock.monotonic() + _SPOOL_RETRY
        finally:
            queue.claiming = False
            self._claim_loops.pop(queue.account, None)
            if not self._is_stopped:
                self._set_timer_for(queue)

    def _set_timer_for(self, queue: AccountQueue) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._set_timer(queue.seconds_until_ready(now, monotonic, self._pacing.burst_until))

    def _set_timer(self, seconds: float) -> None:
        """Let the timer fire in so many seconds, unless it fires earlier."""
        if math.isinf(seconds) or self._is_paused:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds + _TIMER_SLACK
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._dispatch_all)

    def _dispatch_all(self) -> None:
        """Start what may be sent, of all accounts, and set the timer for the next message."""
        if self._is_stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._clock_watch.check()
        self._dispatch_ready()
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._set_timer(self._queues.seconds_until_ready(now, monotonic, self._pacing.burst_until))

    def _dispatch_ready(self) -> None:
        """Start what may be sent, of all accounts, up to the allowance of a burst."""
        allowance = self._pacing.allowance(self._clock.monotonic())
        for queue in self._queues:
            if allowance < 1:
                break
            if not queue.claiming and self._is_ready(queue):
                self._queues.serve_last(queue)
                self._dispatch(queue)
                allowance -= 1

    # ---- attempts ----

    def _start_attempt(self, claim: Claim) -> "asyncio.Task[None]":
        queue = self._queues.get(claim.account)
        queue.running += 1
        return self._spawn(self._run(claim, queue))

    async def _run(
        self,
        claim: Claim,
        queue: AccountQueue,
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
        await self._results.write(claim, update)

    def _record_outcomes(self, account: str, outcomes: Outcomes) -> None:
        self._availability.record_outcomes(self._queues.get(account), outcomes, self.policy)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if len(self._tasks) == _ATTEMPTS - 1:
            self._dispatch_all()  # the limit was reached; others wait

    # ---- overdue messages ----

    def check_overdue(self) -> None:
        """Look for delayed and expired messages. Called by a timer while messages wait."""
        self._overdue.cancel()
        if self._is_stopped:
            return
        self._clock_watch.check()
        if self._queues.are_active():
            self._overdue.schedule(self.check_overdue)
            self._spawn(self._overdue.run())
        self._queues.drop_idle()

    def _get_spool(self) -> Spool:
        return self.spool
