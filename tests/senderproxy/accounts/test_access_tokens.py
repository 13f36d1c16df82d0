"""Access tokens over a real vault and grant file, with a token endpoint of the test."""

import asyncio
import json
import logging
import os
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from senderproxy.accounts import vault_admin
from senderproxy.accounts.access_tokens import VaultTokens
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.grant_file import GrantFile, grant_file_of
from senderproxy.accounts.grant_key import new_grant_key
from senderproxy.accounts.late_oauth import LateTokens
from senderproxy.accounts.oauth_application import Flow, StoredApplication
from senderproxy.accounts.record import GRANT_KEY, Grant, StoredAccount, own_first
from senderproxy.accounts.unlock import UnlockMethod, make_key_file, unlock_method
from senderproxy.accounts.usable_application import to_record
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.http_client.client import HttpClient
from senderproxy.log import TextFormatter
from senderproxy.mail.address import parse_address
from senderproxy.relay.ports import NoToken
from senderproxy.routing.account import AccessToken, Account
from tests.fakes.http_server import Behaviour, HttpServer, Received, answer, http_server, silence
from tests.fakes.still_clock import StillClock


def tokens_answer(access: str, refresh: str = "", lifetime: object = 3600) -> Behaviour:
    entry: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": lifetime}
    return answer("200 OK", json.dumps(entry | ({"refresh_token": refresh} if refresh else {})).encode())


def refusal(error: str, words: str = "", status: str = "400 Bad Request") -> Behaviour:
    return answer(status, json.dumps({"error": error, "error_description": words}).encode())


