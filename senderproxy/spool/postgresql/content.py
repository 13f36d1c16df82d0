"""Contents of messages: stored in parts of 256 KiB, fetched into memory or into an unnamed file.

Guarantees: what is read equals what was written, or UnreadableRow is raised (length and checksum). Memory use does not
depend on the size. While a message is sent, no connection to the database is in use.
Not here: the row of the content (spool.postgresql.statements).
"""

import os
import tempfile
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from senderproxy.aio import wait_done
from senderproxy.disk_threads import DiskThreads
from senderproxy.mail.message import Body
from senderproxy.spool.postgresql.connections import DatabaseConnection
from senderproxy.spool.sqlite.content import RowBody
from senderproxy.spool.sqlite.rows import UnreadableRow

PART: Final = 256 * 1024  # octets of a row: 25 MB in such parts took 0.48 s with flat memory, as one value 69 MB more
IN_MEMORY: Final = 128 * 1024  # octets of a body that is kept in memory, as in a row of SQLite; less than a part
_READ: Final = 512 * 1024  # octets in one read of a file: the hop to a thread costs as much as 100 KiB

ADD_PART: Final = "INSERT INTO content_part (message, position, octets) VALUES ($1, $2, $3)"
_PART: Final = "SELECT octets FROM content_part WHERE message = $1 AND position = $2"


def checksum_before_body(header: bytes, size: int, is_ascii: bool, has_long_lines: bool) -> int:
    """The CRC-32 of a content up to its body: the header section and the known properties of the body."""
    return crc32(header, crc32(b"%d %d %d" % (size, is_ascii, has_long_lines)))


async def write_parts(connection: DatabaseConnection, number: int, body: Body, checksum: int) -> tuple[int, int]:
    """Store the body of the message with that number; its size and the checksum with it. Raises OSError."""
    size = 0
    position = 0
    async for part in _parts(body):
        checksum = crc32(part, checksum)
        size += len(part)
        await connection.execute(ADD_PART, number, position, part)
        position += 1
    return size, checksum


async def _parts(body: Body) -> AsyncIterator[bytes]:
    """The body in parts of one size. Blocks that may wait for a disk are read on its threads."""
    if body.disk is None:
        for part in _regrouped(body.blocks()):
            yield part
        return
    reader = body.disk.read_ahead(_regrouped(body.blocks()), body)
    try:
        while parts := await reader.next():
            for part in parts:
                yield part
    finally:
        reader.close()


def _regrouped(blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
    waiting = bytearray()
    for block in blocks:
        waiting += block
        while len(waiting) >= PART:
            yield bytes(waiting[:PART])
            del waiting[:PART]
    if waiting:
        yield bytes(waiting)


@dataclass(eq=False)
class FetchedBody:
    """mail.message.Body: an unnamed file, closed when nothing refers to the body."""

    fd: int
    disk: DiskThreads
    size: int
    is_ascii: bool
    has_long_lines: bool

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.fd)

    def blocks(self) -> Iterator[bytes]:
        """The octets in blocks. Raises OSError if the file is shorter than it was."""
        done = 0
        while done < self.size:
            block = os.pread(self.fd, min(_READ, self.size - done), done)
            if not block:
                raise OSError("the temporary file of a message is shorter than it was when written")
            done += len(block)
            yield block

    def retain(self) -> None:
        """A reference keeps the file."""

    def close(self) -> None:
        """Without a reference the file is closed."""


def small_body(octets: bytes, row: tuple[bytes, int, int, int, int]) -> Body:
    """The verified body of at most IN_MEMORY octets. `row`: header, size, checksum, is_ascii, has_long_lines.

    Raises UnreadableRow.
    """
    header, size, expected, *flags = row
    is_ascii, has_long_lines = (bool(flag) for flag in flags)
    checksum = checksum_before_body(header, size, is_ascii, has_long_lines)
    _verify(len(octets), size, crc32(octets, checksum), expected)
    return RowBody(octets, is_ascii, has_long_lines)


class ContentFetcher:
    """Reads large contents for attempts."""

    def __init__(self) -> None:
        self._disk = DiskThreads("spool-body")

    async def body(self, connection: DatabaseConnection, number: int, row: tuple[bytes, int, int, int, int]) -> Body:
        """The verified body of a message. `row`: header, size, checksum, is_ascii, has_long_lines.

        Raises UnreadableRow, or OSError if the disk of this machine takes no temporary file.
        """
        header, size, expected, *flags = row
        is_ascii, has_long_lines = (bool(flag) for flag in flags)
        checksum = checksum_before_body(header, size, is_ascii, has_long_lines)
        body = FetchedBody(_unnamed_file(), self._disk, size, is_ascii, has_long_lines)
        done = 0
        async for part in self._fetch(connection, number, size):
            writing = self._disk.do(lambda part=part: _write_all(body.fd, part))  # type: ignore[misc]  # the default binds this part
            await wait_done(writing)
            writing.result()
            checksum = crc32(part, checksum)
            done += len(part)
        _verify(done, size, checksum, expected)
        return body

    async def _fetch(self, connection: DatabaseConnection, number: int, size: int) -> AsyncIterator[bytes]:
        """The parts, up to the size."""
        for position in range(-(-size // PART)):
            part: bytes | None = await connection.fetchval(_PART, number, position)
            if part is None:
                raise UnreadableRow("its content is shorter than it was when written")
            yield part


def _verify(done: int, size: int, checksum: int, expected: int) -> None:
    if done != size:
        raise UnreadableRow("its content is shorter than it was when written")
    if checksum != expected:
        raise UnreadableRow("its content is damaged (wrong checksum)")


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write_all(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        written = os.write(file, view)
        view = view[written:]
