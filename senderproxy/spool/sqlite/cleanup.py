"""Cleanup of a spool: old history, orphaned files, free pages.

Guarantees: all of it happens in small transactions between other jobs; no message and no content that a recipient or a
job needs is deleted.
Not here: the time of a cleanup (service.spool), the statements (spool.sqlite.statements).
"""

import logging
from datetime import datetime
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.spool.sqlite import search, statements
from senderproxy.spool.sqlite.content import Content
from senderproxy.spool.sqlite.history import History
from senderproxy.spool.sqlite.incoming import Incoming
from senderproxy.spool.sqlite.reader import Reader
from senderproxy.spool.sqlite.spool_folder import disk_error
from senderproxy.spool.sqlite.threads import SpoolThreads
from senderproxy.spool.sqlite.transaction_size import TransactionSize
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from senderproxy.translation import _

_ORPHAN_AGE: Final = 3600.0  # seconds; the row of a younger file may still be written
_FREE_PAGES: Final = 4096  # pages of 4 KiB that the database keeps for new messages: 16 MiB
_IDLE_FREE_PAGES: Final = 256  # the same of an idle spool: 1 MiB
_PAGES_MOST: Final = 500  # pages returned in one transaction; other jobs wait for some milliseconds
_PAGES_LEAST: Final = 8  # pages, on a slow disk

_log = logging.getLogger("senderproxy.spool")


class Cleanup:
    """The cleanup of one spool."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        history: History,
        incoming: Incoming,
        content: Content,
        content_threads: SpoolThreads,
        row_limit: int,
    ) -> None:
        """`row_limit`: octets of a body that is stored in a row."""
        self._writer = writer
        self._reader = reader
        self._history = history
        self._incoming = incoming
        self._content = content
        self._content_threads = content_threads
        self._row_limit = row_limit

    async def sweep(self, now: datetime) -> None:
        """Delete old history and orphaned files, and return free pages to the disk. To be called now and then."""
        await self._history.delete_old(now)
        shortage = await self._shorten_history()
        await self._remove_orphans(now)
        await self._shrink(0 if shortage else _FREE_PAGES)

    async def _shrink(self, keep: int) -> None:
        """Return free pages to the disk until so many are left, in small transactions."""
        size = TransactionSize(_PAGES_LEAST, _PAGES_MOST, self._writer.monotonic)
        while True:
            job, _pages = size.job(lambda connection, pages: statements.shrink(connection, keep, pages))
            if not await self._writer.submit(job):
                break

    async def tidy(self) -> None:
        """Return the space of an idle spool to the disk: free pages, and the write-ahead log. Raises SpoolError."""
        await self._shrink(_IDLE_FREE_PAGES)
        await self._writer.submit(WriteJob(run=self._writer.wal.truncate, reads_only=True))

    async def _shorten_history(self) -> int:
        """Delete the oldest histories: those above their limit, and as many as a lack of space requires.

        Returns the octets that the disk lacked for new messages.
        """
        used, unfinished = await self._reader.run(
            lambda connection: (
                statements.used_octets(connection),
                search.open_octets(connection, self._row_limit),
            )
        )
        try:
            shortage = await self._reader.thread.do(self._writer.free_space.shortage)
        except OSError as error:
            raise disk_error(_("The free space of the spool's disk is unknown"), error) from error
        limit = unfinished + self._history.limits.history_size
        await self._history.make_room(min(limit, used - shortage))
        return shortage

    async def _remove_orphans(self, now: datetime) -> None:
        """Remove body files without a row, as a power cut or a full disk leaves behind."""
        try:
            old = await self._content_threads.do(self._content.written_before, now.timestamp() - _ORPHAN_AGE)
        except OSError as error:
            raise disk_error(_("The spool's content cannot be listed"), error) from error
        suspects = self._incoming.without_pending(old)
        orphans = await self._reader.run(lambda connection: statements.orphans(connection, suspects))
        if orphans:
            event(_log, log_events.ORPHANS_REMOVED, files=len(orphans))
            await self._content_threads.do(self._content.remove, orphans)
