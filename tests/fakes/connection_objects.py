"""The objects of connections that are still in memory."""

import asyncio
import gc
from asyncio import selector_events, sslproto
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ssl import SSLObject
from typing import Any

import aiosmtpd.smtp
import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from senderproxy.control.interpreter import free_closed_transports
from senderproxy.delivery.pool import PooledSession
from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.delivery.session import Session
from senderproxy.listener.client_stream import ClientStream
from senderproxy.listener.read_buffer import ReadBuffer

_INBOUND = (aiosmtpd.smtp.SMTP, ClientStream, ReadBuffer)
_OUTBOUND = (aiosmtplib.SMTP, SMTPProtocol, UpstreamProtocol, Session, PooledSession)
_SOCKET_TRANSPORT: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
_TLS_TRANSPORT: Any = sslproto._SSLProtocolTransport
_KINDS = (SSLObject, sslproto.SSLProtocol, _TLS_TRANSPORT, _SOCKET_TRANSPORT, *_INBOUND, *_OUTBOUND)
_SECONDS = 30.0  # for what ends with some passes of the event loop, also on a machine with other work


@contextmanager
def no_collector() -> Iterator[None]:
    """Only reference counting frees memory, as in the service between two full collections.

    What earlier tests left, in the tracebacks that a test runner keeps, does not count: frozen objects are not listed, and
    the list of the others is short. They stay frozen: with the tests of a whole run among them, a collection takes seconds.
    """
    outermost = gc.isenabled()
    free_closed_transports()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if outermost:
            gc.enable()


def inbound(port: int) -> Counter[str]:
    """The objects of the connections to the listener on this port, by type."""

    def is_ours(found: Any) -> bool:
        match found:
            case SSLObject():
                return bool(found.server_side)
            case sslproto.SSLProtocol():
                return bool(found._server_side)
            case _ if isinstance(found, _TLS_TRANSPORT):
                return found._ssl_protocol is not None and bool(found._ssl_protocol._server_side)
            case _ if isinstance(found, _SOCKET_TRANSPORT):
                return bool(found._extra.get("sockname", (None, None))[1] == port)
            case _:
                return isinstance(found, _INBOUND)

    return _count(is_ours)


def outbound(port: int) -> Counter[str]:
    """The objects of the connections to an upstream on this port, by type."""

    def is_ours(found: Any) -> bool:
        match found:
            case SSLObject():
                return not found.server_side
            case sslproto.SSLProtocol():
                return not found._server_side
            case _ if isinstance(found, _TLS_TRANSPORT):
                return found._ssl_protocol is not None and not found._ssl_protocol._server_side
            case _ if isinstance(found, _SOCKET_TRANSPORT):
                return bool((found._extra.get("peername") or (None, None))[1] == port)
            case _:
                return isinstance(found, _OUTBOUND)

    return _count(is_ours)


def _count(is_ours: Callable[[Any], bool]) -> Counter[str]:
    # The type alone: isinstance() asks a weak proxy for the class of an object that may be gone.
    kinds = ((type(found), found) for found in gc.get_objects())
    return Counter(kind.__name__ for kind, found in kinds if issubclass(kind, _KINDS) and is_ours(found))


async def nothing_left(left: Callable[[], Counter[str]]) -> Counter[str]:
    """Wait until nothing is left; the rest where that does not happen."""
    deadline = asyncio.get_running_loop().time() + _SECONDS
    while (rest := left()) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    return rest
