"""Buffer for a message's body during reception and delivery: in memory up to a threshold, then in an unnamed file.

Guarantees: memory is bounded by the threshold whatever the size of the message; the file has no name, is not readable
by other users and disappears when it is closed or the process ends, however it ends.
Not here: the reply when the disk is full (listener.data_phase).
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from senderproxy.rewriting.long_lines import LongLineDetector

BLOCK: Final = 64 * 1024  # octets read at a time: few system calls, little memory
# Errors of file systems and kernels without unnamed files, open(2).
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class SpillDirectory:
    """Directory for unnamed files: a new one (mode 0700) below `parent`, or the existing `folder`, which stays."""

    def __init__(self, parent: Path | None = None, *, folder: Path | None = None) -> None:
        self._parent = parent
        self._path = folder
        self._is_ours = folder is None

    def open(self) -> BinaryIO:
        """An empty unnamed file. A directory that was deleted meanwhile is created again. Raises OSError."""
        if self._is_ours and (self._path is None or not self._path.is_dir()):
            self._path = Path(tempfile.mkdtemp(prefix="senderproxy-", dir=self._parent))
        assert self._path is not None
        return _unnamed(self._path)

    def remove(self) -> None:
        """Delete the directory if it is ours."""
        if self._is_ours and self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def _unnamed(folder: Path) -> BinaryIO:
    """An unnamed file that can be linked to a name later, unlike those of tempfile: opened without O_EXCL, open(2)."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return tempfile.TemporaryFile(buffering=0, dir=folder)


class BodyBuffer:
    """An implementation of mail.message.Body: filled with `append`, read with `blocks`, closed by each of its users.

    `threshold`: octets kept in memory. `open_file`: gives the empty file for a larger body; may raise OSError.
    """

    def __init__(self, threshold: int, open_file: Callable[[], BinaryIO]) -> None:
        self.size = 0
        self.is_ascii = True
        self._lines = LongLineDetector()
        self._threshold = threshold
        self._open_file = open_file
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._users = 1

    @property
    def on_disk(self) -> bool:
        """True where the body exceeded the threshold."""
        return self._file is not None

    @property
    def has_long_lines(self) -> bool:
        """True where a line has more than 998 octets (RFC 5322 section 2.1.1)."""
        return self._lines.found

    def unnamed_file(self) -> int | None:
        """The descriptor of the unnamed file; None while the body is in memory."""
        return None if self._file is None else self._file.fileno()

    def append(self, piece: bytes) -> None:
        """Add a piece. Raises OSError where it cannot be written to disk."""
        self.is_ascii = self.is_ascii and piece.isascii()
        self._lines.feed(piece)
        if self._file is None and len(self._memory) + len(piece) > self._threshold:
            self._file = self._open_file()
            self._write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += piece
        else:
            self._write(piece)
        self.size += len(piece)

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start, at most 64 KiB at a time. Raises OSError where the body was closed or cut."""
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
        """Remove a user; the last one frees memory and file. Further calls do nothing."""
        self._users -= 1
        if self._users > 0:
            return
        self._memory = bytearray()
        self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, position: int) -> bytes:
        if self._file is None:
            return bytes(self._memory[position : position + BLOCK])
        return os.pread(self._file.fileno(), BLOCK, position)

    def _write(self, piece: bytes | bytearray) -> None:
        assert self._file is not None
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
