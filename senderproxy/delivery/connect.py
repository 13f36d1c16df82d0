"""Connections to upstreams: TCP to the first address that answers, and the TLS contexts.

Guarantees: a broken address family costs a quarter of a second, not a timeout; sockets that connect later than the
first are closed; keep-alive detects a connection that dies silently. TLS 1.2 or newer; certificate chain and host name
are always verified: no setting disables that, `ca_file` may name another authority. A changed `ca_file` is read again.
Not here: the addresses (delivery.resolver), the SMTP dialogue (delivery.opening, delivery.session). RFC 8305 section 5,
RFC 8314 section 4, RFC 9325.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

from senderproxy.delivery.resolver import AddressInfo

STAGGER: Final = 0.25  # seconds before the next address is tried in parallel, RFC 8305 section 8

# Seconds, seconds, probes: a NAT without our state, or a server without power, is detected within three minutes, also
# during the wait for a reply.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 6))


async def connect_first(addresses: Iterable[AddressInfo]) -> socket.socket:
    """Connect to the first address that answers. Raises the OSError of the first failure if none does."""
    remaining = list(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    try:
        while remaining or running:
            if remaining:
                running.add(asyncio.create_task(_connect(remaining.pop(0))))
            done, running = await asyncio.wait(
                running, timeout=STAGGER if remaining else None, return_when=asyncio.FIRST_COMPLETED
            )
            connected = [task.result() for task in done if task.exception() is None]
            failures += [fault for task in done if isinstance(fault := task.exception(), OSError)]
            if connected:
                for surplus in connected[1:]:
                    surplus.close()
                return connected[0]
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    raise failures[0] if failures else OSError("no address")


async def _connect(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


_FileState: TypeAlias = tuple[int, int] | None  # modification time in ns, size in octets


class TlsContexts:
    """Cache of TLS contexts by `ca_file`: creating one takes 20 ms."""

    def __init__(self) -> None:
        self._cached: dict[str | None, tuple[_FileState, ssl.SSLContext]] = {}

    def context(self, ca_file: str | None) -> ssl.SSLContext:
        """Return the context for this file of authorities; None: the system's.

        Raises OSError or ssl.SSLError if the file cannot be used.
        """
        state = _file_state(ca_file)
        cached = self._cached.get(ca_file)
        if cached is not None and cached[0] == state:
            return cached[1]
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._cached[ca_file] = (state, context)
        return context


def _file_state(ca_file: str | None) -> _FileState:
    if ca_file is None:
        return None
    status = Path(ca_file).stat()
    return (status.st_mtime_ns, status.st_size)
