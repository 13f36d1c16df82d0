"""Refresh tokens that several instances use over a real database: an authorization server that rotates sees each once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from senderproxy.accounts import shared_refresh_tokens, vault_admin
from senderproxy.accounts.access_tokens import VaultTokens
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.refresh_tokens import LocalRefreshTokens
from senderproxy.accounts.sealed_tokens import StoredTokens
from senderproxy.accounts.shared_refresh_tokens import SharedRefreshTokens, _left
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock
from senderproxy.relay.ports import NoToken
from senderproxy.routing.account import AccessToken
from senderproxy.spool.postgresql.store import PostgresqlSpool
from tests.fakes.http_server import Received, answer, silence
from tests.fakes.still_clock import StillClock
from tests.peers.packages import POSTGRESQL
from tests.peers.process import why_not_here
from tests.senderproxy.accounts.test_access_tokens import Office, an_office, events, refusal, tokens_answer
from tests.senderproxy.spool.postgresql.open_spool import Databases, joined, running_databases
from tests.senderproxy.spool.postgresql.test_instances import hush, until, vanish


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    if why := why_not_here(POSTGRESQL / "postgres"):
        pytest.skip(why)
    with running_databases() as found:
        yield found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database answers, however slow the machine is, and so does an instance that has the lease."""
    monkeypatch.setattr(shared_refresh_tokens, "_DATABASE", 40.0)
    monkeypatch.setattr(shared_refresh_tokens, "_WAIT", 40.0)


@dataclass
class RotatingServer:
    """A token endpoint with refresh tokens for one use; the use of an older one ends the grant (RFC 9700 4.14.2)."""

    newest: str = "geheim-r0"
    spent: Counter[str] = field(default_factory=Counter)
    has_ended: bool = False
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # answers wait for it

    def __post_init__(self) -> None:
        self.hold.set()

    async def serve(self, request: Received, writer: asyncio.StreamWriter) -> None:
        [token] = parse_qs(request.body.decode())["refresh_token"]
        self.spent[token] += 1
        if token != self.newest or self.has_ended:
            self.has_ended = True
            await refusal("invalid_grant")(request, writer)
            return
        number = sum(self.spent.values())
        self.newest = f"geheim-r{number}"
        await self.hold.wait()
        await tokens_answer(f"geheim-a{number}", self.newest)(request, writer)


@dataclass
class Member:
    """One instance: its own memory and grant file, over the same vault and database."""

    office: Office
    clock: StillClock
    spool: PostgresqlSpool
    accounts: VaultAccounts
    tokens: VaultTokens

    async def token(self, name: str = "anna") -> str | NoToken:
        found = await self.tokens.token(self.office.account(name))
        return found.reveal() if isinstance(found, AccessToken) else found


@dataclass
class Instances:
    """The instances of one test, and their server."""

    office: Office
    databases: Databases
    server: RotatingServer
    things: AsyncExitStack

    async def join(self, *, again: float = 0.05) -> Member:
        """One more instance."""
        spool = await joined(self.databases.target(), self.office.clock)
        self.things.push_async_callback(spool.close)
        accounts = VaultAccounts.open(self.office.path, self.office.key)
        folder = self.office.path.parent / f"machine-{spool.instance.number}"
        folder.mkdir()
        tokens = VaultTokens(accounts, self.office.http, self.office.clock, folder / "accounts.vault")

        def shared(accounts: VaultAccounts, local: LocalRefreshTokens, clock: Clock) -> SharedRefreshTokens:
            return SharedRefreshTokens(accounts, local, clock, again=again)

        tokens.share(shared)  # type: ignore[arg-type]  # with another constant
        tokens.use_database(spool.grants)
        self.things.push_async_callback(tokens.close, 10)
        return Member(self.office, self.office.clock, spool, accounts, tokens)

    def rows(self, what: str) -> str:
        return self.databases.sql(f"SELECT {what} FROM senderproxy.oauth_grant ORDER BY id")


@asynccontextmanager
async def instances(databases: Databases, folder: Path) -> AsyncIterator[Instances]:
    databases.new()
    server = RotatingServer()
    async with an_office(folder, server.serve) as office, AsyncExitStack() as things:
        yield Instances(office, databases, server, things)


async def test_parallel_refreshes_of_several_instances_spend_each_token_once(
    databases: Databases, tmp_path: Path
) -> None:
    async with instances(databases, tmp_path) as o:
        members = [await o.join() for _ in range(4)]
        for generation in range(1, 6):
            found = await asyncio.gather(*(member.token() for member in members for _ in range(5)))
            assert set(found) == {f"geheim-a{generation}"}
            o.office.clock.pass_by(timedelta(seconds=3590))
        assert o.server.spent == {f"geheim-r{number}": 1 for number in range(5)}
        assert not o.server.has_ended


