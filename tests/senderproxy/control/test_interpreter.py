"""Settings of the interpreter."""

import platform
import subprocess
import sys

import pytest

_TUNED = """
from senderproxy.control.interpreter import tune_interpreter
import gc, sys
tune_interpreter()
print(gc.get_freeze_count() > 1000, gc.get_threshold()[0] > 700, sys.getswitchinterval() < 0.005)
"""


def _run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()


def test_loaded_objects_are_not_collected_and_threads_switch_sooner() -> None:
    assert _run(_TUNED) == ["True", "True", "True"]


_READS = """
from asyncio import selector_events, sslproto
from senderproxy.control.interpreter import tune_interpreter
from senderproxy.aio import PIECE_OCTETS
before = selector_events._SelectorTransport.max_size, sslproto.SSLProtocol.max_size
tune_interpreter()
after = selector_events._SelectorTransport.max_size, sslproto.SSLProtocol.max_size
print(min(before) > PIECE_OCTETS, after == (PIECE_OCTETS, PIECE_OCTETS))
"""


def test_asyncio_reads_smaller_pieces() -> None:
    assert _run(_READS) == ["True", "True"]  # and asyncio still has both classes under these names


_TRANSPORTS = """
import asyncio, gc, weakref
from senderproxy.control.interpreter import free_closed_transports

async def closed_transport():
    loop, accepted, lost = asyncio.get_running_loop(), [], asyncio.Event()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(weakref.ref(transport))

        def connection_lost(self, error):
            lost.set()

    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    transport.close()
    await lost.wait()
    await asyncio.sleep(0)
    server.close()
    return accepted[0]() is None

gc.disable()
before = asyncio.run(closed_transport())
free_closed_transports()
free_closed_transports()
print(before, asyncio.run(closed_transport()))
"""


def test_the_transport_of_a_closed_socket_is_freed_without_the_garbage_collector() -> None:
    before, after = _run(_TRANSPORTS)
    assert after == "True"
    assert before == "False" or sys.version_info >= (3, 12)  # newer versions free it themselves


_RETURN = """
import gc, sys
from pathlib import Path
from senderproxy.control.interpreter import return_memory, tune_interpreter

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

tune_interpreter()
gc.disable()
last = None
for _ in range(40_000):
    cycle = [bytes(2000)]  # 80 MB in all, each part too large for Python's own allocator
    cycle.append(cycle)
    last = bytes(2000)  # above the last cycle: without `malloc_trim` glibc returns nothing below it
before = resident()
{call}
del cycle
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries return memory in their own way")
def test_free_memory_is_returned_to_the_system() -> None:
    [without] = _run(_RETURN.format(call="gc.collect()"))
    [after] = _run(_RETURN.format(call="return_memory()"))
    assert int(after) > 60_000_000
    assert int(without) < int(after) - 20_000_000


_LARGE = """
import gc, sys
from senderproxy.control import interpreter
found = []
gc.callbacks.append(lambda phase, info: found.append(info["generation"]) if phase == "start" else None)
gc.disable()
sys.getallocatedblocks = lambda: {blocks}
interpreter.return_memory()
print(*found)
"""


def test_of_a_large_heap_the_young_objects_are_collected_only() -> None:
    assert _run(_LARGE.format(blocks=100_000)) == ["2"]
    assert _run(_LARGE.format(blocks=3_000_000)) == ["1"]
