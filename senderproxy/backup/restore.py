"""Restore of a backup onto a machine with a stopped service or none.

Everything is read and checked first. Then each file is written beside its place under another name, and only when all
are complete and synced they are renamed: the configuration that exists is moved away first, and the restored one gets
its place last. In between there is no configuration, so no service can start on one half; a second run does the rest.
Guarantees: a backup that cannot be restored changes nothing. What exists is never deleted: with `replace` it is
renamed. Messages come up held. The files belong to the owners that the package gives them.
Not here: the rows of the spool (spool.sqlite.rebuild), questions and output (cli.restore).
"""

import grp
import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from senderproxy.accounts import vault_copy
from senderproxy.accounts.vault_admin import accept_restored
from senderproxy.backup.errors import BackupError, ServiceIsRunning
from senderproxy.backup.inventory import Inventory, StoredFile, StoredVault, read_inventory, replay_rows
from senderproxy.config.load import InstallationPaths, installation_paths
from senderproxy.config.toml_edit import with_settings
from senderproxy.config.toml_lines import SettingPath
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError, WouldOverwrite
from senderproxy.spool.sqlite.database import NAME as DATABASE
from senderproxy.spool.sqlite.rebuild import SpoolRebuild
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.spool.sqlite.spool_id import NAME as SPOOL_ID
from senderproxy.translation import _

SERVICE_STATE: Final = Path("/var/lib/senderproxy")  # of the package; it belongs to the service's user
SERVICE_USER: Final = "senderproxy"
_STAGED: Final = "restoring"  # in the names of files that are not in their place yet
_ASIDE: Final = "before-restore"  # in the names of files that were in the place of restored ones
_ATTEMPTS: Final = 1000  # numbers in these names; far more than restores of one machine


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """The wishes of the operator."""

    backup: Path
    passphrase: str
    config: Path | None = None  # place of the configuration; None: the one of the backup
    folder: Path | None = None  # for everything; None: the places of the backup
    replace: bool = False
    with_queue: bool = True


@dataclass(slots=True)
class Restored:
    """The outcome. `remarks`: sentences for the operator."""

    inventory: Inventory
    config: Path
    paths: InstallationPaths
    new_key: Path | None  # of the vault, if it was sealed anew
    was_sealed: bool  # its key was a credential of the former machine
    held: int | None = None  # messages; None: the spool was left as it is
    is_openable: bool = True  # the configured unlock opens the vault on this machine
    aside: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def restore_backup(request: RestoreRequest, now: datetime) -> Restored:
    """Restore a backup. May block for minutes.

    Raises InvalidFile, BackupError, ServiceIsRunning, SpoolError, ConfigError, OSError.
    """
    inventory = read_inventory(request.backup, request.passphrase)
    plan = _Plan.of(request, inventory)
    plan.check(replace=request.replace)
    with _locked(plan.paths.spool):
        return plan.carry_out(request, now)


def check_restore(request: RestoreRequest) -> Inventory:
    """Read the backup and check that it can be restored; change nothing. Raises as `restore_backup` does."""
    inventory = read_inventory(request.backup, request.passphrase)
    plan = _Plan.of(request, inventory)
    plan.check(replace=request.replace)
    return inventory


@contextmanager
def _locked(spool: Path) -> Iterator[None]:
    """Hold the lock of an existing spool. Raises SpoolError if a process has it."""
    folder = SpoolFolder.open(spool) if spool.is_dir() else None
    try:
        yield
    finally:
        if folder is not None:
            folder.close()


