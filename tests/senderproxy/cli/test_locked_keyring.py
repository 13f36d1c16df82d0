"""A keyring that is locked and asks for a password in vain: the commands, and a running service."""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keyring.backend import KeyringBackend

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from tests.senderproxy.cli.conftest import DEADLINE, Office
from vault import KeyFile, Keyring, Vault

pytestmark = pytest.mark.slow

BACKEND = '''
"""A keyring that waits without an end while the file `locked` exists."""

import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend

FOLDER = Path(os.environ["KEYRING_FOLDER"])


class Keyring(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        while (FOLDER / "locked").exists():
            time.sleep(0.01)
        return (FOLDER / "entry").read_text()

    def set_password(self, service, username, password):
        raise NotImplementedError


Keyring.__module__, Keyring.__qualname__ = "keyring.backends.SecretService", "Keyring"
'''
SENTENCE = "The keyring is locked or does not respond."
HINT = "To fix: Unlock it, or use another unlock method this time: senderproxy --unlock passphrase ..."


class _Entry(KeyringBackend):
    """The same keyring, unlocked, for this process."""

    priority = 1

    def __init__(self, text: str) -> None:
        self._text = text

    def get_password(self, service: str, username: str) -> str | None:
        return self._text

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


_Entry.__module__, _Entry.__qualname__ = "keyring.backends.SecretService", "Keyring"
KeyringBackend._classes.discard(_Entry)


class LockedOffice:
    """An office whose vault opens with a key file and with the keyring; the configuration names the keyring."""

    def __init__(self, office: Office) -> None:
        office.add("anna@firma.example")
        self.office, folder = office, office.folder
        (folder / "locked_keyring.py").write_text(BACKEND)
        entry = base64.b64encode(b"k" * 32).decode()
        (folder / "entry").write_text(entry)
        self.vault, self.key = folder / "accounts.vault", KeyFile(folder / "vault.key")
        self.keyring = Keyring("vault-key", service="senderproxy", backend=_Entry(entry))
        with Vault.open(self.vault, unlock=self.key, write=True) as vault:
            vault.add_unlock(self.keyring)
            vault.save()
        text = office.config.read_text()
        office.config.write_text(text.replace('"key-file:vault.key"', '"keyring:senderproxy"'))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command with that keyring."""
        folder = self.office.folder
        return subprocess.Popen(
            [sys.executable, "-m", "senderproxy", "--config", str(self.office.config), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[3],
            env=os.environ
            | {
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": str(folder),
                "PYTHON_KEYRING_BACKEND": "locked_keyring.Keyring",
                "KEYRING_FOLDER": str(folder),
            },
        )

    def lock(self) -> None:
        """Lock the keyring."""
        (self.office.folder / "locked").touch()

    def unlock(self) -> None:
        """Unlock it: a call that waits gets its answer."""
        (self.office.folder / "locked").unlink()

    def rekey(self) -> None:
        """Seal the vault under a new data key, as an administrator with the key file does."""
        with Vault.open(self.vault, unlock=self.key, write=True) as vault:
            vault.rekey(self.key, self.keyring)
            vault.save()

    def status(self) -> dict[str, Any]:
        """The answer of the running service."""
        return ask(self.office.folder / "control.sock", new_request(Verb.STATUS), seconds=DEADLINE)


@pytest.fixture
def locked(office: Office) -> LockedOffice:
    return LockedOffice(office)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the service does."""
    end = time.monotonic() + 2 * DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_command_says_that_the_keyring_is_locked_and_ends(locked: LockedOffice) -> None:
    locked.lock()
    commands = (
        ("run",),
        ("check", "--offline"),
        ("account", "list"),
        ("explain", "anna@firma.example"),
        ("vault", "rekey"),
    )
    started = [(words, locked.start(*words)) for words in commands]
    try:
        for words, process in started:
            output, _ = process.communicate(timeout=2 * DEADLINE)
            assert SENTENCE in output, (words, output)
            assert HINT in output, (words, output)
            assert "Traceback" not in output
            assert process.returncode == (1 if words[0] == "check" else 77), words
    finally:
        for _words, process in started:
            process.kill()
            process.communicate()


def test_a_service_whose_keyring_locks_keeps_its_accounts_answers_and_stops(locked: LockedOffice) -> None:
    service = locked.start("run")
    assert service.stdout is not None
    try:
        for line in service.stdout:
            if "listening address=" in line:
                break
        else:
            pytest.fail("it did not start")
        locked.lock()
        locked.rekey()
        send = ("send", "--from", "anna@firma.example", "--to", "kunde@customer.example")
        assert "Accepted: 250" in locked.office.type(*send).out
        until(lambda: locked.status()["vault_problem"] == SENTENCE)
        assert "Accepted: 250" in locked.office.type(*send).out
        locked.unlock()
        until(lambda: locked.status()["vault_problem"] is None)
        locked.lock()
        locked.rekey()
        assert locked.status()["accounts"][0]["delivered"] == 2
        service.send_signal(signal.SIGTERM)
        output, _ = service.communicate(timeout=DEADLINE)
        assert service.returncode == 0
        assert "cannot read the vault, the accounts in memory stay in force" in output
        assert "vault readable again" in output
    finally:
        service.kill()
        service.communicate()
