"""The service: its start, its answers on the control socket, its end after an internal error."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiosmtplib
import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.control.client import RequestRefused, ask, ask_status
from senderproxy.control.protocol import LINE_LIMIT, Answer, Verb, encode, new_request
from senderproxy.delivery.aiosmtplib_adapter import UnsupportedAiosmtplib
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.service import status as status_module


@dataclass
class Office:
    """A folder with a vault, and a service over it."""

    folder: Path
    service: Service
    accounts: VaultAccounts

    async def ask(self, verb: Verb, **fields: object) -> Answer:
        """Send a request as a command does."""
        return await asyncio.to_thread(ask, self.folder / "control.sock", new_request(verb, **fields))

    def add(self, *addresses: str) -> None:
        """Add mailboxes as a command does."""
        unlock = unlock_method(f"key-file:{self.folder / 'vault.key'}", None)
        with AccountEditor.open(self.folder / "accounts.vault", unlock) as editor:
            for address in addresses:
                own = parse_address(address)
                account = Account(own.local_part, address, "ionos", own, own_first(address, []))
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


async def test_a_status_during_the_start_waits_for_the_listeners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked = asyncio.Event()

    class Started(asyncio.Event):
        async def wait(self) -> Literal[True]:
            is_asked.set()
            return await super().wait()

    office = office_in(tmp_path)
    service = office.service
    open_spool = service._spool.open

    async def open_when_asked() -> None:
        asking.append(asyncio.create_task(office.ask(Verb.STATUS)))
        await is_asked.wait()
        await open_spool()

    asking: list[asyncio.Task[Answer]] = []
    service._status.started = Started()
    monkeypatch.setattr(service._spool, "open", open_when_asked)
    await service.start()
    try:
        status = await asking[0]
    finally:
        await service.stop()
    assert len(status["listeners"]) == 1
    assert [one["key"] for one in status["conditions"]] == ["no_account"]


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


async def test_the_accounts_of_a_status_come_in_pages_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = status_module._PAGE
    monkeypatch.setattr(status_module, "_PAGE", 3)
    names = sorted(f"{'konto' * 10}{number}" for number in range(7))
    async with running(tmp_path) as office:
        office.add(*(f"{name}@{'x' * 60}.firma.example" for name in names))
        await office.ask(Verb.READ_VAULT)
        pages = [await office.ask(Verb.STATUS)]
        while (last := pages[-1]["accounts_following"]) is not None:
            pages.append(await office.ask(Verb.ACCOUNTS, after=last))
        assert [[entry["account"] for entry in one["accounts"]] for one in pages] == [names[:3], names[3:6], names[6:]]
        whole = await asyncio.to_thread(ask_status, tmp_path / "control.sock")
        assert [entry["account"] for entry in whole["accounts"]] == names
        assert (await office.ask(Verb.ACCOUNTS, after=names[-1]))["accounts"] == []
        assert len(encode(whole)) * page / len(names) < LINE_LIMIT / 10


FAILING_LOOP = """
import asyncio, sys
from pathlib import Path
from senderproxy import app
from senderproxy.control.socket_store import SocketStore
from senderproxy.control.systemd import SystemdNotifier
from tests.senderproxy.test_app import office_in

def fails():
    raise {error}

class Broken(SystemdNotifier):
    def ready(self, status):
        asyncio.get_running_loop()._run_once = fails

office = office_in(Path(sys.argv[1]))
notifier = Broken(None, None)
app.run(office.service._config, office.accounts, lambda: office.service._config, notifier, SocketStore(notifier))
"""


@pytest.mark.parametrize("error", ["MemoryError", "OSError(9, 'Bad file descriptor')"])
def test_an_error_of_the_event_loop_itself_ends_the_process_at_once(tmp_path: Path, error: str) -> None:
    """systemd starts it again; a stop in order would wait for the callbacks that the loop lost."""
    ended = subprocess.run(
        [sys.executable, "-c", FAILING_LOOP.format(error=error), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == os.EX_SOFTWARE, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if "internal error of the event loop" in line]
    assert error.partition("(")[0] in line


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
