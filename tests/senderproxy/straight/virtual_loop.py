"""An event loop with a clock of its own: time passes only while nothing is ready, and then at once."""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")
_TICK = 1e-6  # seconds; all times are multiples of it
_MOST_PASSES = 5_000


class _NothingReady(selectors.SelectSelector):
    """A selector that lets the time pass in place of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._passes = 0  # of the loop at this time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and no timer runs"
            self._passes += 1
            if (
                timeout > 0 or self._passes > _MOST_PASSES
            ):  # a timer may be early by a rounding error, and set itself again
                self.now = max(round(self.now + timeout, 6), round(self.now + _TICK, 6))
                self._passes = 0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. Threads may not be used: their results would come at another time."""

    def __init__(self) -> None:
        self._virtual = _NothingReady()
        super().__init__(self._virtual)
        self.faults: list[Mapping[str, Any]] = []
        self.ties = 0  # input of two connections at the same time: their order is a matter of chance
        self._last_arrival: tuple[float, object] = (0.0, None)
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def note_arrival(self, connection: object) -> None:
        """Input of a connection arrives now."""
        time, other = self._last_arrival
        self.ties += abs(time - self.time()) < 5 * _TICK and other is not connection
        self._last_arrival = self.time(), connection

    def time(self) -> float:
        return self._virtual.now


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; no callback may have failed."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(main)
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert loop.faults == []
    return result
