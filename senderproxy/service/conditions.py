"""The conditions of the running service: when they are looked for, their log events, their beginnings.

It is a learned.LearnedSource: the beginning of each condition survives a restart.
Guarantees: a look happens every ten seconds if something in memory changed, every minute otherwise, and when a command
asks; an idle service is not woken for it. A condition is logged when it begins, gets another severity, and
ends; one that goes on over a restart does not begin again.
Not here: the facts (service.condition_facts), the conditions (monitoring.conditions).
"""

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, duration, ignore_change
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.monitoring.conditions import compare, find_conditions
from senderproxy.monitoring.record import Condition, ConditionId, ConditionKey
from senderproxy.service.condition_facts import FactCollector

_INTERVAL: Final = 60.0  # seconds between two looks while nothing changes: certificates, the disk, what waits too long
_LONGEST_AGE: Final = 366 * 86400.0  # seconds; no condition is older in practice
_RESTORED: Final = 1000  # conditions; many times as long as the list of a configuration is
_SAME: Final = 1.0  # seconds for which an answer to a command holds if nothing changed

_log = logging.getLogger("senderproxy.service")


_KEYS: Final = frozenset(ConditionKey)
LEARNED_KIND: Final = "condition"


class ServiceConditions(LearnedSource):
    """The list of conditions."""

    def __init__(
        self,
        collector: FactCollector,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called after a change of the list, `changed` with the subject of each learned fact in it."""
        self.changed: Notify = ignore_change
        self.current: tuple[Condition, ...] = ()  # the worst first
        self._collector = collector
        self._clock = clock
        self._on_change = on_change
        self._known: dict[ConditionId, datetime] = {}  # the beginnings; before the first look, those before the start
        self._lock = asyncio.Lock()
        self._signature: tuple[object, ...] | None = None  # of the facts in the list
        self._found_at = -math.inf  # monotonic seconds

    @property
    def is_due(self) -> bool:
        """True if the time has come for a look. Cheap: called by the housekeeping."""
        age = self._clock.monotonic() - self._found_at
        return age >= _INTERVAL or (age >= _SAME and self._collector.signature() != self._signature)

    @property
    def found(self) -> tuple[Condition, ...] | None:
        """The current list; None before the first look."""
        return self.current if self._signature is not None else None

    async def look(self) -> None:
        """Look for conditions, after `is_due`."""
        async with self._lock:
            await self._find(ask_disk=self._clock.monotonic() - self._found_at >= _INTERVAL)

    async def ask(self) -> tuple[Condition, ...]:
        """The conditions now, for a command."""
        async with self._lock:
            if self._clock.monotonic() - self._found_at >= _SAME or self._collector.signature() != self._signature:
                await self._find(ask_disk=True)
            return self.current

    async def _find(self, *, ask_disk: bool) -> None:
        signature = self._collector.signature()
        facts = await self._collector.collect(ask_disk=ask_disk)
        before, after = self.current, find_conditions(facts, self._known)
        changes = compare(before, after, self._known)
        self.current, self._signature, self._found_at = after, signature, self._clock.monotonic()
        known, self._known = self._known, {one.id: one.since for one in after}
        for id_ in known.keys() ^ self._known.keys():
            self.changed(_text(id_))
        for one in changes.begun:
            _log_condition(log_events.CONDITION_BEGAN, one)
        for one in changes.changed:
            _log_condition(log_events.CONDITION_CHANGED, one)
        for key, subject in changes.ended:
            event(_log, log_events.CONDITION_ENDED, condition=key, subject=subject or None)
        if changes.begun or changes.changed or changes.ended:
            self._on_change()

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        began = self._known.get(_id(subject))
        return None if began is None else {"age": round(at.age(began), 1)}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        id_ = _id(subject)
        if id_[0] not in _KEYS or len(self._known) >= _RESTORED:
            return False
        self._known.setdefault(id_, written.before(duration(fact, "age", _LONGEST_AGE)).now)
        return True


def _text(id_: ConditionId) -> str:
    return " ".join(id_)


def _id(subject: str) -> ConditionId:
    key, _blank, rest = subject.partition(" ")
    return key, rest


def _log_condition(kind: LogEvent, one: Condition) -> None:
    event(
        _log,
        kind,
        fault=None,
        condition=one.key.value,
        subject=one.subject or None,
        severity=one.severity.name.lower(),
        cause=one.cause,
        hint=one.hint,
    )
