"""Errors of the command line.

Not here: their exit codes (cli.exit_codes).
"""

from senderproxy.errors import SenderproxyError
from senderproxy.translation import _


class UsageError(SenderproxyError):
    """The command line is wrong."""


class InputError(SenderproxyError):
    """A file that was named cannot be read."""


class FileInTheWay(SenderproxyError):
    """A file that would be written exists already."""


class LoginFailed(SenderproxyError):
    """The login was tried and does not work, or could not be tried; nothing was changed."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(_("Nothing was changed: {reason}").format(reason=reason), hint=hint)
        self.reason = reason


class LoginRejected(LoginFailed):
    """The provider rejected the login; nothing was changed."""
