"""Reader: a connection and a thread of its own for searches.

Guarantees: a search delays neither a commit nor the event loop. Text that a damaged disk made invalid is shown as far
as possible, because operators search when something is wrong.
Not here: the searches (spool.sqlite.search).
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.database import as_spool_errors
from senderproxy.spool.sqlite.rows import UnreadableRow
from senderproxy.spool.sqlite.threads import SpoolThreads
from senderproxy.spool.sqlite.writer import Writer
from senderproxy.translation import _

_T = TypeVar("_T")


class Reader:
    """Runs searches, one at a time."""

    def __init__(self, connection: sqlite3.Connection, writer: Writer) -> None:
        connection.text_factory = lambda octets: octets.decode("utf-8", "replace")
        self._connection = connection
        self._writer = writer
        self.thread = SpoolThreads("spool-reader")

    async def run(self, search: Callable[[sqlite3.Connection], _T]) -> _T:
        """The result of a search. Raises SpoolError."""

        def run() -> _T:
            if self._writer.broken is not None:
                raise self._writer.broken
            with as_spool_errors(_("The spool cannot be read"), self._writer.path):
                try:
                    return search(self._connection)
                except UnreadableRow as error:
                    raise SpoolError(
                        _("The spool cannot be read: {reason}.").format(reason=error),
                        hint=_("Look for errors of the disk: dmesg"),
                    ) from error

        return await self.thread.do(run)

    def close(self) -> None:
        """Close the connection; on the reader's thread, or after its end."""
        with suppress(sqlite3.Error):
            self._connection.close()
