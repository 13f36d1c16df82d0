"""Reset of a spool whose database is gone.

Guarantees: a spool with a database is never reset; what is left of the former one is moved into a folder, not deleted.
Not here: the confirmation (cli.spool).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite import content, database, spool_id
from senderproxy.spool.sqlite.database import as_spool_errors, open_database, scripts
from senderproxy.spool.sqlite.spool_folder import LOCK, SpoolFolder
from senderproxy.translation import _

_PREFIX: Final = "before-reset-"


@dataclass(frozen=True, slots=True)
class SpoolReset:
    """The remains of a spool without a database, which is locked."""

    folder: SpoolFolder
    remains: Sequence[str]  # names of files and folders
    bodies: int  # files of large messages among them

    def carry_out(self, now: datetime) -> Path:
        """Move the remains into a folder, and make an empty database. Returns that folder. Raises SpoolError."""
        name = f"{_PREFIX}{now:%Y%m%dT%H%M%S}"
        with as_spool_errors(_("The spool {path} cannot be reset").format(path=self.folder.path)):
            os.mkdir(name, 0o700, dir_fd=self.folder.fd)
            target = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder.fd)
            try:
                self.folder.give_to_owner(target)
                # The id last: without it and without any other trace, the service would begin anew by itself.
                for remain in sorted(self.remains, key=lambda name: name == spool_id.NAME):
                    os.rename(remain, remain, src_dir_fd=self.folder.fd, dst_dir_fd=target)
                os.fsync(target)
            finally:
                os.close(target)
            self.folder.sync()
        open_database(self.folder, scripts()).close()
        return self.folder.path / name


@contextmanager
def spool_reset(directory: Path) -> Iterator[SpoolReset]:
    """Lock the spool for a reset. Raises SpoolError if it has a database, or is in use."""
    folder = SpoolFolder.open(directory)
    try:
        names = folder.names()
        if database.NAME in names:
            raise SpoolError(
                _("The spool {path} has a database; only one without is reset.").format(path=directory),
                hint=_("If the database is damaged, move it away first: mv {database} {folder}").format(
                    database=directory / database.NAME, folder="~"
                ),
            )
        remains = sorted(name for name in names if name != LOCK and not name.startswith(_PREFIX))
        bodies = len(list((directory / content.FOLDER).iterdir())) if content.FOLDER in names else 0
        if remains in ([], [content.FOLDER]) and not bodies:
            raise SpoolError(
                _("The spool {path} is new; there is nothing to reset.").format(path=directory),
                hint=_("Start the service, which creates the database: systemctl start senderproxy"),
            )
        yield SpoolReset(folder, remains, bodies)
    finally:
        folder.close()
