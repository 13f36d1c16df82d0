"""History of messages: written for those that passed through, dropped for all when it is old.

Guarantees: `note` never waits and never raises; the history in memory is bounded, and what is lost is counted and
logged. It is written within a second, in bounded transactions.
Not here: the history of queued messages, which is part of each change (spool.postgresql.history_rows).
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import Arrival, SpoolError, SpoolRejected
from senderproxy.spool.postgresql import statements
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.history_rows import DROP, KNOWN, MAKE, move_left
from senderproxy.spool.postgresql.incoming import SharedIncoming
from senderproxy.spool.postgresql.server_time import ServerTime
from senderproxy.spool.sqlite import rows

_DELAY: Final = 1.0  # seconds in memory at most
_MESSAGES: Final = 10_000  # in memory
_AT_ONCE: Final = 50  # messages in one transaction
_MOVED: Final = 500  # messages in one transaction
_PARTS: Final = 64  # partitions at most: a search looks into each of them, and locks it with its indexes
_TRIES: Final = 5  # of one part, before it is lost

_log = logging.getLogger("senderproxy.spool")


async def _again(_connection: DatabaseConnection) -> bool:
    """What was not done is found again."""
    return True


class SharedHistory:
    """The history that one instance writes; `kept` may be replaced at any time."""

    def __init__(self, connections: Connections, incoming: SharedIncoming, time: ServerTime, kept: timedelta) -> None:
        self.kept = kept
        self._connections = connections
        self._incoming = incoming
        self._time = time
        self._unwritten: deque[Arrival] = deque()
        self._lost = 0
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, arrival: Arrival) -> None:
        """See relay.ports.Spool."""
        if self._closing.is_set() or len(self._unwritten) >= _MESSAGES:
            self._lose(
                1, "the spool is closed" if self._closing.is_set() else "more messages than the database can write"
            )
            return
        self._unwritten.append(arrival)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def close(self) -> None:
        """Write what is in memory; from now on nothing is noted."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        if self._lost:
            event(_log, log_events.HISTORY_LOST, count=self._lost)

    async def make_ahead(self) -> None:
        """Make the partitions of the next days, unless another instance has made them."""
        width = max(1, -(-self.kept.days // _PARTS))

        async def work(connection: DatabaseConnection) -> None:
            await connection.fetchval(MAKE, self._time.now(), width)

        await self._connections.write(work, _again)

    async def delete_old(self, now: datetime) -> None:
        """Drop the partitions all of whose history is older than `kept`, each in a transaction."""
        while await self._connections.write(lambda connection: move_left(connection, _MOVED), _again):
            pass
        before = rows.to_ms(self._time.from_machine(now - self.kept))
        while await self._connections.write(lambda connection: connection.fetchval(DROP, before), _again):
            pass

    async def _write_soon(self) -> None:
        await self._pause()
        await self._write()

    async def _pause(self) -> None:
        """A second, or less if the spool is closed meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DELAY):
                await self._closing.wait()

    async def _write(self) -> None:
        """Write all that is in memory. A part that fails is tried again, and lost in the end or when it is closed."""
        failures = 0
        while self._unwritten:
            part = [self._unwritten[index] for index in range(min(_AT_ONCE, len(self._unwritten)))]
            try:
                await self._add(part)
            except SpoolRejected as error:
                await self._add_each(part, error)
            except (SpoolError, ValueError, OSError) as error:
                failures += 1
                if failures < _TRIES and not self._closing.is_set():
                    await self._pause()
                    continue
                self._lose(len(part), error)
            failures = 0
            for _arrival in part:
                self._unwritten.popleft()

    async def _add_each(self, part: list[Arrival], error: SpoolError) -> None:
        """Write one after another: one of them cannot be stored."""
        for arrival in part if len(part) > 1 else ():
            try:
                await self._add([arrival])
            except (SpoolError, ValueError, OSError) as reason:
                self._lose(1, reason)
        if len(part) == 1:
            self._lose(1, error)

    async def _add(self, part: list[Arrival]) -> None:
        ids = [arrival.submission.id for arrival in part]

        async def work(connection: DatabaseConnection) -> None:
            await statements.add(connection, await self._incoming.new_messages(connection, part))

        async def was_committed(connection: DatabaseConnection) -> bool:
            return bool(await connection.fetchval(KNOWN, ids) == len(ids))

        await self._connections.write(work, was_committed)

    def _lose(self, count: int, why: BaseException | str) -> None:
        if self._lost == 0:
            event(_log, log_events.HISTORY_LOST, why=why)
        self._lost += count
