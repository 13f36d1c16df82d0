"""Which generation of the vault was in use last: so that an older copy put in its place does not go unnoticed.

Guarantees: a note beside the vault, replaced as a whole; one that cannot be read or written stops nothing.
Not here: what is done about an older vault (keeper warns: the copy may be a backup somebody meant).
"""

import json
import os
from pathlib import Path

from senderproxy.accounts.vault_accounts import VaultAccounts


def note_generation(vault: Path, accounts: VaultAccounts) -> str | None:
    """Note the generation in use; words for a person where a newer one was in use before, else None."""
    note = vault.with_name(f"{vault.name}.seen")
    before = _read(note).get(accounts.vault_id)
    if before != accounts.generation:
        _write(note, {accounts.vault_id: accounts.generation})
    if before is None or before <= accounts.generation:
        return None
    return (
        f"The vault is older than the one used last: generation {accounts.generation}, after {before}."
        " Where nobody brought a backup back, somebody exchanged it, and accounts or passwords in it may be outdated."
    )


def _read(note: Path) -> dict[str, int]:
    try:
        entries = json.loads(note.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in entries.items() if isinstance(v, int)} if isinstance(entries, dict) else {}


def _write(note: Path, entries: dict[str, int]) -> None:
    beside = note.with_name(f"{note.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as out:
            json.dump(entries, out)
        beside.replace(note)
    except OSError:
        pass  # the vault's folder may be read-only for the service; then there is nothing to compare with
