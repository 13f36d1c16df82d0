"""The vault: named records in one sealed file.

Guarantees: what is read was written, for this vault and this generation; what is saved is there whole or not at all.
A reader needs no lock, and a reload that fails leaves it with what it had.
Not here: what records mean, who is asked for a passphrase, when to reload.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Self

from vault import _file, _format, _seal
from vault._errors import (
    Damage,
    Damaged,
    NoBackend,
    NoSuchRecord,
    NoSuchUnlock,
    RolledBack,
    VaultError,
    WouldLockOut,
    WrongKey,
)
from vault._file import Fingerprint, SystemCalls, WriteLock
from vault._format import Header, KeyLock, PassphraseLock, SealedVault, Stanza, UnknownLock
from vault._keys import Unlock
from vault._seal import Opened, Secret


@dataclass(frozen=True, slots=True)
class UnlockInfo:
    """A way to unlock as the file shows it, without its secret."""

    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class VaultInfo:
    """What a vault shows without being unlocked: whole, but not yet known to be authentic."""

    vault_id: str
    generation: int
    unlocks: tuple[UnlockInfo, ...]


@dataclass(frozen=True, slots=True)
class _VaultContent:
    """One generation, opened; exchanged as a whole, never changed."""

    opened: Opened
    data_key: Secret
    label: str
    fingerprint: Fingerprint


@dataclass(slots=True)
class _Draft:
    """What the next save will write."""

    records: dict[str, Secret]
    stanzas: tuple[Stanza, ...]
    data_key: Secret
    keep_previous: bool = True


class Vault:
    """Sealed, named records in one file.

    Open it for reading for as long as you like; open it for writing, save, and let go.
    """

    def __init__(
        self, path: Path, unlock: Unlock, disk: SystemCalls, content: _VaultContent, lock: WriteLock | None
    ) -> None:
        """For `open` alone."""
        self._path, self._unlock, self._disk, self._content, self._lock = path, unlock, disk, content, lock
        self._draft = _draft_of(content) if lock else None
        self._closed = False

    # ---- making, opening, closing ----

    @classmethod
    def create(
        cls, path: Path | str, *, unlock: Unlock, label: str | None = None, disk: SystemCalls | None = None
    ) -> None:
        """Write a new, empty vault. A file that is there already is left alone."""
        vault_id, data_key = _seal.new_vault_id(), _seal.new_key()
        stanza = unlock.lock(_label_for(unlock, label, ()), vault_id, data_key)
        header = Header(vault_id, 1, _seal.new_salt(), (stanza,))
        content, _ = _sealed(header, {}, data_key)
        _file.create(Path(path), content, disk or SystemCalls())

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        unlock: Unlock,
        write: bool = False,
        at_least: int = 0,
        disk: SystemCalls | None = None,
    ) -> Self:
        """Open a vault. For writing, this takes the lock or raises InUse; for reading, nobody is in anybody's way.

        `at_least` is the generation the caller remembers (in a place of its own): an older one is RolledBack.
        `disk` makes the system calls; tests hand in one that fails.
        """
        path, disk = Path(path), disk or SystemCalls()
        lock = WriteLock.take(path, disk) if write else None
        try:
            content = _load(path, unlock, disk, at_least)
        except BaseException:
            if lock:
                lock.release()
            raise
        return cls(path, unlock, disk, content, lock)

    @classmethod
    def inspect(cls, path: Path | str) -> VaultInfo:
        """See what a vault shows to everybody who can read the file; good for knowing which secret to ask for."""
        path = Path(path)
        sheet, _ = _read(path, SystemCalls())
        return VaultInfo(sheet.header.vault_id.hex(), sheet.header.generation, _ways_in(sheet.header.stanzas))

    def close(self) -> None:
        """Let go of the lock and forget what was opened; changes that were not saved are gone."""
        self._closed, self._draft = True, None
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Vault {str(self._path)!r}, generation {self.generation}>"

    # ---- what it is ----

    @property
    def vault_id(self) -> str:
        """The same through all generations and backups of this vault."""
        return self._content.opened.header.vault_id.hex()

    @property
    def generation(self) -> int:
        """Counts the saves; what a caller remembers to tell a vault that was rolled back."""
        return self._content.opened.header.generation

    @property
    def opened_by(self) -> str:
        """The label of the way that unlocked it."""
        return self._content.label

    def unlocks(self) -> tuple[UnlockInfo, ...]:
        """All ways to unlock it; those added or removed since the last save are counted in."""
        return _ways_in(self._draft.stanzas if self._draft else self._content.opened.header.stanzas)

    # ---- records ----

    def names(self) -> tuple[str, ...]:
        """The records' names, in the order of their bytes."""
        self._usable()
        return tuple(_format.in_order(self._draft.records if self._draft else self._content.opened.frames))

    def get(self, name: str) -> bytes:
        """The record of that name; the caller gives its bytes a meaning."""
        self._usable()
        if self._draft and name in self._draft.records:
            return self._draft.records[name].reveal()
        if not self._draft and name in self._content.opened.frames:
            return self._content.opened.read(name)
        raise self._no_such(name)

    def put(self, name: str, record: bytes) -> None:
        """Set the record of that name, from the next save on."""
        if problem := _format.name_problem(name):
            raise ValueError(problem)
        if len(record) > _format.MAX_RECORD:
            raise ValueError(f"a record holds {_format.MAX_RECORD} bytes at most, not {len(record)}")
        self._writable().records[name] = Secret(bytes(record))

    def remove(self, name: str) -> None:
        """Take the record of that name away, from the next save on."""
        if self._writable().records.pop(name, None) is None:
            raise self._no_such(name)

    def save(self) -> None:
        """Write the next generation: there whole when this returns, not there at all when it raises."""
        draft, header = self._writable(), self._content.opened.header
        header = Header(header.vault_id, header.generation + 1, _seal.new_salt(), draft.stanzas)
        records = {name: record.reveal() for name, record in draft.records.items()}
        content, opened = _sealed(header, records, draft.data_key)
        written = _file.replace(
            self._path,
            content,
            expected=self._content.fingerprint,
            keep_previous=draft.keep_previous,
            disk=self._disk,
        )
        self._content = _VaultContent(opened, draft.data_key, self._content.label, written)
        draft.keep_previous = True

    # ---- a long-running reader ----

    def changed_on_disk(self) -> bool:
        """Whether another file stands under the name by now. Costs one stat."""
        return _file.fingerprint(self._path, self._disk) != self._content.fingerprint

    def reload(self, *, at_least: int = 0) -> None:
        """Take up what stands on the disk now. If that fails it raises, and what was opened before stays in force.

        The data key in hand is tried first, so a passphrase is stretched again only after a rekey.
        """
        self._usable()
        if self._draft:
            raise ValueError("a vault opened for writing holds the newest content there is")
        self._content = _load(self._path, self._unlock, self._disk, at_least, self._content)

    # ---- ways to unlock ----

    def add_unlock(self, new: Unlock, *, label: str | None = None) -> str:
        """Let another way open it, from the next save on. Returns the label it got."""
        draft = self._writable()
        label = _label_for(new, label, draft.stanzas)
        stanzas = (*draft.stanzas, new.lock(label, self._content.opened.header.vault_id, draft.data_key))
        if problem := _format.stanzas_problem(stanzas):
            raise ValueError(problem)
        draft.stanzas = stanzas
        return label

    def replace_unlock(self, label: str, new: Unlock, *, new_label: str | None = None) -> str:
        """Add one way and remove another in one go, so that the new one may take over the old one's label."""
        draft = self._writable()
        before = draft.stanzas
        try:
            draft.stanzas = _without(label, before, self._path)
            new_label = self.add_unlock(new, label=new_label)
        except BaseException:
            draft.stanzas = before
            raise
        draft.keep_previous = False
        return new_label

    def remove_unlock(self, label: str) -> None:
        """Let that way open it no longer, from the next save on, which also leaves no older copy beside it.

        Whoever knew its secret may have kept the data key or a copy: if that matters, `rekey` as well, and change
        what the records hold.
        """
        draft = self._writable()
        rest = _without(label, draft.stanzas, self._path)
        if not rest:
            raise WouldLockOut(
                f"{label!r} is the only way to unlock it", hint="Add another way first.", path=self._path
            )
        draft.stanzas, draft.keep_previous = rest, False

    def rekey(self, *unlocks: Unlock, drop: Collection[str] = ()) -> None:
        """Take a new data key, from the next save on, which also leaves no older copy beside it.

        A new data key has to be wrapped by each way anew, so each must be given here; ways whose secret is not at
        hand are named in `drop` and open it no longer.
        """
        draft, vault_id = self._writable(), self._content.opened.header.vault_id
        data_key = _seal.new_key()
        kept: dict[str, Stanza] = {}
        for unlock in unlocks:
            fitting = [s for s in draft.stanzas if s.label not in drop and unlock.try_on(s, vault_id) is not None]
            if not fitting:
                raise _wrong_key(unlock, draft.stanzas, self._path)
            kept |= {stanza.label: unlock.lock(stanza.label, vault_id, data_key) for stanza in fitting}
        lost = [s.label for s in draft.stanzas if s.label not in kept and s.label not in drop]
        if lost or not kept:
            raise WouldLockOut(
                f"a new key would leave these ways outside: {', '.join(lost)}" if lost else "no way would be left",
                hint="Give every way whose secret you have, and name the others to be dropped.",
                path=self._path,
            )
        draft.stanzas = tuple(kept[s.label] for s in draft.stanzas if s.label in kept)
        draft.data_key, draft.keep_previous = data_key, False

    @classmethod
    def rewrap(
        cls, path: Path | str, *, old: Unlock, new: Unlock, label: str | None = None, disk: SystemCalls | None = None
    ) -> None:
        """Exchange one way to unlock for another; the other ways stay as they are."""
        with cls.open(path, unlock=old, write=True, disk=disk) as box:
            box.replace_unlock(box.opened_by, new, new_label=label)
            box.save()

    # ---- backups ----

    def export(self, path: Path | str, *, unlock: Unlock, label: str | None = None) -> None:
        """Write what is in force now to another file, under a data key of its own that only `unlock` opens.

        The backup is a vault: it can be opened as one, or turned into the vault of another machine by `restore`.
        """
        self._usable()
        opened, data_key = self._content.opened, _seal.new_key()
        stanza = unlock.lock(_label_for(unlock, label, ()), opened.header.vault_id, data_key)
        header = replace(opened.header, salt=_seal.new_salt(), stanzas=(stanza,))
        records = {name: opened.read(name) for name in opened.frames}
        content, _ = _sealed(header, records, data_key)
        _file.create(Path(path), content, self._disk)

    @classmethod
    def restore(
        cls,
        backup: Path | str,
        path: Path | str,
        *,
        unlock: Unlock,
        new: Unlock,
        label: str | None = None,
    ) -> None:
        """Make a vault of a backup: `unlock` opens the backup, `new` will open the vault. Overwrites nothing."""
        with cls.open(backup, unlock=unlock) as box:
            box.export(path, unlock=new, label=label)

    # ---- inside ----

    def _usable(self) -> None:
        if self._closed:
            raise ValueError("the vault was closed")

    def _writable(self) -> _Draft:
        self._usable()
        if self._draft is None:
            raise ValueError("the vault was opened for reading; to change it, open it with write=True")
        return self._draft

    def _no_such(self, name: str) -> NoSuchRecord:
        return NoSuchRecord(
            f"no record is called {name!r}",
            hint=f"It holds {len(self.names())} records; names() lists them.",
            path=self._path,
        )


