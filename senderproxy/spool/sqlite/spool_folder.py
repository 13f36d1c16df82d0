"""The spool's folder: made, looked at with suspicion, and held by one process at a time.

Guarantees: nobody but its owner has a way in; whoever holds a SpoolFolder is the only one until it is left, however the
process ends. What root makes in it belongs to the folder's owner: else the service would be shut out by its own
operator.
Not here: what lies in it (spool.sqlite.database, spool.sqlite.content).
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

LOCK: Final = "lock"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PRIVATE: Final = 0o600
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolFolder:
    """The folder, held open and locked."""

    def __init__(self, path: Path, folder: int, lock: int) -> None:
        """For `enter` alone."""
        self.path = path
        self.folder = folder
        self._lock = lock

    @classmethod
    def enter(cls, path: Path) -> Self:
        """Take the folder, making it where it is missing. Raises SpoolError: unsafe, or in use, or no such disk."""
        try:
            _make(path)
            folder = os.open(path, _FOLDER)
        except OSError as error:
            raise _shut(path, error) from error
        try:
            _check(path, os.fstat(folder))
            return cls(path, folder, _take_lock(path, folder))
        except OSError as error:
            os.close(folder)
            raise _shut(path, error) from error
        except BaseException:
            os.close(folder)
            raise

    def leave(self) -> None:
        """Let others in. The lock file stays: to remove it would let two hold two files of the same name."""
        for file in (self._lock, self.folder):
            with suppress(OSError):
                os.close(file)

    def names(self) -> set[str]:
        """What lies in the folder."""
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries}

    def give_to_owner(self, file: int) -> None:
        """What root has made belongs to whom the folder belongs to."""
        give_like(self.folder, file)

    def sync(self) -> None:
        """From here on the names in the folder survive a power cut."""
        os.fsync(self.folder)


def give_like(folder: int, file: int) -> None:
    """Root makes files for whoever's folder it is."""
    if os.geteuid() == 0:
        status = os.fstat(folder)
        os.fchown(file, status.st_uid, status.st_gid)


def sub_folder(place: SpoolFolder, name: str) -> int:
    """A folder within, open; made where it is missing. Raises SpoolError."""
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=place.folder)
            made = os.open(name, _FOLDER, dir_fd=place.folder)
            try:
                os.fchmod(made, 0o700)  # whatever the umask left
                place.give_to_owner(made)
                place.sync()
            finally:
                os.close(made)
        folder = os.open(name, _FOLDER, dir_fd=place.folder)
    except OSError as error:
        raise _shut(place.path / name, error) from error
    try:
        _check(place.path / name, os.fstat(folder))
    except BaseException:
        os.close(folder)
        raise
    return folder


def disk_fault(what: str, error: OSError) -> SpoolError:
    """The system's refusal, in our words."""
    kind = SpoolFull if error.errno in _NO_ROOM else SpoolError
    hint = (
        "Free some space on the disk of the spool (df shows how much there is)."
        if kind is SpoolFull
        else "See what the system says about the disk: dmesg"
    )
    return kind(f"{what}: {error.strerror or error}.", hint=hint)


def _make(path: Path) -> None:
    try:
        path.mkdir(0o700)
    except FileExistsError:
        return
    folder = os.open(path, _FOLDER)
    try:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchmod(folder, 0o700)  # whatever the umask left
            give_like(above, folder)
            os.fsync(above)
        finally:
            os.close(above)
    finally:
        os.close(folder)


def _check(path: Path, status: os.stat_result) -> None:
    ours = os.geteuid()
    if ours not in (0, status.st_uid):
        raise SpoolError(
            f"The spool {path} belongs to another user (uid {status.st_uid}; this process runs as uid {ours}).",
            hint=f"Run this as its owner, or as root: chown -R {ours} {path}",
        )
    if status.st_mode & 0o077:
        raise SpoolError(
            f"Others than its owner have a way into the spool {path} (mode {stat.S_IMODE(status.st_mode):04o}).",
            hint=f"chmod 700 {path}",
        )


def _take_lock(path: Path, folder: int) -> int:
    lock = os.open(LOCK, _LOCK_FLAGS, _PRIVATE, dir_fd=folder)
    try:
        _check_lock(path / LOCK, os.fstat(lock))
        give_like(folder, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(path, os.pread(lock, 512, 0)) from error
        os.ftruncate(lock, 0)
        started = Path(sys.argv[0] or "python")  # never the arguments
        program = started.parent.name if started.name == "__main__.py" else started.name
        os.pwrite(lock, f"{os.getpid()} {program}\n".encode(errors="replace"), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_lock(lock: Path, status: os.stat_result) -> None:
    """We write into this file where it stands: it must not be somebody's other file under a second name."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise SpoolError(f"{lock} is not a file of the spool's own.", hint=f"See what it is: ls -li {lock}")


def _in_use(path: Path, text: bytes) -> SpoolError:
    pid, _, program = text.decode(errors="replace").strip().partition(" ")
    program = "".join(filter(str.isprintable, program)) or "another program"
    if not pid.isdecimal():
        return SpoolError(f"The spool {path} is in use by another program.", hint=f"fuser -v {path / LOCK}")
    return SpoolError(
        f"The spool {path} is in use by {program} (process {pid}).",
        hint=f"Wait until it is done, or stop it. To see what it is: ps -fp {pid}",
    )


def _shut(path: Path, error: OSError) -> SpoolError:
    match error.errno:
        case errno.ENOENT:
            return SpoolError(f"The folder above the spool {path} does not exist.", hint=f"mkdir -p {path.parent}")
        case errno.ELOOP | errno.ENOTDIR:
            return SpoolError(
                f"The spool {path} is not a folder, or a symbolic link to one.",
                hint=f"Name the folder itself, which this shows: realpath {path}",
            )
        case errno.EROFS:
            return SpoolError(
                f"The spool {path} is on a disk that is read-only.", hint="Make it writable: mount, dmesg"
            )
        case errno.EACCES | errno.EPERM:
            return SpoolError(
                f"The spool {path} cannot be opened: {error.strerror}.",
                hint=f"Run this as its owner, or as root: ls -ld {path}",
            )
        case _:
            return disk_fault(f"The spool {path} cannot be opened", error)
