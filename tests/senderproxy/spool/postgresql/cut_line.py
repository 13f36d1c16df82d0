"""A line to the database that is cut at a COMMIT: before it arrives, or before its answer does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from senderproxy.spool.postgresql.target import DatabaseTarget

_COMMIT = b"COMMIT\0"


class Line:
    """Forwards connections; `cut` is None, "before" or "after", and counts for the next COMMIT alone."""

    def __init__(self, target: DatabaseTarget) -> None:
        self.target = target
        self.cut: str | None = None
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, folder: Path) -> DatabaseTarget:
        path = folder / f".s.PGSQL.{self.target.port}"
        self._server = await asyncio.start_unix_server(self._connected, path)
        return replace(self.target, host=str(folder))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = f"{self.target.host}/.s.PGSQL.{self.target.port}"
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        both = asyncio.create_task(self._forward(reader, server_writer, writer, server_reader))
        self._tasks.add(both)
        both.add_done_callback(self._tasks.discard)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
    ) -> None:
        back = asyncio.create_task(_copy(server_reader, writer))
        try:
            with suppress(OSError):
                while octets := await reader.read(65536):
                    if self.cut is not None and _COMMIT in octets:
                        how, self.cut = self.cut, None
                        self.cuts += 1
                        if how == "after":
                            back.cancel()
                            await asyncio.wait([back])
                            server_writer.write(octets)
                            await server_reader.read(1)  # the answer is there: the transaction is committed
                        return
                    server_writer.write(octets)
                    await server_writer.drain()
        finally:
            back.cancel()
            await asyncio.wait([back])
            for each in (writer, server_writer):
                each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def cut_line(target: DatabaseTarget, folder: Path) -> AsyncIterator[tuple[Line, DatabaseTarget]]:
    line = Line(target)
    try:
        yield line, await line.start(folder)
    finally:
        await line.stop()
