"""LearnedState: collection of the learned facts of all components, for a table that outlives a restart.

Guarantees: no component waits for the disk. A change is written within a second, many changes in one batch; while the
spool is closed or cannot be written, what has changed stays in memory and is written later. A fact is written as it is
at that moment, and deleted when it is none any more. A fact that cannot be read or restored stops nothing. Memory is
bounded: at most CHANGED_LIMIT changes are remembered, and of more the oldest are forgotten.
Not here: the facts (each component has its own: learned.LearnedSource), the table (spool.sqlite.learned).
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.learned import Instant, LearnedSource, Notify, SharedLearnedSource
from senderproxy.log import event
from senderproxy.relay.ports import (
    LEARNED_KEY_LIMIT,
    LEARNED_VALUE_LIMIT,
    LearnedRow,
    LearnedStore,
    SharedLearnedStore,
    SpoolError,
)
from senderproxy.translation import _

CHANGED_LIMIT: Final = 50_000  # changes in memory; more than the components have facts
_DELAY: Final = 0.8  # seconds from a change to its writing; with the commit, a restart loses at most a second
_RETRY: Final = 5.0  # seconds after a failed writing; the disk may be full for long
_READ_SECONDS: Final = 5.0  # seconds for reading the table; a disk that hangs must not hold up the start
_BATCH: Final = 500  # rows in one transaction, or read in one pass of the event loop: some milliseconds

_log: Final = logging.getLogger("senderproxy.relay")


class LearnedState:
    """The facts of all components; `open` restores them, and from then on changes are written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sources: dict[str, LearnedSource] = {}
        self._adding: set[str] = set()  # kinds
        self._changed: dict[tuple[str, str], None] = {}  # kind and subject; the one changed first is the first
        self._store: LearnedStore | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_failing = False
        self._shared: dict[str, SharedLearnedSource] = {}  # kinds that other instances write too
        self._noticed: dict[str, None] = {}  # keys that others have written
        self._following: asyncio.Task[None] | None = None

    def register(self, kind: str, source: LearnedSource, *, adds: bool = False) -> Notify:
        """Keep the facts of a component under this kind. Returns the function that it calls after each change.

        `adds`: a stored fact is restored also if the one in memory has changed before; else that one replaces it.
        """
        self._sources[kind] = source
        if adds:
            self._adding.add(kind)
        return partial(self.note_change, kind)

    def note_change(self, kind: str, subject: str) -> None:
        """Write the fact about this subject soon. Cheap: called for each message."""
        key = kind, subject
        if key in self._changed:
            return
        self._changed[key] = None
        while len(self._changed) > CHANGED_LIMIT:
            del self._changed[next(iter(self._changed))]
        if self._store is not None and self._timer is None and self._writing is None:
            self._schedule(_DELAY)

    async def open(self, store: LearnedStore) -> None:
        """Restore the stored facts, then write the changes since. Never raises for an unusable table."""
        rows = await self._read(store)
        restored = 0
        for number, row in enumerate(rows, start=1):
            restored += self._restore(row)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        if restored:
            event(_log, log_events.LEARNED_RESTORED, count=restored)
        self._store = store
        if self._changed:
            self._schedule(_DELAY)

    def share(self, kind: str, source: SharedLearnedSource) -> None:
        """Take over the facts of this kind that other instances write."""
        self._shared[kind] = source

    def follow(self, store: SharedLearnedStore) -> None:
        """Take over what other instances write from now on."""

        def changed(keys: Sequence[str]) -> None:
            self._noticed |= dict.fromkeys(key for key in keys if key.partition("/")[0] in self._shared)
            while len(self._noticed) > CHANGED_LIMIT:
                del self._noticed[next(iter(self._noticed))]
            if self._noticed and self._following is None:
                self._following = asyncio.create_task(self._follow(store))

        store.on_learned(changed)

    async def _follow(self, store: SharedLearnedStore) -> None:
        try:
            while self._noticed:
                batch = list(self._noticed)[:_BATCH]
                for key in batch:
                    del self._noticed[key]
                rows = await store.read_some(batch)
                for row in rows:
                    self._take_over(row)
                for key in set(batch) - {row.key for row in rows}:
                    kind, _slash, subject = key.partition("/")
                    self._shared[kind].gone(subject)
        except SpoolError as error:  # what was missed is noticed here, as without other instances
            self._log_failure(error.message, error.hint)
        finally:
            self._following = None

    def _take_over(self, row: LearnedRow) -> None:
        kind, _slash, subject = row.key.partition("/")
        try:
            self._shared[kind].follow(subject, json.loads(row.value), self._instant().before(row.age))
        except (KeyError, TypeError, ValueError, RecursionError):
            return  # of another version
        except Exception as fault:  # noqa: BLE001  one fact must not stop the others
            event(_log, log_events.LEARNED_FAILED, fault=fault, why=row.key)

    @property
    def is_open(self) -> bool:
        """True while changes are written."""
        return self._store is not None

    async def flush(self) -> bool:
        """Write the changes so far. False if they are not on disk: no spool is open, or its disk fails."""
        while self._writing is not None:
            await asyncio.wait((self._writing,))
        if self._store is None:
            return False
        if self._changed:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._writing = asyncio.create_task(self._write_and_schedule(self._store))
            await asyncio.wait((self._writing,))
        return not self._is_failing

    async def close(self) -> None:
        """Write the rest, once. From now on changes stay in memory."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        if self._following is not None:
            self._noticed.clear()
            await asyncio.wait((self._following,))
        store, self._store = self._store, None
        if store is not None:
            await self._write(store)

    # ---- reading ----

    async def _read(self, store: LearnedStore) -> "list[LearnedRow]":
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return list(await store.read_learned())
        except TimeoutError:
            self._log_failure(_("The disk of the spool does not respond."), _("Look for errors of the disk: dmesg"))
        except SpoolError as error:
            self._log_failure(error.message, error.hint)
        return []

    def _restore(self, row: LearnedRow) -> bool:
        """Give a row to its component; True if it is in force. One of an unknown kind stays as it is."""
        kind, _slash, subject = row.key.partition("/")
        source = self._sources.get(kind)
        if source is None or ((kind, subject) in self._changed and kind not in self._adding):
            return False
        written = self._instant().before(row.age)
        try:
            in_force = source.restore(subject, json.loads(row.value), written)
        except (KeyError, TypeError, ValueError, RecursionError):
            return False  # of another version
        except Exception as fault:  # noqa: BLE001  a start must not depend on it
            event(_log, log_events.LEARNED_FAILED, fault=fault, why=row.key)
            return False
        if not in_force:
            self.note_change(kind, subject)
        return in_force

    # ---- writing ----

    def _instant(self) -> Instant:
        return Instant(self._clock.now(), self._clock.monotonic())

    def _schedule(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start_writing)

    def _start_writing(self) -> None:
        self._timer = None
        if self._store is not None:
            self._writing = asyncio.create_task(self._write_and_schedule(self._store))

    async def _write_and_schedule(self, store: LearnedStore) -> None:
        written = await self._write(store)
        self._writing = None
        if self._store is not None and self._changed:
            self._schedule(_DELAY if written else _RETRY)

    async def _write(self, store: LearnedStore) -> bool:
        """Write the changes until now, in batches; False if that failed."""
        waiting = list(self._changed)
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            for key in batch:
                self._changed.pop(key, None)
            try:
                await store.write_learned(self._rows(batch))
            except SpoolError as error:
                self._changed = dict.fromkeys((*batch, *self._changed))
                self._log_failure(error.message, error.hint)
                return False
            except Exception as fault:  # noqa: BLE001  these changes are lost; the next ones may succeed
                event(_log, log_events.LEARNED_FAILED, fault=fault)
        self._is_failing = False
        return True

    def _rows(self, batch: Sequence[tuple[str, str]]) -> Mapping[str, str | None]:
        """Return the values by their keys, without the keys that the table cannot have: they would fail the batch."""
        keys = {f"{kind}/{subject}": (kind, subject) for kind, subject in batch}
        return {key: self._value(*names) for key, names in keys.items() if _is_storable(key)}

    def _value(self, kind: str, subject: str) -> str | None:
        """Return the fact as JSON; None if there is none, or if it is too long for the table."""
        try:
            fact = self._sources[kind].fact(subject, self._instant())
            value = None if fact is None else json.dumps(fact, separators=(",", ":"))
        except Exception as fault:  # noqa: BLE001  an error in one fact must not stop the others
            event(_log, log_events.LEARNED_FAILED, fault=fault, why=f"{kind}/{subject}")
            return None
        return value if value is not None and len(value) <= LEARNED_VALUE_LIMIT else None

    def _log_failure(self, why: str, hint: str) -> None:
        """Log the first failure of several in a row."""
        if not self._is_failing:
            self._is_failing = True
            event(_log, log_events.LEARNED_FAILED, why=why, hint=hint)


def _is_storable(key: str) -> bool:
    """True if the key is short enough, and UTF-8 can encode it."""
    return len(key) <= LEARNED_KEY_LIMIT and not any("\ud800" <= character <= "\udfff" for character in key)
