"""Prompts on a terminal: a password is neither echoed nor in the process list."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.senderproxy.cli.conftest import DEADLINE, Office

pytestmark = pytest.mark.slow

# Runs a command on a terminal of its own, with our pipe as the keyboard and the screen.
# A runner in the background ignores SIGINT, and a child inherits that: the terminal restores it for Ctrl-C.
_TERMINAL = (
    "import os, pty, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    " sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
)


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.screen = ""
        self._read = 0

    def read_until(self, words: str) -> None:
        """Wait until the screen shows something new with these words in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE
        while words not in self.screen[self._read :]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            block = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert block, f"waited for {words!r}: {self.screen!r}"
            self.screen += block.decode().replace("\r\n", "\n")
        self._read = self.screen.index(words, self._read) + len(words)

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def interrupt(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\x03")
        self.process.stdin.flush()

    def end(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        self.screen += self.process.stdout.read().decode().replace("\r\n", "\n")
        code = self.process.wait(DEADLINE)
        assert "geheim-" not in self.screen
        assert "Traceback" not in self.screen
        return code


@contextmanager
def at_terminal(office: Office, *words: str) -> Iterator[Terminal]:
    process = subprocess.Popen(
        [sys.executable, "-c", _TERMINAL, sys.executable, "-m", "senderproxy", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"HOME": str(office.folder), "XDG_CONFIG_HOME": str(office.folder / "config")},
    )
    try:
        yield Terminal(process)
    finally:
        process.kill()
        process.wait(DEADLINE)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _command_lines() -> list[bytes]:
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return [line for line in found if b"senderproxy" in line]


def test_a_password_is_asked_for_twice_and_never_shown(office: Office) -> None:
    words = ("--config", str(office.config), "account", "add", "anna@firma.example", "--provider", "ionos")
    with at_terminal(office, *words) as terminal:
        terminal.read_until("Password of anna@firma.example: ")
        assert not [line for line in _command_lines() if b"geheim-" in line]
        terminal.type("geheim-anna")
        terminal.read_until("Repeat: ")
        terminal.type("geheim-anna")
        terminal.read_until("Trying the login of anna@firma.example")
        assert terminal.end() == 0
    assert "Added account anna@firma.example." in terminal.screen


def test_two_passwords_that_differ_change_nothing(office: Office) -> None:
    words = ("--config", str(office.config), "account", "add", "anna@firma.example", "--provider", "ionos")
    with at_terminal(office, *words) as terminal:
        terminal.read_until("Password of")
        terminal.type("geheim-anna")
        terminal.read_until("Repeat: ")
        terminal.type("geheim-anders")
        assert terminal.end() == 64
    assert "The two entries differ; nothing was changed." in terminal.screen
    assert office.simulator.logins() == []


def test_ctrl_c_at_the_password_is_130_and_changes_nothing(office: Office) -> None:
    words = ("--config", str(office.config), "account", "add", "anna@firma.example", "--provider", "ionos")
    with at_terminal(office, *words) as terminal:
        terminal.read_until("Password of")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Interrupted." in terminal.screen


def test_removal_asks_for_confirmation(office: Office) -> None:
    office.add("anna@firma.example")
    words = ("--config", str(office.config), "account", "remove", "anna@firma.example")
    with at_terminal(office, *words) as terminal:
        terminal.read_until("[y/N]")
        terminal.type("n")
        assert terminal.end() == 1
    with at_terminal(office, *words) as terminal:
        terminal.read_until("[y/N]")
        terminal.type("j")
        assert terminal.end() == 0


def test_a_passphrase_is_asked_for_once_for_the_whole_command(office: Office) -> None:
    office.type("vault", "add-unlock", "passphrase", "--passphrase-stdin", stdin="geheim-satz\n")
    words = ("--config", str(office.config), "--unlock", "passphrase", "account", "add", "anna@firma.example")
    with at_terminal(office, *words, "--provider", "ionos") as terminal:
        terminal.read_until("Passphrase of the vault: ")
        terminal.type("geheim-satz")
        terminal.read_until("Password of anna@firma.example: ")
        terminal.type("geheim-anna")
        terminal.read_until("Repeat: ")
        terminal.type("geheim-anna")
        assert terminal.end() == 0
    assert terminal.screen.count("Passphrase") == 1


def test_setup_asks_questions_and_a_mistyped_password_again(empty_office: Office) -> None:
    office, simulator = empty_office, empty_office.simulator
    place = office.folder / "new"
    server = (
        "--host",
        "127.0.0.1",
        "--port",
        str(simulator.port_tls),
        "--security",
        "tls",
        "--ca-file",
        str(simulator.ca_file),
    )
    with at_terminal(office, "setup", "--folder", str(place), *server) as terminal:
        terminal.read_until("Provider [ionos-de]: ")
        terminal.type("")
        terminal.read_until("Address of the first mailbox: ")
        terminal.type("anna@firma.example")
        terminal.read_until("Carry all of them? [Y/n] ")
        terminal.type("")
        terminal.read_until("IP address of the mail server (empty: this machine): ")
        terminal.type("exchange")
        terminal.read_until("exchange is not an IP address.")
        terminal.read_until("IP address of the mail server")
        terminal.type("127.0.0.1")
        terminal.read_until("Address of this machine to listen on [127.0.0.1]: ")
        terminal.type("")
        for attempt, secret in enumerate(("geheim-falsch", "geheim-anna")):
            terminal.read_until("Password of anna@firma.example: ")
            terminal.type(secret)
            terminal.read_until("Repeat: ")
            terminal.type(secret)
            if attempt == 0:
                terminal.read_until("New [p]assword, [k]eep this one, or [s]top? [p] ")
                assert "535 Authentication credentials invalid" in terminal.screen
                terminal.type("p")
        assert terminal.end() == 0, terminal.screen
    assert (len(simulator.logins()), simulator.failed_logins()) == (2, 1)
    config = ("--config", str(place / "senderproxy.toml"))
    assert office.bare(*config, "explain", "anything@firma.example").code == 0
    assert office.bare(*config, "account", "verify").code == 0


def test_a_stopped_setup_leaves_nothing_behind(empty_office: Office) -> None:
    office, simulator = empty_office, empty_office.simulator
    place = office.folder / "new"
    server = (
        "--host",
        "127.0.0.1",
        "--port",
        str(simulator.port_tls),
        "--security",
        "tls",
        "--ca-file",
        str(simulator.ca_file),
    )
    answers = (
        "--provider",
        "ionos-de",
        "--mailbox",
        "anna@firma.example",
        "--no-catch-all",
        "--listen",
        "127.0.0.1:2525",
    )
    with at_terminal(office, "setup", "--folder", str(place), *server, *answers) as terminal:
        terminal.read_until("Password of anna@firma.example: ")
        terminal.type("geheim-falsch")
        terminal.read_until("Repeat: ")
        terminal.type("geheim-falsch")
        terminal.read_until("[s]top? [p] ")
        terminal.type("s")
        assert terminal.end() == 1
    assert not place.exists()
