"""The lag of a real event loop, and of one whose clock the test sets."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from senderproxy.clock import SystemClock
from senderproxy.service.idleness import Idleness
from senderproxy.service.loop_lag import LoopLag
from senderproxy.service.loop_monitor import LoopMonitor, stack_of

DEADLINE = 30.0  # seconds for a condition that holds within one


class SetClock(SystemClock):
    """A clock whose monotonic time the test sets."""

    time = 1000.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def monitor(clock: SetClock) -> Iterator[LoopMonitor]:
    """A monitor that measures the passes that the test makes, by the test's clock."""
    monitor = LoopMonitor(lambda _thread: "repair.py:88 scan", clock)
    monitor.measure()
    yield monitor
    monitor.selector.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The fields of the lines of `loop_blocked`."""
    found = [record for record in caplog.records if record.__dict__.get("senderproxy_event") == "loop_blocked"]
    return [{k: v for k, v in record.__dict__["senderproxy_fields"].items() if v is not None} for record in found]


def one_pass(monitor: LoopMonitor, clock: SetClock, seconds: float, looks: tuple[float, ...] = ()) -> None:
    """A pass of the loop, with looks of the monitor's thread after so many seconds."""
    monitor.selector.pass_started = math.inf  # until here the loop waited
    monitor.selector.select(0.001)
    start = clock.time
    for after in looks:
        clock.time = start + after
        monitor.look()
    clock.time = start + seconds
    monitor.selector.select(0.001)


def test_a_block_is_logged_with_its_stack_and_counted(
    monitor: LoopMonitor, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    one_pass(monitor, clock, 0.03, (0.01,))
    one_pass(monitor, clock, 0.25, (0.06, 0.11))
    assert lines(caplog) == [{"seconds": 0.25, "stack": "repair.py:88 scan"}]
    assert (round(monitor.lag.maximum, 3), monitor.lag.blocks) == (0.25, 1)


def test_the_stack_of_an_earlier_pass_is_not_shown(
    monitor: LoopMonitor, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    one_pass(monitor, clock, 0.09, (0.06,))
    one_pass(monitor, clock, 0.25)
    assert lines(caplog) == [{"seconds": 0.25}]


def test_within_a_minute_blocks_are_counted_and_the_next_line_names_their_number(
    monitor: LoopMonitor, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        one_pass(monitor, clock, 0.2)
    clock.time += 60
    one_pass(monitor, clock, 0.5)
    assert lines(caplog) == [{"seconds": 0.2}, {"seconds": 0.5, "unlogged": 3}]
    assert monitor.lag.blocks == 5


def test_a_block_that_does_not_end_is_logged_once_and_meanwhile(
    monitor: LoopMonitor, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.selector.select(0.001)
    for seconds in (1.0, 5.0, 5.1, 9.0):
        clock.time = 1000.0 + seconds
        monitor.look()
    assert lines(caplog) == [{"seconds": 5.1, "stack": "repair.py:88 scan"}]
    monitor.selector.select(0.001)
    assert len(lines(caplog)) == 1
    assert (monitor.lag.maximum, monitor.lag.blocks) == (9.0, 1)


def test_nothing_counts_before_the_start(clock: SetClock) -> None:
    monitor = LoopMonitor(clock=clock)
    one_pass(monitor, clock, 3.0)
    assert (monitor.lag.maximum, monitor.lag.blocks) == (0.0, 0)


# ---- a real loop ----


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of another thread."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def block_until_sampled(sampled: threading.Event) -> None:
    assert sampled.wait(DEADLINE)
    end = time.monotonic() + 0.11  # longer than the limit, whenever the sample was taken
    while time.monotonic() < end:
        pass


def test_a_real_loop_that_is_blocked_names_the_function_that_blocks_it(caplog: pytest.LogCaptureFixture) -> None:
    sampled = threading.Event()

    def stack(thread: int) -> str:
        text = stack_of(thread)
        if "block_until_sampled" in text:
            sampled.set()
        return text

    monitor = LoopMonitor(stack)

    async def serve() -> None:
        monitor.start()
        await asyncio.sleep(0)
        monitor.lag = LoopLag()  # on a busy machine, a pass before this one may have been a block
        block_until_sampled(sampled)
        await asyncio.sleep(0)
        monitor.stop()

    with caplog.at_level(logging.DEBUG), asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:
        runner.run(serve())
    logged = lines(caplog)
    assert any(" block_until_sampled < test_loop_monitor.py:" in str(line.get("stack")) for line in logged), logged
    assert monitor.lag.blocks >= 1
    assert monitor.lag.maximum > 0.1


async def test_the_thread_sleeps_while_no_socket_has_an_event_and_wakes_with_the_next() -> None:
    """Timers, such as the housekeeping of an idle service, wake the loop and not the monitor."""
    monitor = LoopMonitor()

    async def until_parked(*, parked: bool) -> None:
        while monitor.is_parked is not parked:
            await asyncio.sleep(0 if monitor.is_parked else 0.02)

    async def serve() -> bool:
        monitor.start()
        await until_parked(parked=True)
        for _ in range(5):
            await asyncio.sleep(0.001)
        beside_timers = monitor.is_parked
        await asyncio.get_running_loop().run_in_executor(None, str)  # its result arrives through the loop's socket
        await until_parked(parked=False)  # the result may be there a moment before its octet in the socket
        return beside_timers

    def measured() -> bool:
        with asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:
            return runner.run(serve())

    try:
        assert await asyncio.to_thread(measured)
    finally:
        monitor.stop()


@pytest.mark.slow
async def test_idleness_is_reported_once_after_activity_on_the_monitors_thread() -> None:
    reports: list[str] = []
    monitor = LoopMonitor(idleness=Idleness(lambda: reports.append(threading.current_thread().name), 0.01))

    async def receive(events: int) -> None:
        for _ in range(events):
            await asyncio.get_running_loop().run_in_executor(None, str)  # its result arrives through the loop's socket

    async def parked() -> None:
        while not monitor.is_parked:
            await asyncio.sleep(0.02)

    async def serve() -> None:
        monitor.start()
        async with asyncio.timeout(DEADLINE):
            for count in (1, 2):
                await receive(30)
                while len(reports) < count:
                    await asyncio.sleep(0.02)
                await receive(3)
                await parked()

    def measured() -> None:
        with asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:
            runner.run(serve())

    try:
        await asyncio.to_thread(measured)
    finally:
        monitor.stop()
    assert reports == ["loop-monitor", "loop-monitor"]


def test_the_thread_ends_with_the_measurement() -> None:
    monitor = LoopMonitor()
    with asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:

        async def serve() -> None:
            monitor.start()
            monitor.stop()

        runner.run(serve())
    until(lambda: all(thread.name != "loop-monitor" for thread in threading.enumerate()))


def test_without_a_free_thread_passes_are_measured_all_the_same(
    clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monitor = LoopMonitor(clock=clock)
    with asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:

        async def serve() -> None:
            monitor.start()
            await asyncio.sleep(0)
            clock.time += 0.25
            await asyncio.sleep(0)

        runner.run(serve())
    assert monitor.lag.maximum == 0.25
