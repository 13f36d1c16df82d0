"""senderproxy in queue mode with its queue in a PostgreSQL server on the same machine, which counts as a part of it."""

import contextlib
from types import TracebackType
from typing import Self

from benchmarks.relays.port import Job
from benchmarks.relays.senderproxy import Queue
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import OWNER, SERVICE, running_postgresql

_SECRET = "geheim-datenbank"


class DatabaseQueue(Queue):
    """Queue mode over PostgreSQL: one instance, and a server that syncs each commit."""

    name: str = "senderproxy-postgresql"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._server = contextlib.ExitStack()

    @staticmethod
    def version() -> str | None:
        """None without the server."""
        return "PostgreSQL 15, fsync on" if (POSTGRESQL / "postgres").exists() else None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            server = starting.enter_context(running_postgresql("fsync=on", "shared_buffers=128MB"))
            server.sql(f"ALTER ROLE {OWNER} PASSWORD '{_SECRET}'; ALTER ROLE {SERVICE} PASSWORD '{_SECRET}'")
            server.make_database()
            self._secrets.add(_SECRET)
            self._more_settings += f"""
engine = "{server.network_engine}"
engine_password = "file:database.password"
"""
            super().__enter__()
            self._server = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._server:
            super().__exit__(kind, error, trace)

    def _import_accounts(self) -> None:
        super()._import_accounts()
        file = self.folder / "database.password"
        file.touch(0o600)
        file.write_text(f"{_SECRET}\n", encoding="ascii")
        self.command("spool", "migrate", "--owner", OWNER, "--password-stdin", standard_input=f"{_SECRET}\n")
