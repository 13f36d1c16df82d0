"""Private files: permission checks, atomic replacement, a lock for one writer at a time.

Guarantees: at every moment the path names either the complete old content or the complete new content, even after a
kill, on a full disk or on a failing disk. `replace` returns only after the new content is durable; it raises only with
the old content in place (an error says so where that failed too). The previous content is kept as NAME.bak.

Not here: the meaning of the bytes.
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
from enum import Enum
from pathlib import Path
from typing import Final, Self

from vault._errors import DiskError, Exists, InUse, Missing, UnsafeFile, VaultError
from vault._store import Fingerprint

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: opening a FIFO must not block
_WRITE_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PRIVATE: Final = 0o600  # file mode: owner only
_BLOCK: Final = 1 << 20  # octets for each read
_NAME_CHECKS: Final = 3  # counts of a file's names: a save at the same moment may change them once or twice
_LOCK_TEXT_LIMIT: Final = 512  # octets read of a lock file: three short lines


class SystemCalls:
    """The system calls used here, one method for each, so that a test can interrupt or fail any of them."""

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


class AccessRule(Enum):
    """Permitted owner and mode of a file."""

    OWN = "own"  # owned by this user, no access for group and others
    CREDENTIAL = "credential"  # from the service manager: owned by root, with an ACL that shows as the group bit


# ---- reading ----


def read_private(
    path: Path, *, limit: int, disk: SystemCalls, access: AccessRule = AccessRule.OWN, single_name: bool = False
) -> tuple[bytes, Fingerprint]:
    """Read a file to which other users have no access.

    Returns at most `limit` + 1 octets: one more than `limit` shows the caller that the file is too long. With
    `single_name` the file must have no other name than those that `replace` gives it. Raises UnsafeFile, Missing or
    DiskError.
    """
    # O_PATH: a folder may be searchable without being readable
    folder_flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    with _vault_errors(path), _folder_of(path, disk, folder_flags) as folder:
        file = disk.open(path.name, _READ, folder)
        try:
            status = disk.fstat(file)
            _check_private(path, status, access)
            if single_name:
                _check_names(path, file, folder, disk)
            return _read_all(file, limit + 1, disk), _fingerprint_of(status)
        finally:
            _close_quietly(file, disk)


def fingerprint(path: Path, disk: SystemCalls) -> Fingerprint | None:
    """Return the fingerprint of the file at this path now, None if there is none."""
    try:
        return _fingerprint_of(disk.lstat(str(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _vault_error(error, path) from error


def _fingerprint_of(status: os.stat_result) -> Fingerprint:
    """Return the file status fields that show whether a path was replaced."""
    return Fingerprint((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))


def _read_all(file: int, limit: int, disk: SystemCalls) -> bytes:
    parts: list[bytes] = []
    while (have := sum(map(len, parts))) < limit and (part := disk.read(file, min(_BLOCK, limit - have))):
        parts.append(part)
    return b"".join(parts)


def _check_private(path: Path, status: os.stat_result, access: AccessRule = AccessRule.OWN) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile(
            "this is not a regular file", hint="Name a regular file. To see what it is: ls -l PATH", path=path
        )
    others, owners = (0o077, {os.geteuid()}) if access is AccessRule.OWN else (0o037, {0, os.geteuid()})
    if os.geteuid() != 0 and status.st_uid not in owners:
        raise UnsafeFile(
            f"it belongs to another user (uid {status.st_uid}; this process runs as uid {os.geteuid()})",
            hint=f"Run this as the owner of the file, or as root: chown {os.geteuid()} PATH",
            path=path,
        )
    if status.st_mode & others:
        mode = stat.S_IMODE(status.st_mode)
        raise UnsafeFile(f"other users have access to it (mode {mode:04o})", hint="chmod 600 PATH", path=path)


def _check_names(path: Path, file: int, folder: int, disk: SystemCalls) -> None:
    """Refuse a file with a further hard link: under another name it survives its removal and a new data key.

    The backup and the temporary name of a save, also of an interrupted one, are no further links. A save at the same
    moment renames them, so the names are counted up to three times.
    """
    for _ in range(_NAME_CHECKS):
        status = disk.fstat(file)
        if status.st_nlink <= 1 or status.st_nlink <= _own_names(path.name, status, folder, disk):
            return
    raise UnsafeFile(
        "it has another name in this or another folder (a hard link)",
        hint=f"Find the other name with find -inum {status.st_ino} and remove it there, or copy the file and use the "
        "copy: cp -p PATH PATH.new && mv PATH.new PATH",
        path=path,
    )


def _own_names(name: str, status: os.stat_result, folder: int, disk: SystemCalls) -> int:
    """The number of the file's names that are those of a vault, its backup or a temporary file of a save."""
    base = name.removesuffix(".bak")
    names = [base, f"{base}.bak"]
    with suppress(OSError):  # a folder may be searchable without being readable
        listing = disk.open(".", _FOLDER, folder)
        try:
            names += filter(_leftover_of(base).fullmatch, disk.listdir(listing))
        finally:
            _close_quietly(listing, disk)
    found = 0
    for each in names:
        with suppress(FileNotFoundError):
            other = disk.lstat(each, folder)
            found += (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino)
    return found


