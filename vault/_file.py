"""Whole files, privately: read with suspicion, replaced in one step, written by one writer at a time.

Guarantees: at every instant the name holds either the old content whole or the new content whole, whatever is killed,
full or broken; `replace` returns only when the new one survives a power cut, and raises only with the old one in
force (where even that cannot be had, the error says so). The content before lies beside it as NAME.bak.
Not here: what the bytes mean.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Self

from vault._errors import DiskTrouble, Exists, InUse, Missing, Unsafe, VaultError

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a fifo must not hold us up
_WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PRIVATE: Final = 0o600
_BLOCK: Final = 1 << 20


class SystemCalls:
    """The system calls we make, one method for each, so that a test can stop or fail every single one."""

    def open(self, name: str, flags: int, folder: int | None = None) -> int:
        return os.open(name, flags, _PRIVATE, dir_fd=folder)

    def close(self, file: int) -> None:
        os.close(file)

    def fstat(self, file: int) -> os.stat_result:
        return os.fstat(file)

    def lstat(self, name: str, folder: int | None = None) -> os.stat_result:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def listdir(self, folder: int) -> list[str]:
        return os.listdir(folder)

    def read(self, file: int, size: int) -> bytes:
        return os.read(file, size)

    def write(self, file: int, content: bytes) -> int:
        return os.write(file, content)

    def fchmod(self, file: int, mode: int) -> None:
        os.fchmod(file, mode)

    def fchown(self, file: int, uid: int, gid: int) -> None:
        os.fchown(file, uid, gid)

    def fsync(self, file: int) -> None:
        os.fsync(file)

    def ftruncate(self, file: int) -> None:
        os.ftruncate(file, 0)

    def flock(self, file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def link(self, old: str, new: str, folder: int) -> None:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def rename(self, old: str, new: str, folder: int) -> None:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def unlink(self, name: str, folder: int) -> None:
        os.unlink(name, dir_fd=folder)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Enough of a file's status to see cheaply that another file has taken its name."""

    device: int
    inode: int
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


class Trust(Enum):
    """Whose file it may be, and who else may read it."""

    OWN = "own"
    CREDENTIAL = "credential"  # handed to us by the service manager: root's, with an ACL that shows as the group bit


# ---- reading ----


def read_private(path: Path, *, limit: int, disk: SystemCalls, trust: Trust = Trust.OWN) -> tuple[bytes, Fingerprint]:
    """Read a file that nobody else may have read or written; past `limit` bytes it is cut off one byte later."""
    # O_PATH: a folder may let us pass without letting us list it
    way_in = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    with _told_as_ours(path), _folder_of(path, disk, way_in) as folder:
        file = disk.open(path.name, _READ, folder)
        try:
            status = disk.fstat(file)
            _check_private(path, status, trust)
            return _read_all(file, limit + 1, disk), Fingerprint.of(status)
        finally:
            _let_go(file, disk)


