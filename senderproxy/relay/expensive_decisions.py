"""Decisions on the event loop that took long: one for each client in a pass of the loop.

A hostile header section just below the limit of a thread takes milliseconds, and one client can complete one on each of
its connections in the same pass.
Guarantees: further messages of that client wait until others were served; those of other clients do not wait. A message
whose decision is cheap, nearly every one, costs two comparisons.
Not here: decisions on threads (relay.decision_thread).
"""

import asyncio
from typing import Final

from senderproxy.aio import wait_done
from senderproxy.mail.host_group import host_group

_EXPENSIVE: Final = 0.005  # seconds; a usual decision takes 0.00005, and a pass of the loop may take 0.1


class ExpensiveDecisions:
    """The clients whose decision in this pass, or in the one before, was expensive."""

    def __init__(self) -> None:
        self._clients: dict[str, asyncio.Future[None]] = {}  # by group of the host; done when the next one may decide

    def __bool__(self) -> bool:
        return bool(self._clients)

    async def wait(self, host: str) -> None:
        """Wait until the client may decide on the event loop."""
        group = host_group(host)
        while (other := self._clients.get(group)) is not None:
            await wait_done(other)

    def decided(self, host: str, seconds: float) -> None:
        """Note a decision on the event loop."""
        if seconds < _EXPENSIVE:
            return
        group, loop = host_group(host), asyncio.get_running_loop()
        if group not in self._clients:
            self._clients[group] = loop.create_future()
            loop.call_soon(self._end, group)  # in the next pass

    def _end(self, group: str) -> None:
        self._clients.pop(group).set_result(None)