@dataclass
class Office:
    """A vault with an application and accounts, and the token endpoint."""

    path: Path
    key: UnlockMethod
    server: HttpServer
    clock: StillClock
    http: HttpClient
    accounts: VaultAccounts
    tokens: LateTokens | VaultTokens

    def account(self, name: str) -> Account:
        found = self.accounts.directory().by_id(name)
        assert found is not None
        return found

    async def token(self, name: str = "anna") -> str | NoToken:
        found = await self.tokens.token(self.account(name))
        return found.reveal() if isinstance(found, AccessToken) else found

    def sent(self) -> list[dict[str, str]]:
        return [
            {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
            for request in self.server.requests
        ]

    def edit(self, **changes: Any) -> None:
        """Change the application."""
        with AccountEditor.open(self.path, self.key) as editor:
            editor.put_record(to_record(replace(self.application(), **changes)))
            editor.save()

    def application(self, flow: Flow = Flow.CONSENT) -> StoredApplication:
        return StoredApplication(
            "office",
            flow,
            "office",
            "client-1",
            token_url=f"http://127.0.0.1:{self.server.port}/token",
            secret="geheim-s",
        )

    def consent(self, name: str, refresh: str, grant: str) -> None:
        """Store an account with a new grant."""
        address = parse_address(f"{name}@firma.example")
        account = Account(name, str(address), "ionos-de", address, own_first(str(address), []))
        with AccountEditor.open(self.path, self.key) as editor:
            editor.put(StoredAccount(account, refresh, Grant("office", grant)))
            editor.save()

    def again(self) -> VaultTokens:
        """The tokens of another process, which has nothing in memory."""
        return VaultTokens(VaultAccounts.open(self.path, self.key), self.http, self.clock, self.path)


@asynccontextmanager
async def an_office(folder: Path, *behaviours: Behaviour, flow: Flow = Flow.CONSENT) -> AsyncIterator[Office]:
    make_key_file(folder / "vault.key")
    key = unlock_method(f"key-file:{folder / 'vault.key'}", None)
    path = folder / "accounts.vault"
    AccountEditor.create(path, key)
    async with http_server() as server:
        server.behaviours = list(behaviours) or [tokens_answer("geheim-a1")]
        clock = StillClock()
        http, accounts = HttpClient(clock, {}), VaultAccounts.open(path, key)
        office = Office(path, key, server, clock, http, accounts, LateTokens(accounts, http, clock, path))
        with AccountEditor.open(path, key) as editor:
            editor.put_record(new_grant_key(()))
            editor.put_record(to_record(office.application(flow)))
            editor.save()
        for name in ("anna", "bert"):
            office.consent(name, "geheim-r0" if flow is Flow.CONSENT else "", f"grant-{name}")
        try:
            yield office
        finally:
            await office.tokens.close(10)
            http.close()


async def test_an_application_has_one_token_for_all_its_mailboxes(tmp_path: Path) -> None:
    async with an_office(tmp_path, flow=Flow.APPLICATION) as office:
        assert [await office.token(name) for name in ("anna", "bert", "anna")] == ["geheim-a1"] * 3
        assert office.sent() == [
            {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": "geheim-s"}
        ]
        assert not grant_file_of(office.path).exists()


async def test_a_consent_is_of_one_mailbox(tmp_path: Path) -> None:
    async with an_office(tmp_path, tokens_answer("geheim-a1"), tokens_answer("geheim-a2")) as office:
        assert [await office.token(name) for name in ("anna", "bert", "anna")] == [
            "geheim-a1",
            "geheim-a2",
            "geheim-a1",
        ]
        assert office.sent()[0] == {
            "grant_type": "refresh_token",
            "refresh_token": "geheim-r0",
            "client_id": "client-1",
            "client_secret": "geheim-s",
        }


async def test_a_rotated_refresh_token_is_on_disk_before_the_token_is_used(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        assert await office.token() == "geheim-a1"
        file = grant_file_of(office.path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"geheim" not in file.read_bytes()
        await office.tokens.close(10)  # as after a kill: nothing else is written at the end
        later = office.again()
        found = await later.token(office.account("anna"))
        assert isinstance(found, AccessToken)
        assert found.reveal() == "geheim-a2"
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r1"]
        await later.close(10)


async def test_a_new_consent_beats_older_rotated_tokens(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-n2")
    ) as office:
        assert await office.token() == "geheim-a1"
        office.consent("anna", "geheim-n1", "grant-new")
        assert await office.token() == "geheim-a2"
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-n1"]


async def test_a_removed_account_leaves_nothing(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        assert await office.token() == "geheim-a1"
        with AccountEditor.open(office.path, office.key) as editor:
            editor.remove("anna")
            editor.save()
        assert await office.token("bert") == "geheim-a2"
        await office.tokens.close(10)
        with GrantFile.open(grant_file_of(office.path), office.accounts.grant_keys()) as file:
            assert (file.token("grant-anna"), file.token("grant-bert")) == ("", "geheim-r2")


async def test_a_backup_has_no_refresh_token_and_the_account_asks_for_a_consent(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office:
        passphrase = unlock_method("passphrase", lambda _prompt: "geheim-passphrase")
        vault_admin.export(office.path, office.key, tmp_path / "copy.vault", passphrase)
        copy = VaultAccounts.open(tmp_path / "copy.vault", passphrase)
        tokens = VaultTokens(copy, office.http, office.clock, tmp_path / "copy.vault")
        found = await tokens.token(office.account("anna"))
        assert isinstance(found, NoToken)
        assert found.needs_person
        assert "backups leave refresh tokens out" in found.reply.text
        assert "senderproxy account consent anna" in found.hint
        await tokens.close(10)
        assert await office.token() == "geheim-a1"


async def test_one_process_uses_the_refresh_tokens(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office:
        assert await office.token() == "geheim-a1"
        other = office.again()
        found = await other.token(office.account("bert"))
        assert isinstance(found, NoToken)
        assert not found.needs_person
        assert "accounts.vault.grants" in found.reply.text
        assert len(office.server.requests) == 1  # an older refresh token would end the grant
        await other.close(10)


@pytest.mark.parametrize(
    ("behaviour", "needs_person", "words", "hint"),
    [
        (
            refusal("invalid_grant", "expired"),
            True,
            "has ended the consent of anna",
            "senderproxy account consent anna",
        ),
        (
            refusal("invalid_client", "AADSTS7000222: keys are expired", "401 Unauthorized"),
            True,
            "secret of the application has expired",
            "senderproxy oauth set-secret office",
        ),
        (
            refusal("temporarily_unavailable", status="503 Away"),
            False,
            "cannot give a token at the moment",
            "tried again",
        ),
        (answer("502 Bad Gateway", b"<html>"), False, "cannot give a token at the moment", "tried again"),
        (
            answer("200 OK", b"<html>Please log in</html>"),
            False,
            "sent no valid answer",
            "senderproxy oauth show office",
        ),
        (answer("200 OK", b"x" * 100_000), False, "cannot give a token at the moment", "tried again"),
        (answer("302 Found", b"", "Location: http://127.0.0.1:1/"), False, "sent no valid answer", "oauth show"),
    ],
)
async def test_refusals_have_a_state_and_a_hint(
    tmp_path: Path, behaviour: Behaviour, needs_person: bool, words: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with an_office(tmp_path, behaviour) as office:
            found = await office.token()
    assert isinstance(found, NoToken)
    assert found.needs_person is needs_person
    assert found.reply.is_permanent is needs_person
    assert words in found.reply.text
    assert hint in found.hint
    assert not found.reply.text.endswith(".")  # the hint follows as a sentence
    assert "geheim" not in found.reply.text + caplog.text


async def test_a_person_who_acts_ends_a_refusal(tmp_path: Path) -> None:
    async with an_office(tmp_path, refusal("invalid_grant"), tokens_answer("geheim-a2")) as office:
        assert isinstance(await office.token(), NoToken)
        assert isinstance(await office.token(), NoToken)
        assert len(office.server.requests) == 1
        office.tokens.resume("anna")
        assert await office.token() == "geheim-a2"


async def test_a_new_secret_of_the_application_ends_a_refusal_and_closes_its_sessions(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, refusal("invalid_client"), tokens_answer("geheim-a2"), flow=Flow.APPLICATION
    ) as office:
        assert isinstance(await office.token(), NoToken)
        anna = office.account("anna")
        before = office.accounts.credential(anna)
        office.edit(flow=Flow.APPLICATION, secret="geheim-s2")
        assert await office.token() == "geheim-a2"
        after = office.accounts.credential(anna)
        assert before is not None
        assert after is not None
        assert before.version != after.version


async def test_an_application_that_is_not_usable_is_named(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office:
        with AccountEditor.open(office.path, office.key) as editor:
            editor.remove_record(editor.records("oauth-application")[0])
            editor.save()
        found = await office.token()
        assert isinstance(found, NoToken)
        assert found.reply.text == "There is no application office."
        assert not office.server.requests


async def test_the_vaults_new_data_key_seals_the_grant_file_again(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        assert await office.token() == "geheim-a1"
        old = office.accounts.grant_keys()
        vault_admin.rekey(office.path, office.key, [], [])
        assert office.accounts.check()
        assert office.accounts.grant_keys()[1:] == old
        office.clock.passed += 3599
        assert await office.token() == "geheim-a2"
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r1"]
        await office.tokens.close(10)
        with GrantFile.open(grant_file_of(office.path), old) as file:
            assert file.token("grant-anna") == ""  # an old key opens nothing


async def test_two_new_data_keys_while_the_service_has_the_file_open(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        assert await office.token() == "geheim-a1"
        old = office.accounts.grant_keys()
        for _ in range(2):
            vault_admin.rekey(office.path, office.key, [], [])
        assert office.accounts.check()
        assert old[0] not in office.accounts.grant_keys()  # nobody else knows the key that seals the file
        office.tokens.follow_keys()
        office.tokens.follow_keys()
        office.clock.passed += 3599
        assert await office.token() == "geheim-a2"
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r1"]
        for _ in range(2):
            vault_admin.rekey(office.path, office.key, [], [])
        assert office.accounts.check()
        await office.tokens.close(10)
        assert not (tmp_path / "accounts.vault.grants.unreadable").exists()
        with GrantFile.open(grant_file_of(office.path), office.accounts.grant_keys()[:1]) as file:
            assert file.token("grant-anna") == "geheim-r2"


async def test_other_unlocks_of_the_vault_open_the_same_grant_file(tmp_path: Path) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        assert await office.token() == "geheim-a1"
        await office.tokens.close(10)
        make_key_file(tmp_path / "other.key")
        other = unlock_method(f"key-file:{tmp_path / 'other.key'}", None)
        before = VaultAccounts.open(office.path, office.key).grant_keys()
        vault_admin.add_unlock(office.path, office.key, other, "other")
        vault_admin.rekey(office.path, other, [], ["key-file"])
        accounts = VaultAccounts.open(office.path, other)
        assert accounts.grant_keys()[1:] == before
        later = VaultTokens(accounts, office.http, office.clock, office.path)
        found = await later.token(office.account("anna"))
        assert isinstance(found, AccessToken)
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r1"]
        await later.close(10)
        with GrantFile.open(grant_file_of(office.path), before) as file:
            assert file.token("grant-anna") == ""  # the removed unlock's key opens nothing


async def test_without_a_service_a_new_data_key_seals_it_at_once(tmp_path: Path) -> None:
    async with an_office(tmp_path, tokens_answer("geheim-a1", "geheim-r1")) as office:
        assert await office.token() == "geheim-a1"
        await office.tokens.close(10)
        for _ in range(2):  # twice: the key before the last one is known to nobody
            vault_admin.rekey(office.path, office.key, [], [])
        newest = VaultAccounts.open(office.path, office.key).grant_keys()[:1]
        with GrantFile.open(grant_file_of(office.path), newest) as file:
            assert file.token("grant-anna") == "geheim-r1"


async def test_a_disk_that_refuses_costs_no_mail_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_office(
        tmp_path, tokens_answer("geheim-a1", "geheim-r1"), tokens_answer("geheim-a2", "geheim-r2")
    ) as office:
        await office.tokens.token(office.account("bert"))

        def full(*_arguments: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            assert await office.token() == "geheim-a2"
        assert events(caplog, "grant_not_stored")
        office.clock.passed += 3599
        await office.token()
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r0", "geheim-r2"]


async def test_a_token_that_the_disk_refused_is_stored_when_it_allows_it_and_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [tokens_answer(f"geheim-a{number}", f"geheim-r{number}") for number in (1, 2)]
    async with an_office(tmp_path, *answers) as office, asyncio.timeout(30):
        assert office.accounts.check()
        GrantFile.open(grant_file_of(office.path), office.accounts.grant_keys()).close()
        tokens = VaultTokens(office.accounts, office.http, office.clock, office.path, save_again=0.01)
        with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
            patched.setattr(os, "fsync", no_space)
            assert isinstance(await tokens.token(office.account("anna")), AccessToken)
            patched.undo()
            while not events(caplog, "grants_stored"):
                await asyncio.sleep(0.01)
        assert len(events(caplog, "grant_not_stored")) == 1
        await tokens.close(10)
        late = VaultTokens(office.accounts, office.http, office.clock, office.path, save_again=3600)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_space)
            assert isinstance(await late.token(office.account("bert")), AccessToken)
        await late.close(10)
        with GrantFile.open(grant_file_of(office.path), office.accounts.grant_keys()) as file:
            assert (file.token("grant-anna"), file.token("grant-bert")) == ("geheim-r1", "geheim-r2")


async def test_a_disk_that_hangs_delays_no_login_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = threading.Event(), threading.Event()

    def hang(_file: int) -> None:
        begun.set()
        assert release.wait(30)

    async def rotate(request: Received, writer: asyncio.StreamWriter) -> None:
        tokens._local._file_seconds = 0.05  # the write that follows the answer hangs
        await tokens_answer("geheim-a2", "geheim-r2")(request, writer)

    async with an_office(tmp_path, tokens_answer("geheim-a1", "geheim-r1"), rotate) as office, asyncio.timeout(30):
        tokens = VaultTokens(
            office.accounts, office.http, office.clock, office.path, file_seconds=0.05, save_again=0.01
        )
        with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
            patched.setattr(os, "fsync", hang)
            found = await tokens.token(office.account("anna"))
            # The file is not open yet, so the newest token is unknown, and the server is not asked.
            assert isinstance(found, NoToken)
            assert not found.needs_person
            assert "does not respond within 0.05 s" in found.reply.text
            assert await asyncio.to_thread(begun.wait, 20)
            assert not office.server.requests
            release.set()
            tokens._local._file_seconds = 30.0  # a call that does not hang has its time on a busy machine, too
            office.clock.passed += 301
            while isinstance(await tokens.token(office.account("anna")), NoToken):
                office.clock.passed += 301
                await asyncio.sleep(0.01)
            release.clear()
            office.clock.passed += 3600
            found = await tokens.token(office.account("anna"))  # rotated, and its write hangs
            assert isinstance(found, AccessToken)
            (line,) = events(caplog, "grant_not_stored")
            assert "does not respond" in line
            found = await tokens.token(office.account("bert"))
            assert isinstance(found, NoToken)
            assert "does not respond" in found.reply.text
            await tokens.token(office.account("anna"))  # with the token in hand
            assert not events(caplog, "grants_stored")
            tokens._local._file_seconds = 30.0
            release.set()
            while not events(caplog, "grants_stored"):
                await asyncio.sleep(0.01)
        await tokens.close(10)
        with GrantFile.open(grant_file_of(office.path), office.accounts.grant_keys()) as file:
            assert file.token("grant-anna") == "geheim-r2"


async def test_a_stop_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    async with an_office(tmp_path, tokens_answer("geheim-a1", "geheim-r1")) as office, asyncio.timeout(30):
        tokens = VaultTokens(office.accounts, office.http, office.clock, office.path, file_seconds=0.01)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", lambda _file: release.wait(30))
            assert isinstance(await tokens.token(office.account("anna")), NoToken)
            await tokens.close(0.05)
            release.set()


def no_space(*_arguments: object) -> None:
    raise OSError(28, "No space left on device")


def events(caplog: pytest.LogCaptureFixture, key: str) -> list[str]:
    found = [record for record in caplog.records if getattr(record, "senderproxy_event", "") == key]
    return [TextFormatter().format(record) for record in found]


@pytest.mark.parametrize("field", ["refresh_token", "client_secret"])
async def test_a_server_that_repeats_a_secret_does_not_bring_it_into_the_words(tmp_path: Path, field: str) -> None:
    async def repeat(request: Received, writer: asyncio.StreamWriter) -> None:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        await refusal(f"invalid {form[field]}", "x" * 290 + f"{form[field]} is not valid")(request, writer)

    async with an_office(tmp_path, repeat) as office:
        found = await office.token()
        assert isinstance(found, NoToken)
        assert "invalid ***" in found.reply.text
        assert "geheim" not in f"{found}"


async def test_a_changed_secret_does_not_spend_a_refresh_token_twice(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await go_on.wait()
        await tokens_answer("geheim-a1", "geheim-r1")(request, writer)

    async with an_office(tmp_path, slow, tokens_answer("geheim-a2", "geheim-r2")) as office:
        before = asyncio.create_task(office.token())
        await arrived.wait()
        office.edit(secret="geheim-s2")
        assert office.accounts.check()
        after = asyncio.create_task(office.token())
        await asyncio.sleep(0.05)
        assert len(office.server.requests) == 1
        go_on.set()
        assert (await before, await after) == ("geheim-a1", "geheim-a2")
        assert [sent["refresh_token"] for sent in office.sent()] == ["geheim-r0", "geheim-r1"]


async def test_a_stop_waits_for_an_answer_but_not_for_ever(tmp_path: Path) -> None:
    async with an_office(tmp_path, silence) as office:
        waiting = asyncio.create_task(office.token())
        while not office.server.requests:
            await asyncio.sleep(0.01)
        await office.tokens.close(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def test_a_damaged_or_foreign_grant_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "accounts.vault.grants"
    with GrantFile.open(path, [b"1" * 32]) as file:
        file.put({"grant-1": "geheim-r1"}, {"grant-1"})
    with GrantFile.open(path, [b"2" * 32]) as file:
        assert file.token("grant-1") == ""
    assert (tmp_path / "accounts.vault.grants.unreadable").exists()


def test_a_grant_file_that_was_cut_off_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "accounts.vault.grants"
    with GrantFile.open(path, [b"1" * 32]) as file:
        file.put({"grant-1": "geheim-r1"}, {"grant-1"})
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 20)
    with GrantFile.open(path, [b"1" * 32]) as file:
        assert file.token("grant-1") == ""
    assert (tmp_path / "accounts.vault.grants.unreadable").exists()
    assert events(caplog, "grant_file_unreadable")


def test_two_writers_of_the_grant_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.vault.grants"
    with GrantFile.open(path, [b"1" * 32]) as file:
        with pytest.raises(AccountsError):
            GrantFile.open(path, [b"1" * 32])
        file.put({"grant-1": "geheim-r1"}, {"grant-1"})
        file.put({"grant-2": "geheim-r2"}, {"grant-2"})
        assert (file.token("grant-1"), file.token("grant-2")) == ("", "geheim-r2")


def test_the_key_of_the_grant_file_is_not_shown() -> None:
    record = new_grant_key(())
    assert record.kind == GRANT_KEY
    assert record.fields["key"] not in repr(record)