def fingerprint(path: Path, disk: SystemCalls) -> Fingerprint | None:
    """What stands under the name now, or None."""
    try:
        return Fingerprint.of(disk.lstat(str(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _ours(error, path) from error


def _read_all(file: int, limit: int, disk: SystemCalls) -> bytes:
    parts: list[bytes] = []
    while (have := sum(map(len, parts))) < limit and (part := disk.read(file, min(_BLOCK, limit - have))):
        parts.append(part)
    return b"".join(parts)


def _check_private(path: Path, status: os.stat_result, trust: Trust = Trust.OWN) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unsafe("this is not a regular file", hint="Name a regular file: ls -l PATH shows what it is.", path=path)
    others, owners = (0o077, {os.geteuid()}) if trust is Trust.OWN else (0o037, {0, os.geteuid()})
    if os.geteuid() != 0 and status.st_uid not in owners:
        raise Unsafe(
            f"it belongs to another user (uid {status.st_uid}; this process runs as uid {os.geteuid()})",
            hint=f"As root: chown {os.geteuid()} PATH, or run this as the file's owner.",
            path=path,
        )
    if status.st_mode & others:
        mode = stat.S_IMODE(status.st_mode)
        raise Unsafe(f"others than its owner have a way to it (mode {mode:04o})", hint="chmod 600 PATH", path=path)


# ---- writing ----


def create(path: Path, content: bytes, disk: SystemCalls) -> None:
    """Write a new file; what stands there already is left alone."""
    with _told_as_ours(path), _folder_of(path, disk, _FOLDER) as folder:
        temporary, _ = _write_beside(path.name, content, disk.fstat(folder), folder, disk)
        try:
            disk.link(temporary, path.name, folder)  # unlike rename, this never takes a name that is taken
        except FileExistsError as error:
            raise Exists(
                "there is a file of that name already", hint="Choose another name, or move it away first: mv PATH …"
            ) from error
        finally:
            _forget(temporary, folder, disk)
        try:
            disk.fsync(folder)
        except OSError:
            _forget(path.name, folder, disk)
            raise


def replace(
    path: Path, content: bytes, *, expected: Fingerprint, keep_previous: bool, disk: SystemCalls
) -> Fingerprint:
    """Put new content under the name, in one step. The caller holds the WriteLock.

    Without `keep_previous` no copy of what was there stays behind, NAME.bak included.
    """
    with _told_as_ours(path), _folder_of(path, disk, _FOLDER) as folder:
        _sweep(path.name, folder, disk)
        previous = disk.lstat(path.name, folder)
        if Fingerprint.of(previous) != expected:
            raise InUse(
                "it was exchanged by a program that does not hold the lock",
                hint="Open it again to see what it holds now, and repeat the change.",
            )
        temporary, written = _write_beside(path.name, content, previous, folder, disk)
        step = _Step(path.name, keep_previous, folder, disk)
        try:
            step.spare_the_old()
            disk.rename(temporary, path.name, folder)
        except BaseException:
            _forget(temporary, folder, disk)
            step.drop_spare()
            raise
        try:
            step.make_it_last()
        except BaseException as error:
            step.put_back(path, error)
            raise
        return written


class _Step:
    """One replacement: gives the old content a second name first, so that it can come back."""

    def __init__(self, name: str, keep_previous: bool, folder: int, disk: SystemCalls) -> None:
        self._name, self._folder, self._disk = name, folder, disk
        self._backup = f"{name}.bak"
        self._keep = keep_previous
        self._spare = _temporary_name(name)

    def spare_the_old(self) -> None:
        if self._keep and self._is_backed_up():
            return
        self._disk.link(self._name, self._spare, self._folder)
        if self._keep:
            self._disk.rename(self._spare, self._backup, self._folder)

    def _is_backed_up(self) -> bool:
        """A save that failed late leaves name and backup as one file; renaming one to the other then does nothing."""
        try:
            backup = self._disk.lstat(self._backup, self._folder)
        except FileNotFoundError:
            return False
        return Fingerprint.of(backup) == Fingerprint.of(self._disk.lstat(self._name, self._folder))

    def make_it_last(self) -> None:
        if not self._keep:
            with suppress(FileNotFoundError):
                self._disk.unlink(self._backup, self._folder)
        self._disk.fsync(self._folder)
        if not self._keep:
            # last of all: until here the old content could come back. If a power cut undoes this, the next writer
            # sweeps it away.
            self._disk.unlink(self._spare, self._folder)

    def put_back(self, path: Path, because: BaseException) -> None:
        """What cannot be made to last must not be seen either: the caller will be told that nothing was saved."""
        try:
            if self._keep:
                self._disk.link(self._backup, self._spare, self._folder)
            self._disk.rename(self._spare, self._name, self._folder)
        except OSError as error:
            raise DiskTrouble(
                f"the new content stands there but may not survive a power cut ({because}), "
                f"and the old could not be put back ({error})",
                hint="Mend the disk (dmesg), then open it again and see what it holds.",
                path=path,
            ) from because

    def drop_spare(self) -> None:
        _forget(self._spare, self._folder, self._disk)


def _write_beside(
    name: str, content: bytes, like: os.stat_result, folder: int, disk: SystemCalls
) -> tuple[str, Fingerprint]:
    """Write and sync the content under a temporary name, owned like the file (or folder) given."""
    temporary = _temporary_name(name)
    file = disk.open(temporary, _WRITE_NEW, folder)
    try:
        try:
            disk.fchmod(file, _PRIVATE)  # whatever the umask left
            _own_like(like, file, disk)
            _write_all(file, content, disk)
            disk.fsync(file)
            written = Fingerprint.of(disk.fstat(file))
        except BaseException:
            _let_go(file, disk)
            raise
        disk.close(file)  # some file systems tell only here that a write was lost
    except BaseException:
        _forget(temporary, folder, disk)
        raise
    return temporary, written


def _own_like(like: os.stat_result, file: int, disk: SystemCalls) -> None:
    """Root writes for whoever's file it is: else a service would find itself shut out by its own operator."""
    if os.geteuid() == 0:
        disk.fchown(file, like.st_uid, like.st_gid)


def _write_all(file: int, content: bytes, disk: SystemCalls) -> None:
    while content:
        content = content[disk.write(file, content) :]


def _temporary_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}.tmp"


def _sweep(name: str, folder: int, disk: SystemCalls) -> None:
    """Remove what killed writers left; under the lock nobody else's can be among it."""
    leftover = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.tmp")
    for entry in disk.listdir(folder):
        if leftover.fullmatch(entry):
            disk.unlink(entry, folder)


# ---- one writer at a time ----


class WriteLock:
    """The right to replace a file. The kernel gives it back when its holder dies; the text only says who that is."""

    def __init__(self, file: int, disk: SystemCalls) -> None:
        self._file, self._disk = file, disk

    @classmethod
    def take(cls, path: Path, disk: SystemCalls) -> Self:
        """Take the lock beside `path`, which must be there, or raise InUse and say who holds it."""
        lock = path.with_name(path.name + ".lock")
        with _told_as_ours(path), _folder_of(path, disk, _FOLDER) as folder:
            owner = disk.lstat(path.name, folder)
            with _told_as_ours(lock):
                file = _open_lock(lock.name, folder, disk)
                try:
                    _check_lock(lock, disk.fstat(file), owner)
                    _own_like(owner, file, disk)
                    try:
                        disk.flock(file)
                    except BlockingIOError as error:
                        raise _in_use(path, _read_all(file, 512, disk)) from error
                    disk.ftruncate(file)
                    _write_all(file, _who_we_are(), disk)
                except BaseException:
                    _let_go(file, disk)
                    raise
                return cls(file, disk)

    def release(self) -> None:
        """The lock file stays: to remove it would let two writers hold two files of the same name."""
        with suppress(OSError):
            self._disk.ftruncate(self._file)
        _let_go(self._file, self._disk)


def _open_lock(name: str, folder: int, disk: SystemCalls) -> int:
    try:
        return disk.open(name, _LOCK, folder)
    except FileNotFoundError:
        pass
    try:
        file = disk.open(name, _LOCK | os.O_CREAT | os.O_EXCL, folder)
    except FileExistsError:
        return disk.open(name, _LOCK, folder)  # another writer was quicker
    disk.fchmod(file, _PRIVATE)  # whatever the umask left
    return file


def _check_lock(lock: Path, status: os.stat_result, owner: os.stat_result) -> None:
    """We write into this file where it stands: it must not be somebody's other file under a second name."""
    _check_private(lock, status)
    if status.st_nlink != 1 or status.st_uid not in (owner.st_uid, os.geteuid()):
        raise Unsafe(
            "this lock file is not ours to write in", hint="See what it is (ls -li PATH), then: rm PATH", path=lock
        )


def _who_we_are() -> bytes:
    program = Path(sys.argv[0] or "python").name  # never the arguments
    return f"pid {os.getpid()}\nhost {os.uname().nodename}\nprogram {program}\n".encode(errors="replace")


def _in_use(path: Path, text: bytes) -> InUse:
    fields = dict(line.split(" ", 1) for line in text.decode(errors="replace").splitlines() if " " in line)
    program, pid, host = ("".join(filter(str.isprintable, fields.get(key, ""))) for key in ("program", "pid", "host"))
    if not pid.isdecimal():
        return InUse("another program is writing it", hint="Wait until it is done: fuser -v PATH.lock", path=path)
    return InUse(
        f"{program or 'another program'} (process {pid} on {host or 'this host'}) is writing it",
        hint=f"Wait until it is done. To see what it is: ps -fp {pid}",
        path=path,
    )


# ---- the folder, and the system's refusals in our words ----


@contextmanager
def _folder_of(path: Path, disk: SystemCalls, flags: int) -> Iterator[int]:
    """Hold the folder open while we work in it, so that it cannot be exchanged for another in between."""
    folder = disk.open(str(path.parent), flags)
    try:
        mode = disk.fstat(folder).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Unsafe("everybody may exchange the files in this folder", hint="chmod o-w PATH", path=path.parent)
        yield folder
    finally:
        _let_go(folder, disk)


def _let_go(file: int, disk: SystemCalls) -> None:
    """Close what nothing more was to be learnt from."""
    with suppress(OSError):
        disk.close(file)


def _forget(name: str, folder: int, disk: SystemCalls) -> None:
    """Remove a temporary file on the way out; if that fails the next writer sweeps it away."""
    with suppress(OSError):
        disk.unlink(name, folder)


@contextmanager
def _told_as_ours(path: Path) -> Iterator[None]:
    """Let every error leave as one of the vault's own, and name the file."""
    try:
        yield
    except VaultError as error:
        error.about(path)
        raise
    except OSError as error:
        raise _ours(error, path) from error


def _ours(error: OSError, path: Path) -> VaultError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Missing("there is no such file", hint="Correct the path, or create it first.", path=path)
        case errno.ELOOP:
            hint = "Name the file itself, which this shows: realpath PATH"
            return Unsafe("this is a symbolic link, which could be turned elsewhere", hint=hint, path=path)
        case errno.ENXIO | errno.EISDIR:
            return Unsafe("this is not a regular file", hint="Name a regular file.", path=path)
        case errno.EACCES:
            hint = "Run this as the owner of the file and its folder, or as root: ls -ld PATH"
        case errno.EPERM | errno.EOPNOTSUPP:
            hint = (
                "A file system without owners, modes and hard links (FAT, some network shares) cannot hold it: write "
                "it to another one, and copy it from there."
            )
        case errno.ENOSPC | errno.EDQUOT:
            hint = "Free some space (df shows how much there is), then do it again."
        case errno.EROFS:
            hint = "Make the file system writable, then do it again."
        case _:
            hint = "See what the system says about the disk: dmesg"
    return DiskTrouble(reason, hint=hint, path=path)
