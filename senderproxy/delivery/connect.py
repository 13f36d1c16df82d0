"""Connections to upstreams: TCP to the first address that answers, and the TLS contexts.

Guarantees: a broken address family costs a quarter of a second, not a time-out; every socket that lost the race is
closed; keep-alive notices a connection that dies silently. TLS 1.2 or newer; chain and host name are always verified:
no switch turns that off, a file may name another authority. A changed authority file is read again.
Not here: the SMTP dialogue (session). RFC 8305 section 5, RFC 8314 section 4, RFC 9325.
"""

import asyncio
import itertools
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

STAGGER: Final = 0.25  # seconds before the next address is tried beside the first, RFC 8305 section 8

_AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
# A NAT that forgot us, or a server without power, is noticed within three minutes, also while we wait for an answer.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 6))


async def look_up(host: str, port: int) -> list[_AddressInfo]:
    """The host's addresses, families in turn."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = found[0][0]
    own, other = ([info for info in found if (info[0] == first) is same] for same in (True, False))
    return [info for pair in itertools.zip_longest(own, other) for info in pair if info is not None]


async def dial(addresses: Iterable[_AddressInfo]) -> socket.socket:
    """Connect to one of the addresses; raises the first one's OSError where none answers."""
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


async def _connect(info: _AddressInfo) -> socket.socket:
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


_Stamp: TypeAlias = tuple[int, int] | None


class TlsContexts:
    """The contexts in use. Making one costs 20 ms, so they are kept."""

    def __init__(self) -> None:
        self._made: dict[str | None, tuple[_Stamp, ssl.SSLContext]] = {}

    def context(self, ca_file: str | None) -> ssl.SSLContext:
        """The context for these authorities; raises OSError or ssl.SSLError where the file cannot be used."""
        stamp = _stamp(ca_file)
        kept = self._made.get(ca_file)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._made[ca_file] = (stamp, context)
        return context


def _stamp(ca_file: str | None) -> _Stamp:
    if ca_file is None:
        return None
    status = Path(ca_file).stat()
    return (status.st_mtime_ns, status.st_size)
