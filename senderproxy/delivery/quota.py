"""How much an account may still send: a provider's hourly limits, kept on our side so that they are never reached.

Guarantees: what was granted within any sixty minutes never exceeds a limit; a refusal says when there is room again;
what was granted and not used is given back. Memory is bounded whatever the limits are.
Not here: what the limits are (routing.provider), what the time is. Nothing is kept over a restart.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

HOUR: Final = 3600.0  # seconds; providers count their limits by the hour
_SLOT: Final = 60.0  # grants are summed by the minute: at most 61 slots are kept


@dataclass(slots=True)
class Grant:
    """Leave to send one message to some recipients."""

    slot: int
    recipients: int
    returned: bool = False


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Not now: there will be room in so many seconds. None: never, the message alone is over the limit."""

    limit: str  # in words
    seconds: float | None


Answer: TypeAlias = Grant | NoRoom


@dataclass(slots=True)
class _Slot:
    number: int
    messages: int = 0
    recipients: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be sent this hour; None where there is no limit."""

    messages: int | None
    recipients: int | None


class Quota:
    """One account's grants of the past hour. Limits are told at each call: they may change while we run."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()

    def ask(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> Answer:
        """Leave for one message to that many recipients, or when to ask again."""
        refusal = self.refusal(
            recipients, messages_per_hour=messages_per_hour, recipients_per_hour=recipients_per_hour, now=now
        )
        if refusal is not None:
            return refusal
        slot = self._current(now)
        slot.messages += 1
        slot.recipients += recipients
        return Grant(slot.number, recipients)

    def refusal(
        self, recipients: int, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float
    ) -> NoRoom | None:
        """What `ask` would refuse with; None where it would grant. Grants nothing."""
        self._forget(now)
        waits = [
            self._wait(amount, limit, kind, now)
            for amount, limit, kind in (
                (1, messages_per_hour, "messages"),
                (recipients, recipients_per_hour, "recipients"),
            )
            if limit is not None
        ]
        refusals = [wait for wait in waits if wait is not None]
        return max(refusals, key=lambda refusal: math.inf if refusal.seconds is None else refusal.seconds, default=None)

    def give_back(self, grant: Grant) -> None:
        """The message was not taken: it does not count. Giving back twice counts once."""
        if grant.returned:
            return
        grant.returned = True
        for slot in self._slots:
            if slot.number == grant.slot:
                slot.messages -= 1
                slot.recipients -= grant.recipients

    def left(self, *, messages_per_hour: int | None, recipients_per_hour: int | None, now: float) -> Left:
        """What the limits leave at this moment."""
        self._forget(now)
        messages = sum(slot.messages for slot in self._slots)
        recipients = sum(slot.recipients for slot in self._slots)
        return Left(
            None if messages_per_hour is None else max(0, messages_per_hour - messages),
            None if recipients_per_hour is None else max(0, recipients_per_hour - recipients),
        )

    def _wait(self, amount: int, limit: int, kind: str, now: float) -> NoRoom | None:
        """None where the amount fits now."""
        words = f"{limit} {kind} an hour"
        if amount > limit:
            return NoRoom(words, None)
        used = sum(getattr(slot, kind) for slot in self._slots)
        if used + amount <= limit:
            return None
        for slot in self._slots:  # from the oldest: each that ages out makes room
            used -= getattr(slot, kind)
            if used + amount <= limit:
                return NoRoom(words, _forgotten_at(slot.number) - now)
        raise AssertionError("an empty hour has room for what fits the limit")

    def _current(self, now: float) -> _Slot:
        number = math.floor(now / _SLOT)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]

    def _forget(self, now: float) -> None:
        while self._slots and _forgotten_at(self._slots[0].number) <= now:
            self._slots.popleft()


def _forgotten_at(slot: int) -> float:
    """A slot counts until its last moment is an hour ago."""
    return (slot + 1) * _SLOT + HOUR
