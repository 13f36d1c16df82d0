"""Learned facts: what a component has learned and keeps beyond a restart, in plain values. PURE.

Times are stored as ages and as time left, in seconds, relative to the moment of writing, so that a step of the wall
clock while the service is stopped shortens or prolongs nothing by more than what was left.

Guarantees: a duration that is read is finite, not negative, and at most the longest one that the reader allows.
Not here: the collection and the table (relay.learned_state, spool.sqlite.learned), the facts themselves (their
components).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

Fact: TypeAlias = Mapping[str, Any]  # values for JSON
Notify: TypeAlias = Callable[[str], None]  # called with the subject whose fact has changed; does not wait


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks."""

    now: datetime
    monotonic: float  # seconds
    elapsed: float = field(default=0.0, compare=False)  # seconds since then

    def before(self, seconds: float) -> "Instant":
        """Return the moment so many seconds earlier."""
        return Instant(self.now - timedelta(seconds=seconds), self.monotonic - seconds, self.elapsed + seconds)

    def age(self, time: datetime) -> float:
        """Return the seconds since a time of the wall clock; 0 for one in the future."""
        return max(0.0, (self.now - time).total_seconds())


class LearnedSource(Protocol):
    """A component's facts of one kind, each with its subject: a short text, such as the id of an account."""

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """Return the fact about this subject; None if there is none any more, so that its row is deleted."""
        ...

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """Take a fact that was written at that moment; False if it is of no use any more.

        Fields of other versions are ignored. Raises KeyError, TypeError or ValueError for a fact of another form.
        """
        ...


class SharedLearnedSource(LearnedSource, Protocol):
    """A component that takes over what other instances learn while it runs."""

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """Take over a fact that another instance wrote at that moment, unless what is known here is newer.

        Raises KeyError, TypeError or ValueError for a fact of another form.
        """
        ...

    def gone(self, subject: str) -> None:  # noqa: ARG002  for those that have one
        """Another instance has deleted its fact. Most kinds have no use for that."""
        return


def ignore_change(_subject: str) -> None:
    """Notify no one: for a component whose facts are not kept."""


def duration(fact: Fact, name: str, longest: float) -> float:
    """Return a duration of a fact in seconds, from 0 to `longest`. Raises KeyError, TypeError or ValueError."""
    return clamp(fact[name], longest)


def clamp(seconds: object, longest: float) -> float:
    """Return a duration in seconds, from 0 to `longest`. Raises TypeError or ValueError."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("a duration is not a number")
    if not math.isfinite(seconds):
        raise ValueError("a duration is not finite")
    return min(max(float(seconds), 0.0), longest)


def count(fact: Fact, name: str) -> int:
    """Return a count of a fact, at least 1. Raises KeyError or ValueError."""
    value = fact[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is not a count")
    return value
