"""A connection of a browser at the end of the page's process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from senderproxy.web import http_connection
from senderproxy.web.http_connection import HttpConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@asynccontextmanager
async def page() -> AsyncIterator[tuple[uvicorn.Server, int, asyncio.Event]]:
    """A server, its port and the event that lets it answer."""
    go_on = asyncio.Event()

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(
        uvicorn.Config(answer, http=HttpConnection, ws="none", lifespan="off", log_config=None, access_log=False)
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        running = asyncio.create_task(server._serve([listening]))
        try:
            yield server, port, go_on
        finally:
            go_on.set()
            server.should_exit = server.force_exit = True
            await asyncio.wait_for(running, 30)


async def connected(server: uvicorn.Server, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that the server has, too."""
    known = len(server.server_state.connections)
    streams = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        while len(server.server_state.connections) == known:
            await asyncio.sleep(0)
    return streams


async def ends(server: uvicorn.Server) -> None:
    """Return when the server has closed its sockets and told its connections."""
    server.should_exit = True
    async with asyncio.timeout(30):
        while any(one.is_serving() for one in server.servers):
            await asyncio.sleep(0)


@pytest.mark.parametrize("parts", [[REQUEST], [REQUEST[:5], REQUEST[5:]]], ids=["whole", "in two parts"])
async def test_a_first_request_at_the_end_is_answered_and_its_connection_is_closed(
    parts: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "FIRST_REQUEST_SECONDS", 30.0)  # a busy machine may take one for the parts
    async with page() as (server, port, go_on):
        reader, writer = await connected(server, port)
        await ends(server)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        go_on.set()
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\nok")
        writer.close()


async def test_a_request_under_way_at_the_end_is_answered() -> None:
    async with page() as (server, port, go_on):
        reader, writer = await connected(server, port)
        writer.write(REQUEST)
        async with asyncio.timeout(30):
            while not server.server_state.tasks:
                await asyncio.sleep(0)
        await ends(server)
        go_on.set()
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_connection_without_a_request_does_not_hold_the_end() -> None:
    async with page() as (server, port, _go_on):
        reader, writer = await connected(server, port)
        await ends(server)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
