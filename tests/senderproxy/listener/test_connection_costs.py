"""Costs of a connection beside its messages: memory while it is idle, calls for greeting, EHLO and QUIT."""

import asyncio
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import listening

CONNECTIONS = 960  # our own process has a limit of 1,024 descriptors
FIRST = 50  # of them; they are not counted
IDLE_LIMIT = 5.0 if sys.version_info < (3, 12) else 6.0  # KB of the process for each; 3.5 on Python 3.11

# Calls on the event loop's thread, those in C too, of a connection with greeting, EHLO and QUIT: 794 on Python 3.11, and
# 3 % more. With a conversation of its own and aiosmtpd's objects: 1030.
CALLS_LIMIT = 818
WARM_UP = 10
COUNTED = 20


def resident(number: int) -> int:
    """KB of the process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{number}/status").read_text())
    assert found
    return int(found[1])


@contextmanager
def greeted(port: int) -> Iterator[socket.socket]:
    """A connection after its EHLO."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        assert client.recv(4096).startswith(b"220 ")
        client.sendall(b"EHLO client.firma.example\r\n")
        assert client.recv(4096).startswith(b"250-")
        yield client


def test_an_idle_connection_takes_less_than_five_kilobytes() -> None:
    command = [sys.executable, "-m", "tests.senderproxy.listener.lone_listener", str(CONNECTIONS)]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    with process, ExitStack() as clients:
        port = int(process.stdout.readline())
        for _ in range(FIRST):
            clients.enter_context(greeted(port))
        before = resident(process.pid)
        for _ in range(CONNECTIONS - FIRST):
            clients.enter_context(greeted(port))
        each = (resident(process.pid) - before) / (CONNECTIONS - FIRST)
        clients.close()
        process.communicate()
    assert 1 < each < IDLE_LIMIT


class Counter:
    """Counts the calls of this thread in passes of the event loop."""

    def __init__(self) -> None:
        self.calls = 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Pass by pass, so that the number of passes does not depend on when a client or a clock does something."""
        while not condition():
            sys.setprofile(self._count)
            await asyncio.sleep(0)
            sys.setprofile(None)

    def _count(self, _frame: FrameType, what: str, _argument: object) -> None:
        self.calls += what in ("call", "c_call")


def something_from(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


async def test_a_connection_makes_no_more_calls_than_before() -> None:
    counts = []
    async with listening(RecordingIntake(), max_connections_per_minute=1000) as listener:
        for _ in range(WARM_UP + COUNTED):
            counter = Counter()
            with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as client:
                arrived = partial(something_from, client)
                await counter.until(arrived)
                assert client.recv(4096).startswith(b"220 ")
                client.sendall(b"EHLO client.firma.example\r\n")
                await counter.until(arrived)
                assert client.recv(4096).startswith(b"250-")
                client.sendall(b"QUIT\r\n")
                await counter.until(arrived)
                assert client.recv(4096).startswith(b"221 ")
                await counter.until(arrived)
                assert client.recv(4096) == b""
            await counter.until(lambda: not listener.connections)
            counts.append(counter.calls)
    assert min(counts[WARM_UP:]) <= CALLS_LIMIT, counts[WARM_UP:]
