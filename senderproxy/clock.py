"""The only place that asks the time or draws a random name.

Guarantees: `now` is aware (UTC) and for people and headers; `monotonic` never jumps and is for timers and limits.
Everything else takes these as values or takes a Clock.
"""

import os
import random
import time
from datetime import UTC, datetime
from typing import Protocol

# Letters and digits nobody confuses when reading an id over the telephone (no 0/O, 1/l/I).
_ID_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_LENGTH = 12
_TO_ID = bytes(ord(_ID_ALPHABET[octet % len(_ID_ALPHABET)]) for octet in range(256))
_DRAWN = 100 * _ID_LENGTH  # octets at once: asking the system gives Python's lock away, and others take their turn


class Clock(Protocol):
    """What a room may ask of time and chance."""

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...

    def new_id(self) -> str:
        """A fresh name for one message: 12 characters, safe in a header, a file name and a log line."""
        ...

    def chance(self) -> float:
        """A number from 0 to 1, any as likely as any other."""
        ...


class SystemClock:
    """The machine's own clock and randomness."""

    def __init__(self) -> None:
        self._octets = b""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()  # noqa: S311  it spreads retries and guards nothing

    def new_id(self) -> str:
        if not self._octets:
            self._octets = os.urandom(_DRAWN)
        drawn, self._octets = self._octets[:_ID_LENGTH], self._octets[_ID_LENGTH:]
        return drawn.translate(_TO_ID).decode("ascii")
