"""The role `accounts`: a mailbox is added and gets a new password on the page, over the real sockets and a real login."""

import asyncio
import errno
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.unsaved import unsaved
from senderproxy.control.client import NoAnswer, NotRunning, RequestRefused, ask
from senderproxy.control.protocol import Answer, Request, Role, Verb, new_request
from senderproxy.control.server import ControlServer
from senderproxy.translation import language
from tests.peers.process import Program
from tests.senderproxy.web.page_office import (
    NEW,
    NEW_PASSWORD,
    PASSWORD,
    browser,
    editor_of,
    page_office,
    prepare,
    simulated_provider,
    stored,
)
from tests.senderproxy.web.test_pages import text_of
from tests.vault.disks import failing
from vault import Vault
from vault._file_store import FileStore

WRONG = "geheim-falsch-99"


def form(**fields: object) -> dict[str, object]:
    """The form of a new mailbox."""
    return {
        "address": NEW,
        "provider": "hoster",
        "login": "",
        "others": "",
        "name": "",
        "password": NEW_PASSWORD,
    } | fields


def saved(folder: Path) -> dict[str, str]:
    """The accounts in the vault, with their passwords."""
    with editor_of(folder) as editor:
        return {entry.account.id: entry.secret for entry in editor.all()}


def files_with(folder: Path, secret: str) -> list[Path]:
    """The files in a folder that have these octets."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


async def test_a_mailbox_is_added_with_what_the_page_proposes_and_sends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        assert "/mailboxes/add" in (await client.get("/accounts")).text
        assert 'name="password"' not in (await client.get("/mailboxes/add")).text
        proposed = await client.get(f"/mailboxes/add?address={NEW}")
        assert 'name="provider" value="hoster"' in proposed.text
        assert f'name="login" value="{NEW}"' in proposed.text
        added = await client.submit("/mailboxes/add", form(others="vertrieb@firma.example\n@shop.example", name="Dora"))
        assert added.status_code == 200
        words = (
            "Added account dora@firma.example. It carries dora@firma.example, vertrieb@firma.example, @shop.example."
        )
        assert words in text_of(added)
        explained = text_of(await client.get("/explain?address=vertrieb@firma.example"))
        assert "It would be sent by dora@firma.example" in explained
        assert saved(tmp_path)[NEW] == NEW_PASSWORD
        status = await asyncio.to_thread(ask, office.sockets / "read", new_request(Verb.STATUS))
        pages = [proposed, added, await client.get("/accounts"), await client.get(f"/accounts/{NEW}")]
    assert not [page for page in pages if NEW_PASSWORD in page.text or NEW_PASSWORD in str(page.headers)]
    assert NEW_PASSWORD not in str(status)
    assert files_with(tmp_path, NEW_PASSWORD) == []
    assert not [record for record in caplog.records if NEW_PASSWORD in str(vars(record))]
    assert [record for record in caplog.records if "account changed on the page" in record.getMessage()]


async def test_a_new_password_is_tried_saved_and_used_at_once(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        await office.send("bert@firma.example", "kunde@kunde.example")
        async with asyncio.timeout(30):
            while "suspended" not in text_of(await client.get("/accounts/bert")):
                await asyncio.sleep(0.05)
        assert "/accounts/bert/password" in (await client.get("/accounts/bert")).text
        refused = await client.submit("/accounts/bert/password", {"password": WRONG})
        assert refused.status_code == 422
        assert "Nothing was changed" in text_of(refused)
        assert WRONG not in refused.text
        assert saved(tmp_path)["bert"] == PASSWORD
        done = await client.submit("/accounts/bert/password", {"password": "another"})
        assert "Changed the password of account bert." in text_of(done)
        assert saved(tmp_path)["bert"] == "another"
        async with asyncio.timeout(30):
            while "healthy" not in text_of(await client.get("/accounts/bert")).partition("State")[0]:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("fields", "english", "german"),
    [
        ({"password": WRONG}, "Nothing was changed: ", "Nichts wurde geändert: "),
        ({"provider": "away"}, "Nothing was changed: the login could not be tried", "Nichts wurde geändert: "),
        ({"address": "anna@firma.example"}, "anna@firma.example", "anna@firma.example"),
        ({"others": "carla@firma.example"}, "carla@firma.example", "carla@firma.example"),
        ({"provider": "hostr"}, "Did you mean hoster", "Meinten Sie hoster"),
        ({"address": "dora"}, "Invalid address", "Ungültige Adresse"),
        ({"others": "no address"}, "Invalid address or @domain", "Ungültige Adresse"),
        ({"password": ""}, "The password is missing.", "Das Kennwort fehlt."),
        ({"password": "geheim\x01"}, "control character", "Steuerzeichen"),
    ],
)
async def test_what_cannot_be_added_is_said_in_plain_words_and_changes_nothing(
    tmp_path: Path, fields: dict[str, str], english: str, german: str
) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        before = (tmp_path / "accounts.vault").read_bytes()
        for code, words in (("en", english), ("de", german)):
            answer = await client.submit("/mailboxes/add", form(**fields), headers={"Accept-Language": code})
            assert answer.status_code == 422
            assert words in text_of(answer)
            assert 'name="password" type="password" autocomplete="new-password" required' in answer.text
            for secret in filter(None, (NEW_PASSWORD, fields.get("password"))):
                assert secret not in answer.text
        assert (tmp_path / "accounts.vault").read_bytes() == before


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page tries again until a disk that is busy with other tests has saved the change of the command line."""
    monkeypatch.setattr("senderproxy.service.page_accounts._PAUSES", (0.05,) * 800)


