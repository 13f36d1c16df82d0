"""Groups of accepted messages: what arrives while others are written is one transaction.

Guarantees: each caller gets its answer after the COMMIT of its own messages. A message that cannot be stored fails
alone: its group is written again one by one. With one message at a time nothing waits for a group.
Not here: the rows and statements (the caller), transactions (spool.postgresql.connections).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from senderproxy.relay.ports import SpoolError, SpoolRejected

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

AT_ONCE: Final = 4  # groups that are written at the same time: some are synced while others are inserted
MOST: Final = 50  # calls in a group; more would make the first of them wait noticeably
_OCTETS: Final = 2 * 1024 * 1024  # of contents in a group


@dataclass(eq=False)
class _Call(Generic[_Item, _Result]):
    item: _Item
    size: int
    answer: "asyncio.Future[_Result]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AcceptGroups(Generic[_Item, _Result]):
    """Writes items in groups. `write` is one transaction for all items, and has a result for each of them."""

    def __init__(self, write: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]]) -> None:
        self._write = write
        self._waiting: deque[_Call[_Item, _Result]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, item: _Item, size: int) -> "asyncio.Future[_Result]":
        """The result of an item, when it is safe. `size`: octets of its content. Not to be cancelled."""
        call: _Call[_Item, _Result] = _Call(item, size)
        self._waiting.append(call)
        self._begin()
        return call.answer

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < AT_ONCE:
            task = asyncio.create_task(self._write_group(self._next()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._begin()

    def _next(self) -> Sequence[_Call[_Item, _Result]]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and len(group) < MOST and size + self._waiting[0].size <= _OCTETS:
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    async def _write_group(self, group: Sequence[_Call[_Item, _Result]]) -> None:
        try:
            results = await self._write([call.item for call in group])
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            if len(group) > 1 and (isinstance(error, SpoolRejected) or not isinstance(error, SpoolError)):
                for call in group:  # one of them cannot be stored
                    await self._write_group([call])
            else:
                for call in group:
                    call.answer.set_exception(error)
        else:
            for call, result in zip(group, results, strict=True):
                call.answer.set_result(result)
