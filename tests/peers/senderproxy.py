"""senderproxy as an office runs it: the program itself, its commands for the vault, and systemd's way to say "ready".

Guarantees: it is listening when entered, and ends on SIGTERM with exit code 0 or the test fails; no password is ever an
argument, and none of them, in no encoding that a login uses, stands in its log.
"""

import base64
import contextlib
import csv
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from tests.peers.packages import PROJECT
from tests.peers.process import (
    LOOPBACK,
    PATIENCE,
    PeerFailed,
    Program,
    private_folder,
    reserved_ports,
    wait_until,
)
from tests.peers.provider import PostfixProvider

PROVIDER: Final = "hoster"
_COMMAND: Final = 240.0  # seconds for a command; one that asks name servers waits for those that do not answer


@dataclass(frozen=True)
class VaultAccount:
    """A mailbox as it goes into the vault: its id is its address."""

    login: str
    password: str
    carries: tuple[str, ...] = ()
    name: str = ""  # that people see
    provider: str = PROVIDER

    @property
    def id(self) -> str:
        """What commands and replies call it."""
        return self.login


class Senderproxy:
    """A running senderproxy with these accounts, all at one provider."""

    name = "senderproxy"
    seconds_to_start: ClassVar[float] = PATIENCE

    def __init__(
        self,
        accounts: Iterable[VaultAccount],
        provider_section: str,
        *,
        listener_settings: str = "",
        service_settings: str = "",
        more_settings: str = "",
        hostname: str = "relay.office.test",
    ) -> None:
        self._hostname = hostname
        self._accounts = tuple(accounts)
        self._provider_section = provider_section
        self._listener_settings = listener_settings
        self._service_settings = service_settings
        self._more_settings = more_settings
        self._secrets = {account.password for account in self._accounts}
        self._things = contextlib.ExitStack()
        self._program: Program | None = None
        self.environment: dict[str, str] = {}  # what the service finds there beside ours
        self.folder = Path()
        self.address = LOOPBACK  # of its first listener
        self.port = 0

    @classmethod
    def in_front_of(
        cls,
        provider: PostfixProvider,
        accounts: Iterable[VaultAccount],
        *,
        implicit_tls: bool = False,
        service_settings: str = "",
        more_settings: str = "",
    ) -> "Senderproxy":
        """Return one that is told the truth about this provider."""
        section = f"""
host = "localhost"
port = {provider.tls_port if implicit_tls else provider.starttls_port}
security = "{"tls" if implicit_tls else "starttls"}"
ca_file = "{provider.authority.ca_file}"
sender_rule = "{provider.rule.value}"
takes_null_reverse_path = {str(provider.takes_null_sender).lower()}
"""
        return cls(accounts, section, service_settings=service_settings, more_settings=more_settings)

    def __enter__(self) -> Self:
        try:
            self.folder = self._things.enter_context(private_folder(self.name))
            [self.port] = self._things.enter_context(reserved_ports(1))
            self._things.callback(self._end)
            self._make_key()
            self._write_configuration()
            self._create_vault()
            self._import_accounts()
            self.start()
        except BaseException:
            self._things.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._things:
            self.stop()
            self._look_for_secrets(self.log())

    def start(self) -> None:
        """Start it and wait until it says that it is ready, as a unit of Type=notify does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            address = self.folder / "notify"
            address.unlink(missing_ok=True)
            notices.bind(str(address))
            notices.setblocking(False)
            program = Program(
                self.name,
                self._service_words(),
                self.folder / "senderproxy.log",
                environment={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "NOTIFY_SOCKET": str(address),
                    **self.environment,
                },
            )
            self._program = program
            ready = "senderproxy says READY=1"
            program.wait_until(lambda: b"READY=1" in _next_notice(notices), ready, self.seconds_to_start)

    def stop(self) -> None:
        """End it as systemd does, and insist on a clean end."""
        if self._program is not None:
            for seen_by_others in ("cmdline", "environ"):
                self._look_for_secrets(Path(f"/proc/{self.pid}/{seen_by_others}").read_text(errors="replace"))
            code = self.terminate()
            if code != 0:
                raise PeerFailed(f"senderproxy ended with {code}\n{self.log()}")

    def terminate(self) -> int:
        """End it as systemd does; its exit code. Raises PeerFailed if it does not end."""
        assert self._program is not None
        program, self._program = self._program, None
        return program.end()

    def restart(self) -> None:
        """Stop and start again, on the same port and with the same vault."""
        self.stop()
        self.start()

    def restart_without_memory(self) -> None:
        """Stop, delete what it has learned (pauses, refused senders, the use of the hour), and start again."""
        self.stop()
        with contextlib.closing(sqlite3.connect(self.folder / "spool" / "spool.db")) as spool:
            spool.execute("DELETE FROM learned")
            spool.commit()
        self.start()

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._program is not None
        self._program.kill()
        self._program = None

    def wait_for_death(self) -> None:
        """Return when it has ended by itself."""
        program = self._program
        assert program is not None
        wait_until(lambda: program.exit_code is not None, "senderproxy is dead", peer=self)
        self.kill()

    def reload(self) -> None:
        """SIGHUP: read the configuration again."""
        assert self._program is not None
        self._program.signal(signal.SIGHUP)

    def configure(self, more_settings: str) -> None:
        """Write the configuration anew, with these settings, and put it in force while the service runs."""
        self._more_settings = more_settings
        self._write_configuration()
        ask(self.folder / "control", new_request(Verb.RELOAD), seconds=PATIENCE)  # it starts a process

    def resume_accounts(self) -> None:
        """Lift the pauses of all accounts, as `account verify` does."""
        for account in self._accounts:
            ask(self.folder / "control", new_request(Verb.RESUME, account=account.login), seconds=PATIENCE)

    def provide(self, provider_section: str) -> None:
        """The same with other words about the provider."""
        self._provider_section = provider_section
        self.configure(self._more_settings)

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._program is not None
        return self._program.pid

    @property
    def config_file(self) -> Path:
        """Its configuration."""
        return self.folder / "senderproxy.toml"

    def log(self) -> str:
        """Return what it has written since the first start."""
        file = self.folder / "senderproxy.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def wait_for_log(self, text: str, seconds: float = PATIENCE) -> None:
        """Return when the text stands in the log."""
        wait_until(lambda: text in self.log(), f"in the log: {text}", seconds, peer=self)

    def set_password(self, account_id: str, password: str) -> None:
        """Give an account another password, as a person would; the running service is not touched."""
        self._secrets.add(password)
        self.command("account", "set-password", account_id, "--password-stdin", standard_input=f"{password}\n")

    def add_account(self, account: VaultAccount) -> None:
        """Add one as a person would, its login tried first; the running service is not touched."""
        self._accounts = (*self._accounts, account)
        self._secrets.add(account.password)
        words = [word for pattern in account.carries for word in ("--also", pattern)]
        self.command(
            "account", "add", account.login, "--provider", PROVIDER, *words, "--password-stdin",
            standard_input=f"{account.password}\n",
        )  # fmt: skip

    def queue(self) -> dict[str, Any]:
        """Return what `senderproxy status` knows of the queue."""
        done = subprocess.run(
            [*self._program_words(), "status", "--json"],
            stdout=subprocess.PIPE, timeout=PATIENCE, check=False, cwd=PROJECT,
        )  # fmt: skip
        return dict(json.loads(done.stdout)["queue"])

    def tracked(self, *words: str, text: str = "", count: int = 1) -> str:
        """What `track` prints, when it has this text so often: the history of what passed through comes a second later."""

        def printed() -> str:
            found = " ".join(self.command("track", *words, exit_code=None).split())
            return found if found.count(text) >= count and "No message found" not in found else ""

        return wait_until(printed, f"{count} times in the history: {text}", peer=self)

    def command(
        self, *words: str, standard_input: str = "", exit_code: int | None = 0, seconds: float = _COMMAND
    ) -> str:
        """Run one of its commands; return what it printed on both streams. `exit_code`: None for any."""
        done = subprocess.run(
            [*self._program_words(), *words],
            input=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
            cwd=PROJECT,
        )
        self._look_for_secrets(done.stdout)
        assert exit_code in (done.returncode, None), (
            f"senderproxy {' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def _program_words(self) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "senderproxy", "--config", str(self.config_file)]

    def _service_words(self) -> list[str]:
        """Return the command that runs the service."""
        return [*self._program_words(), "run"]

    def _end(self) -> None:
        if self._program is not None:
            self._program.kill()

    def _make_key(self) -> None:
        self._key.touch(mode=0o600)
        self._key.write_bytes(secrets.token_bytes(32))

    @property
    def _key(self) -> Path:
        return self.folder / "vault.key"

    def _write_configuration(self) -> None:
        self.config_file.write_text(
            f"""
