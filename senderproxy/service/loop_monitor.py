"""Measurement of the event loop's lag: the duration of each pass, and the stack of a pass that takes too long.

The loop's selector takes the time between two of its calls, so the measurement needs no timer. A thread looks every
50 ms for a pass that may become too long, and takes the loop's stack in it. The same thread reports that the loop is
idle.
Guarantees: every pass counts from `start` on. The thread sleeps without a timeout while no socket has an event: an
idle service is woken once, for the report. An idle loop costs nothing.
Not here: the selector (service.measured_selector), the statistics and the limit (service.loop_lag). Not measured: other
threads that hold Python's lock while the loop waits for its sockets, and a process that gets no CPU time there.
"""

import asyncio
import logging
import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock, SystemClock
from senderproxy.daemon_thread import DaemonThread
from senderproxy.log import event
from senderproxy.service.idleness import Idleness
from senderproxy.service.loop_lag import BLOCKED_SECONDS, LoopLag
from senderproxy.service.measured_selector import MeasuredSelector

_log = logging.getLogger("senderproxy.service")
_INTERVAL: Final = BLOCKED_SECONDS / 2  # seconds between two looks of the thread
_QUIET_LOOKS: Final = 20  # looks without an event of a socket until the thread sleeps; 1 second
_LONG_SECONDS: Final = 5.0  # a block that lasts so long is logged before it ends: it may never end
_FRAMES: Final = 12  # innermost functions in the line of the log


def stack_of(thread: int) -> str:
    """The innermost functions of a thread, the current one first: `repair.py:88 scan < plan.py:40 plan`."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  documented in sys
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        found.append(f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return " < ".join(found)


class LoopMonitor:
    """The lag of one event loop, that of `new_event_loop`."""

    def __init__(
        self,
        stack: Callable[[int], str] = stack_of,
        clock: Clock | None = None,
        idleness: Idleness | None = None,
    ) -> None:
        """`idleness` makes its reports on the monitor's thread."""
        self.lag = LoopLag()
        self._stack = stack
        self._idleness = idleness
        self._monotonic = (clock or SystemClock()).monotonic
        self._lock = threading.Lock()  # around the few statements that both threads execute in a block
        self._loop_thread = 0
        self._sample: tuple[float, str] | None = None  # start of the pass, stack in it
        self._logged: float | None = None  # start of the pass that was logged before its end
        self._activity = threading.Event()
        self._stopped = threading.Event()
        self.selector = MeasuredSelector(self._monotonic, self._record, self._activity.set)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that is measured from `start` on. To be called once."""
        return _EventLoop(self.selector)

    def measure(self) -> None:
        """Measure from now on the passes of the calling thread's loop, without a thread that takes stacks."""
        self._loop_thread = threading.get_ident()
        self.selector.pass_started = math.inf  # the pass in progress does not count
        self._set_limit()

    def start(self) -> None:
        """Start the measurement and the thread. Called on the loop's thread, when the start of the service is over.

        If the system has no thread left, lines of the log have no stack, and idleness is not reported.
        """
        self.measure()
        with suppress(RuntimeError):
            DaemonThread(self._watch, "loop-monitor").start()

    def stop(self) -> None:
        """End the measurement and its thread."""
        self.selector.limit = math.inf
        self._stopped.set()
        self._activity.set()

    @property
    def is_parked(self) -> bool:
        """True while the thread sleeps until a socket has an event, or until its report."""
        return self.selector.parked

    # ---- on the loop's thread ----

    def _record(self, started: float, now: float) -> None:
        """Record a pass that is a block, or longer than all before."""
        with self._lock:
            blocked = self.lag.record(now - started)
            self._set_limit()
            if not blocked or self._logged == started:
                return
            unlogged = self.lag.take_line(now)
            sample = self._sample
        if unlogged is not None:
            stack = sample[1] if sample is not None and sample[0] == started else None
            _log_block(now - started, unlogged, stack)

    def _set_limit(self) -> None:
        self.selector.limit = min(self.lag.maximum, BLOCKED_SECONDS)

    # ---- on the monitor's thread ----

    def look(self) -> None:
        """Take the stack of a pass that may become too long; log one that does not end."""
        started = self.selector.pass_started
        now = self._monotonic()
        if now - started < _INTERVAL:
            return
        if self._sample is None or self._sample[0] != started:
            self._sample = (started, self._stack(self._loop_thread))
        if now - started > _LONG_SECONDS and self._logged != started:
            with self._lock:
                if self.selector.pass_started != started:
                    return
                self._logged = started
                unlogged = self.lag.take_line(now)
            if unlogged is not None:
                _log_block(now - started, unlogged, self._sample[1])

    def _watch(self) -> None:
        selector = self.selector
        quiet, passes = 0, selector.active_passes
        while not self._stopped.wait(_INTERVAL):
            self.look()
            quiet = quiet + 1 if selector.active_passes == passes and selector.pass_started == math.inf else 0
            passes = selector.active_passes
            if quiet >= _QUIET_LOOKS:
                self._park(passes)
                quiet = 0

    def _park(self, passes: int) -> None:
        """Sleep until a socket has an event. A pass that began meanwhile is not missed."""
        self._activity.clear()
        self.selector.parked = True
        if self.selector.active_passes == passes and not self._stopped.is_set():
            if self._idleness is not None:
                self._wait_for_report(self._idleness, passes)
            self._activity.wait()
        self.selector.parked = False

    def _wait_for_report(self, idleness: Idleness, passes: int) -> None:
        """Wait until the report is due, or until a socket has an event."""
        seconds = idleness.quiet(passes, self._monotonic())
        if seconds is not None and not self._activity.wait(seconds):
            idleness.report()


class _EventLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock that is one call less. It reads it two dozen times for each message."""

    time = staticmethod(SystemClock.monotonic)


def _log_block(seconds: float, unlogged: int, stack: str | None) -> None:
    event(_log, log_events.LOOP_BLOCKED, seconds=round(seconds, 3), unlogged=unlogged or None, stack=stack)
