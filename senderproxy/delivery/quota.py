"""Hourly quota of one account: the provider's limits, enforced here so that they are never reached there. PURE.

Guarantees: the reservations of any sixty minutes never exceed a limit; a refusal gives the time until the next one
succeeds; a released reservation does not count. Memory is bounded, whatever the limits are.
Not here: the limits (routing.provider), the clock, the table that outlives a restart (relay.learned_state).
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from senderproxy.learned import Fact, Instant, clamp

HOUR: Final = 3600.0  # seconds; providers count their limits by the hour
_TOLERANCE: Final = 1.0  # seconds by which the clocks may differ between the writing and the reading of a fact
_SLOT: Final = 60.0  # seconds; reservations are summed by the minute, so at most 61 slots are stored


@dataclass(slots=True)
class Reservation:
    """A share of the quota: one message to some recipients."""

    slot: int
    recipients: int
    released: bool = False


@dataclass(frozen=True, slots=True)
class QuotaExceeded:
    """A limit is reached. `seconds`: the time until it is not; None if the message alone exceeds the limit."""

    limit: str  # such as "100 messages an hour"
    seconds: float | None


@dataclass(slots=True)
class _Slot:
    number: int
    messages: int = 0
    recipients: int = 0


@dataclass(frozen=True, slots=True)
class Remaining:
    """The unused quota of this hour; None where there is no limit."""

    messages: int | None
    recipients: int | None


class HourlyQuota:
    """The reservations of one account in the past hour. Each call takes the limits: they may change at any time."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()

    def reserve(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> Reservation | QuotaExceeded:
        """Reserve one message to that many recipients. `now` is in seconds, on a monotonic clock."""
        exceeded = self.check(
            recipients, messages_per_hour=messages_per_hour, recipients_per_hour=recipients_per_hour, now=now
        )
        if exceeded is not None:
            return exceeded
        slot = self._current(now)
        slot.messages += 1
        slot.recipients += recipients
        return Reservation(slot.number, recipients)

    def check(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> QuotaExceeded | None:
        """Return the refusal that `reserve` would return; None if it would succeed. Reserves nothing."""
        self._expire(now)
        refusals = [
            refusal
            for amount, limit, kind in (
                (1, messages_per_hour, "messages"),
                (recipients, recipients_per_hour, "recipients"),
            )
            if limit is not None and (refusal := self._check_one(amount, limit, kind, now)) is not None
        ]
        return max(refusals, key=lambda refusal: math.inf if refusal.seconds is None else refusal.seconds, default=None)

    def release(self, reservation: Reservation) -> None:
        """Return a reservation whose message was not accepted. A second call has no effect."""
        if reservation.released:
            return
        reservation.released = True
        for slot in self._slots:
            if slot.number == reservation.slot:
                slot.messages -= 1
                slot.recipients -= reservation.recipients

    def remaining(self, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float) -> Remaining:
        """Return the unused quota."""
        self._expire(now)
        messages = sum(slot.messages for slot in self._slots)
        recipients = sum(slot.recipients for slot in self._slots)
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
        if not any(slot.messages for slot in self._slots):
            return None
        last = self._slots[-1].number
        slots = [[last - slot.number, slot.messages, slot.recipients] for slot in self._slots if slot.messages]
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
            _Slot(last - _amount(back), _amount(messages), _amount(recipients))
            for back, messages, recipients in fact["slots"]
        ]
        slots = {slot.number: slot for slot in self._slots}
        for slot in used:
            total = slots.setdefault(slot.number, _Slot(slot.number))
            total.messages += slot.messages
            total.recipients += slot.recipients
        self._slots = deque(slots[number] for number in sorted(slots))
        return bool(used)

    def _check_one(self, amount: int, limit: int, kind: str, now: float) -> QuotaExceeded | None:
        """Return None if the amount is within the limit now."""
        text = f"{limit} {kind} an hour"
        if amount > limit:
            return QuotaExceeded(text, None)
        used = sum(getattr(slot, kind) for slot in self._slots)
        if used + amount <= limit:
            return None
        for slot in self._slots:  # from the oldest: each expired slot frees its amount
            used -= getattr(slot, kind)
            if used + amount <= limit:
                return QuotaExceeded(text, _expiry(slot.number) - now)
        raise AssertionError("an amount within the limit fits into an empty hour")

    def _current(self, now: float) -> _Slot:
        number = math.floor(now / _SLOT)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]

    def _expire(self, now: float) -> None:
        while self._slots and _expiry(self._slots[0].number) <= now:
            self._slots.popleft()


def _amount(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("an amount is not a number")
    return value


def _expiry(slot: int) -> float:
    """Return the time when the slot's last moment is an hour ago."""
    return (slot + 1) * _SLOT + HOUR
