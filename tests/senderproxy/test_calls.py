"""Python calls of our own code for one small message: its CPU time, counted in a way that no busy machine disturbs.

Two thirds of a message's CPU time is Python's interpreter (benchmarks/notes/cpu.md). A change that raises a number here
makes every message slower: measure it (`make bench-compare`), and write it down with the new number.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import pytest

import senderproxy
from senderproxy.listener.server import Listener
from senderproxy.straight.path import StraightPath
from tests.senderproxy.listener.smtp_client import HOSTNAME, SmtpClient, settings
from tests.senderproxy.relay.office import RelayOffice, relay_office

SOURCES = str(Path(senderproxy.__file__).parent)
PEER = str(Path(SOURCES) / "simulator")
MESSAGE = (
    b"From: Anna <anna@firma.example>\r\nTo: <kunde@kunde.example>\r\nSubject: Angebot\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <%d@firma.example>\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n\r\n' + b"x" * 70 + b"\r\n"
)
WARM_UP = 10  # messages: the session, the caches
COUNTED = 20

# By listener, and with or without the straight path: calls of our functions and coroutines on the event loop's thread, each
# resumption of a coroutine too. On Python 3.11 639 in pass-through, 811 and 573 through the queue (the fewest of twenty messages;
# they differ by two), and 3 % more.
LIMITS = {("office", False): 658, ("devices", False): 835, ("devices", True): 590}
STRAIGHT = 200  # messages on the straight path
STRAIGHT_LIMIT = (
    350  # calls of our functions for each, as the median: work that a clock begins is more on a busy machine
)
CONNECTIONS = 50  # with greeting, EHLO, one usual message and QUIT
CONNECTION_LIMIT = 487  # calls of our functions for each, its message included, as the median
TIMERS_A_SECOND = 4  # of work that a clock begins, such as that of the history


@asynccontextmanager
async def client_of(office: RelayOffice, name: str, straight: StraightPath | None = None) -> AsyncIterator[SmtpClient]:
    """A client of a listener in front of the relay."""
    listener = Listener(settings(name=name), (), HOSTNAME, office.intake, office.clock, straight=straight)
    await listener.start()
    client = await SmtpClient.greeted(listener)
    try:
        yield client
    finally:
        await client.close()
        await listener.stop(5)


class Counter:
    """Counts the calls of our code while it is entered."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> "Counter":
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, what: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        self.calls += what == "call" and name.startswith(SOURCES) and not name.startswith(PEER)


@pytest.mark.parametrize(("mode", "is_straight"), LIMITS)
async def test_a_small_message_makes_no_more_calls_than_before(tmp_path: Path, mode: str, *, is_straight: bool) -> None:
    counts = []
    async with AsyncExitStack() as things:
        office = await things.enter_async_context(relay_office(tmp_path))
        path = StraightPath(office.drawer, office.courier, office.relay, office.intake, office.clock)
        path.is_on = office.courier.is_direct = is_straight
        client = await things.enter_async_context(client_of(office, mode, path if is_straight else None))
        for number in range(WARM_UP + COUNTED):
            with Counter() as counter:
                assert (await client.mail(MESSAGE % number)).code == 250
                async with asyncio.timeout(50):
                    while len(office.simulator.received) <= number or office.runner._tasks:
                        await asyncio.sleep(0)
            counts.append(counter.calls)
    assert min(counts[WARM_UP:]) <= LIMITS[mode, is_straight], counts[WARM_UP:]


class CountedLoop(asyncio.SelectorEventLoop):
    """Counts the tasks and futures that our code makes, and the timers that it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def create_future(self) -> "asyncio.Future[Any]":
        self._note("future")
        return super().create_future()

    def create_task(self, coro: Any, **more: Any) -> "asyncio.Task[Any]":
        self._note("task")
        return super().create_task(coro, **more)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self._note("timer")
        return super().call_at(when, callback, *args, context=context)

    def _note(self, what: str) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename.endswith(("base_events.py", "tasks.py", "timeouts.py")):
            frame = frame.f_back
        name = "" if frame is None else frame.f_code.co_filename
        if name.startswith(SOURCES) and not name.startswith(PEER):
            assert frame is not None
            self.made.append(f"{what} in {name.removeprefix(SOURCES)}:{frame.f_code.co_name}")


@dataclass
class Counted:
    """What some messages or connections took: calls for each, what the loop made, how many were straight, seconds."""

    calls: list[int]
    made: list[str]
    straight: int
    seconds: float

    @property
    def timers_of_clocks(self) -> float:
        """As many timers may run that no message has started."""
        return TIMERS_A_SECOND * self.seconds


async def straight_messages(folder: Path) -> Counted:
    """Two hundred usual messages."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountedLoop)
    async with relay_office(folder) as office:
        path = StraightPath(office.drawer, office.courier, office.relay, office.intake, office.clock)
        async with client_of(office, "office", path) as client:
            for number in range(WARM_UP):
                assert (await client.mail(MESSAGE % number)).code == 250
            loop.made.clear()
            before = path.counts.taken - path.counts.handed_over
            calls, began = [], loop.time()
            for number in range(STRAIGHT):
                with Counter() as counter:
                    assert (await client.mail(MESSAGE % number)).code == 250
                calls.append(counter.calls)
            straight = path.counts.taken - path.counts.handed_over - before
            return Counted(calls, list(loop.made), straight, loop.time() - began)


def test_a_usual_message_makes_no_task_and_no_future(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=CountedLoop) as runner:
        found = runner.run(straight_messages(tmp_path))
    assert found.straight == STRAIGHT
    assert [each for each in found.made if not each.startswith("timer")] == []
    assert len(found.made) <= STRAIGHT / 10 + found.timers_of_clocks, "timers are moved, not set anew"
    assert median(found.calls) <= STRAIGHT_LIMIT


async def short_connections(folder: Path) -> Counted:
    """Fifty connections with one usual message."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountedLoop)
    async with relay_office(folder) as office:
        path = StraightPath(office.drawer, office.courier, office.relay, office.intake, office.clock)
        chosen = settings(name="office", max_connections_per_minute=1000)
        listener = Listener(chosen, (), HOSTNAME, office.intake, office.clock, straight=path)
        await listener.start()
        calls: list[int] = []
        before, began = 0, loop.time()
        for number in range(WARM_UP + CONNECTIONS):
            if number == WARM_UP:
                loop.made.clear()
                calls.clear()
                before, began = path.counts.taken - path.counts.handed_over, loop.time()
            with Counter() as counter:
                client = await SmtpClient.greeted(listener)
                assert (await client.mail(MESSAGE % number)).code == 250
                assert (await client.ask(b"QUIT\r\n")).code == 221
                await client.close()
                while listener.connections:
                    await asyncio.sleep(0)
            calls.append(counter.calls)
        straight = path.counts.taken - path.counts.handed_over - before
        found = Counted(calls, list(loop.made), straight, loop.time() - began)
        await listener.stop(5)
        return found


def test_a_usual_connection_makes_no_task_and_no_future(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=CountedLoop) as runner:
        found = runner.run(short_connections(tmp_path))
    assert found.straight == CONNECTIONS
    assert [each for each in found.made if not each.startswith("timer")] == []
    assert len(found.made) <= 3 * CONNECTIONS + found.timers_of_clocks, (
        "timers: for the first command, and for the client to read the last reply"
    )
    assert median(found.calls) <= CONNECTION_LIMIT
