"""Errors of backups, beside those of sealed files (accounts.sealed_file).

Not here: their exit codes (cli.exit_codes).
"""

from senderproxy.errors import InvalidFile, SenderproxyError
from senderproxy.translation import _


class BackupError(SenderproxyError):
    """A backup cannot be made or restored."""


class BackupInvalid(InvalidFile):
    """The content of a backup is not in its format."""


class BackupTooNew(InvalidFile):
    """The backup was written by a later version of senderproxy."""


class ServiceIsRunning(BackupError):
    """The service runs; a restore needs it stopped."""


def invalid(why: str) -> BackupInvalid:
    """The error for content in another format."""
    return BackupInvalid(
        _("The content of the backup cannot be used: {why}.").format(why=why), hint=_("Use another backup.")
    )
