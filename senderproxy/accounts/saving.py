"""Saving of the vault.

Guarantees: each save writes all records in the current schema, as far as they can be read. The generation is noted, so
that an older copy in its place is found.
Not here: the change that is saved (accounts.editor, accounts.vault_admin).
"""

from senderproxy.accounts.record import upgrade
from senderproxy.accounts.rollback import note_generation
from senderproxy.accounts.vault_place import VaultPlace
from vault import Vault


def save_upgraded(vault: Vault, place: VaultPlace) -> None:
    """Write the next generation, with records of an older schema rewritten. Raises VaultError or ValueError."""
    upgrade_records(vault)
    note_generation(place, vault.vault_id, vault.generation)  # before it hides that the vault is an older copy
    vault.save()
    note_generation(place, vault.vault_id, vault.generation)


def upgrade_records(vault: Vault) -> int:
    """Rewrite the records of an older schema, without a save; return their number."""
    count = 0
    for name in vault.names():
        if (record := upgrade(name, vault.get(name))) is not None:
            vault.put(name, record)
            count += 1
    return count
