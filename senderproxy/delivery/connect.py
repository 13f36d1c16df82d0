"""Connections to upstreams: TCP to the first address that answers.

Guarantees: a broken address family costs a quarter of a second, not a timeout; sockets that connect later than the
first are closed; keep-alive detects a connection that dies silently.
Not here: the addresses (delivery.resolver), TLS (delivery.tls_contexts), the SMTP dialogue (delivery.opening,
delivery.session). RFC 8305 section 5.
"""

import asyncio
import socket
from collections.abc import Iterable
from typing import Final

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
