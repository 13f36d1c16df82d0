"""Portion of an account's hourly limits that one instance may use without asking the others. PURE.

Guarantees: nothing is reserved beyond what was granted. Each use is taken for a report once, and comes back if the
report fails. After `void` nothing of the portion is usable, and earlier reservations change nothing: the database has
counted them.
Not here: the grants (delivery.shared_quota), the sums of all instances (spool.postgresql.hourly_limits).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from senderproxy.delivery.quota import HOUR, Reservation
from senderproxy.relay.shared_ports import HourlyAmounts, HourlyLimits, HourlyUsed

_MINUTE: Final = 60.0  # seconds; use is reported by the minute of the monotonic clock
_NOTHING: Final = HourlyAmounts()
_NO_LIMITS: Final = HourlyLimits(None, None)


@dataclass(slots=True)
class PortionReservation(Reservation):
    """A reservation. `covered`: what it took from the portion, without that of a kind that has no limit."""

    covered: HourlyAmounts = _NOTHING
    epoch: int = 0


class Portion:
    """The portion of one account at one instance, and its use since the last report."""

    def __init__(self) -> None:
        self.held = HourlyAmounts()  # not used
        self.drawn = HourlyAmounts()  # held after the last grant of something
        self.limits = _NO_LIMITS  # for which it was granted
        self.epoch = 0
        self._used: dict[int, HourlyAmounts] = {}  # by minute

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to report or to give back."""
        return not self._used and self.held == HourlyAmounts()

    def reserve(self, recipients: int, limits: HourlyLimits, now: float) -> PortionReservation | None:
        """Reserve one message to that many recipients; None if it is not covered. `now`: monotonic seconds."""
        covered = needed(recipients, limits)
        held = self.held
        if covered != HourlyAmounts() and limits != self.limits:
            return None  # it was granted for other limits
        if covered.messages > held.messages or covered.recipients > held.recipients:
            return None
        self.held = HourlyAmounts(held.messages - covered.messages, held.recipients - covered.recipients)
        slot = math.floor(now / _MINUTE)
        self._add(slot, 1, recipients)
        return PortionReservation(slot, recipients, False, covered, self.epoch)

    def release(self, reservation: PortionReservation) -> None:
        """Return a reservation whose message was not accepted. A second call has no effect."""
        if reservation.released or reservation.epoch != self.epoch:
            return
        reservation.released = True
        covered = reservation.covered
        self.held = HourlyAmounts(self.held.messages + covered.messages, self.held.recipients + covered.recipients)
        self._add(reservation.slot, -1, -reservation.recipients)

    def is_low(self) -> bool:
        """True if less than half of what was drawn is left."""
        held, drawn, limits = self.held, self.drawn, self.limits
        return (limits.messages is not None and 2 * held.messages < drawn.messages) or (
            limits.recipients is not None and 2 * held.recipients < drawn.recipients
        )

    def take_used(self) -> Mapping[int, HourlyAmounts]:
        """Take the use since the last report, for a report."""
        used, self._used = self._used, {}
        return used

    def put_back(self, used: Mapping[int, HourlyAmounts], epoch: int) -> None:
        """Keep the use of a report that failed, taken in that epoch."""
        if epoch == self.epoch:
            for slot, amounts in used.items():
                self._add(slot, amounts.messages, amounts.recipients)

    def give_up(self) -> None:
        """Use nothing more of what is held: it is given back with the next report."""
        self.held = HourlyAmounts()

    def grant(self, granted: HourlyAmounts, limits: HourlyLimits, epoch: int) -> None:
        """Add a grant that was asked for in that epoch."""
        if epoch == self.epoch:
            held = HourlyAmounts(self.held.messages + granted.messages, self.held.recipients + granted.recipients)
            self.held, self.limits = held, limits
            if granted != HourlyAmounts():
                self.drawn = held

    def void(self) -> None:
        """Forget everything: the database has counted all of it as used."""
        self.epoch += 1
        self.held = self.drawn = HourlyAmounts()
        self._used = {}

    def _add(self, slot: int, messages: int, recipients: int) -> None:
        before = self._used.pop(slot, None) or HourlyAmounts()
        after = HourlyAmounts(before.messages + messages, before.recipients + recipients)
        if after != HourlyAmounts():
            self._used[slot] = after


def needed(recipients: int, limits: HourlyLimits) -> HourlyAmounts:
    """What one message to that many recipients takes from a portion."""
    return HourlyAmounts(int(limits.messages is not None), recipients if limits.recipients is not None else 0)


def report_of(used: Mapping[int, HourlyAmounts], now: float) -> list[HourlyUsed]:
    """The use by minute as it is reported. `now`: monotonic seconds."""
    return [
        HourlyUsed((slot + 1) * _MINUTE + HOUR - now, amounts.messages, amounts.recipients)
        for slot, amounts in used.items()
    ]
