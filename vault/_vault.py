"""The vault: encrypted named records, sealed into the bytes of one store.

Guarantees: every record read is authentic for this vault and this generation. A save takes effect completely or not at
all. A reader needs no lock; a failed reload leaves it with its previous content.

Not here: the meaning of the records, the passphrase prompt, the time of a reload.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Self, TypeAlias

from vault import _format, _seal
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
from vault._file_store import FileStore
from vault._format import Header, KeyWrapping, PassphraseWrapping, SealedVault, Stanza, UnknownWrapping
from vault._keys import Unlock
from vault._seal import OpenedVault, Secret
from vault._store import Fingerprint, SealedBytes, SealedSource, StoreWriter, VaultStore

ChangeRecord: TypeAlias = Callable[[str, bytes], bytes]  # name and record
Place: TypeAlias = Path | str | VaultStore  # a path is that of a file


def _unchanged(_name: str, record: bytes) -> bytes:
    return record


@dataclass(frozen=True, slots=True)
class UnlockInfo:
    """Kind and label of an unlock method, without its secret."""

    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class VaultInfo:
    """The header fields of a vault that is not unlocked. They are not authenticated."""

    vault_id: str
    generation: int
    unlocks: tuple[UnlockInfo, ...]
    sealed: bytes = field(repr=False)  # the bytes that were read, complete


@dataclass(frozen=True, slots=True)
class _VaultContent:
    """One opened generation. Replaced as a whole, never changed."""

    opened: OpenedVault
    data_key: Secret
    label: str
    fingerprint: Fingerprint


@dataclass(slots=True)
class _NextGeneration:
    """Content that the next save will write."""

    records: dict[str, Secret]
    stanzas: tuple[Stanza, ...]
    data_key: Secret
    keep_previous: bool = True


class Vault:
    """Encrypted named records in one file or another store.

    A reader may stay open for any time. A writer holds a lock: open, change, save, close.
    """

    def __init__(
        self, source: SealedSource, unlock: Unlock, content: _VaultContent, writer: StoreWriter | None = None
    ) -> None:
        """Internal: use `Vault.open`."""
        self._source, self._unlock, self._content, self._writer = source, unlock, content, writer
        self._path = source.path
        self._next = _next_generation(content) if writer else None
        self._closed = False

    # ---- create, open, close ----

    @classmethod
    def create(cls, place: Place, *, unlock: Unlock, label: str | None = None) -> None:
        """Write a new, empty vault. Raises Exists if there is one."""
        vault_id, data_key = _seal.new_vault_id(), _seal.new_key()
        stanza = unlock.wrap(_choose_label(unlock, label, ()), vault_id, data_key)
        header = Header(vault_id, 1, _seal.new_salt(), (stanza,))
        content, _ = _seal_and_verify(header, {}, data_key)
        _store_at(place).create(content)

    @classmethod
    def open(cls, place: Place, *, unlock: Unlock, write: bool = False, min_generation: int = 0) -> Self:
        """Open a vault. Writing takes the lock or raises InUse; reading needs no lock.

        `min_generation` is the generation that the caller stored elsewhere: an older one raises RolledBack. Raises any
        VaultError.
        """
        store = _store_at(place)
        writer = store.open_writer() if write else None
        try:
            content = _load(store, unlock, min_generation)
        except BaseException:
            if writer:
                writer.release()
            raise
        return cls(store, unlock, content, writer)

    @classmethod
    def from_bytes(cls, sealed: bytes, *, unlock: Unlock) -> Self:
        """Open the bytes of a vault for reading, for instance those of a backup. Raises any VaultError."""
        source = SealedBytes(sealed)
        return cls(source, unlock, _load(source, unlock, 0))

    @classmethod
    def inspect(cls, place: Place) -> VaultInfo:
        """Read the unencrypted header of a vault, for instance to see which unlock methods it has."""
        content, parsed, _ = _read(_store_at(place))
        header = parsed.header
        return VaultInfo(header.vault_id.hex(), header.generation, _unlock_infos(header.stanzas), content)

    def close(self) -> None:
        """Release the lock and discard unsaved changes."""
        self._closed, self._next = True, None
        if self._writer:
            self._writer.release()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        place = type(self._source).__name__ if self._path is None else repr(str(self._path))
        return f"<Vault {place}, generation {self.generation}>"

    # ---- identity ----

    @property
    def vault_id(self) -> str:
        """Id in hexadecimal, the same in all generations and backups of this vault."""
        return self._content.opened.header.vault_id.hex()

    @property
    def generation(self) -> int:
        """Number of saves. A caller stores it to detect a rollback."""
        return self._content.opened.header.generation

    @property
    def opened_by(self) -> str:
        """Label of the method that unlocked it."""
        return self._content.label

    def unlocks(self) -> tuple[UnlockInfo, ...]:
        """All unlock methods, including changes that are not saved yet."""
        return _unlock_infos(self._next.stanzas if self._next else self._content.opened.header.stanzas)

    def labels_opened_by(self, unlock: Unlock) -> tuple[str, ...]:
        """Labels of the methods that this secret opens, including changes that are not saved yet. It may be none."""
        self._check_open()
        stanzas = self._next.stanzas if self._next else self._content.opened.header.stanzas
        vault_id = self._content.opened.header.vault_id
        return tuple(stanza.label for stanza in stanzas if unlock.try_unwrap(stanza, vault_id) is not None)

    def derive_key(self, purpose: str) -> bytes:
        """Return 32 secret bytes for a purpose outside the vault: the same until `rekey`, others in any other vault."""
        self._check_open()
        return _seal.caller_key(self._content.opened.header.vault_id, self._content.data_key, purpose)

    # ---- records ----

    def names(self) -> tuple[str, ...]:
        """Names of the records in byte order."""
        self._check_open()
        return tuple(_format.sorted_names(self._next.records if self._next else self._content.opened.frames))

    def get(self, name: str) -> bytes:
        """Return a record. Raises NoSuchRecord."""
        self._check_open()
        if self._next and name in self._next.records:
            return self._next.records[name].reveal()
        if not self._next and name in self._content.opened.frames:
            return self._content.opened.read(name)
        raise _no_such_record(name, len(self.names()), self._path)

    def put(self, name: str, record: bytes) -> None:
        """Set a record; takes effect with the next save. Raises ValueError for an invalid name or size."""
        if problem := _format.name_problem(name):
            raise ValueError(problem)
        if len(record) > _format.MAX_RECORD:
            raise ValueError(f"a record holds {_format.MAX_RECORD} bytes at most, not {len(record)}")
        self._check_writable().records[name] = Secret(bytes(record))

    def remove(self, name: str) -> None:
        """Remove a record; takes effect with the next save. Raises NoSuchRecord."""
        if self._check_writable().records.pop(name, None) is None:
            raise _no_such_record(name, len(self.names()), self._path)

    def save(self) -> None:
        """Write the next generation. It is durable on return; if this raises, the stored bytes are unchanged."""
        changed, header = self._check_writable(), self._content.opened.header
        header = Header(header.vault_id, header.generation + 1, _seal.new_salt(), changed.stanzas)
        records = {name: record.reveal() for name, record in changed.records.items()}
        content, opened = _seal_and_verify(header, records, changed.data_key)
        assert self._writer is not None  # as long as there is a next generation
        written = self._writer.replace(content, expected=self._content.fingerprint, keep_previous=changed.keep_previous)
        self._content = _VaultContent(opened, changed.data_key, self._content.label, written)
        changed.keep_previous = True

    # ---- for a long-running reader ----

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the bytes that were read."""
        return self._content.fingerprint

    def stored_fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the bytes stored now, None if there are none. Costs one stat. Raises DiskError."""
        return self._source.fingerprint()

    def is_replaced(self) -> bool:
        """True if other bytes are stored than those that were read. Costs one stat. Raises DiskError."""
        return self.stored_fingerprint() != self.fingerprint

    def reload(self, *, min_generation: int = 0) -> None:
        """Read the stored bytes again. If that raises, the previous content stays in use.

        The current data key is tried first, so a passphrase is needed again only after a rekey.
        """
        self._check_open()
        if self._next:
            raise ValueError("a vault opened for writing has the newest content already")
        self._content = _load(self._source, self._unlock, min_generation, self._content)

    # ---- unlock methods ----

    def add_unlock(self, new: Unlock, *, label: str | None = None) -> str:
        """Add an unlock method; takes effect with the next save. Returns its label.

        Raises ValueError for an invalid label or too many methods.
        """
        changed = self._check_writable()
        label = _choose_label(new, label, changed.stanzas)
        stanzas = (*changed.stanzas, new.wrap(label, self._content.opened.header.vault_id, changed.data_key))
        if problem := _format.stanzas_problem(stanzas):
            raise ValueError(problem)
        changed.stanzas = stanzas
        return label

    def replace_unlock(self, label: str, new: Unlock, *, new_label: str | None = None) -> str:
        """Replace one unlock method with another, which may take over its label. Returns the new label."""
        changed = self._check_writable()
        before = changed.stanzas
        try:
            changed.stanzas = _without_stanza(label, before, self._path)
            new_label = self.add_unlock(new, label=new_label)
        except BaseException:
            changed.stanzas = before
            raise
        changed.keep_previous = False
        return new_label

    def remove_unlock(self, label: str) -> None:
        """Remove an unlock method; takes effect with the next save, which also removes NAME.bak.

        A person who knew its secret may have kept the data key or a copy of the file. If that matters, call `rekey`
        as well and change the secrets in the records. Raises NoSuchUnlock or WouldLockOut.
        """
        changed = self._check_writable()
        rest = _without_stanza(label, changed.stanzas, self._path)
        if not rest:
            raise WouldLockOut(
                f"{label!r} is the only unlock method", hint="Add another unlock method first.", path=self._path
            )
        changed.stanzas, changed.keep_previous = rest, False

    def rekey(self, *unlocks: Unlock, drop: Collection[str] = ()) -> None:
        """Use a new data key; takes effect with the next save, which also removes NAME.bak.

        Each unlock method has to wrap the new key, so all must be given here. Those whose secret is not available are
        named by label in `drop` and are removed. Raises WrongKey or WouldLockOut.
        """
        changed, vault_id = self._check_writable(), self._content.opened.header.vault_id
        data_key = _seal.new_key()
        kept: dict[str, Stanza] = {}
        for unlock in unlocks:
            matching = [
                s for s in changed.stanzas if s.label not in drop and unlock.try_unwrap(s, vault_id) is not None
            ]
            if not matching:
                raise _wrong_key(unlock, changed.stanzas, self._path)
            kept |= {stanza.label: unlock.wrap(stanza.label, vault_id, data_key) for stanza in matching}
        lost = [s.label for s in changed.stanzas if s.label not in kept and s.label not in drop]
        if lost or not kept:
            raise WouldLockOut(
                f"a new data key would lock out: {', '.join(lost)}" if lost else "no unlock method would be left",
                hint="Give every unlock method whose secret you have, and name the others to be dropped.",
                path=self._path,
            )
        changed.stanzas = tuple(kept[s.label] for s in changed.stanzas if s.label in kept)
        changed.data_key, changed.keep_previous = data_key, False

    @classmethod
    def rewrap(cls, place: Place, *, old: Unlock, new: Unlock, label: str | None = None) -> None:
        """Replace one unlock method with another and save. The others stay as they are."""
        with cls.open(place, unlock=old, write=True) as box:
            box.replace_unlock(box.opened_by, new, new_label=label)
            box.save()

    # ---- backups ----

    def export(
        self, place: Place, *, unlock: Unlock, label: str | None = None, change: ChangeRecord = _unchanged
    ) -> None:
        """Write the result of `export_bytes` to another file or store. Raises Exists if there is a vault."""
        _store_at(place).create(self.export_bytes(unlock=unlock, label=label, change=change))

    def export_bytes(self, *, unlock: Unlock, label: str | None = None, change: ChangeRecord = _unchanged) -> bytes:
        """Seal the saved content again, with a data key of its own that only `unlock` opens.

        `change` returns the record to write in the place of each. The result is a vault itself: it can be opened, or
        turned into the vault of another machine by `restore`.
        """
        self._check_open()
        opened, data_key = self._content.opened, _seal.new_key()
        stanza = unlock.wrap(_choose_label(unlock, label, ()), opened.header.vault_id, data_key)
        header = replace(opened.header, salt=_seal.new_salt(), stanzas=(stanza,))
        records = {name: change(name, opened.read(name)) for name in opened.frames}
        content, _ = _seal_and_verify(header, records, data_key)
        return content

    @classmethod
    def restore(cls, backup: Place, place: Place, *, unlock: Unlock, new: Unlock, label: str | None = None) -> None:
        """Create a vault from a backup: `unlock` opens the backup, `new` will open the vault. Raises Exists."""
        with cls.open(backup, unlock=unlock) as box:
            box.export(place, unlock=new, label=label)

    # ---- internal ----

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the vault was closed")

    def _check_writable(self) -> _NextGeneration:
        self._check_open()
        if self._next is None:
            raise ValueError("the vault was opened for reading; to change it, open it with write=True")
        return self._next


def _store_at(place: Place) -> VaultStore:
    return place if isinstance(place, VaultStore) else FileStore(place)


def _no_such_record(name: str, count: int, path: Path | None) -> NoSuchRecord:
    return NoSuchRecord(f"no record is called {name!r}", hint=f"It has {count} records; names() lists them.", path=path)


# ---- reading ----


def _read(source: SealedSource) -> tuple[bytes, SealedVault, Fingerprint]:
    content, fingerprint = source.read(_format.MAX_FILE)
    with _errors_about(source):
        return content, _format.read_sealed_vault(content), fingerprint


def _load(
    source: SealedSource, unlock: Unlock, min_generation: int, known: _VaultContent | None = None
) -> _VaultContent:
    """Read, unlock (with the known data key if it still matches) and authenticate the bytes."""
    _, sealed, fingerprint = _read(source)
    with _errors_about(source):
        if known and _seal.matches_data_key(sealed, known.data_key):
            data_key, label = known.data_key, known.label
        else:
            data_key, label = _find_data_key(sealed.header, unlock, source.path)
        opened = _seal.open_sealed_vault(sealed, data_key)
    if opened.header.generation < min_generation:
        raise RolledBack(
            f"this is generation {opened.header.generation}, but generation {min_generation} was already in use",
            hint="If an older copy was restored on purpose, accept it. If not, find out who can write there, and "
            "restore the newest backup.",
            path=source.path,
        )
    return _VaultContent(opened, data_key, label, fingerprint)


def _find_data_key(header: Header, unlock: Unlock, path: Path | None) -> tuple[Secret, str]:
    """Try the secret on every stanza of its kind. Return the data key and the label of the matching stanza."""
    no_backend: NoBackend | None = None
    for stanza in header.stanzas:
        try:
            data_key = unlock.try_unwrap(stanza, header.vault_id)
        except NoBackend as error:  # another stanza may not need the missing part
            no_backend = error
            continue
        if data_key is not None:
            return data_key, stanza.label
    raise no_backend or _wrong_key(unlock, header.stanzas, path)


def _wrong_key(unlock: Unlock, stanzas: Sequence[Stanza], path: Path | None) -> WrongKey:
    infos = _unlock_infos(stanzas)
    methods = ", ".join(f"{info.kind} {info.label!r}" for info in infos)
    if any(info.kind == unlock.kind for info in infos):
        return WrongKey(f"this {unlock.kind} does not open it", hint=f"It opens with: {methods}", path=path)
    return WrongKey(f"no {unlock.kind} opens it", hint=f"It opens with: {methods}", path=path)


def _unlock_infos(stanzas: Sequence[Stanza]) -> tuple[UnlockInfo, ...]:
    return tuple(UnlockInfo(_kind_name(stanza), stanza.label) for stanza in stanzas)


def _kind_name(stanza: Stanza) -> str:
    match stanza.wrapping:
        case PassphraseWrapping():
            return "passphrase"
        case KeyWrapping(kind) | UnknownWrapping(kind):
            return str(kind)


@contextmanager
def _errors_about(source: SealedSource) -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        error.set_path(source.path)
        raise


# ---- writing ----


def _next_generation(content: _VaultContent) -> _NextGeneration:
    opened = content.opened
    records = {name: Secret(opened.read(name)) for name in opened.frames}
    return _NextGeneration(records, opened.header.stanzas, content.data_key)


def _seal_and_verify(header: Header, records: Mapping[str, bytes], data_key: Secret) -> tuple[bytes, OpenedVault]:
    """Encrypt, then decrypt and compare: no file is replaced before the new content was verified."""
    content = _seal.seal(header, records, data_key)
    if len(content) > _format.MAX_FILE:
        raise ValueError(f"the records need more than the {_format.MAX_FILE // 2**20} MiB of a vault")
    opened = _seal.open_sealed_vault(_format.read_sealed_vault(content), data_key)
    if any(opened.read(name) != record for name, record in records.items()) or len(opened.frames) != len(records):
        raise Damaged(
            "the encrypted content did not decrypt to the same records",
            damage=Damage.ALTERED,
            hint="Nothing was written. Check this machine's memory and its cryptography library.",
        )
    return content, opened


def _choose_label(unlock: Unlock, label: str | None, taken: Sequence[Stanza]) -> str:
    """Return the given label, or the name of the kind, with a number if that is taken."""
    labels = {stanza.label for stanza in taken}
    if label is None:
        numbered = (f"{unlock.kind}-{number}" for number in count(2))
        return next(name for name in chain([unlock.kind], numbered) if name not in labels)
    if not _format.is_valid_label(label):
        raise ValueError("a label has 1 to 64 letters, digits and any of . _ @ : + / -")
    if label in labels:
        raise ValueError(f"an unlock method called {label!r} exists already")
    return label


def _without_stanza(label: str, stanzas: Sequence[Stanza], path: Path | None) -> tuple[Stanza, ...]:
    rest = tuple(stanza for stanza in stanzas if stanza.label != label)
    if len(rest) == len(stanzas):
        labels = ", ".join(stanza.label for stanza in stanzas)
        raise NoSuchUnlock(f"no unlock method is called {label!r}", hint=f"It has: {labels}", path=path)
    return rest
