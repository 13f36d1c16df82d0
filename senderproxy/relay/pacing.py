"""Pacing of deliveries while many messages arrive. PURE.

Guarantees: during a burst of incoming messages, one message is sent for every four that arrive, after a start
allowance; outside a burst there is no limit. The clients that submit the burst get their replies sooner, because
deliveries use less of the processor; the queue is sent when the burst is over.
Not here: which account is next (relay.dispatch), the loop (relay.runner). Times are monotonic, in seconds.
"""

import math
from typing import Final

_BURST_GAP: Final = 0.006  # seconds between two arrivals on average, below which they are a burst
_SMOOTHING: Final = 8  # arrivals over which the average gap is taken
_BURST_HOLD: Final = 0.05  # seconds that a burst lasts after its last arrival
_SHARE: Final = 4  # arrivals for each message that may be sent meanwhile
_START_ALLOWANCE: Final = 40.0  # messages that may be sent before the first burst after a quiet time has an effect
_QUIET: Final = 1.0  # seconds without a burst after which the start allowance is granted again


class BurstPacing:
    """Average gap between arrivals, and the allowance of messages that may be sent during a burst."""

    def __init__(self) -> None:
        self._last_arrival = 0.0
        self._gap = _QUIET
        self._allowance = 0.0
        self.burst_until = 0.0

    def message_incoming(self, now: float) -> bool:
        """Count an arrival; True if a message may be sent during the burst that it belongs to."""
        self._gap += (min(now - self._last_arrival, _QUIET) - self._gap) / _SMOOTHING
        self._last_arrival = now
        if self._gap > _BURST_GAP:
            return False
        if now > self.burst_until:
            self._allowance = 0.0 if now < self.burst_until + _QUIET else _START_ALLOWANCE
        self.burst_until = now + _BURST_HOLD
        self._allowance = min(self._allowance + 1 / _SHARE, _START_ALLOWANCE)
        return self._allowance >= 1

    def messages_sent(self, count: int = 1) -> None:
        """Count messages that are sent; a negative count takes them back."""
        self._allowance -= count

    def reserve(self, wanted: int, now: float) -> int:
        """Count as many of the wanted messages as may be sent now, at least one; return their number."""
        count = max(int(min(wanted, self.allowance(now))), 1)
        self.messages_sent(count)
        return count

    def may_send(self, now: float) -> bool:
        """True if the burst, if any, leaves room for one more message."""
        return self._allowance >= 1 or self.burst_until <= now

    def allowance(self, now: float) -> float:
        """The number of messages that may be sent now; infinite outside a burst."""
        return self._allowance if self.burst_until > now else math.inf
