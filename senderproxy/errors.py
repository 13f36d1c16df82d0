"""The root of our faults.

A 5xx from upstream is an answer, not a fault (see mail.outcome). A fault is what stops us: a damaged file, a port
that is taken, a configuration that cannot be meant. Each room defines its own kinds beside the code that raises them.
"""


class SenderproxyError(Exception):
    """Something must be mended by a person; `hint` says what to type or change, on a line of its own."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
