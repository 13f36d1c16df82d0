"""Store of a vault in one row of a database, here of SQLite: the port of the stores asks for no file.

The lock is a transaction of its own that a killed process leaves open to nobody. PostgreSQL has the same with an advisory lock.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vault import Exists, Fingerprint, InUse, Missing, StoreWriter, VaultStore

_TABLE = """
CREATE TABLE IF NOT EXISTS vault (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL
)
"""


class RowStore(VaultStore):
    """The row in a database of this folder. Its version is the number of writes, and the fingerprint."""

    def __init__(self, folder: Path) -> None:
        self._database, self._lock = folder / "vault.db", folder / "writer.db"

    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        with self._connection() as database:
            row = database.execute(
                "SELECT coalesce(substr(sealed, 1, ?), x''), version FROM vault", (limit + 1,)
            ).fetchone()
        if row is None:
            raise Missing("there is no vault in this database", hint="Create it first.")
        return row[0], Fingerprint((row[1],))

    def fingerprint(self) -> Fingerprint | None:
        with self._connection() as database:
            row = database.execute("SELECT version FROM vault").fetchone()
        return None if row is None else Fingerprint((row[0],))

    def create(self, sealed: bytes) -> None:
        try:
            with self._connection() as database:
                database.execute("INSERT INTO vault VALUES (1, 1, ?)", (sealed,))
        except sqlite3.IntegrityError as error:
            raise Exists("this database has a vault already", hint="Choose another database.") from error

    def open_writer(self) -> StoreWriter:
        if self.fingerprint() is None:
            raise Missing("there is no vault in this database", hint="Create it first.")
        lock = sqlite3.connect(self._lock, timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            raise InUse("another program is writing it", hint="Wait until it has finished.") from error
        return _RowWriter(self, lock)

    def replace(self, sealed: bytes, expected: Fingerprint) -> Fingerprint:
        (version,) = expected.parts
        with self._connection() as database:
            changed = database.execute(
                "UPDATE vault SET version = version + 1, sealed = ? WHERE version = ?", (sealed, version)
            )
        if changed.rowcount != 1:
            raise InUse("it was replaced meanwhile", hint="Open it again, and repeat the change.")
        return Fingerprint((version + 1,))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database, timeout=60, isolation_level=None)) as database:
            database.execute(_TABLE)
            yield database


class _RowWriter(StoreWriter):
    def __init__(self, store: RowStore, lock: sqlite3.Connection) -> None:
        self._store, self._lock = store, lock

    def replace(self, sealed: bytes, *, expected: Fingerprint, keep_previous: bool) -> Fingerprint:
        return self._store.replace(sealed, expected)  # a row never keeps what was there before

    def release(self) -> None:
        self._lock.close()
