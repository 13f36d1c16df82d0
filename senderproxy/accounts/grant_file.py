"""The grant file: rotated refresh tokens in a sealed file with a single writer.

It is a vault of its own beside the accounts' one (`NAME.grants`), under a key that is a record there. So a person's
vault stays as it is while tokens change hourly, and a backup of the vault has no token that a rotation has ended.

Guarantees: `put` returns when the token is on disk (synced), before it is used for the first time. One writer at a
time: the service, or a command while no service runs. A damaged file, or one whose key is lost, is put aside, not
overwritten.
Not here: the key (accounts.grant_key), the use of the tokens (accounts.access_tokens).
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from senderproxy import log_events
from senderproxy.accounts.errors import AccountsError, VaultDiskError, accounts_error
from senderproxy.log import event
from senderproxy.translation import _
from vault import Damaged, Exists, Missing, SuppliedKey, Vault, VaultError, WrongKey

_log: Final = logging.getLogger("senderproxy.accounts")

_SUFFIX: Final = ".grants"
_ASIDE: Final = ".grants.unreadable"


def grant_file_of(vault: Path) -> Path:
    """The grant file of a vault."""
    return vault.with_name(vault.name + _SUFFIX)


class GrantFile:
    """The grant file, opened for writing. Blocks on the disk: called on a thread."""

    def __init__(self, vault: Vault, path: Path) -> None:
        """Called by `open` only."""
        self._vault = vault
        self._path = path

    @classmethod
    def open(cls, path: Path, keys: Sequence[bytes]) -> Self:
        """Open the file for writing, or make it. `keys`: the newest first; the file is sealed with that one.

        Raises AccountsError: another process has it open (InUse), or the disk fails.
        """
        if not keys:
            raise AccountsError(_("The vault has no key for the grant file."), hint=_("senderproxy account consent ID"))
        try:
            return cls(_open(path, keys), path)
        except VaultError as error:
            raise accounts_error(error) from error
        except OSError as error:  # of the file that is put aside
            raise VaultDiskError(
                _("The grant file {path} cannot be put aside: {error}").format(path=path, error=error.strerror)
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def token(self, grant_id: str) -> str:
        """The newest refresh token of a grant; empty if the server has not rotated it."""
        if grant_id not in self._vault.names():
            return ""
        try:
            return self._vault.get(grant_id).decode("ascii", "replace")
        except VaultError as error:
            raise accounts_error(error) from error

    def put(self, tokens: Mapping[str, str], in_use: Collection[str]) -> None:
        """Store the newest refresh tokens, by grant: on disk on return. Raises AccountsError.

        `in_use`: the ids of all grants; the tokens of others are dropped in the same write.
        """
        for name in self._vault.names():
            if name not in in_use:
                self._vault.remove(name)
        for grant_id, token in tokens.items():
            self._vault.put(grant_id, token.encode("ascii"))
        try:
            self._vault.save()
        except VaultError as error:
            raise accounts_error(error) from error

    def seal(self, key: bytes) -> None:
        """Seal the file with another key now; that of before opens it no more. Raises AccountsError: it is closed then.

        The present key need not be known.
        """
        try:
            _seal_again(self._vault, SuppliedKey(lambda: key, source=self._path))
        except VaultError as error:
            raise accounts_error(error) from error

    def close(self) -> None:
        """Release the file for other writers."""
        self._vault.close()


def seal_again(path: Path, keys: Sequence[bytes]) -> None:
    """Seal an existing file with the newest key now. A running service has it open, and does that itself."""
    if path.exists():
        with suppress(AccountsError):
            GrantFile.open(path, keys).close()


def _open(path: Path, keys: Sequence[bytes]) -> Vault:
    methods = [SuppliedKey(lambda key=key: key, source=path) for key in keys]  # type: ignore[misc]
    for number, method in enumerate(methods):
        try:
            vault = Vault.open(path, unlock=method, write=True)
        except Missing:
            break
        except WrongKey:
            if number + 1 < len(methods):
                continue
            _put_aside(path, "it has another key")
            break
        except Damaged as error:
            _put_aside(path, str(error))
            break
        if number:
            _seal_again(vault, methods[0])
        return vault
    with suppress(Exists):  # another process was faster; the one with the lock goes on
        Vault.create(path, unlock=methods[0])
    return Vault.open(path, unlock=methods[0], write=True)


def _put_aside(path: Path, why: str) -> None:
    aside = path.with_name(path.name.removesuffix(_SUFFIX) + _ASIDE)
    path.replace(aside)
    event(_log, log_events.GRANT_FILE_UNREADABLE, file=aside, why=why)


def _seal_again(vault: Vault, newest: SuppliedKey) -> None:
    """Seal the file with the newest key: after a new data key of the accounts' vault, the previous one is known."""
    try:
        vault.replace_unlock(vault.opened_by, newest)
        vault.rekey(newest)
        vault.save()
    except BaseException:
        vault.close()
        raise
