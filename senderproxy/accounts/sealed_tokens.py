"""Tokens of one grant, sealed for a database.

Each is a small vault in memory, under the key of the grant file, with one record that has the name of the grant: the
tokens of another grant are not taken for its own.
Not here: the key (accounts.grant_key), the database (relay.shared_ports).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from senderproxy.accounts.errors import AccountsError, accounts_error
from senderproxy.translation import _
from vault import Fingerprint, StoreWriter, SuppliedKey, Vault, VaultError, VaultStore, WrongKey

_PLACE: Final = Path("oauth_grant")  # named in errors


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """The newest tokens of a grant. `lifetime`: of the access token, in seconds from when it was stored."""

    refresh: str = field(repr=False)
    access: str = field(repr=False)
    lifetime: float


def seal_tokens(grant: str, tokens: StoredTokens, keys: Sequence[bytes]) -> bytes:
    """Seal with the newest key, the first one. Raises AccountsError."""
    fields = {"refresh": tokens.refresh, "access": tokens.access, "lifetime": tokens.lifetime}
    return _sealed(grant, json.dumps(fields).encode("ascii"), keys)


def unseal_tokens(grant: str, sealed: bytes, keys: Sequence[bytes]) -> StoredTokens:
    """Raises AccountsError if none of the keys opens it, if it is damaged, or of another grant."""
    _number, record = _opened(grant, sealed, keys)
    try:
        fields = json.loads(record)
        return StoredTokens(str(fields["refresh"]), str(fields["access"]), float(fields["lifetime"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AccountsError(_("The tokens in the database are of another version.")) from error


def seal_again(grant: str, sealed: bytes, keys: Sequence[bytes]) -> bytes | None:
    """The same tokens, sealed with the newest key; None if they are. Raises AccountsError."""
    number, record = _opened(grant, sealed, keys)
    return _sealed(grant, record, keys) if number else None


def _opened(grant: str, sealed: bytes, keys: Sequence[bytes]) -> tuple[int, bytes]:
    """The number of the key, and the record."""
    for number, method in enumerate(_methods(keys)):
        try:
            with Vault.from_bytes(sealed, unlock=method) as vault:
                return number, vault.get(grant)
        except WrongKey:
            continue
        except VaultError as error:
            raise accounts_error(error) from error
    raise AccountsError(
        _("The tokens in the database are sealed with the key of another vault."),
        hint=_("senderproxy account consent ID"),
    )


def _sealed(grant: str, record: bytes, keys: Sequence[bytes]) -> bytes:
    methods = _methods(keys)
    if not methods:
        raise AccountsError(_("The vault has no key for the grant file."), hint=_("senderproxy account consent ID"))
    store = _MemoryStore()
    try:
        Vault.create(store, unlock=methods[0])
        with Vault.open(store, unlock=methods[0], write=True) as vault:
            vault.put(grant, record)
            vault.save()
    except VaultError as error:
        raise accounts_error(error) from error
    return store.sealed


def _methods(keys: Sequence[bytes]) -> list[SuppliedKey]:
    return [SuppliedKey(lambda key=key: key, source=_PLACE) for key in keys]  # type: ignore[misc]


class _MemoryStore(VaultStore, StoreWriter):
    """The sealed bytes of one vault in memory, with the one writer that makes them."""

    def __init__(self) -> None:
        self.sealed = b""

    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        """See vault.SealedSource."""
        return self.sealed[: limit + 1], self.fingerprint()

    def fingerprint(self) -> Fingerprint:
        """See vault.SealedSource."""
        return Fingerprint((len(self.sealed),))

    def create(self, sealed: bytes) -> None:
        """See vault.VaultStore."""
        self.sealed = sealed

    def open_writer(self) -> StoreWriter:
        """See vault.VaultStore."""
        return self

    def replace(self, sealed: bytes, *, expected: Fingerprint, keep_previous: bool) -> Fingerprint:  # noqa: ARG002  nothing is kept
        """See vault.StoreWriter."""
        self.sealed = sealed
        return self.fingerprint()

    def release(self) -> None:
        """See vault.StoreWriter."""
