"""DatabaseStore: the sealed bytes of the vault in a database that several machines share.

Guarantees: those of vault.VaultStore. The caller's thread waits for a thread with an event loop of its own.
After `watch` a look for changes asks nobody: the version comes once a second.
Not here: the statements (spool.postgresql.vault_row), the seals (vault).
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from senderproxy.daemon_thread import DaemonThread
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _
from vault import DiskError, Exists, Fingerprint, InUse, Missing, StoreWriter, VaultStore

_T = TypeVar("_T")
_INTERVAL: Final = 1.0  # seconds between two looks at the version: a change is in force within two


class NoVaultInDatabase(Missing):
    """The table has no row."""


class SealedRowWriter(Protocol):
    """The only writer of a row."""

    async def replace(self, sealed: bytes, expected: int) -> int | None:
        """Replace the bytes of this version; the new version, None if the row has another one."""
        ...

    async def release(self) -> None:
        """Let the next writer write. Never raises."""
        ...


class SealedRow(Protocol):
    """The sealed bytes in one row, with a version that each write changes. All methods raise SenderproxyError."""

    async def read(self, limit: int) -> tuple[bytes, int] | None:
        """The bytes, at most `limit` + 1 of them, and their version; None without a row."""
        ...

    async def version(self) -> int | None:
        """The version of now; None without a row."""
        ...

    async def insert(self, sealed: bytes) -> bool:
        """Add the row; False if there is one, which stays."""
        ...

    async def lock(self) -> SealedRowWriter | None:
        """The only writer; None while there is another one."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class DatabaseStore(VaultStore):
    """The row of a database as a store of the vault.

    `name`: of the database, without a password; `files`: the path with which the names of this machine's files about
    the vault begin.
    """

    def __init__(self, row: SealedRow, name: str, files: Path) -> None:
        """Raises RuntimeError if the system has no thread left."""
        self.name = name
        self.files = files
        self.on_change: Callable[[], None] = lambda: None  # called on the store's thread, after `watch`
        self._row = row
        self._loop = asyncio.new_event_loop()
        self._watching: asyncio.Task[None] | None = None
        self._last: Fingerprint | None = None  # after `watch`
        self._problem: SenderproxyError | None = None
        self._thread = DaemonThread(self._run, "vault-database")
        self._thread.start()

    def __str__(self) -> str:
        return self.name

    # ---- vault.VaultStore ----

    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        """See vault.SealedSource."""
        found = self.wait_for(self._read(limit))
        if found is None:
            raise _missing()
        return found

    def fingerprint(self) -> Fingerprint | None:
        """See vault.SealedSource."""
        if self._watching is None:
            return _fingerprint(self.wait_for(self._row.version()))
        if (problem := self._problem) is not None:
            raise DiskError(problem.message, hint=problem.hint)
        return self._last

    def create(self, sealed: bytes) -> None:
        """See vault.VaultStore."""
        if not self.wait_for(self._row.insert(sealed)):
            raise Exists(_("the database has a vault already"), hint=_("Use that vault, or another database."))

    def open_writer(self) -> StoreWriter:
        """See vault.VaultStore."""
        if self.wait_for(self._row.version()) is None:
            raise _missing()
        writer = self.wait_for(self._row.lock())
        if writer is None:
            text = _("another program, on this or another machine, is changing the vault in the database")
            raise InUse(text, hint=_("Wait until it has finished."))
        return _DatabaseWriter(self, writer)

    # ---- for a service ----

    def watch(self) -> None:
        """From now on ask for the version once a second, and let `fingerprint` answer from that. Raises DiskError."""
        self._last = _fingerprint(self.wait_for(self._row.version()))
        self._watching = self.wait_for(self._start_to_watch())

    def look(self) -> None:
        """Ask for the version now; `fingerprint` has this answer or error afterwards. Blocks."""
        self.wait_for(self._look())

    def note(self, written: Fingerprint) -> None:
        """Note the fingerprint of bytes just written or read; valid until the next look."""
        self._last = written

    def close(self) -> None:
        """Close the connections and end the thread."""
        with suppress(DiskError):
            self.wait_for(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which has time limits of its own. Raises DiskError."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except SenderproxyError as error:
            raise DiskError(error.message, hint=error.hint) from error

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _read(self, limit: int) -> tuple[bytes, Fingerprint] | None:
        found = await self._row.read(limit)
        if found is None:
            return None
        sealed, version = found
        self.note(Fingerprint((version,)))  # else a reader would see a change until the next look, and read again
        return sealed, Fingerprint((version,))

    async def _start_to_watch(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            await self._look()

    async def _look(self) -> None:
        before = self._last, self._problem is None
        try:
            self._last = _fingerprint(await self._row.version())
        except SenderproxyError as error:
            self._problem = error
        except Exception as fault:  # noqa: BLE001  an internal error must not end the later looks
            text = _("Looking for a change of the vault failed with an internal error: {error}.")
            self._problem = SenderproxyError(text.format(error=repr(fault)))
        else:
            self._problem = None
        if before != (self._last, self._problem is None):
            self.on_change()

    async def _end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._row.close()


class _DatabaseWriter(StoreWriter):
    def __init__(self, store: DatabaseStore, writer: SealedRowWriter) -> None:
        self._store, self._writer = store, writer

    def replace(self, sealed: bytes, *, expected: Fingerprint, keep_previous: bool) -> Fingerprint:
        del keep_previous  # the row has the newest bytes alone
        (version,) = expected.parts
        written = self._store.wait_for(self._writer.replace(sealed, version))
        if written is None:
            raise InUse(
                _("it was replaced by a program that does not hold the lock"),
                hint=_("Open it again, check its content, and repeat the change."),
            )
        self._store.note(Fingerprint((written,)))
        return Fingerprint((written,))

    def release(self) -> None:
        self._store.wait_for(self._writer.release())


def _fingerprint(version: int | None) -> Fingerprint | None:
    return None if version is None else Fingerprint((version,))


def _missing() -> NoVaultInDatabase:
    return NoVaultInDatabase(_("the database has no vault yet"), hint=_("Create it first: senderproxy vault create"))
