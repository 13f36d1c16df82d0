"""Runner: what waits in the spool is tried when it is due, each account for itself.

Guarantees: an account that cannot send, or has ten thousand waiting messages, delays nobody else's; the messages of one
account are tried in the order of their submission; an account that recovers is tried at once; a message that makes us
stumble, or die, three times is held, and stops nothing. What an attempt came to is written down before anything else is
done with the message, however long the disk takes. A step of the machine's clock changes no message's turn.
Not here: one attempt (relay.attempt), what outcomes mean (relay.recipient_updates), sessions and their limits
(delivery).
RFC 5321 section 4.5.4.1.
"""

import asyncio
import logging
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay import recipient_updates, tracking_events
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.decide import Decision
from senderproxy.relay.dsn_queueing import ReportBuilder, ReportedMessage
from senderproxy.relay.ports import (
    Accounts,
    Arrival,
    Claim,
    Courier,
    CrashJournal,
    Outcomes,
    Spool,
    SpoolError,
    SpoolUpdate,
)
from senderproxy.retry import RetryPolicy, is_over, wait_after
from senderproxy.rewriting.plan import Discarding
from senderproxy.routing.route import Refusal
from senderproxy.tracking.record import Blocked, Event, EventKind, RecipientState, RecipientStatus

_log = logging.getLogger("senderproxy.relay")

NO_ACCOUNT: Final = ""  # in place of an account's id: no account is known for it yet
FAULTS_LIMIT: Final = 3  # internal errors on one message before a person must look

_AHEAD: Final = 4  # messages claimed beyond an account's sessions, one for each: none has to wait for the disk
_ALL_AT_ONCE: Final = 500  # attempts, whosever
_DENSE: Final = 0.006  # seconds between two messages that come in, on average, below which it is a rush
_EVEN: Final = 8  # messages over which that is evened out
_RUSH: Final = 0.05  # seconds for which a rush makes it stand back
_SLACK: Final = 0.001  # seconds that a timer comes later, so that the time has come
_SHARE: Final = 4  # of so many that come in, one goes out meanwhile
_HEAD_START: Final = 40.0  # messages that go out before the first rush in a while begins to count
_WHILE: Final = 1.0  # seconds
_LOOK: Final = 30.0  # seconds between looks at what has waited too long
_STEP: Final = 60.0  # seconds that the clock may differ from the monotonic one before it was stepped
_SETTLING_IN: Final = 600.0  # seconds after the start, or after the clock was set, in which nothing is given up
_AGAIN: Final = 5.0  # seconds, while the spool does not answer
_REMIND: Final = 60.0  # seconds between two lines that say so
_DIED: Final = "senderproxy itself crashed"
_ALONE: Final = 10.0  # seconds for those who are tried alone, all together
_ALONE_EACH: Final = 2.0  # seconds until the next one
_LAST_WORDS: Final = 1.0  # seconds for what is broken off: a disk that hangs must not keep us


@dataclass(slots=True)
class _Lane:
    """One account's messages."""

    account: str
    due_at: datetime | None = None  # when the next of them is due, as far as we know
    news: int = 0  # how often we were told of one
    running: int = 0
    failures: int = 0  # in a row, of the account
    blocked_until: float = 0.0  # monotonic
    blocked_by: Reply | None = None
    pump: "asyncio.Task[None] | None" = None


@dataclass(frozen=True, slots=True)
class _Timing:
    """When an attempt began, on the monotonic clock, and how old its message was then."""

    started: float
    age: timedelta


