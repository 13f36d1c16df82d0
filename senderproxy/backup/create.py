"""Creation of a backup, also while the service runs.

Guarantees: the file is complete, synced and read back before it gets its name; a failure leaves nothing. Other users
have no access to it. All of its content is sealed. Memory use does not depend on the length of the queue.
Not here: the passphrase (cli.backup), the content's format (backup.archive), the queue (spool.sqlite.snapshot).
"""

import fcntl
import grp
import os
import pwd
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from senderproxy import __version__
from senderproxy.accounts import vault_copy
from senderproxy.accounts.sealed_file import SealedWriter
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.backup.archive import PARTS, ArchiveWriter, Manifest
from senderproxy.backup.errors import BackupError
from senderproxy.backup.inventory import Inventory, read_inventory
from senderproxy.config.model import Config
from senderproxy.config.toml_lines import SettingPath
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.errors import SenderproxyError, WouldOverwrite
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.snapshot import Snapshot, open_snapshot
from senderproxy.translation import _

_PRIVATE: Final = 0o600  # mode: for the owner only
_TEMPORARY: Final = re.compile(r"\.senderproxy-backup-[0-9a-f]{16}\.tmp")
_NAMED_FILE_LIMIT: Final = 2**20  # octets of a certificate or a key; larger files are something else
_BUFFER: Final = 1024 * 1024  # octets in one write


@dataclass(slots=True)
class Created:
    """A finished backup. `remarks`: sentences about missing or unusual content."""

    path: Path
    size: int
    inventory: Inventory
    remarks: list[str] = field(default_factory=list)


def create_backup(
    target: Path,
    passphrase: str,
    config: Config,
    config_path: Path,
    vault: VaultPlace,
    now: datetime,
    *,
    with_queue: bool = True,
) -> Created:
    """Write a backup to a new file, or into a folder under a name of its own. May block for minutes.

    Raises WouldOverwrite, BackupError, SpoolError, AccountsError, OSError.
    """
    if target.is_dir():
        target = target / f"senderproxy-{now:%Y-%m-%dT%H%M%SZ}.backup"
    if os.path.lexists(target):
        raise _place_taken(target)
    remarks: list[str] = []
    with _temporary_file(target.parent) as (path, out):
        sealed = SealedWriter(out, passphrase)
        messages = _write_parts(sealed, target.parent, passphrase, config, config_path, vault, now, with_queue, remarks)
        sealed.finish()
        out.flush()
        os.fsync(out.fileno())
        inventory = read_inventory(path, passphrase)
        if inventory.messages != messages:
            raise BackupError(
                _("The backup does not read back as it was written; it was removed."),
                hint=_("Check the memory and the disk of this machine: dmesg"),
            )
        size = os.fstat(out.fileno()).st_size
        _give_name(path, target)
    if inventory.unreadable:
        text = _("The contents of these messages cannot be read on this machine either: {ids}.")
        remarks.append(text.format(ids=", ".join(inventory.unreadable)))
    return Created(target, size, inventory, remarks)


def _write_parts(
    sealed: SealedWriter,
    folder: Path,
    passphrase: str,
    config: Config,
    config_path: Path,
    vault: VaultPlace,
    now: datetime,
    with_queue: bool,
    remarks: list[str],
) -> int | None:
    """Write all parts; the number of messages, None without a queue."""
    if with_queue and config.spool.engine != SQLITE_ENGINE:
        raise SpoolError(
            _("The queue is in a database server, which has its own backups."),
            hint=_("senderproxy backup --without-queue, and pg_dump on the server (docs/cluster.md)"),
        )
    spool = Path(config.spool_directory)
    with _snapshot(config, with_queue) as snapshot:
        if snapshot is not None:
            _check_space(folder, snapshot, spool, config.spool.min_free)
        left_out = {"queue", "learned"} if snapshot is None else set() if with_queue else {"queue"}
        parts = tuple((name, version) for name, version in PARTS.items() if name not in left_out)
        archive = ArchiveWriter(sealed.write, Manifest(__version__, now, socket.gethostname(), parts))
        _write_configuration(archive, config, config_path, remarks)
        _write_vault(archive, vault, config, passphrase, remarks)
        if snapshot is not None:
            if with_queue:
                _write_queue(archive, snapshot)
            _write_learned(archive, snapshot)
        archive.finish()
        return snapshot.counts.messages if snapshot is not None and with_queue else None


@contextmanager
def _snapshot(config: Config, with_queue: bool) -> Iterator[Snapshot | None]:
    """The state of the spool; None without one in files. Without the queue, also None for an unreadable spool."""
    if config.spool.engine != SQLITE_ENGINE:
        yield None
        return
    with ExitStack() as stack:
        try:
            snapshot = stack.enter_context(open_snapshot(Path(config.spool_directory)))
        except SpoolError:
            if with_queue:
                raise
            snapshot = None
        yield snapshot


# ---- parts ----