# ---- writing ----


def create(path: Path, content: bytes, disk: SystemCalls) -> None:
    """Write a new file. Raises Exists if there is one of that name, which is left as it is."""
    with _vault_errors(path), _folder_of(path, disk, _FOLDER) as folder:
        temporary, _ = _write_temporary(path.name, content, disk.fstat(folder), folder, disk)
        try:
            disk.link(temporary, path.name, folder)  # unlike rename, link never replaces a file
        except FileExistsError as error:
            raise Exists(
                "a file of that name exists already", hint="Choose another name, or move it away first: mv PATH …"
            ) from error
        finally:
            _unlink_quietly(temporary, folder, disk)
        try:
            disk.fsync(folder)
        except OSError:
            _unlink_quietly(path.name, folder, disk)
            raise


def replace(
    path: Path, content: bytes, *, expected: Fingerprint, keep_previous: bool, disk: SystemCalls
) -> Fingerprint:
    """Replace the content of a file in one step. The caller holds the WriteLock.

    `expected` is the fingerprint the caller read; another file at this path raises InUse. Without `keep_previous` no
    copy of the old content is left, NAME.bak included. Returns the new fingerprint.
    """
    with _vault_errors(path), _folder_of(path, disk, _FOLDER) as folder:
        _remove_leftovers(path.name, folder, disk)
        previous = disk.lstat(path.name, folder)
        if _fingerprint_of(previous) != expected:
            raise InUse(
                "it was replaced by a program that does not hold the lock",
                hint="Open it again, check its content, and repeat the change.",
            )
        temporary, written = _write_temporary(path.name, content, previous, folder, disk)
        replacement = _Replacement(path.name, keep_previous, folder, disk)
        try:
            replacement.link_old()
            disk.rename(temporary, path.name, folder)
        except BaseException:
            _unlink_quietly(temporary, folder, disk)
            replacement.unlink_old()
            raise
        try:
            replacement.make_durable()
        except BaseException as error:
            replacement.restore_old(path, error)
            raise
        return written


class _Replacement:
    """One replacement of a file. The old content gets a second name first, so that it can be restored."""

    def __init__(self, name: str, keep_previous: bool, folder: int, disk: SystemCalls) -> None:
        self._name, self._folder, self._disk = name, folder, disk
        self._backup = f"{name}.bak"
        self._keep_previous = keep_previous
        self._second_name = _temporary_name(name)

    def link_old(self) -> None:
        if self._keep_previous and self._is_backed_up():
            return
        self._disk.link(self._name, self._second_name, self._folder)
        if self._keep_previous:
            self._disk.rename(self._second_name, self._backup, self._folder)

    def _is_backed_up(self) -> bool:
        """True if name and backup are one file, as after a save that failed late. Renaming would then do nothing."""
        try:
            backup = self._disk.lstat(self._backup, self._folder)
        except FileNotFoundError:
            return False
        return _fingerprint_of(backup) == _fingerprint_of(self._disk.lstat(self._name, self._folder))

    def make_durable(self) -> None:
        if not self._keep_previous:
            with suppress(FileNotFoundError):
                self._disk.unlink(self._backup, self._folder)
        self._disk.fsync(self._folder)
        if not self._keep_previous:
            # Last step: until here the old content can be restored. If a power cut undoes this unlink, the next writer
            # removes the file.
            self._disk.unlink(self._second_name, self._folder)

    def restore_old(self, path: Path, cause: BaseException) -> None:
        """Put the old content back: the caller will report that nothing was saved, so the new must not be visible."""
        try:
            if self._keep_previous:
                self._disk.link(self._backup, self._second_name, self._folder)
            self._disk.rename(self._second_name, self._name, self._folder)
        except OSError as error:
            raise DiskError(
                f"the new content is in place but may not survive a power cut ({cause}), "
                f"and the old content could not be restored ({error})",
                hint="Repair the disk (see dmesg), then open it again and check its content.",
                path=path,
            ) from cause

    def unlink_old(self) -> None:
        _unlink_quietly(self._second_name, self._folder, self._disk)


