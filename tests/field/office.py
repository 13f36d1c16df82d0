"""The office of one case: a provider's server, a vault, a configuration, and the service as a process of its own.

Guarantees: everything is in a private directory and on loopback, and is gone afterwards; several offices can be open at
once. Zone and environment of a case are those of its processes alone.
Not here: the steps of a case (tests.field.run).
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.listener.client_auth import hash_password
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.simulator.faults import FaultScript
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.field.case import SECRET, Case, OfficeSettings
from tests.field.upstreams import Upstream, open_upstream, write_certificate
from tests.peers.packages import PROJECT
from tests.peers.process import LOOPBACK, Program, private_folder, reserved_ports

_PROVIDER: Final = "prov"
_COMMAND_SECONDS: Final = 240.0  # one that asks name servers waits for those that do not answer


@dataclass(slots=True)
class Office:
    """An open office."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    simulator: Simulator | None  # None: another server
    upstream: Upstream | None

    @property
    def config_file(self) -> Path:
        return self.folder / "senderproxy.toml"

    def log(self) -> str:
        """The log of the service so far."""
        return (self.folder / "senderproxy.log").read_text("utf-8", "replace")

    async def command(
        self, arguments: list[str], standard_input: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> str:
        """Run one command of the program. Returns `rc=N` and what it printed on both streams."""
        process = await asyncio.create_subprocess_exec(
            *_program(self.config_file),
            *arguments,
            env={**self.environment, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=PROJECT,
        )
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                printed, _errors = await process.communicate(standard_input)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return f"rc={process.returncode}\n{printed.decode('utf-8', 'replace')}"

    def private_copy(self, file: Path) -> Path:
        """Copy a file of the case to a file that only its owner can read."""
        copy = self.folder / file.name
        copy.touch(mode=0o600)
        return Path(shutil.copyfile(file, copy))


@asynccontextmanager
async def open_office(case: Case) -> AsyncIterator[Office]:
    """Set up the office of this case."""
    settings = case.office
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(private_folder("field"))
        [port] = stack.enter_context(reserved_ports(1))
        office = Office(folder, port, _environment(settings), None, None)
        if settings.upstream == "twin":
            mailboxes = {account[1]: SimulatedMailbox(SECRET) for account in settings.accounts}
            simulator_settings = SimulatorSettings(mailboxes=mailboxes, raise_violations=False)
            office.simulator = await stack.enter_async_context(Simulator(simulator_settings, FaultScript(*case.faults)))
        else:
            office.upstream = await stack.enter_async_context(open_upstream(settings.upstream, folder))
        office.config_file.write_text(_config_text(office, settings), encoding="utf-8")
        await asyncio.to_thread(_create_vault, folder, settings)
        program = await asyncio.to_thread(_start, office)
        stack.push_async_callback(asyncio.to_thread, program.kill)
        yield office
        code = await asyncio.to_thread(program.end)
        if code != 0:
            raise RuntimeError(f"the service ended with {code}\n{office.log()}")


def _program(config_file: Path) -> list[str]:
    return [sys.executable, "-m", "senderproxy", "--config", str(config_file)]


def _environment(settings: OfficeSettings) -> dict[str, str]:
    """The environment of all processes: English, without what the developer's shell adds."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    zone = {"TZ": settings.tz} if settings.tz is not None else {}
    return {**kept, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1", **zone, **settings.env}


def _create_vault(folder: Path, settings: OfficeSettings) -> None:
    key_file, vault = folder / "vault.key", folder / "accounts.vault"
    make_key_file(key_file)
    unlock = unlock_method(f"key-file:{key_file}", None)
    AccountEditor.create(vault, unlock)
    with AccountEditor.open(vault, unlock) as editor:
        for account_id, address, *patterns in settings.accounts:
            carries = own_first(address, patterns)
            editor.put(StoredAccount(Account(account_id, address, _PROVIDER, parse_address(address), carries), SECRET))
        editor.save()


def _start(office: Office) -> Program:
    """Start the service and wait until it says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        address = office.folder / "notify"
        notices.bind(str(address))
        notices.setblocking(False)
        environment = {**office.environment, "NOTIFY_SOCKET": str(address)}
        program = Program(
            "senderproxy",
            [*_program(office.config_file), "run"],
            office.folder / "senderproxy.log",
            environment=environment,
        )

        def ready() -> bool:
            try:
                return b"READY=1" in notices.recv(4096)
            except BlockingIOError:
                return False

        try:
            program.wait_until(ready, "the service is ready")
        except BaseException:
            program.kill()
            raise
        return program


def _config_text(office: Office, settings: OfficeSettings) -> str:
    """The configuration file. JSON strings are TOML basic strings."""
    quoted = json.dumps
    folder = office.folder
    host, port, security, ca_file = _server(office)
    listener = settings.listener.replace("CERT", str(folder / "own.pem")).replace("KEY", str(folder / "own.key"))
    if listener != settings.listener and not (folder / "own.pem").exists():
        write_certificate(folder)
    clients = "".join(
        f'[[clients]]\nuser = {quoted(user)}\npassword = "{hash_password(password)}"\n'
        for user, password in settings.clients.items()
    )
    return f"""\
[identity]
{f"hostname = {quoted(settings.hostname)}" if settings.hostname else ""}

[vault]
path = {quoted(str(folder / "accounts.vault"))}
unlock = {quoted(f"key-file:{folder / 'vault.key'}")}

[[listeners]]
name = "office"
address = "{LOOPBACK}:{office.port}"
{listener}

[providers.{_PROVIDER}]
preset = {quoted(settings.preset)}
host = {quoted(host)}
port = {port}
security = {quoted(security)}
{f"ca_file = {quoted(str(ca_file))}" if ca_file and not settings.no_ca else ""}
{settings.provider}

[service]
control_socket = {quoted(str(folder / "control.sock"))}
stop_seconds = 2
{settings.more}
{clients}
"""


def _server(office: Office) -> tuple[str, int, str, Path | None]:
    """Host, port, security and authority of the provider's server."""
    if office.simulator is not None:
        return office.simulator.host, office.simulator.port_tls, "tls", office.simulator.ca_file
    assert office.upstream is not None
    return LOOPBACK, office.upstream.port, office.upstream.security, office.upstream.ca_file
