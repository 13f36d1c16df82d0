"""Imports of parts of the program that most configurations never use.

A part is loaded by one function, the one that first needs it: its modules cost memory, and are not loaded before.
Guarantees: an upgrade replaces the files below the running service; then such an import raises ProgramReplaced, and no
module of another version is used.
Not here: the imports, each in the package that it belongs to. docs/decisions/0205 has the list.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import senderproxy
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _


class ProgramReplaced(SenderproxyError):
    """The files of the program are no longer those with which this process started."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(
            message or _("The program was updated while the service ran."), hint=hint or "systemctl restart senderproxy"
        )


@contextmanager
def late_import() -> Iterator[None]:
    """Imports in the body are made from the files with which the process started. Raises ProgramReplaced.

    The files are compared before and after: an upgrade replaces all of them within a second.
    """
    _require_same_files()
    try:
        yield
    except (ImportError, OSError) as error:
        _require_same_files()
        raise ProgramReplaced(
            _("A part of the program cannot be loaded: {error}").format(error=error),
            hint=_("Install senderproxy again, and restart the service."),
        ) from error
    _require_same_files()


def program_identity() -> tuple[int, int, int] | None:
    """The program's files with which this process started."""
    return _STARTED


def _identity() -> tuple[int, int, int] | None:
    """A replaced file has another inode, also with the same content. None: it cannot be read."""
    try:
        found = Path(senderproxy.__file__).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _require_same_files() -> None:
    if _identity() != _STARTED:
        raise ProgramReplaced(_("The program was updated while the service ran."), hint="systemctl restart senderproxy")


_STARTED: Final = _identity()
