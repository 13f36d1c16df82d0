"""Selector of the event loop that measures the loop's passes.

The loop works between the return of one `select` and the next call: one pass. asyncio calls `select` a dozen times for
each message, so it is one function here: with the measurement it costs less than the selector that it replaces.
Guarantees: one `select` returns a bounded number of events; the others follow in the order of the kernel's list, which
rotates, so that no file waits for ever.
Not here: the meaning of the measurement (service.loop_monitor). epoll(7).
"""

import math
import os
import select
import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_EVENTS: Final = 64  # of one `select`; the end of a connection costs 0.15 ms of CPU time, and 256 can end at once
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class MeasuredSelector(selectors.EpollSelector):
    """An epoll selector with the start of the pass in progress."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        long_pass: Callable[[float, float], None],
        active: Callable[[], None],
    ) -> None:
        """`monotonic`: the clock, in seconds; `long_pass`: called with start and end of a pass above `limit`.

        `active`: called for an event of a file while `parked` is set.
        """
        super().__init__()
        self.pass_started = math.inf  # on the clock; inf: the loop waits for its files
        self.limit = math.inf  # seconds; inf: nothing is measured
        self.active_passes = 0  # passes because of a file, and not of a timer alone
        self.parked = False
        self._monotonic = monotonic
        self._long_pass = long_pass
        self._active = active
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))
        self._keys: dict[int, selectors.SelectorKey] = {}  # by file descriptor

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The files that are ready; waits for at most `timeout` seconds, None: without a limit."""
        now = self._monotonic()
        if now - self.pass_started > self.limit:
            self._long_pass(self.pass_started, now)
        if timeout is not None and timeout <= 0:
            self.pass_started = now  # it does not wait: one reading of the clock for both passes
            found = self._epoll.poll(0, _EVENTS)
        else:
            self.pass_started = math.inf
            found = self._epoll.poll(timeout, _EVENTS)  # rounds the time up to milliseconds
            self.pass_started = self._monotonic()
        ready: list[tuple[selectors.SelectorKey, int]] = []
        if not found:
            return ready
        self.active_passes += 1
        if self.parked:
            self.parked = False
            self._active()
        keys = self._keys
        for fd, mask in found:
            if (key := keys.get(fd)) is not None:
                # An error or a hang-up counts as both, as in `selectors`: the next call of the file reports it.
                events = (_READ if mask & ~_OUT else 0) | (_WRITE if mask & ~_IN else 0)
                ready.append((key, events & key.events))
        return ready

    def register(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        key = super().register(fileobj, events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        key = super().unregister(fileobj)
        self._keys.pop(key.fd, None)
        return key

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: object = None) -> selectors.SelectorKey:
        """See selectors.BaseSelector."""
        key = super().modify(fileobj, events, data)
        self._keys[key.fd] = key
        return key

    def close(self) -> None:
        """See selectors.BaseSelector."""
        self._epoll.close()
        self._keys.clear()
        super().close()
