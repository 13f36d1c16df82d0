"""The reason why the service could not save a change of the vault, in the words of the page.

Guarantees: each text says that nothing was saved, and each hint is for somebody without the command line at hand, or
names the command for whoever has it.
Not here: the same errors in a command (accounts.errors).
"""

import errno
from pathlib import Path
from typing import Final

from senderproxy.accounts.errors import AccountsError, VaultDiskError, VaultInUse
from senderproxy.translation import _
from vault import NoBackend, UnsafeFile, WrongKey

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def unsaved(error: AccountsError, vault: Path) -> AccountsError:
    """The error for the page. `error`: of accounts.editor; `vault`: the path of the vault's file."""
    cause = error.__cause__
    number = cause.__cause__.errno if cause is not None and isinstance(cause.__cause__, OSError) else None
    match error:
        case VaultInUse():
            return VaultInUse(
                _("Another program is changing the vault; nothing was saved."),
                hint=_("Try again in a minute. Perhaps a command of senderproxy is waiting for an answer."),
            )
        case VaultDiskError() if number in _FULL:
            return VaultDiskError(
                _("The disk of the server is full; nothing was saved."),
                hint=_("Free some space there, then try again."),
            )
        case VaultDiskError() if number in _FORBIDDEN:
            return VaultDiskError(_not_writable(), hint=_grant(vault))
        case _ if isinstance(cause, UnsafeFile):
            return VaultDiskError(_not_writable(), hint=cause.hint)
        case _ if isinstance(cause, WrongKey | NoBackend):
            return AccountsError(
                _("The service can no longer open the vault with its unlock method; nothing was saved."),
                hint=_("See on the server: sudo senderproxy check"),
            )
        case _:
            return error


def _not_writable() -> str:
    return _("The service may not write the vault; nothing was saved.")


def _grant(vault: Path) -> str:
    return _(
        "The folder {folder} must belong to the service's user. Outside /var/lib/senderproxy also: sudo systemctl edit"
        " senderproxy, with ReadWritePaths={folder} in [Service]"
    ).format(folder=vault.absolute().parent)