def _write_temporary(
    name: str, content: bytes, like: os.stat_result, folder: int, disk: SystemCalls
) -> tuple[str, Fingerprint]:
    """Write and sync the content under a temporary name, with the owner of the file or folder `like`."""
    temporary = _temporary_name(name)
    file = disk.open(temporary, _WRITE_NEW, folder)
    try:
        try:
            disk.fchmod(file, _PRIVATE)  # whatever the umask left
            _copy_owner(like, file, disk)
            _write_all(file, content, disk)
            disk.fsync(file)
            written = _fingerprint_of(disk.fstat(file))
        except BaseException:
            _close_quietly(file, disk)
            raise
        disk.close(file)  # some file systems report a lost write only here
    except BaseException:
        _unlink_quietly(temporary, folder, disk)
        raise
    return temporary, written


def _copy_owner(like: os.stat_result, file: int, disk: SystemCalls) -> None:
    """Keep the owner when root writes: otherwise the service could no longer read its own file."""
    if os.geteuid() == 0:
        disk.fchown(file, like.st_uid, like.st_gid)


def _write_all(file: int, content: bytes, disk: SystemCalls) -> None:
    while content:
        content = content[disk.write(file, content) :]


def _temporary_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}.tmp"


def _remove_leftovers(name: str, folder: int, disk: SystemCalls) -> None:
    """Remove the temporary files of killed writers. Under the lock no file of a live writer can be among them."""
    leftover = _leftover_of(name)
    for entry in disk.listdir(folder):
        if leftover.fullmatch(entry):
            disk.unlink(entry, folder)


def _leftover_of(name: str) -> re.Pattern[str]:
    """Pattern of the temporary names of a file."""
    return re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.tmp")


# ---- one writer at a time ----


class WriteLock:
    """Exclusive lock for replacing a file.

    The kernel releases it when the holder dies. The text in the lock file only names the holder.
    """

    def __init__(self, file: int, disk: SystemCalls) -> None:
        self._file, self._disk = file, disk

    @classmethod
    def take(cls, path: Path, disk: SystemCalls) -> Self:
        """Take the lock of an existing file. Raises InUse, which names the holder."""
        lock = path.with_name(path.name + ".lock")
        with _vault_errors(path), _folder_of(path, disk, _FOLDER) as folder:
            owner = disk.lstat(path.name, folder)
            with _vault_errors(lock):
                file = _open_lock(lock.name, folder, disk)
                try:
                    _check_lock(lock, disk.fstat(file), owner)
                    _copy_owner(owner, file, disk)
                    try:
                        disk.flock(file)
                    except BlockingIOError as error:
                        raise _in_use(path, _read_all(file, _LOCK_TEXT_LIMIT, disk)) from error
                    disk.ftruncate(file)
                    _write_all(file, _lock_holder(), disk)
                except BaseException:
                    _close_quietly(file, disk)
                    raise
                return cls(file, disk)

    def release(self) -> None:
        """Release the lock. The lock file stays: after its removal two writers could lock two files of one name."""
        with suppress(OSError):
            self._disk.ftruncate(self._file)
        _close_quietly(self._file, self._disk)


def _open_lock(name: str, folder: int, disk: SystemCalls) -> int:
    try:
        return disk.open(name, _LOCK, folder)
    except FileNotFoundError:
        pass
    try:
        file = disk.open(name, _LOCK | os.O_CREAT | os.O_EXCL, folder)
    except FileExistsError:
        return disk.open(name, _LOCK, folder)  # another writer has just created it
    disk.fchmod(file, _PRIVATE)  # whatever the umask left
    return file


