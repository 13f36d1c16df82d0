"""The service: its start, its answers on the control socket, its end after an internal error."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.control.client import RequestRefused, ask
from senderproxy.control.protocol import Answer, Verb, new_request
from senderproxy.delivery.aiosmtplib_adapter import UnsupportedAiosmtplib
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account


@dataclass
class Office:
    """A folder with a vault, and a service over it."""

    folder: Path
    service: Service
    accounts: VaultAccounts

    async def ask(self, verb: Verb, **fields: object) -> Answer:
        """Send a request as a command does."""
        return await asyncio.to_thread(ask, self.folder / "control.sock", new_request(verb, **fields))

    def add(self, address: str) -> None:
        """Add a mailbox as a command does."""
        own = parse_address(address)
        account = Account(own.local_part, address, "ionos", own, own_first(address, []))
        unlock = unlock_method(f"key-file:{self.folder / 'vault.key'}", None)
        with AccountEditor.open(self.folder / "accounts.vault", unlock) as editor:
            editor.put(StoredAccount(account, "geheim-1"))
            editor.save()

    def in_force(self) -> list[str]:
        """The accounts that a message gets at this moment."""
        return [account.id for account in self.accounts.directory().accounts]


def office_in(folder: Path, **settings: Any) -> Office:
    """A service that is not started."""
    key, vault = folder / "vault.key", folder / "accounts.vault"
    make_key_file(key)
    unlock = f"key-file:{key}"
    AccountEditor.create(vault, unlock_method(unlock, None))
    config = Config.model_validate(
        {
            "identity": {"hostname": "mail.firma.example"},
            "vault": {"path": str(vault), "unlock": unlock},
            "service": {"control_socket": str(folder / "control.sock")},
            "spool": {"directory": str(folder / "spool")},
            "listeners": [{"address": "127.0.0.1:0"}],
        }
    )
    accounts = VaultAccounts.open(vault, unlock_method(unlock, None))
    return Office(folder, Service(config, accounts, **settings), accounts)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Office]:
    """A service from its start to its stop."""
    office = office_in(folder)
    await office.service.start()
    try:
        yield office
    finally:
        await office.service.stop()


async def test_an_unsupported_aiosmtplib_stops_the_start_before_anything_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = office_in(tmp_path)
    monkeypatch.setattr(aiosmtplib, "__version__", "6.0.0")
    with pytest.raises(UnsupportedAiosmtplib, match=r"6\.0\.0"):
        await office.service.start()
    assert office.service.listeners == ()
    assert not (tmp_path / "control.sock").exists()
    assert not (tmp_path / "spool").exists()


async def test_after_the_answer_to_the_request_the_next_message_uses_the_changed_vault(tmp_path: Path) -> None:
    async with running(tmp_path) as office:
        for number in range(3):
            office.add(f"anna{number}@firma.example")
            answer = await office.ask(Verb.READ_VAULT)
            assert f"anna{number}" in office.in_force()
            assert answer["problem"] is None
        office.add("bert@firma.example")
        assert (await office.ask(Verb.RESUME, account="bert"))["account"] == "bert"
        assert "bert" in office.in_force()


async def test_a_vault_that_cannot_be_read_is_named_in_the_answers_and_the_accounts_stay(tmp_path: Path) -> None:
    async with running(tmp_path) as office:
        office.add("anna@firma.example")
        assert (await office.ask(Verb.READ_VAULT))["problem"] is None
        vault = tmp_path / "accounts.vault"
        whole = vault.read_bytes()
        vault.write_bytes(whole[:-10])
        answer = await office.ask(Verb.READ_VAULT)
        status = await office.ask(Verb.STATUS)
        assert "accounts.vault" in answer["problem"]
        assert status["vault_problem"] == answer["problem"]
        assert office.in_force() == ["anna"]
        with pytest.raises(RequestRefused, match="no account bert"):
            await office.ask(Verb.RESUME, account="bert")
        vault.write_bytes(whole)
        assert (await office.ask(Verb.READ_VAULT))["problem"] is None


FAILING_HOUSEKEEPING = """
import asyncio, sys
from pathlib import Path
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.log import set_up_logging
from tests.senderproxy.test_app import office_in

class Broken(SystemdNotifier):
    def alive(self):
        raise ZeroDivisionError("in the housekeeping")

set_up_logging("info", "text")
service = office_in(Path(sys.argv[1]), notifier=Broken(None, None)).service
try:
    asyncio.run(service.run())
except SenderproxyError as error:
    print(error.message)
"""


def test_an_internal_error_in_the_housekeeping_stops_the_service_with_an_error(tmp_path: Path) -> None:
    """systemd starts it again then; it does not go on without its housekeeping."""
    ended = subprocess.run(
        [sys.executable, "-c", FAILING_HOUSEKEEPING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "The service stopped because of an internal error" in ended.stdout
    lines = ended.stderr.splitlines()
    assert any("internal error in the housekeeping" in line and "ZeroDivisionError" in line for line in lines), lines
    assert any("stopped" in line for line in lines)
    assert not (tmp_path / "control.sock").exists()
