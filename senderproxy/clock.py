"""The clock and the source of random values, for the whole program.

Guarantees: `now` is aware (UTC), for people and headers; `monotonic` never goes back, for timers and limits. All other
code takes these values as arguments, or takes a Clock.
"""

import os
import random
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

# Letters and digits without those that are confused when an id is read aloud or copied (no 0/O, 1/l/I).
_ID_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_LENGTH: Final = 12  # characters; 57^12 ids, so that two messages never get the same
_TO_ID: Final = bytes(ord(_ID_ALPHABET[octet % len(_ID_ALPHABET)]) for octet in range(256))
_DRAWN_OCTETS: Final = 100 * _ID_LENGTH  # octets in one call: each call releases Python's lock, and other threads run


class MachineZone(tzinfo):
    """The time zone of this machine (`TZ`, /etc/localtime), with its summer time."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()


class Clock(Protocol):
    """Time, ids and random numbers."""

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    def new_id(self) -> str:
        """A new id for one message: 12 characters, safe in a header, a file name and a log line."""
        ...

    def chance(self) -> float:
        """A random number from 0 to 1, uniformly distributed."""
        ...


class SystemClock:
    """The clock and the randomness of the operating system."""

    def __init__(self) -> None:
        self._octets = b""

    def now(self) -> datetime:
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)  # without a call of our own: it is read a dozen times for each message

    def chance(self) -> float:
        return random.random()  # noqa: S311  it spreads retries and protects nothing

    def new_id(self) -> str:
        if not self._octets:
            self._octets = os.urandom(_DRAWN_OCTETS)
        drawn, self._octets = self._octets[:_ID_LENGTH], self._octets[_ID_LENGTH:]
        return drawn.translate(_TO_ID).decode("ascii")
