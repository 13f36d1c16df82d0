"""Size of repeated work in one transaction, adapted to the speed of the disk.

Guarantees: on a disk of any speed, a transaction with this work soon takes a quarter of a second. A new message waits
for the transaction in progress and for its own, so it never waits long for the work of others.
Not here: the work (spool.sqlite.history, spool.sqlite.cleanup), transactions (spool.sqlite.writer).
"""

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from senderproxy.spool.sqlite.writer import WriteJob

_Result = TypeVar("_Result")

_SECONDS: Final = 0.25  # of one transaction
_GROWTH: Final = 2.0  # from one transaction to the next, at most


class TransactionSize:
    """The size of the next transaction, in units of the work: octets, messages, pages. Used on the writer's thread."""

    def __init__(self, least: int, most: int, monotonic: Callable[[], float], *, now: int | None = None) -> None:
        """`now`: of the first transaction, `least` by default. `monotonic`: the time in seconds."""
        self._least = least
        self._most = most
        self._monotonic = monotonic
        self._begun = 0.0
        self.now = least if now is None else now

    def begin(self) -> None:
        """The work of a transaction begins."""
        self._begun = self._monotonic()

    def end(self) -> None:
        """The transaction is on the disk."""
        seconds = max(self._monotonic() - self._begun, 1e-6)
        self.now = min(max(int(self.now * min(_GROWTH, _SECONDS / seconds)), self._least), self._most)

    def job(
        self, run: Callable[[sqlite3.Connection, int], _Result], *, uses_reserve: bool = False
    ) -> tuple[WriteJob, int]:
        """A job that calls `run` with the size, and the size."""
        size = self.now

        def begin_and_run(connection: sqlite3.Connection) -> _Result:
            self.begin()
            return run(connection, size)

        def end(result: _Result) -> _Result:
            self.end()
            return result

        return WriteJob(run=begin_and_run, uses_reserve=uses_reserve, done=end), size
