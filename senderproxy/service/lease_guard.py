"""Attempts from a spool whose leases can end: stopped before other instances take over, started again afterwards.

Guarantees: attempts that have not sent the final dot are cancelled, which closes their sessions; the others write their
result when they can.
Not here: the leases (spool.postgresql.instance).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from senderproxy.relay.ports import SpoolError
from senderproxy.relay.runner import Runner

_GRACE: Final = 1.0  # seconds for attempts that are about to end; the leases end some seconds later
_TRY_AGAIN: Final = 5.0  # seconds until the due times are read again


class LeaseGuard:
    """Stops and starts the delivery loop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._turn = asyncio.Lock()  # a start waits for the stop before it
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def lost(self) -> None:
        """The leases end soon."""
        self._spawn(self._stop())

    def regained(self) -> None:
        """There are leases again."""
        self._spawn(self._start())

    def close(self) -> None:
        """The service stops: start nothing more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        async with self._turn:
            await self._runner.stop(_GRACE)

    async def _start(self) -> None:
        async with self._turn:
            while not self._is_closed:
                try:
                    await self._runner.start()
                except SpoolError:
                    await asyncio.sleep(_TRY_AGAIN)
                else:
                    return
