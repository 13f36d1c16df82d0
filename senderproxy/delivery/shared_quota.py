"""Hourly quota of one account that several instances share, in the place of delivery.quota.HourlyQuota.

Guarantees: a message is reserved from a portion that the database has granted to this instance, without a question to
it; only a message that the portion does not cover waits for the database, for a bounded time. Before a message is
refused, the other instances are asked for what they have not used. While the database does not answer, an account with
a limit sends what its portion covers until the leases of this instance are lost, and then nothing.
Not here: the portion (delivery.portion), the sums of all instances (spool.postgresql.hourly_limits).
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from senderproxy.clock import Clock
from senderproxy.delivery.portion import Portion, PortionReservation, needed, report_of
from senderproxy.delivery.quota import Quota, QuotaExceeded, Remaining, Reservation
from senderproxy.learned import Fact, Instant, Notify, ignore_change
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.shared_ports import (
    HourlyAmounts,
    HourlyGrant,
    HourlyLimits,
    HourlyRequest,
    SharedHourlyLimits,
)
from senderproxy.translation import _

_REPORT: Final = 10.0  # seconds from a use to its report, if nothing is drawn before
_IDLE: Final = 60.0  # seconds without a message after which an unused portion is given back
_DRAW: Final = 10.0  # seconds for a message that the portion does not cover; a client waits for it
_ANSWERS: Final = 2.0  # seconds for other instances to give back what they have not used
_ROUNDS: Final = 10  # draws for one message: each follows an answer of another instance, which may have drawn again
_SCARCE: Final = 30.0  # seconds after a request of another instance in which nothing is drawn to spare
_AGAIN: Final = 5.0  # seconds until a message that could not be decided about is tried again
_CLOSE: Final = 3.0  # seconds for the last reports; what is not reported counts as used


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The last refusal, for the messages after it."""

    limits: HourlyLimits
    recipients: int  # it is none for a message to fewer
    until: float  # monotonic seconds
    exceeded: QuotaExceeded