# ---- reading ----


def _read(path: Path, disk: SystemCalls) -> tuple[SealedVault, Fingerprint]:
    content, fingerprint = _file.read_private(path, limit=_format.MAX_FILE, disk=disk)
    with _speaking_of(path):
        return _format.read_sealed_vault(content), fingerprint


def _load(
    path: Path, unlock: Unlock, disk: SystemCalls, at_least: int, known: _VaultContent | None = None
) -> _VaultContent:
    """Read, unlock (with the data key already known, if it still is the one) and check every seal."""
    sheet, fingerprint = _read(path, disk)
    with _speaking_of(path):
        if known and _seal.fits(sheet, known.data_key):
            data_key, label = known.data_key, known.label
        else:
            data_key, label = _unlocked(sheet.header, unlock, path)
        opened = _seal.open_sealed_vault(sheet, data_key)
    if opened.header.generation < at_least:
        raise RolledBack(
            f"this is generation {opened.header.generation}, but generation {at_least} was already in use",
            hint="If an older copy was put back on purpose, accept it; if not, ask who could write to the folder, "
            "and bring back the newest backup.",
            path=path,
        )
    return _VaultContent(opened, data_key, label, fingerprint)


def _unlocked(header: Header, unlock: Unlock, path: Path) -> tuple[Secret, str]:
    """Try the way on every stanza of its kind; give the data key and the label of the one that fits."""
    unable: NoBackend | None = None
    for stanza in header.stanzas:
        try:
            data_key = unlock.try_on(stanza, header.vault_id)
        except NoBackend as error:  # another stanza may do without what is lacking here
            unable = error
            continue
        if data_key is not None:
            return data_key, stanza.label
    raise unable or _wrong_key(unlock, header.stanzas, path)


