"""An HTTP or HTTPS server in the test's event loop: it records requests and answers as the test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.peers.certificates import Authority

Behaviour: TypeAlias = Callable[["Received", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    rest: asyncio.StreamReader  # of the connection, for a proxy


def answer(status: str, body: bytes = b"", *headers: str) -> Behaviour:
    """A well-formed answer."""

    async def write(_request: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return write


def octets(text: bytes) -> Behaviour:
    """An answer of exactly these octets, and the end of the connection."""

    async def write(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(text)

    return write


def dripping(first: bytes, piece: bytes, pause_seconds: float = 0.01) -> Behaviour:
    """An answer that never ends."""

    async def write(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return write


async def silence(_request: Received, writer: asyncio.StreamWriter) -> None:
    """No answer until the client goes."""
    while not writer.is_closing():
        await asyncio.sleep(0.01)


@dataclass
class HttpServer:
    """`behaviours` are for the next requests, one each; the last one is for all that follow."""

    port: int = 0
    behaviours: list[Behaviour] = field(default_factory=lambda: [answer("204 No Content")])
    first: bytes = b""  # sent before a request is read
    requests: list[Received] = field(default_factory=list)
    tasks: set["asyncio.Task[None] | None"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                writer.write(self.first)
                request = await _read(reader)
                self.requests.append(request)
                behaviour = self.behaviours[0]
                if len(self.behaviours) > 1:
                    del self.behaviours[0]
                await behaviour(request, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            self.tasks.discard(asyncio.current_task())


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _version = head[0].split(" ")
    headers = {
        name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body, reader)


@asynccontextmanager
async def http_server(
    authority: Authority | None = None, *names: str, chain: Path | None = None
) -> AsyncIterator[HttpServer]:
    """A server on a free port of 127.0.0.1; with an authority, over TLS with a certificate for these names.

    `chain`: a file with certificate and key in place of one by the authority.
    """
    context = None
    if authority is not None or chain is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if chain is not None:
            context.load_cert_chain(chain)
        elif authority is not None:
            issued = authority.issue(*(names or ("localhost", "127.0.0.1")))
            context.load_cert_chain(issued.chain, issued.key)
    place = HttpServer()
    async with await asyncio.start_server(place.serve, "127.0.0.1", 0, ssl=context) as server:
        place.port = server.sockets[0].getsockname()[1]
        try:
            yield place
        finally:
            server.close()
            tasks = [task for task in place.tasks if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
