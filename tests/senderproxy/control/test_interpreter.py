"""Settings of the interpreter."""

import subprocess
import sys

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
