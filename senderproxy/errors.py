"""The base class of all errors.

A 5xx reply of a smarthost is an outcome and not an error (mail.outcome). An error stops the work until the operator
acts: a damaged file, a port in use, an invalid configuration. Each package defines its own subclasses beside the code
that raises them.
"""


class SenderproxyError(Exception):
    """An error that the operator has to fix.

    `message`: one or more sentences about the problem. `hint`: a command or a change that fixes it, without a full stop
    if it is a command; it is shown after `To fix: `, and empty if there is none. Both are marked for translation where
    they are written (translation).
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WouldOverwrite(SenderproxyError):
    """A file or folder would be overwritten; nothing was changed."""


class InvalidFile(SenderproxyError):
    """A file is damaged, of another kind, or of a later version."""