def _wrong_key(unlock: Unlock, stanzas: Sequence[Stanza], path: Path) -> WrongKey:
    ways = _ways_in(stanzas)
    others = ", ".join(f"{way.kind} {way.label!r}" for way in ways)
    if any(way.kind == unlock.kind for way in ways):
        return WrongKey(f"this {unlock.kind} does not open it", hint=f"It opens with: {others}", path=path)
    return WrongKey(f"no {unlock.kind} opens it", hint=f"Use one of those that do: {others}", path=path)


def _ways_in(stanzas: Sequence[Stanza]) -> tuple[UnlockInfo, ...]:
    return tuple(UnlockInfo(_spoken_kind(stanza), stanza.label) for stanza in stanzas)


def _spoken_kind(stanza: Stanza) -> str:
    match stanza.lock:
        case PassphraseLock():
            return "passphrase"
        case KeyLock(kind) | UnknownLock(kind):
            return str(kind)


@contextmanager
def _speaking_of(path: Path) -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        error.about(path)
        raise


# ---- writing ----


def _draft_of(content: _VaultContent) -> _Draft:
    opened = content.opened
    records = {name: Secret(opened.read(name)) for name in opened.frames}
    return _Draft(records, opened.header.stanzas, content.data_key)


def _sealed(header: Header, records: Mapping[str, bytes], data_key: Secret) -> tuple[bytes, Opened]:
    """Seal, and read back what was sealed: nothing replaces a vault before it was seen to open."""
    content = _seal.seal(header, records, data_key)
    if len(content) > _format.MAX_FILE:
        raise ValueError(f"the records take more than the {_format.MAX_FILE // 2**20} MiB a vault may have")
    opened = _seal.open_sealed_vault(_format.read_sealed_vault(content), data_key)
    if any(opened.read(name) != record for name, record in records.items()) or len(opened.frames) != len(records):
        raise Damaged(
            "what was sealed did not come back as it was",
            damage=Damage.ALTERED,
            hint="Nothing was written. Suspect this machine's memory or its cryptography library.",
        )
    return content, opened


def _label_for(unlock: Unlock, label: str | None, taken: Sequence[Stanza]) -> str:
    """The label asked for, or the kind's name, numbered where it is taken."""
    labels = {stanza.label for stanza in taken}
    if label is None:
        numbered = (f"{unlock.kind}-{number}" for number in count(2))
        return next(name for name in chain([unlock.kind], numbered) if name not in labels)
    if not _format.is_label(label):
        raise ValueError("a label is 1 to 64 letters, digits and any of . _ @ : + / -")
    if label in labels:
        raise ValueError(f"there is a way to unlock called {label!r} already")
    return label


def _without(label: str, stanzas: Sequence[Stanza], path: Path) -> tuple[Stanza, ...]:
    rest = tuple(stanza for stanza in stanzas if stanza.label != label)
    if len(rest) == len(stanzas):
        labels = ", ".join(stanza.label for stanza in stanzas)
        raise NoSuchUnlock(f"no way to unlock is called {label!r}", hint=f"It has: {labels}", path=path)
    return rest
