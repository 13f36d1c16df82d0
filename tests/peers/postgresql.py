"""PostgreSQL with a cluster of its own, in a private folder, and standbys of it.

Guarantees: it answers on a socket in its folder and on a port of loopback when entered. It runs as a user without
rights if the test is root's: the server refuses root.
Not here: the tables (spool.postgresql.migrations).
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.peers.packages import POSTGRESQL
from tests.peers.process import LOOPBACK, Program, private_folder, reserved_ports, wait_until

OWNER: Final = "owner"  # the role that may change tables
SERVICE: Final = "senderproxy"  # the role of the service
DATABASE: Final = "mail"  # of the service, once it is made
_TRUSTED: Final = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
_PATIENCE: Final = 300  # seconds for a program of PostgreSQL
_UNSAFE: Final = ("fsync=off", "full_page_writes=off")  # a killed server loses nothing: only the machine's crash would


class PostgresqlServer:
    """A server. `socket_folder` is the host of connections without a password."""

    def __init__(self, folder: Path, port: int, settings: Sequence[str], more_access: str = "") -> None:
        self.name = folder.name.replace("-", "_")
        self.socket_folder = folder
        self.port = port
        self._folder = folder
        self.settings = settings
        self._more_access = more_access
        self._program: Program | None = None

    def prepare(self) -> None:
        """Make the cluster."""
        self._link_programs()
        words = ["-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [*_as_nobody(), self._programs / "initdb", *words],
            check=True,
            capture_output=True,
            cwd="/",
            timeout=_PATIENCE,
        )
        (self._data / "pg_hba.conf").write_text(self._more_access + _TRUSTED, encoding="ascii")

    def prepare_standby(self, primary: "PostgresqlServer") -> None:
        """Copy another one that runs, in place of `prepare`; it follows the other, under the name of its folder."""
        self._link_programs()
        source = f"host={primary.socket_folder} port={primary.port} user=postgres application_name={self.name}"
        words = ["-D", str(self._data), "-d", source, "-X", "stream", "-R", "--checkpoint=fast", "--no-sync"]
        subprocess.run(
            [*_as_nobody(), self._programs / "pg_basebackup", *words],
            check=True,
            capture_output=True,
            cwd="/",
            timeout=_PATIENCE,
        )

    def follow_synchronously(self, standby: "PostgresqlServer") -> None:
        """From now on each commit waits for the standby, which runs."""
        self.sql(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({standby.name})'")
        self.sql("SELECT pg_reload_conf()")
        state = f"SELECT sync_state FROM pg_stat_replication WHERE application_name = '{standby.name}'"
        wait_until(lambda: self.sql(state) == "quorum", "the standby follows")

    def promote(self) -> None:
        """Make a standby the primary."""
        assert self.sql("SELECT pg_promote(wait_seconds => 60)") == "t"

    def start(self) -> None:
        """Start it; return when it answers."""
        settings = [
            f"unix_socket_directories={self._folder}",
            f"listen_addresses={LOOPBACK}",
            "max_connections=60",
            "shared_buffers=32MB",
            *self.settings,
        ]
        words = [word for setting in settings for word in ("-c", setting)]
        command: list[str | Path] = [
            *_as_nobody(),
            self._programs / "postgres",
            "-D",
            self._data,
            "-p",
            str(self.port),
            *words,
        ]
        self._program = Program("postgresql", command, self._folder / "log")
        self._program.wait_until(self._answers, "PostgreSQL answers")

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        if self._program is not None:
            self._program.signal(signal.SIGINT)
            self._program.end()
            self._program = None

    def kill(self) -> None:
        """End the server and all of its processes at once."""
        if self._program is not None:
            pid = self._program.pid
            os.kill(pid, signal.SIGSTOP)  # it starts no further process meanwhile
            wait_until(lambda: _state(pid) in "TZ", "PostgreSQL has stopped")
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            for child in children:  # each is in a session of its own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            self._program.kill()
            self._program = None
            wait_until(lambda: not any(Path("/proc", child).exists() for child in children), "its processes have ended")
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def make_database(self) -> None:
        """Make the database of the service, without tables."""
        self.sql(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    @property
    def engine(self) -> str:
        """The setting `engine` of a service that connects by the socket, without a password."""
        return f"postgresql://{SERVICE}@:{self.port}/{DATABASE}?host={self.socket_folder}"

    @property
    def network_engine(self) -> str:
        """The same by the network: with a password."""
        return f"postgresql://{SERVICE}@{LOOPBACK}:{self.port}/{DATABASE}"

    def sql(self, text: str, database: str = "postgres") -> str:
        """Execute statements as the superuser; their output without headers."""
        words = ["-h", str(self._folder), "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run(
            [self._programs / "psql", *words, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _link_programs(self) -> None:
        """Nobody may not enter root's cache."""
        shutil.copytree(POSTGRESQL.parents[3], self._folder / "usr", symlinks=True, copy_function=_link)
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody", "nogroup")

    def log(self) -> str:
        """What it has written."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def _programs(self) -> Path:
        return self._folder / "usr" / POSTGRESQL.relative_to(POSTGRESQL.parents[3])

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _answers(self) -> bool:
        words = ["-h", str(self._folder), "-p", str(self.port), "-U", "postgres", "-q"]
        return subprocess.run([self._programs / "pg_isready", *words], check=False, timeout=30).returncode == 0


def _state(pid: int) -> str:
    """One letter. proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def _as_nobody() -> list[str]:
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


@contextlib.contextmanager
def running_postgresql(*settings: str, more_access: str = "") -> Iterator[PostgresqlServer]:
    """A server with the roles OWNER and SERVICE, and no database of theirs. `settings`: as `name=value`.

    `more_access`: lines of pg_hba.conf, before those that let everybody in by the socket, or with a password.
    """
    with private_folder("postgresql") as folder, reserved_ports(1) as (port,):
        server = PostgresqlServer(folder, port, settings or _UNSAFE, more_access)
        server.prepare()
        server.start()
        try:
            server.sql(f"CREATE ROLE {OWNER} LOGIN; CREATE ROLE {SERVICE} LOGIN PASSWORD 'geheim'")
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def running_database() -> Iterator[PostgresqlServer]:
    """A server with the database of the service, without tables."""
    with running_postgresql() as server:
        server.make_database()
        yield server


@contextlib.contextmanager
def running_standby(primary: PostgresqlServer) -> Iterator[PostgresqlServer]:
    """A synchronous standby of that server."""
    with private_folder("postgresql") as folder, reserved_ports(1) as (port,):
        server = PostgresqlServer(folder, port, primary.settings)
        server.prepare_standby(primary)
        server.start()
        try:
            primary.follow_synchronously(server)
            yield server
        finally:
            server.kill()
