"""Office: a folder with a configuration and a vault, and the simulator as its provider.

The commands run in this process, with their input and output caught; the simulator runs beside them in a loop of its own.
"""

import asyncio
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from senderproxy.cli.main import main
from senderproxy.control.protocol import Verb
from senderproxy.control.server import ControlServer, Handler
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.peers.process import give_back_ports

DEADLINE = 60.0
PASSWORDS = {
    "anna@firma.example": "geheim-anna",
    "bert@firma.example": "geheim-bert",
    "post@laden.example": "geheim-laden",
}


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Office:
    """Runs commands in a folder with a configuration."""

    def __init__(
        self, folder: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self.config = folder / "senderproxy.toml"
        self.simulator = simulator
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.write_config()

    def write_config(self, more: str = "", *, listener: str = 'address = "127.0.0.1:0"') -> None:
        self.config.write_text(
            f"""\
[identity]
hostname = "proxy.firma.example"
[vault]
path = "accounts.vault"
unlock = "key-file:vault.key"
[[listeners]]
{listener}
[providers.ionos]
host = "127.0.0.1"
port = {self.simulator.port_tls}
security = "tls"
ca_file = "{self.simulator.ca_file}"
sender_rule = "domain"
[service]
control_socket = "control.sock"
{more}
""",
            encoding="utf-8",
        )

    def type(self, *words: str, stdin: str | bytes = "") -> Ended:
        """Run `senderproxy ...` without a terminal."""
        return self.bare("--config", str(self.config), *words, stdin=stdin)

    def bare(self, *words: str, stdin: str | bytes = "") -> Ended:
        """The same without `--config`."""
        octets = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8"))
        self._capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        caught = self._capsys.readouterr()
        assert "geheim-" not in caught.out + caught.err
        assert "Traceback" not in caught.err
        return Ended(code, caught.out, caught.err)

    def add(self, address: str, *words: str, provider: str = "ionos") -> None:
        """Add an account without trying its login."""
        secret = PASSWORDS.get(address, "geheim-andere")
        options = ("--provider", provider, "--password-stdin", "--no-verify")
        added = self.type("account", "add", address, *options, *words, stdin=f"{secret}\n")
        assert added.code == 0, added.err


@pytest.fixture(autouse=True)
def _ports_are_given_back() -> Iterator[None]:
    yield
    give_back_ports()


@contextmanager
def service_status(
    office: Office, *, automatic: Any = None, more: Any = None, **status: Any
) -> Iterator[dict[str, Any]]:
    """Something that answers as a running service does, without conditions unless they are given."""
    answer = {"started_at": "2026-11-29T08:00:00+00:00", "process": 1, "accounts": [], "conditions": []} | status
    handlers: dict[Verb, Handler] = {Verb.STATUS: lambda _request: _answer(answer), **(more or {})}
    if automatic is not None:
        handlers[Verb.AUTOMATIC] = lambda _request: _answer(automatic)
    loop = asyncio.new_event_loop()
    server = ControlServer(office.folder / "control.sock", handlers)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, name="control")
    thread.start()
    try:
        yield answer
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(DEADLINE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        loop.close()


async def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    return answer


@contextmanager
def beside(make: Callable[[], Simulator]) -> Iterator[Simulator]:
    """A simulator in an event loop of its own while the block runs."""
    loop, ready, leave = asyncio.new_event_loop(), Future[Simulator](), asyncio.Event()

    async def live() -> None:
        try:
            async with make() as simulator:
                ready.set_result(simulator)
                await leave.wait()
        except BaseException as fault:
            if not ready.done():
                ready.set_exception(fault)
            raise

    faults: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(live())
        except BaseException as fault:
            faults.append(fault)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="simulator")
    thread.start()
    try:
        yield ready.result(DEADLINE)
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(leave.set)
        thread.join(DEADLINE)
    assert not thread.is_alive()
    if faults:
        raise faults[0]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    mailboxes = {login: SimulatedMailbox(secret) for login, secret in PASSWORDS.items()}
    with beside(lambda: Simulator(SimulatorSettings(mailboxes=mailboxes))) as simulator:
        yield simulator


@pytest.fixture
def empty_office(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Office:
    """A configuration without a vault."""
    return Office(tmp_path, simulator, monkeypatch, capsys)


@pytest.fixture
def office(empty_office: Office) -> Office:
    """A configuration and an empty vault."""
    assert empty_office.type("vault", "create").code == 0
    return empty_office


@pytest.fixture
def served(office: Office) -> Iterator[None]:
    """A service that runs over the office's configuration, without a condition."""
    with service_status(office):
        yield
