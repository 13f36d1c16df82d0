"""Hourly quota of one account: the provider's limits, enforced here so that they are never reached there. PURE.

Guarantees: the reservations of any sixty minutes never exceed a limit; a refusal gives the time until the next one
succeeds; a released reservation does not count. Memory is the same from the first message on, whatever the limits are.
Not here: the limits (routing.provider), the clock, the table that outlives a restart (relay.learned_state), a quota
that several instances share (delivery.shared_quota).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from senderproxy.learned import Fact, Instant, clamp

HOUR: Final = 3600.0  # seconds; providers count their limits by the hour
_TOLERANCE: Final = 1.0  # seconds by which the clocks may differ between the writing and the reading of a fact
_SLOT: Final = 60.0  # seconds; reservations are summed by the minute
_SLOTS: Final = 62  # 61 that have not expired, and the next one: a restored slot may end a minute later than it did


@dataclass(slots=True)
class Reservation:
    """A share of the quota: one message to some recipients."""

    slot: int
    recipients: int
    released: bool = False


@dataclass(frozen=True, slots=True)
class QuotaExceeded:
    """A limit is reached. `seconds`: the time until it is not; None if the message alone exceeds the limit.

    `is_undecided`: what other instances have used is not known now, so the limit may not be reached.
    """

    limit: str  # such as "100 messages an hour"
    seconds: float | None
    is_undecided: bool = False


@dataclass(frozen=True, slots=True)
class Remaining:
    """The unused quota of this hour; None where there is no limit."""

    messages: int | None
    recipients: int | None


class Quota(Protocol):
    """The hourly quota of one account. Each call takes the limits: they may change at any time."""

    def reserve(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> Reservation | QuotaExceeded:
        """Reserve one message to that many recipients. `now` is in seconds, on a monotonic clock."""
        ...

    async def draw(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None
    ) -> Reservation | QuotaExceeded | None:
        """Reserve a message that `reserve` has refused; None if its refusal stands."""
        ...

    def check(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> QuotaExceeded | None:
        """Return the refusal of a message, as far as it is known. Reserves nothing."""
        ...

    def release(self, reservation: Reservation) -> None:
        """Return a reservation whose message was not accepted. A second call has no effect."""
        ...

    def remaining(self, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float) -> Remaining:
        """Return the unused quota."""
        ...

    def fact(self, at: Instant) -> Fact | None:
        """Return the use of the past hour in values for JSON; None if there is none to be kept beyond a restart."""
        ...

    def restore(self, fact: Fact, written: Instant) -> bool:
        """Add the use that was written at that moment; False if it does not count."""
        ...


class HourlyQuota(Quota):
    """The reservations of one account in the past hour. Each call takes the limits: they may change at any time.

    A slot is the number of a minute on the monotonic clock. Its sums are at this number modulo _SLOTS.
    """

    def __init__(self) -> None:
        self._last = 0  # the highest slot; the sums of the _SLOTS up to it count
        self._messages = [0] * _SLOTS
        self._recipients = [0] * _SLOTS

    def reserve(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> Reservation | QuotaExceeded:
        """Reserve one message to that many recipients. `now` is in seconds, on a monotonic clock."""
        exceeded = self.check(
            recipients, messages_per_hour=messages_per_hour, recipients_per_hour=recipients_per_hour, now=now
        )
        if exceeded is not None:
            return exceeded
        slot = math.floor(now / _SLOT)
        self._messages[slot % _SLOTS] += 1
        self._recipients[slot % _SLOTS] += recipients
        return Reservation(slot, recipients)

    def check(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> QuotaExceeded | None:
        """Return the refusal that `reserve` would return; None if it would succeed. Reserves nothing."""
        self._expire(now)
        if messages_per_hour is None and recipients_per_hour is None:
            return None
        refusals = [
            refusal
            for amount, limit, sums, kind in (
                (1, messages_per_hour, self._messages, "messages"),
                (recipients, recipients_per_hour, self._recipients, "recipients"),
            )
            if limit is not None and (refusal := self._check_one(amount, limit, sums, kind, now)) is not None
        ]
        return max(refusals, key=lambda refusal: math.inf if refusal.seconds is None else refusal.seconds, default=None)

    async def draw(
        self,
        recipients: int,
        *,
        messages_per_hour: int | None,
        recipients_per_hour: int | None,
    ) -> None:
        """None: all of the quota is here."""

    def release(self, reservation: Reservation) -> None:
        """Return a reservation whose message was not accepted. A second call has no effect."""
        if reservation.released:
            return
        reservation.released = True
        if self._last - _SLOTS < reservation.slot:
            self._messages[reservation.slot % _SLOTS] -= 1
            self._recipients[reservation.slot % _SLOTS] -= reservation.recipients

    def remaining(self, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float) -> Remaining:
        """Return the unused quota."""
        self._expire(now)
        messages, recipients = sum(self._messages), sum(self._recipients)
        return Remaining(
            None if messages_per_hour is None else max(0, messages_per_hour - messages),
            None if recipients_per_hour is None else max(0, recipients_per_hour - recipients),
        )

    def fact(self, at: Instant) -> Fact | None:
        """Return the use of the past hour in values for JSON; None if there is none.

        `age`: the seconds since the end of the last slot, negative if it has not ended; for each slot the number of
        slots before the last one, its messages and its recipients.
        """
        self._expire(at.monotonic)
        used = [slot for slot in self._numbers() if self._messages[slot % _SLOTS]]
        if not used:
            return None
        last = used[-1]
        slots = [[last - slot, self._messages[slot % _SLOTS], self._recipients[slot % _SLOTS]] for slot in used]
        return {"age": round(at.monotonic - (last + 1) * _SLOT, 3), "slots": slots}

    def restore(self, fact: Fact, written: Instant) -> bool:
        """Add the use that was written at that moment; False if it does not count any more.

        A slot ends at most a minute later than it did, and a second earlier: the clocks differ a little. Raises
        KeyError, TypeError or ValueError for a fact of another form.
        """
        if written.elapsed >= HOUR + 2 * _SLOT:
            return False
        end = written.monotonic + _SLOT - clamp(fact["age"] + _SLOT, 2 * HOUR)
        last = math.ceil((end - _TOLERANCE) / _SLOT) - 1
        used = [
            (last - _amount(back), _amount(messages), _amount(recipients))
            for back, messages, recipients in fact["slots"]
        ]
        self._expire(written.monotonic)
        for slot, messages, recipients in used:
            if self._last - _SLOTS < slot <= self._last:
                self._messages[slot % _SLOTS] += messages
                self._recipients[slot % _SLOTS] += recipients
        return bool(used)

    def _check_one(self, amount: int, limit: int, sums: Sequence[int], kind: str, now: float) -> QuotaExceeded | None:
        """Return None if the amount is within the limit now."""
        text = f"{limit} {kind} an hour"
        if amount > limit:
            return QuotaExceeded(text, None)
        used = sum(sums)
        if used + amount <= limit:
            return None
        for slot in self._numbers():  # from the oldest: each expired slot frees its amount
            used -= sums[slot % _SLOTS]
            if used + amount <= limit:
                return QuotaExceeded(text, _expiry(slot) - now)
        raise AssertionError("an amount within the limit fits into an empty hour")

    def _numbers(self) -> range:
        """The counting slots, from the oldest."""
        return range(self._last - _SLOTS + 1, self._last + 1)

    def _expire(self, now: float) -> None:
        """Let the slots count that have not expired, and the next one."""
        last = math.floor(now / _SLOT) + 1
        if last <= self._last:
            return
        for slot in range(max(self._last + 1, last - _SLOTS + 1), last + 1):
            self._messages[slot % _SLOTS] = self._recipients[slot % _SLOTS] = 0
        self._last = last


def _amount(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("an amount is not a number")
    return value


def _expiry(slot: int) -> float:
    """Return the time when the slot's last moment is an hour ago."""
    return (slot + 1) * _SLOT + HOUR