@pytest.mark.usefixtures("patient")
async def test_a_change_of_the_command_line_meanwhile_stays(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        with editor_of(tmp_path) as editor:  # a command is at work when the page wants to save
            page = asyncio.create_task(client.submit("/mailboxes/add", form()))
            async with asyncio.timeout(30):
                while "vault-writer" not in {thread.name for thread in threading.enumerate()}:
                    await asyncio.sleep(0.01)
            editor.put(stored("erika@firma.example", "geheim-erika"))
            await asyncio.to_thread(editor.save)
        assert "Added account" in text_of(await page)
        assert {NEW, "erika"} <= set(saved(tmp_path))
        assert "erika" in (await client.get("/accounts")).text


@pytest.mark.usefixtures("patient")
async def test_a_login_that_was_changed_meanwhile_is_tried_again(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        with editor_of(tmp_path) as editor:
            page = asyncio.create_task(client.submit("/accounts/carla/password", {"password": PASSWORD}))
            async with asyncio.timeout(30):
                while "vault-writer" not in {thread.name for thread in threading.enumerate()}:
                    await asyncio.sleep(0.01)
            carla = editor.find("carla")
            editor.put(replace(carla, account=replace(carla.account, login="nobody@firma.example"), secret="as-it-was"))
            await asyncio.to_thread(editor.save)
        answer = await page
        assert answer.status_code == 422  # the login that it has now does not work with this password
        assert "Nothing was changed" in text_of(answer)
        assert saved(tmp_path)["carla"] == "as-it-was"


async def test_a_vault_that_another_program_holds_is_said(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        with editor_of(tmp_path):
            answer = await client.submit("/mailboxes/add", form())
        assert "Another program is changing the vault; nothing was saved." in text_of(answer)
        assert NEW not in saved(tmp_path)
        assert "Added account" in text_of(await client.submit("/mailboxes/add", form()))


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (errno.ENOSPC, "The disk of the server is full; nothing was saved.", "Die Platte des Servers ist voll"),
        (errno.EACCES, "The service may not write the vault; nothing was saved.", "Der Dienst darf den Tresor nicht"),
        (errno.EROFS, "The service may not write the vault; nothing was saved.", "Der Dienst darf den Tresor nicht"),
    ],
)
def test_a_disk_that_refuses_is_named_with_its_fix(tmp_path: Path, number: int, english: str, german: str) -> None:
    key, path = tmp_path / "vault.key", tmp_path / "accounts.vault"
    make_key_file(key)
    unlock = unlock_method(f"key-file:{key}", None)
    AccountEditor.create(path, unlock)
    disk = failing(1, number, permanently=True)
    with AccountEditor(Vault.open(FileStore(path, disk), unlock=unlock, write=True), path) as editor:
        editor.put(stored(NEW, NEW_PASSWORD))
        disk.armed = True
        with pytest.raises(AccountsError) as refused:
            editor.save()
        disk.armed = False
    for code, words in (("en", english), ("de", german)):
        with language(code):
            said = unsaved(refused.value, path)
        assert words in said.message
        assert said.hint
        assert NEW_PASSWORD not in f"{said.message} {said.hint}"


@pytest.mark.parametrize(
    ("configured", "role"),
    [("accounts", Role.READ), ("accounts", Role.OPERATE), ("operate", Role.ACCOUNTS), ("read", Role.ACCOUNTS)],
)
async def test_no_other_role_adds_a_mailbox_or_changes_a_password(tmp_path: Path, configured: str, role: Role) -> None:
    async with page_office(tmp_path, role=configured) as office, browser(office, role) as client:
        before = (tmp_path / "accounts.vault").read_bytes()
        for path in ("/mailboxes/add", f"/mailboxes/add?address={NEW}", "/accounts/bert/password"):
            assert (await client.get(path)).status_code == 403
        for path in ("/mailboxes/add", "/accounts/bert/password"):
            assert (await client.submit(path, form(password="another"))).status_code == 403
        assert "/mailboxes/add" not in (await client.get("/accounts")).text
        assert "/password" not in (await client.get("/accounts/bert")).text
        assert (tmp_path / "accounts.vault").read_bytes() == before
        assert (office.sockets / "accounts").exists() is (configured == "accounts")
        request = new_request(Verb.ACCOUNT_ADD, **form(others=[]))
        with pytest.raises(RequestRefused, match="Unknown request"):  # the operator's socket has no use for it
            await asyncio.to_thread(ask, tmp_path / "control.sock", request)


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example"])
async def test_a_form_of_another_page_adds_nothing(tmp_path: Path, origin: str | None) -> None:
    async with page_office(tmp_path, role="accounts") as office, browser(office, Role.ACCOUNTS) as client:
        for path in ("/mailboxes/add", "/accounts/bert/password"):
            answer = await client.post(path, data=form(), headers={"Origin": origin} if origin else {})
            assert answer.status_code == 403
            assert "does not come from the page" in answer.text
        assert set(saved(tmp_path)) == {"anna", "bert", "carla"}
        assert office.folder == tmp_path


async def test_a_fault_while_a_password_is_handled_is_logged_without_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fault(request: Request) -> Answer:
        raise ValueError(f"no use for {request['password']}")

    server = ControlServer(tmp_path / "s", {Verb.ACCOUNT_ADD: fault}, role=Role.ACCOUNTS)
    await server.start()
    try:
        with pytest.raises(RequestRefused) as refused:
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.ACCOUNT_ADD, password=NEW_PASSWORD))
    finally:
        await server.stop()
    assert NEW_PASSWORD not in f"{refused.value.message} {refused.value.hint}"
    assert not [record for record in caplog.records if NEW_PASSWORD in str(vars(record))]
    (line,) = [record for record in caplog.records if "control request failed" in record.getMessage()]
    assert "ValueError" in str(vars(line))


