"""Bodies that are too large for a row: one file each.

Guarantees: a file has all its octets on the disk and its name survives a power cut before anybody speaks of it; what is
read is what was written, or there is an error (length and checksum). Memory is flat whatever the size.
Not here: which message a file belongs to (spool.sqlite.database), on whose thread this runs
(spool.sqlite.store).
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from senderproxy.mail.message import Body, UnnamedFile
from senderproxy.spool.sqlite.rows import UnreadableRow
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, disk_fault, give_like, sub_folder

FOLDER: Final = "content"
BLOCK: Final = 64 * 1024
_WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE: Final = 0o600
# Another file system, none that can, no /proc, a file that was opened so that it can never have a name.
_NOT_HERE: Final = frozenset({errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOTDIR})
# Too short (None), not there, or not to be had from the disk. Too many open files is no fault of the message's.
_LOST: Final = frozenset({None, errno.ENOENT, errno.EIO, errno.ELOOP, errno.EUCLEAN, errno.EBADMSG})


@dataclass(frozen=True, slots=True)
class RowBody:
    """mail.message.Body: small enough for memory."""

    octets: bytes
    is_ascii: bool
    has_long_lines: bool

    @property
    def size(self) -> int:
        return len(self.octets)

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self.octets), BLOCK):
            yield self.octets[start : start + BLOCK]

    def keep(self) -> None:
        """Nothing is held open between two readings."""

    def close(self) -> None:
        """Nothing is held open between two readings."""


@dataclass(frozen=True, slots=True)
class FileBody:
    """mail.message.Body: in a file, which is opened for as long as it is read."""

    folder: int
    name: str
    size: int
    is_ascii: bool
    has_long_lines: bool

    def blocks(self) -> Iterator[bytes]:
        """Raises OSError where the file is not as long as it was."""
        file = os.open(self.name, _READ, dir_fd=self.folder)
        try:
            missing = self.size
            while missing:
                block = os.read(file, min(BLOCK, missing))
                if not block:
                    raise OSError(f"the content file {self.name} is shorter than what was written")
                missing -= len(block)
                yield block
        finally:
            os.close(file)

    def keep(self) -> None:
        """Nothing is held open between two readings."""

    def close(self) -> None:
        """Nothing is held open between two readings."""


@dataclass(frozen=True, slots=True)
class LostBody:
    """mail.message.Body of which nothing can be read any more: the message is there for its story and its end."""

    why: str
    size: int = 0
    is_ascii: bool = True
    has_long_lines: bool = False

    def blocks(self) -> Iterator[bytes]:
        """Raises OSError."""
        raise OSError(self.why)

    def keep(self) -> None:
        """Nothing is held open between two readings."""

    def close(self) -> None:
        """Nothing is held open between two readings."""


class Content:
    """The folder of the bodies. Every method may block, `blocks` of a body too."""

    def __init__(self, place: SpoolFolder) -> None:
        """Raises SpoolError."""
        self.folder = sub_folder(place, FOLDER)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.folder)

    def keep(self, name: str, body: Body, checksum: int, given_up: Callable[[], bool]) -> int:
        """Write a body under a new name; return when it survives a power cut: the checksum, carried on.

        Raises SpoolError, and then there is no such file; InterruptedError where it was given up.
        """
        try:
            if self._name(name, body):
                checksum = _summed(body, checksum, given_up)
            else:
                checksum = self._copy(name, body, checksum, given_up)
            os.fsync(self.folder)
        except FileExistsError as error:  # somebody else's: hands off
            raise disk_fault("A message cannot be written to the spool", error) from error
        except BaseException as fault:
            self.remove([name])
            if isinstance(fault, OSError) and not isinstance(fault, InterruptedError):
                raise disk_fault("A message cannot be written to the spool", fault) from fault
            raise
        return checksum

    def _name(self, name: str, body: Body) -> bool:
        """Give the file in which the body lies already a name; False where it cannot have one here."""
        file = body.unnamed_file() if isinstance(body, UnnamedFile) else None
        if file is None or os.fstat(file).st_size != body.size:
            return False
        try:
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=self.folder, follow_symlinks=True)
        except OSError as error:
            if error.errno in _NOT_HERE:
                return False
            raise
        give_like(self.folder, file)
        os.fsync(file)
        return True

    def _copy(self, name: str, body: Body, checksum: int, given_up: Callable[[], bool]) -> int:
        file = os.open(name, _WRITE_NEW, _PRIVATE, dir_fd=self.folder)
        try:
            os.fchmod(file, _PRIVATE)  # whatever the umask left
            give_like(self.folder, file)
            for block in body.blocks():
                if given_up():
                    raise InterruptedError
                checksum = crc32(block, checksum)
                _write(file, block)
            os.fsync(file)
        finally:
            os.close(file)
        return checksum

    def verify(self, body: FileBody, checksum: int, expected: int) -> None:
        """Read all of it. Raises Unreadable where it is not what was written, SpoolError where nobody can say."""
        try:
            for block in body.blocks():
                checksum = crc32(block, checksum)
        except OSError as error:
            if error.errno not in _LOST:
                raise disk_fault("The spool's content cannot be read", error) from error
            raise UnreadableRow(f"its content cannot be read ({error.strerror or error})") from error
        if checksum != expected:
            raise UnreadableRow("its content is not what was written (wrong checksum)")

    def remove(self, names: Iterable[str]) -> None:
        """Forget bodies. What cannot be removed belongs to nobody, and the next sweep tries again."""
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.folder)

    def older_than(self, seconds: float) -> list[str]:
        """The files that were written before then."""
        with os.scandir(self.folder) as entries:
            return [entry.name for entry in entries if _written(entry) < seconds]

    def is_empty(self) -> bool:
        with os.scandir(self.folder) as entries:
            return next(entries, None) is None


def _written(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:  # its message was settled a moment ago
        return float("inf")


def _summed(body: Body, checksum: int, given_up: Callable[[], bool]) -> int:
    for block in body.blocks():
        if given_up():
            raise InterruptedError
        checksum = crc32(block, checksum)
    return checksum


def _write(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]
