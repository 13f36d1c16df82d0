"""Detection of an older vault: the highest generation in use is noted, and stays noted until the operator accepts it.

There are two notes. One is `NAME.seen` beside the vault: each process that uses the vault writes it. The other is
beside the vault's folder, `/var/lib/senderproxy.generations` on a server: root writes it when it changes the vault, and
the service's user, who owns the vault, cannot. So an older copy of the whole folder is found, too. Of a vault in a
database, each machine has notes of its own: an older copy of the database is found, too.

Guarantees: a note is replaced atomically. One that cannot be read or written never stops the service. Accounts in
memory that are older than the file are no older vault. An older vault stays one, also after a restart and after further
changes, until `accept_generation`.
Not here: the reaction (service.housekeeping; cli.check_local).
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.vault_place import VaultPlace, files_of
from senderproxy.translation import _
from vault import Vault, VaultError

_LIMIT: Final = 65_536  # octets read of a note; an entry has 60


@dataclass(frozen=True, slots=True)
class _Entry:
    """A note's entry for one vault."""

    highest: int
    older: tuple[int, int] | None = None  # an older generation that was found, and the one before it


def note_generation(vault: VaultPlace, vault_id: str, generation: int) -> str | None:
    """Note the generation in use. Return a sentence if a newer one was in use before, else None."""
    entry = _combined(vault, vault_id, generation)
    files = files_of(vault)
    for note in _writable_notes(files):
        if _read(note).get(vault_id) != entry:
            _write(note, files, _read(note) | {vault_id: entry})
    return _sentence(entry, vault)


def find_rollback(vault: VaultPlace, vault_id: str, generation: int) -> str | None:
    """Return the sentence of `note_generation`, and write nothing."""
    return _sentence(_combined(vault, vault_id, generation), vault)


def accept_generation(vault: VaultPlace, vault_id: str, generation: int) -> None:
    """Accept this generation in place of the noted one."""
    files = files_of(vault)
    for note in _writable_notes(files):
        _write(note, files, _read(note) | {vault_id: _Entry(generation)})


def protected_note(vault: Path) -> Path:
    """The note beside the vault's folder: its owner cannot write it if the parent folder is root's."""
    folder = vault.absolute().parent
    return folder.with_name(f"{folder.name}.generations")


def _own_note(vault: Path) -> Path:
    return vault.with_name(f"{vault.name}.seen")


def _combined(vault: VaultPlace, vault_id: str, generation: int) -> _Entry:
    """The notes' entries for the vault as one, with this generation added."""
    files = files_of(vault)
    notes = [_own_note(files), *([protected_note(files)] if _is_protected(files) else [])]
    entries = [entry for note in notes if (entry := _read(note).get(vault_id)) is not None]
    highest = max((entry.highest for entry in entries), default=0)
    older = next((entry.older for entry in entries if entry.older is not None), None)
    # The notes are read first: a command that saves at this moment has replaced the vault before it notes that.
    if older is None and generation < highest and _stored_generation(vault) == generation:
        older = (generation, highest)
    return _Entry(max(highest, generation), older)


def _stored_generation(vault: VaultPlace) -> int | None:
    try:
        return Vault.inspect(vault).generation
    except VaultError:
        return None


def _sentence(entry: _Entry, vault: VaultPlace) -> str | None:
    if entry.older is None:
        return None
    generation, before = entry.older
    if isinstance(vault, DatabaseStore):
        text = _(
            "The vault in the database is older than the one that this machine used last: generation {generation} after"
            " {before}. If no backup was restored, it was replaced, and its accounts or passwords may be outdated."
        )
        return text.format(generation=generation, before=before)
    return _(
        "The vault is older than the one used last: generation {generation} after {before}. If no backup was"
        " restored, the file was replaced, and its accounts or passwords may be outdated."
    ).format(generation=generation, before=before)


# ---- the notes ----


def _is_protected(vault: Path) -> bool:
    """True if root alone can write the note beside the vault's folder, and another user owns that folder."""
    folder = vault.absolute().parent
    try:
        inside, outside = folder.stat(), folder.parent.stat()
    except OSError:
        return False
    return inside.st_uid != 0 and outside.st_uid == 0 and not outside.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _writable_notes(vault: Path) -> list[Path]:
    protected = os.geteuid() == 0 and _is_protected(vault)
    return [_own_note(vault), *([protected_note(vault)] if protected else [])]


def _read(note: Path) -> dict[str, _Entry]:
    try:
        with note.open(encoding="ascii") as file:
            entries = json.loads(file.read(_LIMIT))
    except (OSError, ValueError, RecursionError):  # RecursionError: deeply nested JSON
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, fields in entries.items() if (entry := _entry(fields)) is not None}


def _entry(fields: Any) -> _Entry | None:  # noqa: ANN401
    """The entry of a note. An earlier version wrote the number alone."""
    match fields:
        case bool():
            return None
        case int():
            return _Entry(fields)
        case {"highest": int(highest), "older": [int(found), int(before)]}:
            return _Entry(highest, (found, before))
        case {"highest": int(highest)}:
            return _Entry(highest)
        case _:
            return None


def _fields(entry: _Entry) -> dict[str, object]:
    return {"highest": entry.highest} | ({"older": list(entry.older)} if entry.older is not None else {})


def _write(note: Path, vault: Path, entries: dict[str, _Entry]) -> None:
    temporary = note.with_name(f".{note.name}.new")
    text = json.dumps({name: _fields(entry) for name, entry in entries.items()})
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as out:
            out.write(text)
            if note == protected_note(vault):
                os.fchmod(out.fileno(), 0o644)  # the service reads it; it has no secret
            elif os.geteuid() == 0:
                owner = (vault if vault.exists() else vault.parent).stat()  # of a vault in a database the folder
                os.fchown(out.fileno(), owner.st_uid, owner.st_gid)
        temporary.replace(note)
    except OSError:
        pass  # the service may have no write permission on the directory; then there is nothing to compare with