class SharedQuota(Quota):
    """The quota of one account. One attribute for each fact about it."""

    def __init__(self, account: str, clock: Clock, shared: "SharedLimits") -> None:
        self._account = account
        self._clock = clock
        self._shared = shared
        self._portion = Portion()
        self._instance: int | None = None  # under which the portion was granted
        self._drawing = asyncio.Lock()  # the messages that the portion does not cover, one after the other
        self._exchanging = asyncio.Lock()
        self._returned = asyncio.Event()
        self._refusal: _Refusal | None = None
        self._left = HourlyLimits(None, None)  # for everybody, after the last exchange
        self._used_at = 0.0  # monotonic seconds
        self._scarce_until = 0.0  # monotonic seconds; others need what is left
        self._full_until = 0.0  # monotonic seconds; there was nothing to draw
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_refilling = False

    # --- as HourlyQuota ---

    def reserve(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> Reservation | QuotaExceeded:
        """Reserve one message to that many recipients, without a question to the database."""
        limits = HourlyLimits(messages_per_hour, recipients_per_hour)
        if (too_large := _too_large(recipients, limits)) is not None:
            return too_large
        if limits != HourlyLimits(None, None) and not self._is_valid():
            return _undecided(limits)
        reservation = self._portion.reserve(recipients, limits, now)
        if reservation is None:
            return self._refused(recipients, limits, now) or _undecided(limits)
        self._used_at = now
        self._schedule()
        if self._portion.is_low() and not self._is_refilling and now >= max(self._scarce_until, self._full_until):
            self._is_refilling = True
            self._spawn(self._refill(limits))
        return reservation

    async def draw(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None
    ) -> Reservation | QuotaExceeded:
        """Reserve a message that `reserve` has refused, with what the database grants or other instances give back."""
        limits = HourlyLimits(messages_per_hour, recipients_per_hour)
        now = self._clock.monotonic()
        if (refused := _too_large(recipients, limits) or self._refused(recipients, limits, now)) is not None:
            return refused
        try:
            async with asyncio.timeout(_DRAW), self._drawing:
                return await self._draw(recipients, limits)
        except (TimeoutError, SpoolError):
            return self._refuse(recipients, limits, _undecided(limits))

    def check(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> QuotaExceeded | None:
        """Return the refusal of a message to that many recipients as far as it is known; None if it may be tried."""
        limits = HourlyLimits(messages_per_hour, recipients_per_hour)
        return _too_large(recipients, limits) or self._refused(recipients, limits, now)

    def release(self, reservation: Reservation) -> None:
        """Return a reservation whose message was not accepted. A second call has no effect."""
        if isinstance(reservation, PortionReservation):
            self._portion.release(reservation)
            if self._clock.monotonic() < self._scarce_until:
                self._spawn(self._give_back())
            else:
                self._schedule()

    def remaining(
        self,
        *,
        messages_per_hour: int | None,
        recipients_per_hour: int | None,
        now: float,  # noqa: ARG002
    ) -> Remaining:
        """Return the unused quota, as of the last exchange with the database."""
        held, left = self._portion.held, self._left
        return Remaining(
            _remaining(messages_per_hour, left.messages, held.messages),
            _remaining(recipients_per_hour, left.recipients, held.recipients),
        )

    def fact(self, at: Instant) -> Fact | None:  # noqa: ARG002
        """None: the database has the use."""
        return None

    def restore(self, fact: Fact, written: Instant) -> bool:  # noqa: ARG002
        """False: the database has the use."""
        return False

    # --- notices of other instances ---

    def wanted(self) -> None:
        """Others need what is unused here."""
        self._scarce_until = self._clock.monotonic() + _SCARCE
        if not self._portion.is_empty:
            self._spawn(self._give_back())

    def returned(self) -> None:
        """Others have given something back: a refusal may be none any more."""
        self._returned.set()
        self._refusal = None

    async def close(self) -> None:
        """Report the use, and give the rest back. What cannot be reported counts as used."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._portion.is_empty and self._shared.store is not None:
            await self._give_back()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- parts ---

    async def _draw(self, recipients: int, limits: HourlyLimits) -> Reservation | QuotaExceeded:
        """Draw until the message is covered, or every other instance has given back what it has not used."""
        for _round in range(_ROUNDS):
            if (decided := self._decided(recipients, limits)) is not None:
                return decided
            self._returned.clear()
            grant = await asyncio.shield(self._spawn(self._exchange(limits, needed(recipients, limits), spare=True)))
            if grant.is_enough:
                continue
            if not grant.is_held_elsewhere:
                seconds = _AGAIN if grant.seconds is None else grant.seconds
                return self._refuse(recipients, limits, QuotaExceeded(_text(limits, grant.left), seconds))
            try:
                async with asyncio.timeout(_ANSWERS):
                    await self._returned.wait()
            except TimeoutError:  # an instance that is gone has it: later messages need not wait, too
                return self._refuse(recipients, limits, _undecided(limits))
        return self._decided(recipients, limits) or _undecided(limits)

    def _decided(self, recipients: int, limits: HourlyLimits) -> Reservation | QuotaExceeded | None:
        """A reservation, or the refusal of another message that is one of this message too; None if there is none."""
        now = self._clock.monotonic()
        found = self.reserve(
            recipients, messages_per_hour=limits.messages, recipients_per_hour=limits.recipients, now=now
        )
        return found if isinstance(found, Reservation) else self._refused(recipients, limits, now)

    def _refuse(self, recipients: int, limits: HourlyLimits, exceeded: QuotaExceeded) -> QuotaExceeded:
        until = self._clock.monotonic() + (exceeded.seconds or 0.0)
        self._refusal = _Refusal(limits, recipients, until, exceeded)
        return exceeded

    def _refused(self, recipients: int, limits: HourlyLimits, now: float) -> QuotaExceeded | None:
        """The last refusal, if it is one of this message too."""
        refusal = self._refusal
        if refusal is None or refusal.limits != limits or recipients < refusal.recipients or now >= refusal.until:
            return None
        return QuotaExceeded(refusal.exceeded.limit, refusal.until - now, refusal.exceeded.is_undecided)

    def _is_valid(self) -> bool:
        """True while the portion may be used. Voids that of an earlier number of this instance."""
        store = self._shared.store
        number = None if store is None else store.instance
        if number is None:
            return False
        if self._instance not in (None, number):
            self._portion.void()
        self._instance = number
        return True

    async def _refill(self, limits: HourlyLimits) -> None:
        """Draw before the portion is used up."""
        try:
            with suppress(SpoolError):  # a message that needs it asks again
                grant = await self._exchange(limits, HourlyAmounts(), spare=True)
                if grant.granted == HourlyAmounts():
                    self._full_until = self._clock.monotonic() + _SCARCE
        finally:
            self._is_refilling = False

    async def _give_back(self) -> None:
        """Report the use, and give back what is unused, because others need it or nobody here does."""
        with suppress(SpoolError):  # after the end of the lease the others count it as used
            await self._exchange(self._portion.limits, HourlyAmounts(), spare=False, is_answer=True)

    async def _report(self) -> None:
        with suppress(SpoolError):
            if self._clock.monotonic() - self._used_at >= _IDLE:
                await self._exchange(self._portion.limits, HourlyAmounts(), spare=False, is_answer=True)
            else:
                await self._exchange(self._portion.limits, HourlyAmounts(), spare=False)
        if not self._portion.is_empty:
            self._schedule()

    async def _exchange(
        self, limits: HourlyLimits, wanted: HourlyAmounts, *, spare: bool, is_answer: bool = False
    ) -> HourlyGrant:
        """Report, give back and draw. Raises SpoolError."""
        async with self._exchanging:
            store, portion = self._shared.store, self._portion
            if store is None or not self._is_valid():
                raise SpoolError(_("The database did not answer in time: the hourly limits are not known."))
            if is_answer or limits != portion.limits:
                portion.give_up()
            now, used, epoch = self._clock.monotonic(), portion.take_used(), portion.epoch
            with_spare = spare and now >= self._scarce_until
            kept = portion.held
            missing = HourlyAmounts(
                max(0, wanted.messages - kept.messages), max(0, wanted.recipients - kept.recipients)
            )
            request = HourlyRequest(self._account, limits, report_of(used, now), kept, missing, with_spare, is_answer)
            try:
                grant = await store.exchange(request)
            except BaseException:
                portion.put_back(used, epoch)
                raise
            portion.grant(grant.granted, limits, epoch)
            self._left = grant.left
            if grant.granted != HourlyAmounts():
                self._schedule()
            return grant

    # --- timers and tasks ---

    def _schedule(self) -> None:
        """Report within _REPORT seconds."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REPORT, self._report_now)

    def _report_now(self) -> None:
        self._timer = None
        if not self._portion.is_empty:
            self._spawn(self._report())

    def _spawn(self, work: "Coroutine[Any, Any, Any]") -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not isinstance(fault, SpoolError):  # which the message that waits for it has
            context = {"message": "internal error in the exchange of hourly limits", "exception": fault}
            task.get_loop().call_exception_handler(context)


class SharedLimits:
    """The quotas of all accounts. `on_returned` is called with an account that may be able to send again."""

    def __init__(self, clock: Clock) -> None:
        self.store: SharedHourlyLimits | None = None  # None: the database is not open
        self.on_returned: Notify = ignore_change
        self._clock = clock
        self._quotas: WeakValueDictionary[str, SharedQuota] = WeakValueDictionary()  # those of accounts in use

    def use(self, store: SharedHourlyLimits) -> None:
        """Share the limits in this database from now on."""
        self.store = store
        store.on_notice(self._wanted, self._returned)

    def quota(self, account: str) -> SharedQuota:
        """The quota of an account."""
        found = self._quotas.get(account)
        if found is None:
            found = self._quotas[account] = SharedQuota(account, self._clock, self)
        return found

    async def close(self) -> None:
        """Give everything back, within _CLOSE seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE):
                await asyncio.gather(*(quota.close() for quota in list(self._quotas.values())))

    def _wanted(self, account: str) -> None:
        if (quota := self._quotas.get(account)) is not None:
            quota.wanted()

    def _returned(self, account: str) -> None:
        if (quota := self._quotas.get(account)) is not None:
            quota.returned()
            self.on_returned(account)


def _too_large(recipients: int, limits: HourlyLimits) -> QuotaExceeded | None:
    """The refusal of a message that exceeds a limit alone."""
    for amount, limit, kind in ((1, limits.messages, "messages"), (recipients, limits.recipients, "recipients")):
        if limit is not None and amount > limit:
            return QuotaExceeded(f"{limit} {kind} an hour", None)
    return None


def _undecided(limits: HourlyLimits) -> QuotaExceeded:
    """The refusal of a message whose limits cannot be looked up now."""
    return QuotaExceeded(_text(limits, HourlyLimits(None, None)), _AGAIN, is_undecided=True)


def _text(limits: HourlyLimits, left: HourlyLimits) -> str:
    """The limit that is reached, in words; of both, the one of which less is left."""
    texts = [
        (rest if rest is not None else 0, f"{limit} {kind} an hour")
        for limit, rest, kind in (
            (limits.messages, left.messages, "messages"),
            (limits.recipients, left.recipients, "recipients"),
        )
        if limit is not None
    ]
    return min(texts, default=(0, ""))[1]


def _remaining(limit: int | None, left: int | None, held: int) -> int | None:
    if limit is None:
        return None
    return max(0, min(limit, limit if left is None else left + held))
