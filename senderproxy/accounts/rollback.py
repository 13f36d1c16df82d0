"""Detection of an older vault: the last generation in use is noted in a file beside the vault.

Guarantees: the note is replaced atomically. A note that cannot be read or written never stops the service.
Not here: the reaction (app logs a warning: the older copy may be a backup that the operator restored).
"""

import json
import os
from pathlib import Path


def note_generation(vault: Path, vault_id: str, generation: int) -> str | None:
    """Note the generation in use. Return a warning if a newer one was in use before, else None."""
    note = vault.with_name(f"{vault.name}.seen")
    before = _read(note).get(vault_id)
    if before != generation:
        _write(note, {vault_id: generation})
    if before is None or before <= generation:
        return None
    return (
        f"The vault is older than the one used last: generation {generation} after {before}."
        " If no backup was restored, the file was replaced, and its accounts or passwords may be outdated."
    )


def _read(note: Path) -> dict[str, int]:
    try:
        entries = json.loads(note.read_text(encoding="ascii"))
    except (OSError, ValueError, RecursionError):  # RecursionError: deeply nested JSON
        return {}
    return {k: v for k, v in entries.items() if isinstance(v, int)} if isinstance(entries, dict) else {}


def _write(note: Path, entries: dict[str, int]) -> None:
    temporary = note.with_name(f"{note.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as out:
            json.dump(entries, out)
        temporary.replace(note)
    except OSError:
        pass  # the service may have no write permission on the directory; then there is nothing to compare with
