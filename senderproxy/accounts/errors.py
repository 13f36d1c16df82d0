"""Errors of the vault, translated into errors for the operator.

Guarantees: every text names the problem and every hint a remedy; `exit_code` follows sysexits(3).
Not here: damage to a single record (accounts.record).
"""

from typing import Final

from senderproxy.errors import SenderproxyError
from senderproxy.translation import _
from vault import Damaged, DiskError, Exists, Missing, TooNew, VaultError

EXIT_USAGE: Final = 64  # EX_USAGE: the command line or the setting is invalid
EXIT_DATA: Final = 65  # EX_DATAERR: the file is damaged, missing or of a newer version
EXIT_CANNOT_CREATE: Final = 73  # EX_CANTCREAT: the file exists already
EXIT_DISK: Final = 74  # EX_IOERR: the system cannot read or write the file
EXIT_NO_PERMISSION: Final = 77  # EX_NOPERM: the unlock method does not open the vault


class AccountsError(SenderproxyError):
    """The vault cannot be used. `exit_code` follows sysexits(3)."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_NO_PERMISSION) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def accounts_error(error: VaultError) -> AccountsError:
    """Translate an error of the vault. The exit code names the cause: the file, the disk or the key."""
    match error:
        case Damaged() | TooNew() | Missing():
            code = EXIT_DATA
        case DiskError():
            code = EXIT_DISK
        case Exists():
            message = _("Nothing was written: {error}.").format(error=error)
            return AccountsError(message, hint=error.hint, exit_code=EXIT_CANNOT_CREATE)
        case _other:
            code = EXIT_NO_PERMISSION
    return AccountsError(_("The vault cannot be used: {error}").format(error=error), hint=error.hint, exit_code=code)