def _write_configuration(archive: ArchiveWriter, config: Config, path: Path, remarks: list[str]) -> None:
    """The configuration, and its certificates and keys."""
    archive.begin("configuration", {})
    _write_file(archive, path.absolute(), ())
    for setting, named in _named_files(config):
        try:
            _write_file(archive, Path(named), setting)
        except OSError as error:
            text = _("{path} is not in the backup: {reason}.")
            remarks.append(text.format(path=named, reason=error.strerror or error))
    archive.end({})


def _named_files(config: Config) -> Iterator[tuple[SettingPath, str]]:
    for index, listener in enumerate(config.listeners):
        for name, path in (("certificate", listener.certificate), ("key", listener.key)):
            if path is not None:
                yield ("listeners", index, name), path
    for provider, settings in config.providers.items():
        if settings.ca_file is not None:
            yield ("providers", provider, "ca_file"), settings.ca_file


def _write_file(archive: ArchiveWriter, path: Path, setting: SettingPath) -> None:
    with path.open("rb") as source:
        octets = source.read(_NAMED_FILE_LIMIT + 1)
        status = os.fstat(source.fileno())
    if len(octets) > _NAMED_FILE_LIMIT:
        raise OSError(_("it is longer than a configuration or a certificate"))
    entry = {
        "path": str(path),
        "setting": list(setting),
        "mode": status.st_mode & 0o777,
        "owner": _user_name(status.st_uid),
        "group": _group_name(status.st_gid),
        "size": len(octets),
    }
    archive.entry("file", entry)
    archive.octets(octets)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _write_vault(
    archive: ArchiveWriter, vault: VaultPlace, config: Config, passphrase: str, remarks: list[str]
) -> None:
    """The vault as it is, and an export under the backup's passphrase if it can be opened without asking."""
    octets, facts = vault_copy.read_copy(vault)
    archive.begin(
        "vault",
        {"id": facts.vault_id, "generation": facts.generation, "unlocks": [list(each) for each in facts.unlocks]},
    )
    archive.entry("copy", {"size": len(octets)})
    archive.octets(octets)
    try:
        export = vault_copy.export_copy(octets, _unlock(config), passphrase)
    except SenderproxyError as error:
        text = _("The vault could not be opened, so after a restore it opens only with its own unlocks ({ways}): {why}")
        ways = ", ".join(f"{kind} {label}" for kind, label in facts.unlocks)
        remarks.append(text.format(ways=ways, why=error.message))
    else:
        archive.entry("export", {"size": len(export)})
        archive.octets(export)
    archive.end({})


def _unlock(config: Config) -> UnlockMethod:
    return unlock_method(config.vault.unlock, None)


def _write_queue(archive: ArchiveWriter, snapshot: Snapshot) -> None:
    archive.begin("queue", {"format": snapshot.version, "columns": snapshot.columns()})
    for item in snapshot.messages():
        if isinstance(item, bytes):
            archive.octets(item)
        else:
            archive.entry(*item)
    counts = snapshot.counts
    archive.end({"messages": counts.messages, "octets": counts.octets, "unreadable": counts.unreadable})


def _write_learned(archive: ArchiveWriter, snapshot: Snapshot) -> None:
    archive.begin("learned", {"format": snapshot.version, "columns": snapshot.columns()})
    for entry in snapshot.learned():
        archive.entry(*entry)
    archive.end({})


# ---- the file ----


def _check_space(folder: Path, snapshot: Snapshot, spool: Path, min_free: int) -> None:
    """Refuse a backup too large for the disk; on the disk of the spool, new mail would be refused then."""
    disk = os.statvfs(folder)
    shared = folder.stat().st_dev == spool.stat().st_dev
    free, needed = disk.f_bavail * disk.f_frsize, snapshot.octets() + (min_free if shared else 0)
    if free < needed:
        raise BackupError(
            _("{folder} has too little free space: {free} octets, and the backup needs {needed}.").format(
                folder=folder, free=free, needed=needed
            ),
            hint=_("Write it to another disk."),
        )


@contextmanager
def _temporary_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new private file, removed at the end; those that killed backups left in the folder are removed first."""
    for leftover in [entry for entry in folder.iterdir() if _TEMPORARY.fullmatch(entry.name)]:
        _remove_leftover(leftover)
    path = folder / f".senderproxy-backup-{secrets.token_hex(8)}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _PRIVATE), "r+b", buffering=_BUFFER) as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(out.fileno(), _PRIVATE)  # independent of the umask
            yield path, out
        finally:
            path.unlink(missing_ok=True)


def _remove_leftover(path: Path) -> None:
    with suppress(OSError), path.open("rb") as leftover:
        fcntl.flock(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a backup in progress holds it
        path.unlink()


def _give_name(path: Path, target: Path) -> None:
    """Give the file its name. Raises WouldOverwrite if another file has it now."""
    try:
        os.link(path, target)  # unlike a rename, it never replaces a file
    except FileExistsError as error:
        raise _place_taken(target) from error
    except OSError:  # a file system without hard links, such as a USB stick's or a network share
        if os.path.lexists(target):
            raise _place_taken(target) from None
        path.rename(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _place_taken(target: Path) -> WouldOverwrite:
    return WouldOverwrite(
        _("{path} exists already; a backup overwrites nothing.").format(path=target),
        hint=_("Choose another name, or name a folder: each backup then gets a name of its own."),
    )
