"""Where a message's body lies while it is received and offered upstream: in memory while it is small, else on disk.

Guarantees: memory is bounded by the threshold whatever the size of the message; what is on disk has no name, is
readable by nobody else and is gone when it is closed or the process ends, however it ends.
Not here: what a full disk is called (listener.relay_smtp).
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from senderproxy.rewriting.long_lines import LineMeter

BLOCK: Final = 64 * 1024
# What file systems and kernels say that know no files without a name, open(2).
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class SpillDirectory:
    """A directory of our own (mode 0700) for files without a name; or `folder`, which is somebody else's."""

    def __init__(self, parent: Path | None = None, *, folder: Path | None = None) -> None:
        self._parent = parent
        self._path = folder
        self._is_ours = folder is None

    def open(self) -> BinaryIO:
        """A fresh, unnamed, empty file. Made anew where something tidied the directory away. Raises OSError."""
        if self._is_ours and (self._path is None or not self._path.is_dir()):
            self._path = Path(tempfile.mkdtemp(prefix="senderproxy-", dir=self._parent))
        assert self._path is not None
        return _unnamed(self._path)

    def remove(self) -> None:
        """Take the directory away."""
        if self._is_ours and self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def _unnamed(folder: Path) -> BinaryIO:
    """Unlike tempfile's, such a file may be given a name later (it is opened without O_EXCL, open(2))."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return tempfile.TemporaryFile(buffering=0, dir=folder)


class BodyBuffer:
    """mail.message.Body: filled with `append`, then read with `blocks` at will, then closed by all who keep it."""

    def __init__(self, threshold: int, open_file: Callable[[], BinaryIO]) -> None:
        self.size = 0
        self.is_ascii = True
        self._lines = LineMeter()
        self._threshold = threshold
        self._open_file = open_file
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._keepers = 1

    @property
    def on_disk(self) -> bool:
        """True once the body has outgrown the memory it may use."""
        return self._file is not None

    @property
    def has_long_lines(self) -> bool:
        """A line of more than 998 octets in it."""
        return self._lines.found

    def unnamed_file(self) -> int | None:
        """The file in which the body lies, where it does."""
        return None if self._file is None else self._file.fileno()

    def append(self, piece: bytes) -> None:
        """Add what came next. Raises OSError where the disk does not take it."""
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
        """The octets from the start, at most 64 KiB at a time."""
        position, size = 0, self.size
        while position < size:
            block = self._read(position)
            if not block:
                raise OSError("a message's body is shorter than what was received, or was closed")
            yield block
            position += len(block)

    def keep(self) -> None:
        """One more keeps it."""
        self._keepers += 1

    def close(self) -> None:
        """Forget the octets, when everybody has said so; harmless when said once too often."""
        self._keepers -= 1
        if self._keepers > 0:
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