[identity]
hostname = "{self._hostname}"

[vault]
{self._vault_place()}
unlock = "key-file:{self._key}"

[[listeners]]
address = "{self.address}:{self.port}"
{self._listener_settings}

[service]
control_socket = "{self.folder}/control"
{self._service_settings}

[providers.{PROVIDER}]
{self._provider_section}
{self._more_settings}
""",
            encoding="utf-8",
        )

    def _vault_place(self) -> str:
        return f'path = "{self.folder}/accounts.vault"'

    def _create_vault(self) -> None:
        self.command("vault", "create")

    def _import_accounts(self) -> None:
        file = self.folder / "accounts.csv"
        file.touch(mode=0o600)
        with file.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["login", "password", "provider", "address", "name"])
            for account in self._accounts:
                addresses = " ".join((account.login, *account.carries))
                table.writerow([account.login, account.password, account.provider, addresses, account.name])
        self.command("account", "import", str(file))
        file.unlink()

    def _look_for_secrets(self, text: str) -> None:
        told = {
            form for account in self._accounts for secret in self._secrets for form in _forms(account.login, secret)
        }
        assert not any(form in text for form in told), "a password was told"


def _forms(login: str, secret: str) -> Sequence[str]:
    """Return how a password may show: as it is, as AUTH LOGIN sends it, as AUTH PLAIN does."""
    plain = f"\0{login}\0{secret}".encode()
    return secret, base64.b64encode(secret.encode()).decode(), base64.b64encode(plain).decode()


def _next_notice(notices: socket.socket) -> bytes:
    try:
        return notices.recv(4096)
    except BlockingIOError:
        return b""
