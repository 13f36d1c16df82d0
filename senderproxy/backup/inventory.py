"""Reading of a backup: everything is authenticated and counted; small parts are returned, the queue is only counted.

Guarantees: nothing is written. An inventory is returned only of a backup that is complete and can be restored by this
program.
Not here: the restore (backup.restore).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from senderproxy.accounts.sealed_file import SealedReader
from senderproxy.backup.archive import Entry, Manifest, Octets, PartBegin, PartEnd, read_archive
from senderproxy.backup.errors import BackupTooNew, invalid
from senderproxy.config.toml_lines import SettingPath
from senderproxy.spool.sqlite.database import scripts
from senderproxy.translation import _

_FILE_LIMIT: Final = 128 * 2**20  # octets of a file that is held in memory; a vault has at most 64 MiB


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The configuration, or the file of one of its settings (empty: the configuration itself)."""

    path: Path
    setting: SettingPath
    mode: int
    owner: str
    group: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class StoredVault:
    """The vault as it was, and its export under the backup's passphrase; None if it could not be opened."""

    generation: int
    unlocks: tuple[tuple[str, str], ...]  # kind and label of each
    octets: bytes
    export: bytes | None


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The form of the rows of the spool."""

    version: int
    columns: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Inventory:
    """The content of a backup; `queue` and `learned` are None if it has no such part."""

    manifest: Manifest
    files: list[StoredFile] = field(default_factory=list)
    vault: StoredVault | None = None
    rows: StoredRows | None = None
    messages: int | None = None
    message_octets: int = 0
    unreadable: tuple[str, ...] = ()  # ids of messages whose content was gone
    learned: int | None = None

    @property
    def configuration(self) -> StoredFile:
        """The configuration."""
        return next(file for file in self.files if not file.setting)

    @property
    def vault_unlocks(self) -> tuple[tuple[str, str], ...]:
        """Kind and label of each unlock of the vault."""
        return () if self.vault is None else self.vault.unlocks


class RowSink(Protocol):
    """The receiver of the rows of the spool (spool.sqlite.rebuild)."""

    def add(self, table: str, values: Sequence[Any]) -> None:
        """Take a row."""
        ...

    def add_octets(self, block: bytes) -> None:
        """Take octets of the content of the last row."""
        ...


def read_inventory(path: Path, passphrase: str) -> Inventory:
    """Read the whole backup. Raises InvalidFile, BackupError, AccountsError, OSError."""
    inventory: Inventory | None = None
    collector: _Collector | None = None
    with path.open("rb") as source:
        for item in read_archive(SealedReader(source, passphrase, str(path)).read):
            match item:
                case Manifest():
                    inventory = Inventory(item)
                case PartBegin(name, _version, facts):
                    assert inventory is not None
                    collector = _Collector(inventory, name, facts)
                case Entry(kind, value):
                    assert collector is not None
                    collector.entry(kind, value)
                case Octets(octets):
                    assert collector is not None
                    collector.octets(octets)
                case PartEnd():
                    assert collector is not None
                    collector.end(item)
    assert inventory is not None
    if not any(not file.setting for file in inventory.files) or inventory.vault is None:
        raise invalid(_("it has no configuration or no vault"))
    return inventory


def replay_rows(path: Path, passphrase: str, sink: RowSink, parts: Sequence[str]) -> None:
    """Give the rows of these parts to the sink. Raises the errors of read_inventory and of the sink."""
    part = ""
    with path.open("rb") as source:
        for item in read_archive(SealedReader(source, passphrase, str(path)).read):
            match item:
                case PartBegin(name):
                    part = name
                case Entry(kind, value) if part in parts:
                    sink.add(kind, _row(value))
                case Octets(octets) if part in parts:
                    sink.add_octets(octets)
                case _:
                    pass


class _Collector:
    """One part of an inventory."""

    def __init__(self, inventory: Inventory, name: str, facts: Mapping[str, Any]) -> None:
        self._inventory = inventory
        self._name = name
        self._missing = 0
        self._pending = bytearray()
        self._done: Callable[[bytes], None] | None = None
        self._copies: dict[str, bytes] = {}
        self._facts = facts
        if name in ("queue", "learned"):
            inventory.rows = _rows_of(facts)

    def entry(self, kind: str, value: Any) -> None:  # noqa: ANN401
        """Take an entry."""
        self._complete()
        match self._name, kind:
            case "configuration", "file":
                self._expect(value, lambda octets: self._inventory.files.append(_file_of(value, octets)))
            case "vault", ("copy" | "export"):
                self._expect(value, lambda octets: self._copies.__setitem__(kind, octets))
            case (("queue" | "learned"), _):
                _row(value)
            case _:
                raise invalid(_("the part {part} has an unknown entry {kind}").format(part=self._name, kind=kind))

    def _expect(self, value: Any, done: Callable[[bytes], None]) -> None:  # noqa: ANN401
        size = value.get("size") if isinstance(value, dict) else None
        if not isinstance(size, int) or not 0 <= size <= _FILE_LIMIT:
            raise invalid(_("a file has an invalid size"))
        self._missing, self._done = size, done

    def octets(self, octets: bytes) -> None:
        """Take octets."""
        if self._name in ("queue", "learned"):
            return
        self._missing -= len(octets)
        if self._missing < 0:
            raise invalid(_("a file is longer than it says"))
        self._pending += octets

    def _complete(self) -> None:
        if self._missing:
            raise invalid(_("a file is shorter than it says"))
        if self._done is not None:
            self._done(bytes(self._pending))
            self._done = None
        self._pending.clear()

    def end(self, end: PartEnd) -> None:
        """Take the end of the part."""
        self._complete()
        match self._name:
            case "vault":
                self._inventory.vault = _vault_of(self._facts, self._copies)
            case "queue":
                self._inventory.messages = _count(end.facts, "messages")
                self._inventory.message_octets = _count(end.facts, "octets")
                self._inventory.unreadable = tuple(map(str, end.facts.get("unreadable", ())))
            case "learned":
                self._inventory.learned = end.entries
            case _:
                pass


def _rows_of(facts: Mapping[str, Any]) -> StoredRows:
    match facts:
        case {"format": int(version), "columns": dict(columns)} if all(
            isinstance(names, list) and all(isinstance(name, str) for name in names) for names in columns.values()
        ):
            pass
        case _:
            raise invalid(_("the form of its rows cannot be read"))
    if version > len(scripts()):
        raise BackupTooNew(
            _("The backup has a queue of format {version}; this program knows up to format {known}.").format(
                version=version, known=len(scripts())
            ),
            hint=_("Install the version of senderproxy that wrote the backup, or a later one."),
        )
    return StoredRows(version, columns)


def _file_of(value: Any, octets: bytes) -> StoredFile:  # noqa: ANN401
    match value:
        case {"path": str(path), "setting": list(setting), "mode": int(mode), "owner": str(owner), "group": str(group)}:
            if path.startswith("/") and "\0" not in path and all(isinstance(part, str | int) for part in setting):
                return StoredFile(Path(path), tuple(setting), mode & 0o777, owner, group, octets)
        case _:
            pass
    raise invalid(_("a file cannot be read"))


def _vault_of(facts: Mapping[str, Any], copies: Mapping[str, bytes]) -> StoredVault:
    match facts:
        case {"generation": int(generation), "unlocks": list(unlocks)} if "copy" in copies:
            known = tuple((str(kind), str(label)) for kind, label in unlocks)
            return StoredVault(generation, known, copies["copy"], copies.get("export"))
        case _:
            raise invalid(_("the vault cannot be read"))


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    if not isinstance(value, int) or value < 0:
        raise invalid(_("the part {name} has no facts").format(name="queue"))
    return value


def _row(value: Any) -> Sequence[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise invalid(_("an entry cannot be read"))
    return value
