"""Errors of the vault, translated into errors for the operator.

Guarantees: every text names the problem and every hint a remedy. The type names the cause: the request, the file, the
disk or the unlock method.
Not here: damage to a single record (accounts.record), exit codes (cli.exit_codes).
"""

import shlex

from senderproxy.accounts.database_store import NoVaultInDatabase
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _
from vault import (
    Damaged,
    DiskError,
    Exists,
    InUse,
    KeyringLocked,
    Missing,
    MissingKey,
    RolledBack,
    TooNew,
    VaultError,
    WrongKey,
)


class AccountsError(SenderproxyError):
    """The vault cannot be used: the unlock method does not open it, or one of the kinds below."""


class InvalidVaultRequest(AccountsError):
    """The command line or the setting is invalid: an unknown unlock method, an invalid or duplicate label."""


class InvalidAccount(SenderproxyError):
    """An account cannot be added as it is described."""


class UnknownAccount(AccountsError):
    """The vault has no account of that id."""


class VaultUnreadable(AccountsError):
    """The vault file is missing, damaged or of a newer version, or a record cannot be saved."""


class VaultExists(AccountsError):
    """A new vault or a copy would overwrite a file."""


class VaultInUse(AccountsError):
    """Another program is writing the vault, or has written it meanwhile."""


class VaultDiskError(AccountsError):
    """The system cannot read or write the vault file."""


def accounts_error(error: VaultError) -> AccountsError:
    """Translate an error of the vault. The type of the result names the cause."""
    kind: type[AccountsError]
    match error:
        case Damaged() | TooNew():
            kind = VaultUnreadable
        case NoVaultInDatabase():
            return VaultUnreadable(
                _("The vault cannot be used: {error}").format(error=error),
                hint=_(
                    "To bring one from a file: senderproxy vault import FILE. For an empty one: senderproxy vault"
                    " create"
                ),
            )
        case MissingKey() if error.path is not None:
            return AccountsError(
                _("The vault cannot be used: {error}").format(error=error),
                hint=_(
                    "Put the key file back from its copy. On a machine that never had one, or to make another:"
                    " senderproxy --unlock passphrase vault add-unlock key-file:{path} --label NAME"
                ).format(path=shlex.quote(str(error.path))),
            )
        case MissingKey():
            kind = AccountsError
        case Missing():
            return VaultUnreadable(
                _("The vault cannot be used: {error}").format(error=error),
                hint=_(
                    "Put the file back from its backup, or correct its path under [vault]. For a first vault:"
                    " senderproxy setup"
                ),
            )
        case WrongKey() if error.path is None:  # in a database: this machine may be a new one
            return AccountsError(
                _("The vault cannot be used: {error}").format(error=error),
                hint=_(
                    "{ways}. A machine whose key is not among them: senderproxy --unlock passphrase vault add-unlock"
                    " key-file:PATH --label NAME"
                ).format(ways=error.hint),
            )
        case WrongKey():
            return AccountsError(
                _("The vault cannot be used: {error}").format(error=error),
                hint=_("{ways}. A key file must be the one of this vault: put it back from its backup.").format(
                    ways=error.hint
                ),
            )
        case DiskError():
            kind = VaultDiskError
        case InUse():
            kind = VaultInUse
        case RolledBack() if error.path is None:  # in a database
            return VaultUnreadable(
                _("The vault cannot be used: {error}.").format(error=error),
                hint=_(
                    "If you restored an older copy on purpose: systemctl restart senderproxy, then senderproxy vault"
                    " accept-rollback, on each machine. If not, find out who can write to the database, and restore its"
                    " newest backup."
                ),
            )
        case RolledBack():
            return VaultUnreadable(
                _("The vault cannot be used: {error}.").format(error=error),
                hint=_(
                    "If you restored an older copy on purpose: systemctl restart senderproxy, then senderproxy vault"
                    " accept-rollback. If not, find out who can write to the folder, and restore the newest backup."
                ),
            )
        case Exists():
            return VaultExists(_("Nothing was written: {error}.").format(error=error), hint=error.hint)
        case KeyringLocked():
            return AccountsError(
                _("The keyring is locked or does not respond."),
                hint=_("Unlock it, or use another unlock method this time: senderproxy --unlock passphrase ..."),
            )
        case _other:
            kind = AccountsError
    return kind(_("The vault cannot be used: {error}").format(error=error), hint=error.hint)
