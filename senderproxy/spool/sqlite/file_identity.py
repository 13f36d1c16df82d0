"""Identity of the database's files: the ones at their path are those that SQLite has open.

Guarantees: a file that was deleted, replaced or moved is noticed before a commit is acknowledged; when it is back at
its path, commits are acknowledged again. A second name of a file (a hard link) stops nothing: it is logged.
Not here: the reply to the client (relay.intake), a database that is gone at the opening (spool.sqlite.database).
"""

import logging
import os
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.spool_folder import disk_error
from senderproxy.translation import _

_SUFFIXES: Final = ("", "-wal")  # a commit is in the write-ahead log until that is copied into the database

_log = logging.getLogger("senderproxy.spool")


class SpoolFileLost(SpoolError):
    """A file of the database is not at its path any more."""


class FileIdentity:
    """Device and inode of the files when they were opened."""

    def __init__(self, path: Path) -> None:
        """`path`: of the database, which SQLite has open. Raises OSError."""
        self._paths = [Path(f"{path}{suffix}") for suffix in _SUFFIXES]
        self._opened = [_identity(one.lstat()) for one in self._paths]
        self._is_lost = False
        self._is_linked = False

    def check(self) -> None:
        """Raises SpoolError if a file at its path is not the one that is open. Costs one stat(2) for each file."""
        is_linked = False
        for path, opened in zip(self._paths, self._opened, strict=True):
            try:
                status = path.lstat()
            except FileNotFoundError:
                raise self._lost(path, is_gone=True) from None
            except OSError as error:
                raise disk_error(_("The spool's database {path} cannot be opened").format(path=path), error) from error
            if _identity(status) != opened:
                raise self._lost(path, is_gone=False)
            if status.st_nlink > 1:
                is_linked = True
                self._warn_of_link(path)
        self._is_lost = False
        self._is_linked = is_linked

    def _warn_of_link(self, path: Path) -> None:
        """Log once that a file has a second name, as a backup with hard links makes it. The spool is sound."""
        if not self._is_linked:
            event(
                _log,
                log_events.SPOOL_FILE_LINKED,
                why=f"{path} has a second name: a copy by hard links is no backup, and the next start refuses it",
                hint=f"Remove the other name: find / -xdev -samefile {path}",
            )

    def _lost(self, path: Path, is_gone: bool) -> SpoolFileLost:
        text = (
            _("The spool's file {path} was deleted or moved while the service has it open.")
            if is_gone
            else _("The spool's file {path} was replaced while the service has it open.")
        )
        error = SpoolFileLost(
            text.format(path=path),
            hint=_(
                "Do not stop the service: it still has the file with all mail. Move that file back to its path, or copy"
                " it first: ls -l /proc/{process}/fd"
            ).format(process=os.getpid()),
        )
        if not self._is_lost:
            self._is_lost = True
            event(_log, log_events.SPOOL_FILE_LOST, why=error.message, hint=error.hint)
        return error


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