@dataclass(frozen=True, slots=True)
class _Place:
    """A file or folder to restore or to move away, and its other names."""

    final: Path
    number: int
    is_restored: bool = True  # False: only moved away, for it belongs to what was there before

    @property
    def staged(self) -> Path:
        return self.final.with_name(f"{self.final.name}.{_STAGED}-{self.number}")

    @property
    def aside(self) -> Path:
        return self.final.with_name(f"{self.final.name}.{_ASIDE}-{self.number}")

    def move_away(self) -> None:
        """Move existing files aside. After an earlier move, remaining ones are from an interrupted restore."""
        if not os.path.lexists(self.final):
            return
        if not os.path.lexists(self.aside):
            self.final.rename(self.aside)
        elif self.final.is_dir():
            shutil.rmtree(self.final)
        else:
            self.final.unlink()

    def put(self) -> None:
        """Give the restored file its place."""
        self.move_away()
        if self.is_restored:
            self.staged.rename(self.final)

    def remove_staged(self) -> None:
        """Remove leftovers of an interrupted restore beside the place; the vault library's names begin with a dot."""
        name = f"{_escaped(self.final.name)}.{_STAGED}-*"
        for path in (*self.final.parent.glob(name), *self.final.parent.glob(f".{name}")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@dataclass(slots=True)
class _Plan:
    """The places of the restored files."""

    inventory: Inventory
    config: Path
    text: str  # of the configuration
    paths: InstallationPaths
    vault: StoredVault
    key: Path | None  # of a vault that is sealed anew; None: the vault stays as it was
    was_sealed: bool  # the key was a credential of the former machine
    with_spool: bool
    named: list[tuple[Path, StoredFile]]  # certificates and keys that the configuration names

    @classmethod
    def of(cls, request: RestoreRequest, inventory: Inventory) -> "_Plan":
        stored = inventory.configuration
        vault = inventory.vault
        assert vault is not None
        config = request.config or (request.folder / "senderproxy.toml" if request.folder else stored.path)
        config = config.absolute()
        named = [(file.path, file) for file in inventory.files if file.setting]
        changes: dict[SettingPath, str] = {}
        text = stored.octets.decode("utf-8-sig")
        if request.folder is not None:
            folder = request.folder.absolute()
            named = [(folder / f"{'-'.join(map(str, file.setting))}.pem", file) for _path, file in named]
            changes |= {file.setting: str(path) for path, file in named}
            before = installation_paths(text, config.parent)
            if before.vault_in_database:
                changes["vault", "directory"] = str(folder)
            else:
                changes["vault", "path"] = str(folder / "accounts.vault")
            changes["service", "control_socket"] = str(folder / "control.sock")
            if not before.spool_in_database:
                changes["spool", "directory"] = str(folder / "spool")
        paths = installation_paths(text, config.parent)
        was_sealed = paths.unlock.startswith("credential:")
        key = None
        if vault.export is not None and not vault_copy.is_opened_by(vault.octets, paths.unlock):
            kind, _colon, place = paths.unlock.partition(":")
            key = Path(place) if kind == "key-file" and request.folder is None else config.parent / "vault.key"
            changes["vault", "unlock"] = f"key-file:{key}"
        text = with_settings(text, changes)
        paths = installation_paths(text, config.parent)
        has_spool = (paths.spool / DATABASE).exists()
        wanted = request.with_queue and inventory.messages is not None
        with_spool = wanted or (inventory.rows is not None and not has_spool and not paths.spool_in_database)
        return cls(inventory, config, text, paths, vault, key, was_sealed, with_spool, named)

    # ---- checks ----

    def check(self, *, replace: bool) -> None:
        """Raises WouldOverwrite, ServiceIsRunning or BackupError if the restore is not possible."""
        self._check_service()
        spool = self.paths.spool
        if self.with_spool and os.path.ismount(spool):
            raise BackupError(
                _("The spool {path} is a file system of its own, which cannot be renamed.").format(path=spool),
                hint=_("Unmount it, restore, then move the content of {path} onto it.").format(path=spool),
            )
        if replace or self._is_interrupted():
            return
        taken = [path for path in (self.config, self.paths.vault) if os.path.lexists(path)]
        if self.with_spool and any((spool / name).exists() for name in (DATABASE, SPOOL_ID)):
            taken.append(spool)
        if taken:
            raise WouldOverwrite(
                _("There is an installation already ({paths}); nothing was changed.").format(
                    paths=", ".join(map(str, taken))
                ),
                hint=_("To move it aside and restore the backup in its place: add --replace"),
            )

    def _check_service(self) -> None:
        sockets = {self.paths.control_socket}
        with suppress(SenderproxyError, OSError, UnicodeDecodeError):
            sockets.add(installation_paths(self.config.read_text("utf-8-sig"), self.config.parent).control_socket)
        for path in sockets:
            try:
                ask(path, new_request(Verb.STATUS))
            except NotRunning:
                continue
            except SenderproxyError:
                pass  # something listens there
            raise ServiceIsRunning(
                _("The service is running; a restore needs it stopped."),
                hint="systemctl stop senderproxy",
            )

    def _markers(self) -> list[Path]:
        """The configurations of interrupted restores, beside the place."""
        if not self.config.parent.is_dir():
            return []
        found = self.config.parent.glob(f"{_escaped(self.config.name)}.{_STAGED}-*")
        return [path for path in found if path.name.rpartition("-")[2].isdecimal()]

    def _is_interrupted(self) -> bool:
        """True if a restore was interrupted among its renames: from the first one to the last there is no file."""
        return bool(self._markers()) and not os.path.lexists(self.config)

    # ---- work ----

    def _number(self) -> int:
        """A number that no file moved aside has; that of the interrupted restore, if there is one."""
        if self._is_interrupted():
            return min(int(marker.name.rpartition("-")[2]) for marker in self._markers())
        paths = (self.config, self.paths.vault, self.paths.spool, *([self.key] if self.key else []))
        return next(
            number
            for number in range(1, _ATTEMPTS)
            if not any(os.path.lexists(_Place(path, number).aside) for path in paths)
        )

    def carry_out(self, request: RestoreRequest, now: datetime) -> Restored:
        """Write everything, then rename it into place."""
        number = self._number()
        self._create_folders()
        restored = Restored(self.inventory, self.config, self.paths, self.key, self.was_sealed)
        config, vault = _Place(self.config, number), _Place(self.paths.vault, number)
        named = {_Place(path, number): file for path, file in self._missing_files(restored)}
        places = [vault, *named]
        if self.key is not None:
            places.append(key := _Place(self.key, number))
        if self.with_spool:
            places.append(spool := _Place(self.paths.spool, number))
        for place in places:
            place.remove_staged()
        try:
            if self.key is not None:
                assert self.vault.export is not None
                vault_copy.import_export(self.vault.export, request.passphrase, vault.staged, key.staged)
                _own_like(key.staged, vault.final.parent)
            else:
                vault_copy.write_copy(self.vault.octets, vault.staged)
            if self.with_spool:
                restored.held = self._rebuild(spool.staged, request, now)
            for place, file in named.items():
                _write_synced(place.staged, file.octets, file)
            self._write_marker(config)
        except BaseException:
            for place in places:
                place.remove_staged()
            raise
        beside = [
            _Place(vault.final.with_name(f"{vault.final.name}.{ending}"), number, is_restored=False)
            for ending in (() if self.paths.vault_in_database else ("bak", "seen"))
        ]
        _switch(config, [*beside, *places])
        restored.aside = [each.aside for each in (config, *beside, *places) if os.path.lexists(each.aside)]
        if self.paths.vault_in_database:  # its newest generation stays noted
            restored.remarks.append(_words_on_database(self.paths))
        else:
            accept_restored(vault.final)  # as old as the backup, on purpose
        restored.is_openable = vault_copy.is_opened_by(vault.final.read_bytes(), self.paths.unlock)
        return restored

    def _missing_files(self, restored: Restored) -> Iterator[tuple[Path, StoredFile]]:
        """The certificates and keys that are not there. One that exists stays: it may have been renewed since."""
        for path, file in self.named:
            if os.path.lexists(path):
                restored.remarks.append(_("{path} exists and was left as it is.").format(path=path))
            else:
                yield path, file

    def _write_marker(self, config: _Place) -> None:
        """Write the configuration beside its place. From now on, an interrupted restore can be completed."""
        beside = config.staged.with_name(f"{config.staged.name}.new")
        beside.unlink(missing_ok=True)
        _write_synced(beside, self.text.encode("utf-8"), self.inventory.configuration)
        beside.rename(config.staged)
        for other in self._markers():
            if other != config.staged:
                other.unlink()

    def _create_folders(self) -> None:
        _create_folder(self.config.parent, 0o755)
        for folder in (self.paths.vault.parent, self.paths.spool.parent):
            _create_folder(folder, 0o700)
        for path in (*([self.key] if self.key else []), *(path for path, _file in self.named)):
            _create_folder(path.parent, 0o755)

    def _rebuild(self, staged: Path, request: RestoreRequest, now: datetime) -> int:
        rows = self.inventory.rows
        assert rows is not None
        folder = SpoolFolder.open(staged)
        try:
            with SpoolRebuild(folder, rows.version, rows.columns) as spool:
                parts = ["learned", *(["queue"] if request.with_queue else [])]
                replay_rows(request.backup, request.passphrase, spool, parts)
                made = f"{self.inventory.manifest.created_at:%Y-%m-%d %H:%M} UTC"
                return spool.finish(now, f"restored from a backup of {made}; may have been sent since")
        finally:
            folder.close()


def _words_on_database(paths: InstallationPaths) -> str:
    return _(
        "The vault in the database was left as it is; {path} is that of the backup. If the database has none:"
        " senderproxy vault import {path} --opens-with {unlock}"
    ).format(path=paths.vault, unlock=paths.unlock)


def _switch(config: _Place, others: Sequence[_Place]) -> None:
    """Rename all: first of all the configuration goes, and last of all the restored one comes."""
    folders = {place.final.parent for place in (config, *others)}
    _sync(folders)
    config.move_away()
    _sync([config.final.parent])
    for place in others:
        place.put()
    _sync(folders)
    config.staged.rename(config.final)
    _sync([config.final.parent])


# ---- files ----


def _create_folder(folder: Path, mode: int) -> None:
    """Create a folder; that of the service's state belongs to its user, any other to the owner of its parent."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode if each == folder else 0o755)
        each.chmod(mode if each == folder else 0o755)  # independent of the umask
        if os.geteuid() == 0:
            if each == SERVICE_STATE and (user := _user_id(SERVICE_USER)) is not None:
                os.chown(each, user, pwd.getpwuid(user).pw_gid)
            else:
                _own_like(each, each.parent)


def _own_like(path: Path, other: Path) -> None:
    if os.geteuid() == 0:
        status = other.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _write_synced(path: Path, octets: bytes, file: StoredFile) -> None:
    """Write a file with the mode and, as root, the owner that it had; an owner unknown here is root."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        out.write(octets)
        if os.geteuid() == 0:
            os.fchown(out.fileno(), _user_id(file.owner) or 0, _group_id(file.group) or 0)
        os.fchmod(out.fileno(), file.mode & 0o755)
        out.flush()
        os.fsync(out.fileno())


def _user_id(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _sync(folders: Iterable[Path]) -> None:
    for folder in folders:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _escaped(name: str) -> str:
    """The name for a pattern of glob."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