async def test_a_service_that_is_killed_between_trial_and_save_leaves_the_vault_as_it_was(tmp_path: Path) -> None:
    async with simulated_provider() as simulator:
        file = prepare(tmp_path, simulator, role="accounts")
        before = (tmp_path / "accounts.vault").read_bytes()
        command = [sys.executable, "-m", "senderproxy", "--config", str(file), "run"]
        program = Program("service", command, tmp_path / "service.log")
        socket = tmp_path / "web" / "accounts"
        try:
            await asyncio.to_thread(program.wait_until, lambda: answers(socket), "an answer on the socket of the role")
            with editor_of(tmp_path):  # the service has tried the login, and waits for the lock
                request = new_request(Verb.ACCOUNT_ADD, **form(others=[]))
                answer = asyncio.create_task(asyncio.to_thread(ask, socket, request))
                await simulator.wait_until(lambda seen: bool(seen.logins(NEW)), 30, "the login test")
                os.kill(program.pid, signal.SIGKILL)
                with pytest.raises(NoAnswer):
                    await answer
        finally:
            await asyncio.to_thread(program.end)
        assert (tmp_path / "accounts.vault").read_bytes() == before
        assert set(saved(tmp_path)) == {"anna", "bert", "carla"}
        assert NEW_PASSWORD not in program.log()
        assert files_with(tmp_path, NEW_PASSWORD) == []


def answers(socket: Path) -> bool:
    """True if the service answers; a socket's file is there a moment before that."""
    try:
        return bool(ask(socket, new_request(Verb.ACCOUNT_PROPOSE, address=""))["providers"])
    except NotRunning:
        return False
