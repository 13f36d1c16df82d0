"""Errors of the command line.

Not here: their exit codes (cli.exit_codes).
"""

from senderproxy.errors import SenderproxyError


class UsageError(SenderproxyError):
    """The command line is wrong."""


class InputError(SenderproxyError):
    """A file that was named cannot be read."""


class FileInTheWay(SenderproxyError):
    """A file that would be written exists already."""


class LoginFailed(SenderproxyError):
    """The login was tried and does not work, or could not be tried; nothing was changed."""


class LoginRejected(LoginFailed):
    """The provider rejected the login; nothing was changed."""
