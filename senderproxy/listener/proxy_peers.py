"""Addresses of proxies that send a PROXY header before each connection, and the client that the header names.

Guarantees: a header is read from these addresses only, and there it is required: no one else can claim an address. It
has a bounded time. A connection without a client's address, as a health check, is never taken for one of the proxy's
machine. A loopback address in a header of another machine is that machine, and not this one.
Not here: the octets of a header (wire.proxy_header), admission (listener.connections).
haproxy.org/download/2.6/doc/proxy-protocol.txt, section 2.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from senderproxy import log_events
from senderproxy.config.values import IpNetwork
from senderproxy.listener.connections import ListenerState, Peer
from senderproxy.listener.turned_away import TurnedAway
from senderproxy.mail.host_group import host_address
from senderproxy.wire import replies
from senderproxy.wire.proxy_header import NOT_A_HEADER, InvalidProxyHeader, ProxyHeader, ProxyHeaderReader

_TIMEOUT: Final = 5.0  # seconds; the protocol asks for 3 or more, for a packet that is sent again
_WAITED: Final = (
    1.0  # seconds; who stays that long and sends nothing has waited for the greeting: a check without header
)
_LEFT: Final = InvalidProxyHeader("it left without a PROXY header, while it waited for the greeting")
_SILENT: Final = InvalidProxyHeader("no PROXY header within 5 seconds")
_HINT: Final = (
    "in haproxy, add send-proxy-v2 to the server line; or remove the address from proxy_from of this listener"
)


class ProxyPeers:
    """The proxies of one listener. `new_protocol`: for a connection of that client; `timeout`: seconds for a header."""

    def __init__(
        self,
        networks: Iterable[IpNetwork],
        state: ListenerState,
        new_protocol: Callable[[Peer], asyncio.BaseProtocol],
        timeout: float = _TIMEOUT,
    ) -> None:
        self.new_protocol = new_protocol
        self._networks = tuple(networks)
        self._state = state
        self._timeout = timeout

    def names(self, host: str) -> bool:
        """True for an address that sends a header."""
        address = host_address(host)
        return any(address in network for network in self._networks)

    async def receive(self, sock: socket.socket, host: str) -> Peer | None:
        """Read the header of a new connection from `host`; None: it is refused or gone, and closed.

        Nothing behind the header is read.
        """
        loop = asyncio.get_running_loop()
        accepted = loop.time()
        try:
            async with asyncio.timeout(self._timeout):
                header = await _read_header(sock)
        except TimeoutError:
            header = _SILENT
        except OSError:
            header = None
        if header is None and loop.time() - accepted >= _WAITED:
            header = _LEFT
        match header:
            case ProxyHeader(client=None):
                return Peer(str(host_address(host)), is_check=True)
            case ProxyHeader(client=client):
                assert client is not None
                at_the_proxy = client.is_loopback and not host_address(host).is_loopback
                return Peer(str(host_address(host) if at_the_proxy else client))
            case InvalidProxyHeader():
                self._refuse(sock, host, header.why)
            case None:
                pass
        sock.close()
        return None

    def _refuse(self, sock: socket.socket, host: str, why: str) -> None:
        """Log and count the refusal; the reply comes from here: there is no conversation."""
        state = self._state
        state.counters.turned_away += 1
        state.events.log(log_events.PROXY_HEADER_MISSING, proxy=host, why=why, hint=_HINT)
        state.auth.count_turned_away(
            host, TurnedAway.PROXY_HEADER, f"{log_events.PROXY_HEADER_MISSING.sentence}: {why}; {_HINT}"
        )
        if state.settings.tls == "implicit":
            return  # the other side expects TLS
        with suppress(OSError):
            sock.send(replies.PROXY_HEADER_MISSING.render())
            sock.shutdown(socket.SHUT_WR)


async def _read_header(sock: socket.socket) -> ProxyHeader | InvalidProxyHeader | None:
    """The header; None: the connection was closed before anything came, as a check for an open port does."""
    loop, reader = asyncio.get_running_loop(), ProxyHeaderReader()
    received = False
    while reader.result is None:
        octets = await loop.sock_recv(sock, reader.wanted)
        if not octets:
            return NOT_A_HEADER if received else None
        received = True
        reader.feed(octets)
    return reader.result
