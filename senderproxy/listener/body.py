"""Buffer for a message's body during reception and delivery: in memory up to a threshold, then in an unnamed file.

Guarantees: memory is bounded by the threshold and two blocks, whatever the size of the message; the event loop never
waits for the disk; the file has no name, is not readable by other users and disappears when it is closed or the process
ends, however it ends. If the disk takes no more, the body goes on in a file in memory, as far as their limit allows.
Not here: the waits between two blocks, the reply when the disk is full or does not respond (listener.data_phase).
"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from senderproxy.aio import wait_done
from senderproxy.disk_threads import READ_BLOCK, DiskThreads, DiskTimeout
from senderproxy.listener.memory_files import MemoryFiles, open_memory_file
from senderproxy.rewriting.long_lines import LongLineDetector

BLOCK: Final = 64 * 1024  # octets read from memory at a time
WRITE_BLOCK: Final = 256 * 1024  # octets written at a time
_REMOVAL: Final = 1.0  # seconds for the removal of an empty directory at a stop; a hanging disk must not delay it
# Errors of file systems and kernels without unnamed files, open(2).
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class SpillDirectory:
    """Directory for unnamed files: a new one (mode 0700) below `parent`, or the existing `folder`, which stays.

    `memory`: for files in memory in place of those that the disk refuses; None: the message is refused then.
    `open` is called on the threads of `disk`, the others on the event loop.
    """

    def __init__(
        self,
        parent: Path | None = None,
        *,
        folder: Path | None = None,
        disk: DiskThreads | None = None,
        memory: MemoryFiles | None = None,
    ) -> None:
        self.disk = disk or DiskThreads("body-spill")
        self.memory = memory
        self._parent = parent
        self._path = folder
        self._is_ours = folder is None
        self._created: list[Path] = []  # more than one if it was deleted, or two threads created it at the same time

    def open(self) -> BinaryIO:
        """An empty unnamed file. A directory that was deleted meanwhile is created again. Raises OSError."""
        path = self._path
        if self._is_ours and (path is None or not path.is_dir()):
            path = Path(tempfile.mkdtemp(prefix="senderproxy-", dir=self._parent))
            self._created.append(path)
            self._path = path
        assert path is not None
        return _unnamed(path)

    async def remove(self) -> None:
        """Delete the directory if it is ours and the disk responds."""
        if not self._created:
            return
        created, self._created, self._path = self._created, [], None

        def remove_all() -> None:
            for path in created:
                shutil.rmtree(path, ignore_errors=True)

        with suppress(DiskTimeout):
            await wait_done(self.disk.do(remove_all), _REMOVAL)


def _unnamed(folder: Path) -> BinaryIO:
    """An unnamed file that can be linked to a name later, unlike those of tempfile: opened without O_EXCL, open(2)."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return tempfile.TemporaryFile(buffering=0, dir=folder)


