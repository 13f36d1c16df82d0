"""Folder of the spool: created, checked and locked.

Guarantees: only its owner has access to it; one process at a time holds it, and the lock ends with the process,
however that ends. Files that root creates in it belong to the folder's owner: otherwise an operator's command would
lock out the service.
Not here: the files in it (spool.sqlite.database, spool.sqlite.content).
"""

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.translation import _

LOCK: Final = "lock"
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PRIVATE: Final = 0o600  # mode: readable and writable for the service's user only
_LOCK_TEXT: Final = 512  # octets; a process id and a program's name
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolFolder:
    """The folder, open and locked. `fd` is its descriptor."""

    def __init__(self, path: Path, fd: int, lock: int) -> None:
        """Called by `open` only."""
        self.path = path
        self.fd = fd
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Lock the folder; create it if it is missing.

        Raises SpoolError: the folder is unsafe, in use, or cannot be opened.
        """
        try:
            _create(path)
            fd = os.open(path, _FOLDER_FLAGS)
        except OSError as error:
            raise _open_error(path, error) from error
        try:
            _check_access(path, os.fstat(fd))
            return cls(path, fd, _take_lock(path, fd))
        except OSError as error:
            os.close(fd)
            raise _open_error(path, error) from error
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Release the lock. The lock file stays: without it, two processes could lock two files of the same name."""
        for file in (self._lock, self.fd):
            with suppress(OSError):
                os.close(file)

    def names(self) -> set[str]:
        """The names of the files in the folder."""
        with os.scandir(self.fd) as entries:
            return {entry.name for entry in entries}

    def give_to_owner(self, file: int) -> None:
        """Give a file that root created to the folder's owner."""
        give_to_owner(self.fd, file)

    def sync(self) -> None:
        """Sync the folder: its names survive a power cut from now on."""
        os.fsync(self.fd)


def give_to_owner(folder_fd: int, file: int) -> None:
    """Give a file that root created to the folder's owner."""
    if os.geteuid() == 0:
        status = os.fstat(folder_fd)
        os.fchown(file, status.st_uid, status.st_gid)


def open_subfolder(folder: SpoolFolder, name: str) -> int:
    """The descriptor of a folder within the spool; created if it is missing. Raises SpoolError."""
    path = folder.path / name
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder.fd)
            created = os.open(name, _FOLDER_FLAGS, dir_fd=folder.fd)
            try:
                os.fchmod(created, 0o700)  # independent of the umask
                folder.give_to_owner(created)
                folder.sync()
            finally:
                os.close(created)
        fd = os.open(name, _FOLDER_FLAGS, dir_fd=folder.fd)
    except OSError as error:
        raise _open_error(path, error) from error
    try:
        _check_access(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def disk_error(what: str, error: OSError) -> SpoolError:
    """An error of the operating system as a SpoolError. `what`: the failed operation, a sentence without its period."""
    message = _("{what}: {reason}.").format(what=what, reason=error.strerror or error)
    if error.errno in DISK_FULL:
        return disk_full(message)
    return SpoolError(message, hint=_("Look for errors of the disk: dmesg"))


def disk_full(message: str) -> SpoolFull:
    """The error for a full disk."""
    return SpoolFull(message, hint=_("Free some space on the disk of the spool (df shows how much is free)."))


def _create(path: Path) -> None:
    try:
        path.mkdir(0o700)
    except FileExistsError:
        return
    fd = os.open(path, _FOLDER_FLAGS)
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o700)  # independent of the umask
            give_to_owner(parent, fd)
            os.fsync(parent)
        finally:
            os.close(parent)
    finally:
        os.close(fd)


def _check_access(path: Path, status: os.stat_result) -> None:
    ours = os.geteuid()
    if ours not in (0, status.st_uid):
        raise SpoolError(
            _("The spool {path} belongs to another user (uid {owner}; this process runs as uid {uid}).").format(
                path=path, owner=status.st_uid, uid=ours
            ),
            hint=_("Run this as its owner, or as root: chown -R {uid} {path}").format(uid=ours, path=path),
        )
    if status.st_mode & 0o077:
        raise SpoolError(
            _("Other users have access to the spool {path} (mode {mode}).").format(
                path=path, mode=f"{stat.S_IMODE(status.st_mode):04o}"
            ),
            hint=f"chmod 700 {path}",
        )


def _take_lock(path: Path, folder_fd: int) -> int:
    lock = os.open(LOCK, _LOCK_FLAGS, _PRIVATE, dir_fd=folder_fd)
    try:
        _check_lock(path / LOCK, os.fstat(lock))
        give_to_owner(folder_fd, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use_error(path, os.pread(lock, _LOCK_TEXT, 0)) from error
        os.ftruncate(lock, 0)
        started = Path(sys.argv[0] or "python")  # never the arguments: they may contain addresses
        program = started.parent.name if started.name == "__main__.py" else started.name
        os.pwrite(lock, f"{os.getpid()} {program}\n".encode(errors="replace"), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_lock(lock: Path, status: os.stat_result) -> None:
    """The lock file is overwritten in place: it must not be a second name of another file."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise SpoolError(
            _("{path} is not a file of the spool.").format(path=lock),
            hint=_("See what it is: ls -li {path}").format(path=lock),
        )


def _in_use_error(path: Path, text: bytes) -> SpoolError:
    pid, _blank, program = text.decode(errors="replace").strip().partition(" ")
    program = "".join(filter(str.isprintable, program))
    if not pid.isdecimal():
        return SpoolError(
            _("The spool {path} is in use by another program.").format(path=path), hint=f"fuser -v {path / LOCK}"
        )
    return SpoolError(
        _("The spool {path} is in use by {program} (process {pid}).").format(
            path=path, program=program or _("another program"), pid=pid
        ),
        hint=_("Wait until it ends, or stop it. To see what it is: ps -fp {pid}").format(pid=pid),
    )


def _open_error(path: Path, error: OSError) -> SpoolError:
    match error.errno:
        case errno.ENOENT:
            return SpoolError(
                _("The parent folder of the spool {path} does not exist.").format(path=path),
                hint=f"mkdir -p {path.parent}",
            )
        case errno.ELOOP | errno.ENOTDIR:
            return SpoolError(
                _("The spool {path} is not a folder, or a symbolic link to one.").format(path=path),
                hint=_("Set the path of the folder itself, as printed by: realpath {path}").format(path=path),
            )
        case errno.EROFS:
            return SpoolError(
                _("The spool {path} is on a disk that is mounted read-only.").format(path=path),
                hint=_("Make it writable: mount, dmesg"),
            )
        case errno.EACCES | errno.EPERM:
            return SpoolError(
                _("The spool {path} cannot be opened: {reason}.").format(path=path, reason=error.strerror),
                hint=_("Run this as its owner, or as root: ls -ld {path}").format(path=path),
            )
        case None | int():
            return disk_error(_("The spool {path} cannot be opened").format(path=path), error)
