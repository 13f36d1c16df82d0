"""Prompts on a terminal: a password is neither echoed nor in the process list."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.senderproxy.cli.conftest import Office
from tests.senderproxy.cli.pseudo_terminal import at_terminal

pytestmark = pytest.mark.slow


def _command_lines(folder: Path) -> list[bytes]:
    """Those of the processes of this terminal, which have the folder in their environment."""
    found: list[bytes] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
    return [line for line in found if b"senderproxy" in line]


def test_a_password_is_asked_for_twice_and_never_shown(office: Office) -> None:
    words = ("--config", str(office.config), "account", "add", "anna@firma.example", "--provider", "ionos")
    with at_terminal(office, *words) as terminal:
        terminal.read_until("Password of anna@firma.example: ")
        lines = _command_lines(office.folder)
        assert lines
        assert not [line for line in lines if b"geheim-" in line]
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
        assert terminal.interrupt() == 130
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
    office.type("vault", "add-unlock", "passphrase", "--passphrase-stdin", stdin="geheim-satz-2\n")
    words = ("--config", str(office.config), "--unlock", "passphrase", "account", "add", "anna@firma.example")
    with at_terminal(office, *words, "--provider", "ionos") as terminal:
        terminal.read_until("Passphrase of the vault: ")
        terminal.type("geheim-satz-2")
        terminal.read_until("Password of anna@firma.example: ")
        terminal.type("geheim-anna")
        terminal.read_until("Repeat: ")
        terminal.type("geheim-anna")
        assert terminal.end() == 0
    assert terminal.screen.count("Passphrase") == 1
