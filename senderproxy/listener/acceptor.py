"""Acceptor: the loop that accepts connections on one listening socket.

Guarantees: `stop` takes effect at once, and connections accepted before still start. Without free descriptors the loop
pauses instead of spinning, with one log line a minute; connections in progress go on, and those in the kernel's queue
are accepted later. One pass of the event loop accepts a bounded number. Of the connections whose PROXY header has not
arrived yet there is a bounded number; with more, the one longest waiting is closed.
Not here: admission and limits (listener.connections), the PROXY header (listener.proxy_peers). asyncio's own server
would accept a thousand times in a row without a descriptor, and drop what it has just accepted when it closes.
accept(2).
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from senderproxy import log_events
from senderproxy.listener.event_limiter import EventLimiter
from senderproxy.listener.proxy_peers import ProxyPeers

_BATCH: Final = 16  # connections in one pass of the event loop, about 5 ms; others are served in between
WAITING_LIMIT: Final = 256  # connections without their PROXY header at once: it comes with the first packet
_PAUSE: Final = 1.0  # seconds without a free descriptor until the next attempt; asyncio's own value
# No descriptor or no memory: the connection stays in the kernel's queue. Any other error concerns one connection only.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_HINT: Final = "Lower max_connections, or raise LimitNOFILE= of the unit: systemctl edit senderproxy"


class Acceptor:
    """Accepts connections from `start` to `stop`, each with a protocol from `new_protocol`.

    `proxies`: the addresses that send a PROXY header; None: there are none.
    """

    def __init__(
        self,
        sock: socket.socket,
        new_protocol: Callable[[], asyncio.BaseProtocol],
        events: EventLimiter,
        proxies: ProxyPeers | None = None,
    ) -> None:
        self._socket = sock
        self._new_protocol = new_protocol
        self._proxies = proxies
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[None]] = set()  # connections that send a PROXY header
        self._waiting: dict[asyncio.Task[None], None] = {}  # of these, without their PROXY header; the oldest first
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept connections from now on."""
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def stop(self) -> None:
        """Accept no more connections; without effect the second time."""
        self._loop.remove_reader(self._socket)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    async def wait_started(self, header_seconds: float | None = None) -> None:
        """Wait until each accepted connection has its protocol.

        `header_seconds`: those without their PROXY header by then are closed; None: after the usual time.
        """
        if self._waiting and header_seconds is not None:
            await asyncio.wait(self._waiting, timeout=header_seconds)
            for task in self._waiting:
                task.cancel()
        while self._starting:
            await asyncio.wait(self._starting)
        await asyncio.sleep(0)  # for the others: their protocols are told of their connection in the next pass

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._wait_for_descriptors(error)
                    return
                self._events.log(log_events.ACCEPT_FAILED, why=str(error))
                continue
            try:
                accepted.setblocking(False)
                if self._proxies is None or not self._proxies.names(address[0]):
                    # What `connect_accepted_socket` does, without a task and a future for it.
                    _transport_maker(self._loop)(accepted, self._new_protocol())
                    continue
                task = self._wait_for_header(accepted, self._proxies, address[0])
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
            except (OSError, MemoryError) as error:  # the client has left already, or there is no memory for it
                self._close(accepted, error)

    def _wait_for_header(self, accepted: socket.socket, proxies: ProxyPeers, host: str) -> "asyncio.Task[None]":
        if len(self._waiting) >= WAITING_LIMIT:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._connect_proxied(accepted, proxies, host))
        self._waiting[task] = None
        task.add_done_callback(lambda done: self._waiting.pop(done, None))
        return task

    async def _connect_proxied(self, accepted: socket.socket, proxies: ProxyPeers, host: str) -> None:
        try:
            client = await proxies.receive(accepted, host)
        except BaseException:  # cancelled, too: the socket has no protocol yet that would close it
            accepted.close()
            raise
        if client is not None:
            await self._connect(accepted, partial(proxies.new_protocol, client))

    async def _connect(self, accepted: socket.socket, new_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        try:
            await self._loop.connect_accepted_socket(new_protocol, accepted)
        except (OSError, MemoryError) as error:  # the client has left already, or there is no memory for it
            self._close(accepted, error)

    def _close(self, accepted: socket.socket, error: OSError | MemoryError) -> None:
        """Close a connection at once: its client does not wait for a greeting that never comes."""
        accepted.close()
        self._events.log(log_events.ACCEPT_FAILED, why=str(error) or "no memory")

    def _wait_for_descriptors(self, error: OSError) -> None:
        self.stop()
        self._pause = self._loop.call_later(_PAUSE, self.start)
        self._events.log(log_events.ACCEPT_PAUSED, why=str(error), hint=_HINT)


def _transport_maker(loop: asyncio.AbstractEventLoop) -> Callable[[socket.socket, asyncio.BaseProtocol], object]:
    """asyncio's own way to a transport for a connected socket: a private method of all its loops since Python 3.4."""
    make: Callable[[socket.socket, asyncio.BaseProtocol], object] = loop._make_socket_transport  # type: ignore[attr-defined]  # noqa: SLF001
    return make
