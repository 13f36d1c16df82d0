"""Inspection of an unused spool, as the service would open it.

Guarantees: makes the checks of the service, and changes neither format nor content; an older format is not migrated.
Not here: the opening (spool.sqlite.store), the migration (spool.sqlite.database).
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from senderproxy.spool.sqlite import database, rows, search
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from senderproxy.translation import _


@dataclass(frozen=True, slots=True)
class SpoolInspection:
    """An intact spool."""

    waiting: int = 0  # messages
    held: int = 0  # messages
    is_older: bool = False  # of an earlier version; its messages were not counted


def inspect_spool(directory: Path, now: datetime) -> SpoolInspection | None:
    """Lock and check the spool; None if there is none yet. May block. Raises SpoolError with a hint.

    `now`: the time of the counts.
    """
    if not directory.exists():
        return None
    folder = SpoolFolder.open(directory)
    try:
        names, path = folder.names(), directory / database.NAME
        if database.NAME not in names:
            database.refuse_if_lost(folder, names)
            return None
        database.check_file(path)
        with (
            database.as_spool_errors(_("The spool's database {path} cannot be opened").format(path=path), path),
            closing(database.connect(path, read_only=True)) as connection,
        ):
            if database.is_older(path, connection, database.scripts()):
                return SpoolInspection(is_older=True)
            totals = search.totals(connection, rows.to_ms(now))
            return SpoolInspection(sum(one.waiting for one in totals), sum(one.held for one in totals))
    finally:
        folder.close()
