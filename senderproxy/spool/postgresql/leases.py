"""Leases of this instance, as far as it remembers them.

Guarantees: a lease that ended is not remembered. One that is given back ends in the database too, whatever fails there
meanwhile; else its message would wait until this process ends. The rows decide: a lease in memory may have been ended
by another instance (spool.postgresql.instance).
Not here: the rows (spool.postgresql.claims).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from senderproxy.relay.ports import SpoolError

_TRY_AGAIN: Final = 1.0  # seconds until leases are given back again after an error of the database


@dataclass(frozen=True, slots=True)
class RowLease:
    """The facts of a leased message, or of its recipients in one lane, that are needed until it is settled."""

    lease: int  # its number
    instance: int  # that took it: this one, perhaps under an earlier number
    number: int  # of the message
    lane: str  # text form; empty: all lanes of the message
    received_at: int  # milliseconds since 1970
    id: str = ""


@dataclass(slots=True)
class InstanceLeases:
    """The leases by their id."""

    on_return: Callable[[str], None] = lambda _: None  # called with the lane of a lease that is given back; empty: any
    _by_id: dict[str, RowLease] = field(default_factory=dict)
    _returns: set["asyncio.Task[None]"] = field(default_factory=set)
    _is_closed: bool = False

    def take(self, message: RowLease) -> None:
        """Remember a lease."""
        self._by_id[str(message.lease)] = message

    def find(self, lease: str) -> RowLease | None:
        """The message of a lease; None if the lease has ended."""
        return self._by_id.get(lease)

    def shift(self, step: int) -> None:
        """Move the times of the leased messages by `step` milliseconds."""
        for lease, message in self._by_id.items():
            self._by_id[lease] = replace(message, received_at=message.received_at + step)

    def end(self, lease: str) -> None:
        """Forget a lease."""
        self._by_id.pop(lease, None)

    def give_back(self, end: Callable[[], Awaitable[None]]) -> None:
        """Call `end`, which ends leases in the database, until it succeeds. Does not wait."""
        if self._is_closed:
            return
        task = asyncio.create_task(_until_done(end))
        self._returns.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: "asyncio.Task[None]") -> None:
        self._returns.discard(task)
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Give nothing back any more: the leases end with the instance."""
        self._is_closed = True
        tasks = list(self._returns)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _until_done(end: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await end()
        except SpoolError:
            await asyncio.sleep(_TRY_AGAIN)
        else:
            return
