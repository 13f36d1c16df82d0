"""Message bodies: in a row of the database, or in a file of their own if they are large.

Guarantees: a file and its name are synced before a row refers to it; what is read equals what was written, or an error
is raised (length and checksum). Memory use does not depend on the size.
Not here: the message of a file (spool.sqlite.database), the threads of this work (spool.sqlite.incoming).
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from senderproxy.disk_threads import READ_BLOCK, DiskThreads
from senderproxy.mail.message import Body, UnnamedFile
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.rows import UnreadableRow
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, disk_error, give_to_owner, open_subfolder
from senderproxy.translation import _

FOLDER: Final = "content"
BLOCK: Final = 64 * 1024  # octets in one block of a body in memory
_WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE: Final = 0o600  # mode: readable and writable for the service's user only
# Another file system, a file system without links, no /proc, or a file that was opened so that it cannot have a name.
_NO_LINK: Final = frozenset({errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOTDIR})
# Too short (None), missing, or unreadable. Too many open files, for example, is not an error of the message.
_LOST: Final = frozenset({None, errno.ENOENT, errno.EIO, errno.ELOOP, errno.EUCLEAN, errno.EBADMSG})


@dataclass(frozen=True, slots=True)
class RowBody:
    """mail.message.Body: a small body, in memory."""

    octets: bytes
    is_ascii: bool
    has_long_lines: bool

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def disk(self) -> None:
        """None: it is in memory."""

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self.octets), BLOCK):
            yield self.octets[start : start + BLOCK]

    def retain(self) -> None:
        """Nothing stays open between two reads."""

    def close(self) -> None:
        """Nothing stays open between two reads."""


@dataclass(frozen=True, slots=True)
class FileBody:
    """mail.message.Body: a file, which is open only while it is read."""

    folder_fd: int
    disk: DiskThreads
    name: str
    size: int
    is_ascii: bool
    has_long_lines: bool

    def blocks(self) -> Iterator[bytes]:
        """The octets in blocks. Raises OSError if the file is shorter than it was."""
        file = os.open(self.name, _READ, dir_fd=self.folder_fd)
        try:
            missing = self.size
            while missing:
                block = os.read(file, min(READ_BLOCK, missing))
                if not block:
                    raise OSError(f"the content file {self.name} is shorter than it was when written")
                missing -= len(block)
                yield block
        finally:
            os.close(file)

    def retain(self) -> None:
        """Nothing stays open between two reads."""

    def close(self) -> None:
        """Nothing stays open between two reads."""


@dataclass(frozen=True, slots=True)
class LostBody:
    """mail.message.Body that cannot be read any more: its message can only be shown and cancelled."""

    why: str
    size: int = 0
    is_ascii: bool = True
    has_long_lines: bool = False

    @property
    def disk(self) -> None:
        """None: nothing is read."""

    def blocks(self) -> Iterator[bytes]:
        """Raises OSError."""
        raise OSError(self.why)

    def retain(self) -> None:
        """Nothing stays open between two reads."""

    def close(self) -> None:
        """Nothing stays open between two reads."""


class Content:
    """The folder of the body files. All methods block, as does `blocks` of a body."""

    def __init__(self, folder: SpoolFolder) -> None:
        """Raises SpoolError."""
        self._folder_fd = open_subfolder(folder, FOLDER)
        self._disk = DiskThreads("spool-body")  # of bodies that are sent

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._folder_fd)

    def body(self, name: str, size: int, is_ascii: bool, has_long_lines: bool) -> FileBody:
        """The body in a file."""
        return FileBody(self._folder_fd, self._disk, name, size, is_ascii, has_long_lines)

    def store(self, name: str, body: Body, checksum: int, cancelled: Callable[[], bool]) -> int:
        """Write a body to a new file of that name; return when it survives a power cut.

        `checksum` is the CRC-32 of what precedes the body; the result includes the body. Raises SpoolError, or
        InterruptedError if it was cancelled; then there is no such file.
        """
        try:
            if self._link(name, body):
                checksum = _checksum(body, checksum, cancelled)
            else:
                checksum = self._copy(name, body, checksum, cancelled)
            os.fsync(self._folder_fd)
        except FileExistsError as error:  # not created here, so not removed here
            raise _write_error(error) from error
        except BaseException as error:
            self.remove([name])
            if isinstance(error, OSError) and not isinstance(error, InterruptedError):
                raise _write_error(error) from error
            raise
        return checksum

    def _link(self, name: str, body: Body) -> bool:
        """Give the unnamed file of a body a name; False if it has no such file, or it cannot be linked here."""
        file = body.unnamed_file() if isinstance(body, UnnamedFile) else None
        if file is None or os.fstat(file).st_size != body.size:
            return False
        try:
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=self._folder_fd, follow_symlinks=True)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        give_to_owner(self._folder_fd, file)
        os.fsync(file)
        return True

    def _copy(self, name: str, body: Body, checksum: int, cancelled: Callable[[], bool]) -> int:
        file = os.open(name, _WRITE_NEW, _PRIVATE, dir_fd=self._folder_fd)
        try:
            os.fchmod(file, _PRIVATE)  # independent of the umask
            give_to_owner(self._folder_fd, file)
            for block in body.blocks():
                if cancelled():
                    raise InterruptedError
                checksum = crc32(block, checksum)
                _write_all(file, block)
            os.fsync(file)
        finally:
            os.close(file)
        return checksum

    def verify(self, body: FileBody, checksum: int, expected: int) -> None:
        """Read the whole body and compare its checksum; `checksum` is the CRC-32 of what precedes the body.

        Raises UnreadableRow if it is not as it was written, SpoolError if it cannot be read for another reason.
        """
        try:
            for block in body.blocks():
                checksum = crc32(block, checksum)
        except OSError as error:
            if error.errno not in _LOST:
                raise disk_error(_("The spool's content cannot be read"), error) from error
            raise UnreadableRow(f"its content cannot be read ({error.strerror or error})") from error
        if checksum != expected:
            raise UnreadableRow("its content is damaged (wrong checksum)")

    def remove(self, names: Iterable[str]) -> None:
        """Remove body files. A file that cannot be removed has no message any more; the next sweep tries again."""
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=self._folder_fd)

    def written_before(self, seconds: float) -> list[str]:
        """The names of the files that were written before that time, in seconds since 1970."""
        with os.scandir(self._folder_fd) as entries:
            return [entry.name for entry in entries if _written_at(entry) < seconds]


def _written_at(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:  # removed meanwhile, with its message
        return float("inf")


def _write_error(error: OSError) -> SpoolError:
    return disk_error(_("A message cannot be written to the spool"), error)


def _checksum(body: Body, checksum: int, cancelled: Callable[[], bool]) -> int:
    for block in body.blocks():
        if cancelled():
            raise InterruptedError
        checksum = crc32(block, checksum)
    return checksum


def _write_all(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]