class Runner:
    """The loop behind the spool; `spool` and `policy` may be replaced at any time."""

    def __init__(
        self,
        spool: Spool,
        relay: MessageRelay,
        report_builder: ReportBuilder,
        accounts: Accounts,
        courier: Courier,
        clock: Clock,
        policy: RetryPolicy,
        under_way: CrashJournal,
    ) -> None:
        self.spool = spool
        self.policy = policy
        self._relay = relay
        self._reports = report_builder
        self._accounts = accounts
        self._courier = courier
        self._clock = clock
        self._under_way = under_way
        self._alone: asyncio.Task[None] | None = None  # tries what the process before this one may have died of
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looks: asyncio.TimerHandle | None = None
        self._stopping = True
        self._trusted_from = 0.0  # monotonic; when the clock will have been right for long enough to give up by it
        self._unwritten: set[str] = set()  # messages whose verdict the disk did not take
        self._reminded = 0.0  # monotonic
        self._arrived_at = 0.0  # monotonic
        self._gap = _WHILE  # seconds between two messages that come in, on average
        self._rush_until = 0.0  # monotonic
        self._may_leave = 0.0  # so many messages, while the rush lasts
        self._ahead_of_monotonic = timedelta()  # the wall clock's lead over the monotonic one
        self._stepping: asyncio.Task[None] | None = None

    # ---- start and stop ----

    async def start(self) -> None:
        """Find out what waits, and begin. Raises SpoolError."""
        due = dict(await self.spool.due())
        now = self._clock.now()
        self._trusted_from = self._clock.monotonic() + _SETTLING_IN
        self._ahead_of_monotonic = self._lead()
        self._stopping = False
        far = now + 2 * max(self.policy.longest, timedelta(hours=1))
        if due and min(due.values()) > far:
            await self._stepped(now - min(due.values()))
            due = dict.fromkeys(due, now)
        if suspects := self._under_way.take_suspects():
            self._alone = self._spawn(self._try_alone(suspects))
        for account, due_at in due.items():
            self.arrived(account, due_at)

    async def stop(self, grace: float) -> None:
        """Begin nothing more, let what is under way finish within the grace, then break it off; it waits on."""
        self._stopping = True
        for timer in (self._timer, self._looks):
            if timer is not None:
                timer.cancel()
        for lane in self._lanes.values():
            if lane.pump is not None:
                lane.pump.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS)

    # ---- what others tell it ----

    def reserve(self, account: str) -> bool:
        """Take a place for a message that arrives just now; False where others are before it, or nothing can go out."""
        lane = self._lane(account)
        if self._stopping or lane.due_at is not None or not self._has_place(lane):
            return False
        self._may_leave -= 1
        lane.running += 1
        return True

    def free_place(self, account: str) -> None:
        """The reserved place is not used."""
        self._lane(account).running -= 1
        self._poke(self._lane(account))

    def carry(self, claim: Claim) -> None:
        """Attempt a message for which a place was reserved."""
        claim.submission.message.body.keep()
        self._begin(claim)

    def adopt(self, claim: Claim, decision: Decision, attempt: "asyncio.Task[Outcomes]") -> None:
        """An attempt is under way already: settle what it comes to."""
        lane = self._lane(claim.account)
        lane.running += 1
        claim.submission.message.body.keep()
        self._spawn(self._run(claim, lane, decision, attempt))

    def arrived(self, account: str, due_at: datetime) -> None:
        """A message of this account waits."""
        lane = self._lane(account)
        lane.news += 1
        if lane.due_at is None or due_at < lane.due_at:
            lane.due_at = due_at
        self._poke(lane)

    def arriving(self) -> None:
        """One more message is being written down. Where they come in a rush, what is safe already stands back."""
        now = self._clock.monotonic()
        self._gap += (min(now - self._arrived_at, _WHILE) - self._gap) / _EVEN
        self._arrived_at = now
        if self._gap > _DENSE:
            return
        if now > self._rush_until:
            self._may_leave = 0.0 if now < self._rush_until + _WHILE else _HEAD_START
        self._rush_until = now + _RUSH
        self._may_leave = min(self._may_leave + 1 / _SHARE, _HEAD_START)
        if self._may_leave >= 1:
            self._next_ones()

    def noticed(self, arrival: Arrival) -> None:
        """The same, of an arrival."""
        due = [state.due_at for state in arrival.states.values() if state.due_at is not None]
        if due:
            self.arrived(arrival.account, min(due))

    def wake(self, account: str | None = None) -> None:
        """This account, or any, may be able to send again, or somebody changed what waits: look at once."""
        now = self._clock.now()
        for lane in self._lanes.values() if account is None else filter(None, [self._lanes.get(account)]):
            lane.blocked_until, lane.failures, lane.blocked_by = 0.0, 0, None
            lane.news += 1
            lane.due_at = now
            self._poke(lane)

    def able(self, account: str) -> None:
        """A message of this account was just taken upstream, from wherever it came; or its trouble is over."""
        lane = self._lanes.get(account)
        if lane is not None and (lane.failures or lane.blocked_by is not None):
            self.wake(account)

    @property
    def blocked(self) -> Mapping[str, Blocked]:
        """The accounts that cannot send."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return {
            lane.account: Blocked(
                str(lane.blocked_by) if lane.blocked_by else "the queue cannot be read",
                None if math.isinf(lane.blocked_until) else now + timedelta(seconds=lane.blocked_until - monotonic),
            )
            for lane in self._lanes.values()
            if lane.blocked_until > monotonic
        }

    # ---- one account's turn ----

    def _lane(self, account: str) -> _Lane:
        lane = self._lanes.get(account)
        if lane is None:
            lane = self._lanes[account] = _Lane(account)
        return lane

    def _has_place(self, lane: _Lane) -> bool:
        """One more of its messages may be attempted now."""
        if lane.blocked_until > self._clock.monotonic() or self._stands_still:
            return False
        if self._may_leave < 1 and self._in_rush():
            return False
        standing = None if lane.account in (NO_ACCOUNT, REPORT_SERVER) else self._standing(lane)
        if standing == 0:
            return False
        if standing is None or lane.failures:
            return lane.running < 1
        return lane.running < standing + min(standing, _AHEAD)

    @property
    def _stands_still(self) -> bool:
        """Nothing is begun just now, whosever it is."""
        return len(self._tasks) >= _ALL_AT_ONCE or bool(self._unwritten) or self._alone is not None

    def _in_rush(self) -> bool:
        return self._rush_until > self._clock.monotonic()

    def _is_blocked(self, lane: _Lane) -> bool:
        """Nothing goes out on its account, now or until somebody mends it."""
        return not self._has_place(lane) and lane.blocked_until > self._clock.monotonic()

    def _standing(self, lane: _Lane) -> int | None:
        """How many messages it sends at once; None where it is gone. Blocks the lane where nothing goes out."""
        account = self._accounts.directory().by_id(lane.account)
        provider = self._relay.rules.providers.get(account.provider) if account else None
        if account is None or provider is None:
            return None
        standing = self._courier.availability(account, provider)
        if standing.reason is not None:
            lane.blocked_by = standing.reason
            lane.blocked_until = (
                math.inf if standing.retry_after is None else self._clock.monotonic() + standing.retry_after
            )
            return 0
        return standing.connections

    def _poke(self, lane: _Lane) -> None:
        """Let its next messages go, or wait for when they are due."""
        if self._stopping:
            return
        if lane.pump is None and self._is_ready(lane):
            lane.pump = asyncio.create_task(self._pump(lane))
        elif lane.pump is None:
            self._come_back_for(lane)
        if self._looks is None:
            self._looks = asyncio.get_running_loop().call_later(_LOOK, self.look_around)

    def _is_ready(self, lane: _Lane) -> bool:
        return lane.due_at is not None and lane.due_at <= self._clock.now() and self._has_place(lane)

    async def _pump(self, lane: _Lane) -> None:
        try:
            while not self._stopping and self._is_ready(lane):
                if stepping := self.watch_clock():
                    await wait_done(stepping)
                    continue  # its turn may be another now
                news = lane.news
                self._may_leave -= 1
                claim = await self.spool.claim(lane.account, self._clock.now())
                if claim is not None:
                    lane.running += 1
                    self._begin(claim)
                elif news == lane.news:
                    due_at = (await self.spool.due(lane.account)).get(lane.account)
                    if news == lane.news:
                        lane.due_at = due_at
        except SpoolError as error:
            self._spool_trouble(lane, error)
        finally:
            lane.pump = None
            if not self._stopping:
                self._come_back_for(lane)

    def _spool_trouble(self, lane: _Lane, error: SpoolError) -> None:
        event(_log, log_events.QUEUE_READ_FAILED, account=lane.account, why=error.message, hint=error.hint)
        lane.blocked_until = self._clock.monotonic() + _AGAIN

    def _wait_of(self, lane: _Lane) -> float:
        """Seconds until it is worth a look; infinite where something else will wake it."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if lane.due_at is None or lane.pump is not None or (lane.running and lane.due_at <= now):
            return math.inf
        wait = (lane.due_at - now).total_seconds()
        return max(wait, lane.blocked_until - monotonic, self._rush_until - monotonic, 0.0)

    def _come_back_for(self, lane: _Lane) -> None:
        """One timer stands for all lanes: set it forward, where it would come too late for this one."""
        self._come_back_in(self._wait_of(lane))

    def _come_back_in(self, seconds: float) -> None:
        if math.isinf(seconds) or self._stands_still:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds + _SLACK
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._on_time)

    def _on_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.watch_clock()
        self._next_ones()
        self._come_back_in(min(map(self._wait_of, self._lanes.values()), default=math.inf))

    def _next_ones(self) -> None:
        """All lanes that may go, as many as may; who could go now is the last to be asked the next time."""
        may = self._may_leave if self._in_rush() else math.inf
        for lane in list(self._lanes.values()):
            if may < 1:
                break
            if lane.pump is None and self._is_ready(lane):
                self._lanes[lane.account] = self._lanes.pop(lane.account)
                self._poke(lane)
                may -= 1

    # ---- one message ----

    def _begin(self, claim: Claim) -> "asyncio.Task[None]":
        return self._spawn(self._run(claim, self._lane(claim.account)))

    def _spawn(self, running: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if len(self._tasks) == _ALL_AT_ONCE - 1 and not self._stopping:
            self._on_time()  # others waited for a place

    async def _run(
        self,
        claim: Claim,
        lane: _Lane,
        decision: Decision | None = None,
        under_way: "asyncio.Task[Outcomes] | None" = None,
    ) -> None:
        """Attempt it and write down what came of it. A fault of ours costs this message its turn, and nobody else."""
        self._under_way.attempt_started(claim.submission.id)
        try:
            if decision is not None and under_way is not None:
                verdict_ = await self._join(claim, lane, decision, under_way)
            else:
                verdict_ = await self._attempt(claim, lane)
        except Exception as fault:  # noqa: BLE001  a message that makes us stumble must not stop the others
            event(_log, log_events.QUEUE_ATTEMPT_ERROR, fault=fault, id=claim.submission.id)
            verdict_ = self._stumbled(claim, type(fault).__name__)
        finally:
            self._under_way.attempt_ended(claim.submission.id)
            lane.running -= 1
            claim.submission.message.body.close()
            self._poke(lane)
        await self._write(claim, verdict_)

    async def _join(
        self, claim: Claim, lane: _Lane, decision: Decision, attempt: "asyncio.Task[Outcomes]"
    ) -> SpoolUpdate:
        """An attempt that somebody else began."""
        timing = self._timing(claim)
        try:
            outcomes = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.cancel()
            outcomes = await attempt
        return self._conclude(claim, lane, decision, outcomes, timing)

    def _timing(self, claim: Claim) -> _Timing:
        return _Timing(self._clock.monotonic(), self._clock.now() - claim.submission.received_at)

    async def _attempt(self, claim: Claim, lane: _Lane) -> SpoolUpdate:
        submission, recipients = claim.submission, tuple(claim.due)
        timing = self._timing(claim)
        if self._relay.is_for_report_server(submission):
            outcomes = await self._relay.deliver_report(submission, recipients)
            return self._conclude(claim, lane, None, outcomes, timing)
        decided = self._relay.valid_decision(claim.decision) or self._relay.decide(submission)
        if isinstance(decided, Discarding):
            return self._discarded(claim, decided)
        if isinstance(decided, Refusal):
            # It was accepted, so somebody changed something since: what they mend will free it.
            refused: dict[ForwardPath, Outcome] = dict.fromkeys(recipients, Deferred(decided.reply))
            return self._conclude(claim, lane, None, refused, timing)
        outcomes = await self._relay.deliver(submission, decided, recipients)
        return self._conclude(claim, lane, decided, outcomes, timing)

    def _conclude(
        self, claim: Claim, lane: _Lane, decision: Decision | None, outcomes: Outcomes, timing: "_Timing"
    ) -> SpoolUpdate:
        """The verdict on an attempt, with the reports it makes due; and what it says about the account."""
        submission = claim.submission
        self.watch_clock()
        now = self._clock.now()
        seconds = self._clock.monotonic() - timing.started
        age = timing.age + timedelta(seconds=seconds)
        account = decision.route.account.id if decision else claim.account
        self._learn(lane if account == claim.account else self._lane(account), outcomes)
        judgement = recipient_updates.update_recipients(
            claim.due,
            outcomes,
            self.policy,
            now=now,
            chance=self._clock.chance(),
            over=self._may_give_up and is_over(self.policy, age),
        )
        report_to = decision.report_to if decision else self._relay.report_recipient(submission)
        told = self._reports.report_attempt(ReportedMessage(submission, account, report_to), judgement)
        events = [
            *tracking_events.attempted(outcomes, len(submission.envelope.recipients), account, now, seconds),
            *told.events,
        ]
        self._report(claim, account, outcomes, seconds)
        return SpoolUpdate(told.states, events, told.reports, account if account != claim.account else None)

    def _learn(self, lane: _Lane, outcomes: Outcomes) -> None:
        """An account that cannot send is left alone for a while; one that can is not."""
        if any(isinstance(outcome, Delivered | Failed) for outcome in outcomes.values()):
            lane.failures = 0
            return
        against = [outcome for outcome in outcomes.values() if isinstance(outcome, Deferred) and outcome.of_account]
        monotonic = self._clock.monotonic()
        if not against or lane.blocked_until > monotonic:
            return
        lane.failures += 1
        if self._standing(lane) == 0:
            return  # delivery knows how long
        wait = wait_after(self.policy, lane.failures, self._clock.chance())
        lane.blocked_by, lane.blocked_until = against[0].reply, monotonic + wait.total_seconds()

    def _discarded(self, claim: Claim, decided: Discarding) -> SpoolUpdate:
        state = RecipientState(RecipientStatus.DISCARDED, None, 0, decided.reply)
        what = Event(self._clock.now(), EventKind.DISCARDED, (), {"reply": str(decided.reply)})
        return SpoolUpdate(dict.fromkeys(claim.due, state), [what])

    def _stumbled(self, claim: Claim, what: str) -> SpoolUpdate:
        """Tried again later; held for a person at the third time in a row."""
        faults, now = claim.faults + 1, self._clock.now()
        why = f"{what}, {faults} times in a row; the log has the details"
        events = [Event(now, EventKind.FAULT, (), {"why": what})]
        if faults >= FAULTS_LIMIT:
            held = {
                path: replace(state, status=RecipientStatus.HELD, due_at=None, why=why)
                for path, state in claim.due.items()
            }
            return SpoolUpdate(held, [*events, Event(now, EventKind.HELD, (), {"why": why})], faults=faults)
        later = now + wait_after(self.policy, faults, self._clock.chance())
        said = reply(451, "4.3.0", "A fault of senderproxy's own; its log has the details")
        waits = {path: replace(state, due_at=later, reply=said) for path, state in claim.due.items()}
        return SpoolUpdate(waits, events, faults=faults)

    # ---- what the process may have died of ----

    async def _try_alone(self, suspects: Sequence[str]) -> None:
        """Note that the process before this one died while they were tried; then try them one by one, the others after.

        Each that comes to an end is cleared by that. The one that is at fault is the only one under way when we die of
        it again, and held at the third time. Not for long: what hangs because its provider does is not at fault.
        """
        event(
            _log,
            log_events.CRASH_SUSPECTS_RETRIED,
            messages=len(suspects),
        )
        try:
            died: list[Claim] = []
            for message_id in suspects:  # one after the other: whatever goes wrong, no lease is left behind
                claim = await self._waiting(message_id)
                if claim is not None:
                    await self._write(claim, self._stumbled(claim, _DIED))
                    died.append(claim)
            end = self._clock.monotonic() + _ALONE
            for claim in sorted(died, key=lambda claim: claim.faults):
                if self._stopping or self._clock.monotonic() >= end:
                    break
                again = await self._waiting(claim.submission.id)
                if again is not None:
                    self._lane(again.account).running += 1
                    await wait_done(self._begin(again), _ALONE_EACH)
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, why=error.message, hint=error.hint)
        finally:
            self._alone = None
            if not self._stopping:
                self._on_time()

    async def _waiting(self, message_id: str) -> Claim | None:
        """This one with all its recipients that wait; None where none does, or nothing can go out on its account."""
        claim = await self.spool.claim_one(message_id)
        if claim is None:
            return None
        waiting = {path: state for path, state in claim.due.items() if state.status is RecipientStatus.WAITING}
        lane = self._lane(claim.account)
        if waiting and (claim.account in (NO_ACCOUNT, REPORT_SERVER) or self._standing(lane) != 0):
            return replace(claim, due=waiting)
        await self.spool.settle(claim, SpoolUpdate({}, faults=claim.faults))
        return None

    # ---- writing it down ----

    async def _write(self, claim: Claim, verdict_: SpoolUpdate) -> None:
        """Until it is written: a message that was taken upstream must not be sent again because a disk is full."""
        if stepping := self.watch_clock():
            await wait_done(stepping)
        try:
            await self.spool.settle(claim, verdict_)
        except SpoolError as error:
            await self._write_in_the_end(claim, verdict_, error)
        account = verdict_.account or claim.account
        due = [state.due_at for state in verdict_.states.values() if state.due_at is not None]
        if due:
            self.arrived(account, min(due))
        for arrival in verdict_.reports:
            self.noticed(arrival)

    async def _write_in_the_end(self, claim: Claim, verdict_: SpoolUpdate, error: SpoolError) -> None:
        """Try until the disk takes it. Nothing is begun meanwhile: a restart would send once more what is not written.

        Said once for the message, and once a minute for all of them.
        """
        event(
            _log,
            log_events.SPOOL_WRITE_FAILED,
            id=claim.submission.id,
            why=error.message,
            hint=error.hint,
        )
        self._unwritten.add(claim.submission.id)
        try:
            while True:
                await asyncio.sleep(_AGAIN)
                try:
                    await self.spool.settle(claim, verdict_)
                    break
                except SpoolError as still:
                    self._remind(still)
        finally:
            self._unwritten.discard(claim.submission.id)
        event(_log, log_events.SPOOL_WRITE_RESUMED, id=claim.submission.id)
        if not self._unwritten:
            self._on_time()

    def _remind(self, error: SpoolError) -> None:
        now = self._clock.monotonic()
        if now - self._reminded >= _REMIND:
            self._reminded = now
            event(
                _log,
                log_events.SPOOL_WRITE_FAILED,
                messages=len(self._unwritten),
                why=error.message,
                hint=error.hint,
            )

    # ---- what has waited too long ----

    @property
    def _may_give_up(self) -> bool:
        return self._clock.monotonic() >= self._trusted_from

    def look_around(self) -> None:
        """See what has waited too long, and whether the clock was set. Comes by itself while anything waits."""
        if self._looks is not None:
            self._looks.cancel()
        self._looks = None
        if self._stopping:
            return
        self.watch_clock()
        if any(lane.due_at is not None or lane.running for lane in self._lanes.values()):
            self._looks = asyncio.get_running_loop().call_later(_LOOK, self.look_around)
            self._spawn(self._tell_of_what_waits())
        self._lanes = {
            account: lane
            for account, lane in self._lanes.items()
            if lane.due_at is not None or lane.running or lane.pump is not None or lane.failures
        }

    async def _tell_of_what_waits(self) -> None:
        """Delays are reported once; what a blocked account has kept for too long goes back to its author."""
        if stepping := self.watch_clock():
            await wait_done(stepping)
        now = self._clock.now()
        try:
            if self.policy.report_delay is not None:
                while claim := await self.spool.claim_undelayed(now - self.policy.report_delay):
                    await self._write(claim, self._delayed(claim))
            if self._may_give_up:
                for lane in [lane for lane in self._lanes.values() if self._is_blocked(lane)]:
                    while claim := await self.spool.claim_expired(lane.account, now - self.policy.give_up):
                        await self._write(claim, self._expired(claim, lane))
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, why=error.message, hint=error.hint)

    def _delayed(self, claim: Claim) -> SpoolUpdate:
        case = ReportedMessage(claim.submission, claim.account, self._relay.report_recipient(claim.submission))
        told = self._reports.report_delay(case, claim.due, self.policy)
        return SpoolUpdate(told.states, told.events, told.reports, faults=claim.faults)

    def _expired(self, claim: Claim, lane: _Lane) -> SpoolUpdate:
        said = lane.blocked_by or reply(451, "4.4.7", "The account could not send")
        outcomes: dict[ForwardPath, Outcome] = dict.fromkeys(claim.due, Deferred(said, of_account=True))
        judgement = recipient_updates.update_recipients(
            claim.due, outcomes, self.policy, now=self._clock.now(), chance=self._clock.chance(), over=True
        )
        case = ReportedMessage(claim.submission, claim.account, self._relay.report_recipient(claim.submission))
        told = self._reports.report_attempt(case, judgement)
        return SpoolUpdate(told.states, told.events, told.reports)

    # ---- the clock ----

    def _lead(self) -> timedelta:
        return timedelta(seconds=self._clock.now().timestamp() - self._clock.monotonic())

    def watch_clock(self) -> "asyncio.Task[None] | None":
        """Notice that somebody set the clock, and move everybody's turn along with it.

        While that is being done: the task that does it. What is written meanwhile with the new time must wait for it.
        """
        lead = self._lead()
        step = lead - self._ahead_of_monotonic
        if abs(step.total_seconds()) >= _STEP and not self._stopping:
            self._ahead_of_monotonic = lead
            self._trusted_from = self._clock.monotonic() + _SETTLING_IN  # ages that were told just now may be wrong
            for lane in self._lanes.values():
                lane.due_at = lane.due_at and lane.due_at + step
            self._stepping = self._spawn(self._stepped(step))
        if self._stepping is not None and self._stepping.done():
            self._stepping = None
        return self._stepping

    async def _stepped(self, step: timedelta) -> None:
        event(
            _log,
            log_events.CLOCK_STEPPED,
            seconds=step.total_seconds(),
        )
        try:
            await self.spool.shift(step)
        except SpoolError as error:
            event(_log, log_events.CLOCK_SHIFT_FAILED, why=error.message)
        self.wake()

    # ---- the log ----

    def _report(self, claim: Claim, account: str, outcomes: Outcomes, seconds: float) -> None:
        """One line per attempt."""
        counts = {
            words: sum(isinstance(outcome, kind) for outcome in outcomes.values())
            for words, kind in (("delivered", Delivered), ("deferred", Deferred), ("failed", Failed))
        }
        telling = next(
            outcome.reply
            for kind in (Failed, Deferred, Delivered)
            for outcome in outcomes.values()
            if isinstance(outcome, kind)
        )
        kind = log_events.QUEUE_ATTEMPT_DELIVERED
        if counts["delivered"] != len(outcomes):
            kind = log_events.QUEUE_ATTEMPT_PARTIAL if counts["delivered"] else log_events.QUEUE_ATTEMPT_FAILED
        event(
            _log,
            kind,
            fault=None,
            id=claim.submission.id,
            account=account,
            **{words: count for words, count in counts.items() if count},
            seconds=round(seconds, 3),
            reply=telling,
        )