def _check_lock(lock: Path, status: os.stat_result, owner: os.stat_result) -> None:
    """Refuse a lock file that is a link to another file, because its content is overwritten in place."""
    _check_private(lock, status)
    if status.st_nlink != 1 or status.st_uid not in (owner.st_uid, os.geteuid()):
        raise UnsafeFile(
            "this lock file belongs to another user or has a second name",
            hint="See what it is (ls -li PATH), then remove it: rm PATH",
            path=lock,
        )


def _lock_holder() -> bytes:
    program = Path(sys.argv[0] or "python").name  # never the arguments
    return f"pid {os.getpid()}\nhost {os.uname().nodename}\nprogram {program}\n".encode(errors="replace")


def _in_use(path: Path, text: bytes) -> InUse:
    fields = dict(line.split(" ", 1) for line in text.decode(errors="replace").splitlines() if " " in line)
    program, pid, host = ("".join(filter(str.isprintable, fields.get(key, ""))) for key in ("program", "pid", "host"))
    if not pid.isdecimal():
        return InUse(
            "another program is writing it",
            hint="Wait until it has finished. To see which it is: fuser -v PATH.lock",
            path=path,
        )
    return InUse(
        f"{program or 'another program'} (process {pid} on {host or 'this host'}) is writing it",
        hint=f"Wait until it has finished. To see what it does: ps -fp {pid}",
        path=path,
    )


# ---- the folder, and system errors as vault errors ----


@contextmanager
def _folder_of(path: Path, disk: SystemCalls, flags: int) -> Iterator[int]:
    """Keep the folder open during the operation, so that it cannot be replaced meanwhile."""
    folder = disk.open(str(path.parent), flags)
    try:
        _check_folder(path.parent, disk.fstat(folder).st_mode)
        yield folder
    finally:
        _close_quietly(folder, disk)


def _check_folder(folder: Path, mode: int) -> None:
    """Refuse a folder in which other users can replace files. In one with the sticky bit, as /tmp, they cannot."""
    if mode & stat.S_ISVTX:
        return
    if mode & stat.S_IWOTH:
        raise UnsafeFile("any user can replace files in this folder", hint="chmod go-w PATH", path=folder)
    if mode & stat.S_IWGRP:
        raise UnsafeFile("users of a group can replace files in this folder", hint="chmod g-w PATH", path=folder)


def _close_quietly(file: int, disk: SystemCalls) -> None:
    """Close a file whose close errors do not matter."""
    with suppress(OSError):
        disk.close(file)


def _unlink_quietly(name: str, folder: int, disk: SystemCalls) -> None:
    """Remove a temporary file. If that fails, the next writer removes it."""
    with suppress(OSError):
        disk.unlink(name, folder)


@contextmanager
def _vault_errors(path: Path) -> Iterator[None]:
    """Turn every OSError into a vault error that names the file."""
    try:
        yield
    except VaultError as error:
        error.set_path(path)
        raise
    except OSError as error:
        raise _vault_error(error, path) from error


def _vault_error(error: OSError, path: Path) -> VaultError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Missing("there is no such file", hint="Correct the path, or create the file first.", path=path)
        case errno.ELOOP:
            hint = "Name the file itself. To see its path: realpath PATH"
            return UnsafeFile("this is a symbolic link, which could be redirected", hint=hint, path=path)
        case errno.ENXIO | errno.EISDIR:
            return UnsafeFile("this is not a regular file", hint="Name a regular file.", path=path)
        case errno.EACCES:
            hint = "Run this as the owner of the file and its folder, or as root. To see the owner: ls -ld PATH"
        case errno.EPERM | errno.EOPNOTSUPP:
            hint = (
                "A file system without owners, modes and hard links (FAT, some network shares) cannot hold this file. "
                "Write it to another file system and copy it from there."
            )
        case errno.ENOSPC | errno.EDQUOT:
            hint = "Free some space (df shows how much there is), then try again."
        case errno.EROFS:
            hint = "Make the file system writable, then try again."
        case _:
            hint = "Look for disk errors in the kernel log: dmesg"
    return DiskError(reason, hint=hint, path=path)