class BodyBuffer:
    """An implementation of mail.message.Body: filled with `append` and `write`, closed by each of its users.

    While `must_write` is True, the next call is `write`; after the last `append` too, if `on_disk` is True.
    `threshold`: octets kept in memory. `spill`: gives the file for a larger body.
    """

    def __init__(self, threshold: int, spill: SpillDirectory) -> None:
        self.size = 0
        self.is_ascii = True
        self.on_disk = False  # it exceeded the threshold
        self._lines = LongLineDetector()
        self._memory_limit = threshold
        self._spill = spill
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._written = 0  # octets in the file
        self._reserved = 0  # octets of the spill directory's memory; above 0: the file is in memory
        self.disk_error: OSError | None = None  # the reason why the file is in memory
        self._users = 1

    @property
    def has_long_lines(self) -> bool:
        """True where a line has more than 998 octets (RFC 5322 section 2.1.1)."""
        return self._lines.found

    @property
    def disk(self) -> DiskThreads | None:
        """The disk of its file; None while the body is in memory."""
        return self._spill.disk if self.on_disk else None

    @property
    def must_write(self) -> bool:
        """True while more octets are in memory than may stay there."""
        return len(self._memory) > self._memory_limit

    def unnamed_file(self) -> int | None:
        """The descriptor of the unnamed file; None while the body is in memory."""
        return None if self._file is None else self._file.fileno()

    def append(self, piece: bytes) -> None:
        """Add a piece, in memory."""
        self.is_ascii = self.is_ascii and piece.isascii()
        self._lines.feed(piece)
        self._memory += piece
        self.size += len(piece)

    def write(self) -> "asyncio.Future[None]":
        """Begin to write what is in memory to the file. The future raises OSError; it must not be cancelled.

        Only one write at a time. Raises DiskTimeout if the disk does not respond.
        """
        octets = self._memory
        writing = self._spill.disk.do(lambda: self._write(octets))
        self.retain()
        writing.add_done_callback(lambda _: self.close())
        self._memory, self._memory_limit, self.on_disk = bytearray(), WRITE_BLOCK, True
        return writing

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start, in blocks. Raises OSError where the body was closed or cut."""
        position, size = 0, self.size
        while position < size:
            block = self._read(position)
            if not block:
                raise OSError("the body of the message was closed, or is shorter than received")
            yield block
            position += len(block)

    def retain(self) -> None:
        """Add a user, who must call `close` too."""
        self._users += 1

    def close(self) -> None:
        """Remove a user; the last one frees memory and file."""
        self._users -= 1
        if self._users > 0:
            return
        self._memory = bytearray()
        self.size = 0
        if self._file is not None:
            self._spill.disk.do_always(partial(self._free, self._file))
            self._file = None

    def _read(self, position: int) -> bytes:
        if self.on_disk:
            return b"" if self._file is None else os.pread(self._file.fileno(), READ_BLOCK, position)
        return bytes(self._memory[position : position + BLOCK])

    def _free(self, file: BinaryIO) -> None:
        """Close the file, and release its memory; on a thread."""
        file.close()
        if self._spill.memory is not None:
            self._spill.memory.release(self._reserved)
        self._reserved = 0

    def _write(self, octets: bytearray) -> None:
        """Open the file if necessary, and write to it; on a thread."""
        try:
            if self._reserved:
                self._reserve(len(octets))
            elif self._file is None:
                self._file = self._spill.open()
            assert self._file is not None
            _write_all(self._file, octets)
        except OSError as error:
            if self._spill.memory is None:
                raise
            if self._reserved:  # the message will be refused: others may have its memory at once
                assert self._file is not None
                file, self._file = self._file, None
                self._free(file)
                raise
            self._move_to_memory(octets, error)
        self._written += len(octets)

    def _move_to_memory(self, octets: bytearray, error: OSError) -> None:
        """Copy what is in the file into one in memory, and add the octets. Raises `error` if there is no space."""
        on_disk = self._file
        try:
            file = open_memory_file()
        except OSError:
            raise error from None
        try:
            self._reserve(self._written + len(octets))
        except OSError:
            file.close()
            raise error from None
        self._file, self.disk_error = file, error
        if on_disk is not None:
            with on_disk:
                _copy(on_disk, file, self._written)
        _write_all(file, octets)

    def _reserve(self, octets: int) -> None:
        """Reserve memory for the file. Raises OSError."""
        assert self._spill.memory is not None
        if not self._spill.memory.reserve(octets):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reserved += octets


def _copy(source: BinaryIO, target: BinaryIO, octets: int) -> None:
    """Copy so many octets from the start of a file. Raises OSError, also where it is shorter."""
    position = 0
    while position < octets:
        block = os.pread(source.fileno(), min(octets - position, READ_BLOCK), position)
        if not block:
            raise OSError(errno.EIO, "a temporary file is shorter than written")
        _write_all(target, block)
        position += len(block)


def _write_all(file: BinaryIO, octets: bytes | bytearray) -> None:
    view = memoryview(octets)
    while view:
        view = view[file.write(view) :]
