"""Notices between instances: messages of a lane may be due.

Guarantees: a notice is sent after the commit, at most ten times a second, for all lanes together: inside the
transaction of each message it would cost 70 % of their number. A lost notice delays a message by POLL seconds at most.
Not here: the connection that listens (spool.postgresql.instance).
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import Connections, DatabaseConnection
from senderproxy.spool.postgresql.instance import CHANNEL, Instance
from senderproxy.tracking.record import Lane

POLL: Final = 30.0  # seconds between two looks at the due times of all lanes
_DELAY: Final = 0.1  # seconds in which notices are collected
_PAYLOAD: Final = 7000  # octets; PostgreSQL allows 8000
_NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', $1)"
_ANY: Final = ""  # in place of lanes: too many to be named


class Wakes:
    """The notices that one instance sends and receives."""

    def __init__(self, connections: Connections, instance: Instance) -> None:
        self.wake: Callable[[Lane | None], None] = lambda _: None
        self._connections = connections
        self._instance = instance
        self._lanes: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._poll: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen and to poll."""
        self._instance.on_notice = self._noticed
        self._poll = asyncio.create_task(self._look_again())

    async def close(self) -> None:
        """End all of it; a notice that is not sent yet is found by the others' polls."""
        tasks = [*self._tasks, *([self._poll] if self._poll is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def send(self, lanes: Iterable[str]) -> None:
        """Tell the other instances soon that messages of these lanes are due."""
        self._lanes.update(lanes)
        if self._lanes and not self._tasks:
            task = asyncio.create_task(self._send_soon())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_soon(self) -> None:
        while self._lanes:
            await asyncio.sleep(_DELAY)
            text = "\n".join(sorted(self._lanes))
            self._lanes.clear()
            if len(text.encode("utf-8", "replace")) > _PAYLOAD:
                text = _ANY
            payload = f"{self._instance.number} {text}"

            async def work(connection: DatabaseConnection, payload: str = payload) -> None:
                await connection.execute(_NOTIFY, payload)

            with suppress(SpoolError):  # the others poll
                await self._connections.read(work)

    def _noticed(self, payload: str) -> None:
        sender, _, text = payload.partition(" ")
        if sender != str(self._instance.number):
            for lane in text.split("\n"):
                self.wake(Lane.parse(lane) if lane != _ANY else None)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            self.wake(None)