async def test_each_instance_alone_would_end_the_grant(tmp_path: Path) -> None:
    """The fault that the lease prevents: two vaults that were copied, without a database between them."""
    server = RotatingServer()
    async with an_office(tmp_path, server.serve) as office:
        (tmp_path / "other").mkdir()
        other = VaultTokens(office.accounts, office.http, office.clock, tmp_path / "other" / "accounts.vault")
        assert await office.token() == "geheim-a1"
        assert isinstance(await other.token(office.account("anna")), NoToken)
        assert server.has_ended
        await other.close(10)


async def test_the_tokens_are_sealed_in_the_database_before_one_is_used(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        assert o.rows("version, lease IS NULL, octet_length(sealed) > 100") == "1|t|t"
        dumped = bytes.fromhex(o.rows("encode(sealed, 'hex')"))
        assert b"geheim" not in dumped
        two = await o.join()  # an instance that starts later, or again
        assert await two.token() == "geheim-a1"
        assert len(o.office.server.requests) == 1


async def test_an_instance_waits_for_the_answer_to_another_one(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        o.server.hold.clear()
        first = asyncio.create_task(one.token())
        await until(lambda: o.server.spent)
        second = asyncio.create_task(two.token())
        await until(lambda: two.tokens._shared is not None and two.tokens._shared._waiting)
        o.server.hold.set()
        assert (await first, await second) == ("geheim-a1", "geheim-a1")
        assert o.server.spent == {"geheim-r0": 1}


async def test_a_stale_access_token_is_renewed_once_for_all(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        account = o.office.account("anna")
        assert (await one.token(), await two.token()) == ("geheim-a1", "geheim-a1")
        o.office.clock.pass_by(timedelta(seconds=100))
        assert one.tokens.refused(account, AccessToken("geheim-a1"))
        assert two.tokens.refused(account, AccessToken("geheim-a1"))
        assert set(await asyncio.gather(one.token(), two.token())) == {"geheim-a2"}
        assert o.server.spent == {"geheim-r0": 1, "geheim-r1": 1}


async def test_the_lease_of_a_dead_instance_ends_with_its_heartbeat_and_not_before_its_request(
    databases: Databases, tmp_path: Path
) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        number = one.spool.instance.number
        row = await one.spool.grants.take("grant-anna", 0)
        assert row.lease is not None
        await hush(two.spool)  # on a slow machine it would take over by itself
        await vanish(one.spool)
        o.databases.sql("UPDATE senderproxy.instance SET alive_until = clock_timestamp() + interval '1 hour'")
        o.databases.sql("UPDATE senderproxy.oauth_grant SET taken_at = taken_at - interval '31 seconds'")
        assert (await two.spool.grants.take("grant-anna", 0)).lease is None  # it has a heartbeat
        ended = "UPDATE senderproxy.instance SET alive_until = clock_timestamp() WHERE number = "
        o.databases.sql("UPDATE senderproxy.oauth_grant SET taken_at = clock_timestamp()")
        o.databases.sql(f"{ended}{number}")
        assert (await two.spool.grants.take("grant-anna", 0)).lease is None  # its request may still be under way
        o.databases.sql("UPDATE senderproxy.oauth_grant SET taken_at = taken_at - interval '31 seconds'")
        assert await two.token() == "geheim-a1"


async def test_an_instance_that_has_lost_its_lease_stores_nothing(
    databases: Databases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        o.server.hold.clear()
        asking = asyncio.create_task(one.token())
        await until(lambda: o.server.spent)
        o.databases.sql("UPDATE senderproxy.oauth_grant SET lease = -1")
        o.server.hold.set()
        assert await asking == "geheim-a1"  # it is as good as any
        assert o.rows("version, lease") == "0|-1"
        assert events(caplog, "grant_lease_ended")


async def test_tokens_that_the_database_refuses_are_kept_under_the_lease_and_stored_later(
    databases: Databases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        o.databases.sql("ALTER TABLE senderproxy.oauth_grant ADD CONSTRAINT full_disk CHECK (version = 0)")
        try:
            assert await one.token() == "geheim-a1"
            assert events(caplog, "grant_not_stored")
            assert (await two.spool.grants.take("grant-anna", 0)).lease is None
            assert o.server.spent == {"geheim-r0": 1}
        finally:
            o.databases.sql("ALTER TABLE senderproxy.oauth_grant DROP CONSTRAINT full_disk")
        assert await two.token() == "geheim-a1"  # it has waited for the first one's next try
        assert o.server.spent == {"geheim-r0": 1}
        await until(lambda: events(caplog, "grants_stored"))


async def test_what_is_only_in_memory_is_stored_at_the_end(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join(again=3600)
        o.databases.sql("ALTER TABLE senderproxy.oauth_grant ADD CONSTRAINT full_disk CHECK (version = 0)")
        try:
            assert await one.token() == "geheim-a1"
        finally:
            o.databases.sql("ALTER TABLE senderproxy.oauth_grant DROP CONSTRAINT full_disk")
        await one.tokens.close(10)
        assert o.rows("version") == "1"


async def test_a_refusal_gives_the_lease_back(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        o.office.server.behaviours = [answer("503 Away"), o.server.serve]
        assert isinstance(await one.token(), NoToken)
        assert await two.token() == "geheim-a1"


async def test_without_the_database_no_token_is_spent(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        one.spool.instance._lose()
        found = await one.token()
        assert isinstance(found, NoToken)
        assert not found.needs_person
        assert "the database" in found.hint
        closed = VaultTokens(o.office.accounts, o.office.http, o.office.clock, tmp_path / "x.vault")
        closed.share(SharedRefreshTokens)
        assert isinstance(await closed.token(o.office.account("anna")), NoToken)
        assert not o.office.server.requests
        await closed.close(10)


async def test_an_access_token_in_memory_lasts_while_the_database_is_away(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        one.spool.instance._lose()
        o.office.clock.pass_by(timedelta(seconds=3100))  # it would be renewed
        assert await one.token() == "geheim-a1"


async def test_a_rotated_token_in_the_file_of_a_machine_is_spent_first(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        assert await o.office.token() == "geheim-a1"  # before there was a database
        await o.office.tokens.close(10)
        one = await o.join()
        grants = o.office.path.with_name("accounts.vault.grants")
        grants.rename(one.tokens._local._path)
        o.office.clock.pass_by(timedelta(seconds=3590))
        assert await one.token() == "geheim-a2"
        assert o.server.spent == {"geheim-r0": 1, "geheim-r1": 1}


async def test_the_row_of_another_account_is_not_used(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        o.databases.sql("UPDATE senderproxy.oauth_grant SET id = 'grant-bert'")
        found = await one.token("bert")
        assert isinstance(found, NoToken)
        assert o.server.spent == {"geheim-r0": 1}


async def test_a_row_under_the_key_of_another_vault_is_not_replaced(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        before = o.rows("encode(sealed, 'hex')")
        for _ in range(2):  # the vault forgets the key before the last one
            vault_admin.rekey(o.office.path, o.office.key, [], [])
        two = await o.join()
        found = await two.token()
        assert isinstance(found, NoToken)
        assert "another vault" in found.reply.text
        assert o.rows("encode(sealed, 'hex')") == before
        assert o.server.spent == {"geheim-r0": 1}


async def test_new_data_keys_of_the_vault_seal_the_rows_again(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        for _ in range(3):
            before = o.rows("encode(sealed, 'hex')")
            vault_admin.rekey(o.office.path, o.office.key, [], [])
            one.accounts.check()
            one.tokens.follow_keys()
            await until(lambda before=before: o.rows("encode(sealed, 'hex')") != before)  # type: ignore[misc]
        two = await o.join()
        assert await two.token() == "geheim-a1"
        assert len(o.office.server.requests) == 1


async def test_a_removed_account_leaves_nothing_in_the_database(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one = await o.join()
        assert await one.token() == "geheim-a1"
        o.server.newest = "geheim-r0"
        with AccountEditor.open(o.office.path, o.office.key) as editor:
            editor.remove("anna")
            editor.save()
        one.accounts.check()
        await one.token("bert")
        await until(lambda: o.rows("id") == "grant-bert")


async def test_a_server_that_does_not_answer_holds_no_lease_for_ever(databases: Databases, tmp_path: Path) -> None:
    async with instances(databases, tmp_path) as o:
        one, two = await o.join(), await o.join()
        o.office.server.behaviours = [silence, o.server.serve]
        asking = asyncio.create_task(one.token())
        await until(lambda: o.office.server.requests)
        for task in o.office.server.tasks:
            assert task is not None
            task.cancel()  # the connection ends
        assert isinstance(await asking, NoToken)
        assert await two.token() == "geheim-a1"
        assert json.loads(o.rows("version")) == 1


@pytest.mark.parametrize(
    ("age", "left"), [(0.0, 600.0), (-0.004, 600.0), (100.0, 500.0), (-60.0, 0.0), (400.0, 0.0)]
)  # fmt: skip
def test_instances_may_differ_a_little_about_the_time_of_the_database(age: float, left: float) -> None:
    """A token that another instance has just stored is used; a second request would be needless."""
    assert _left(StoredTokens("refresh", "access", 600.0), age) == left
