"""The store in PostgreSQL beyond the port: contents, damage, history, tables, roles, plans, what survives."""

import asyncio
import os
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from senderproxy.mail.message import Message
from senderproxy.relay.ports import Arrival, SpoolError, SpoolUpdate
from senderproxy.spool.postgresql import claims, history, migrations, store
from senderproxy.spool.postgresql.connections import connect
from senderproxy.spool.postgresql.durability import DatabaseInspection, Durability, inspect_database
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.target import DatabaseTarget, tls_context
from senderproxy.tracking.record import Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.still_clock import StillClock
from tests.peers.certificates import Authority
from tests.peers.postgresql import OWNER, SERVICE, PostgresqlServer, running_postgresql, running_standby
from tests.peers.process import private_folder, wait_until
from tests.ports.test_spool import ANNA, CARL
from tests.senderproxy.spool.postgresql.open_spool import Databases, opened, running_databases


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


class LongBody:
    """A body of any size without its octets: the same block again and again."""

    is_ascii, has_long_lines, disk = True, False, None
    BLOCK = (b"Zeile %d\r\n" * 6000)[:65536]

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self.size = blocks * len(self.BLOCK)

    def blocks(self) -> Iterator[bytes]:
        for _ in range(self._blocks):
            yield self.BLOCK

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


def large(ident: str, blocks: int) -> Arrival:
    given = arrival(ident)
    message = Message(given.submission.message.header, LongBody(blocks))
    return replace(given, submission=replace(given.submission, message=message))


async def test_a_large_content_is_stored_in_parts_and_comes_back_from_a_file(
    databases: Databases, clock: StillClock
) -> None:
    async with opened(databases.new(), clock) as spool:
        await spool.accept(large("a1", 65))
        parts = databases.sql("SELECT count(*), max(octet_length(octets)) FROM senderproxy.content_part")
        assert parts == "15|262144"
        (claim,) = await spool.claim(ANNA, 1)
        body = claim.submission.message.body
        assert body.disk is not None
        assert b"".join(body.blocks()) == LongBody.BLOCK * 65
        await spool.settle(claim, SpoolUpdate({CARL: DELIVERED}))
        assert databases.sql("SELECT count(*) FROM senderproxy.content_part") == "0"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE senderproxy.content_part SET octets = overlay(octets PLACING 'X' FROM 3)",
        "DELETE FROM senderproxy.content_part WHERE position = 1",
        "UPDATE senderproxy.recipient SET address = 'other@elsewhere.example'",
        "DELETE FROM senderproxy.content",
    ],
)
async def test_g5_a_damaged_message_is_held_and_stops_no_other(
    databases: Databases, clock: StillClock, damage: str
) -> None:
    async with opened(databases.new(), clock) as spool:
        await spool.accept(large("a1", 8))
        databases.sql(damage)
        await spool.accept(arrival("a2"))
        (claim,) = await spool.claim(ANNA, 1)
        assert claim.submission.id == "a2"
        found = {record.id: record for record in await spool.find(Query(), limit=9)}
        assert [state.status for state in found["a1"].recipients.values()] == [RecipientStatus.HELD]
        cancelled = await spool.claim_one("a1")
        assert cancelled is not None
        with pytest.raises(OSError):
            b"".join(cancelled.submission.message.body.blocks())


async def test_the_history_of_passed_mail_is_written_soon_and_deleted_when_it_is_old(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    async with opened(target, clock) as spool:
        for number in range(120):
            spool.note(arrival(f"m{number}", state=DELIVERED))
    async with opened(target, clock) as spool:
        assert len(await spool.find(Query(), limit=200)) == 120
        await spool.accept(arrival("waits"))
        await spool.sweep(clock.now())
        assert len(await spool.find(Query(), limit=200)) == 121
        clock.pass_by(timedelta(days=31))
        await spool.sweep(clock.now())
        assert [record.id for record in await spool.find(Query(), limit=200)] == ["waits"]
        assert databases.sql("SELECT count(*) FROM senderproxy.event") == "1"


async def test_the_history_in_memory_is_bounded_and_one_that_cannot_be_stored_costs_no_other(
    databases: Databases, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    target = databases.new()
    async with opened(target, clock) as spool:
        one = arrival("m0", state=DELIVERED)
        for _ in range(history._MESSAGES + 5):
            spool.note(one)
        assert len(spool._history._unwritten) == history._MESSAGES
        assert spool._history._lost == 5
        while len(spool._history._unwritten) > 1:
            spool._history._unwritten.pop()
        spool.note(one)
        spool.note(arrival("m1", state=DELIVERED))
    async with opened(target, clock) as spool:
        assert {record.id for record in await spool.find(Query(), limit=9)} == {"m0", "m1"}
    assert "history of pass-through messages lost" in caplog.text


# ---- tables and roles ----


async def test_the_service_may_change_no_table_and_no_format(databases: Databases) -> None:
    connection = await connect(databases.new())
    for statement in (
        "ALTER TABLE message ADD x integer",
        "DROP TABLE event",
        "DELETE FROM format",
        "CREATE TABLE x ()",
    ):
        with pytest.raises(Exception, match=r"must be owner|permission denied"):
            await connection.execute(statement)
    connection.terminate()


async def test_a_migration_waits_for_old_instances_and_new_tables_for_new_programs(
    databases: Databases, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = migrations.scripts()
    now = len(own)
    target = databases.new()
    harmless = f"-- oldest: {now}\nALTER TABLE message ADD note text"
    breaking = f"-- oldest: {now + 2}\nALTER TABLE message DROP note"
    try:
        async with opened(target, clock) as old:
            monkeypatch.setattr(migrations, "scripts", lambda: [*own, harmless])
            assert await migrate(databases.target(OWNER), SERVICE) == (now, now + 1)
            await old.accept(arrival("a1"))  # goes on
            monkeypatch.setattr(migrations, "scripts", lambda: [*own, harmless, breaking])
            with pytest.raises(SpoolError, match=r"Instances of an older version still run: .+/"):
                await migrate(databases.target(OWNER), SERVICE)
            assert databases.sql("SELECT max(number) FROM senderproxy.format") == str(now + 1)
        assert await migrate(databases.target(OWNER), SERVICE) == (now + 1, now + 2)
        assert await migrate(databases.target(OWNER), SERVICE) == (now + 2, now + 2)
        monkeypatch.setattr(migrations, "scripts", lambda: own)
        with pytest.raises(SpoolError, match=f"format {now + 2}, which this version is too old for"):
            await inspect_database(target)
        monkeypatch.setattr(migrations, "scripts", lambda: [*own, harmless, breaking, harmless])
        with pytest.raises(SpoolError, match=f"format {now + 2}, this version needs format {now + 3}"):
            await inspect_database(target)
    finally:
        databases.sql(
            f"DELETE FROM senderproxy.format WHERE number > {now}; ALTER TABLE senderproxy.message DROP IF EXISTS note"
        )


def test_a_standby_that_commits_wait_for_in_vain_is_found() -> None:
    with running_databases("fsync=on") as databases, running_standby(databases.server) as standby:

        def inspected() -> DatabaseInspection:
            return asyncio.run(inspect_database(databases.target()))

        found = inspected()
        assert (found.durability, found.lacks_standby) == (Durability.STANDBY, False)
        standby.kill()
        wait_until(lambda: inspected().lacks_standby, "the standby is missed", 60)


async def test_what_survives_is_said_as_the_server_is_set(databases: Databases, clock: StillClock) -> None:
    target = databases.new()
    async with opened(target, clock) as spool:
        await spool.accept(arrival("a1"))
        found = await inspect_database(target)
    assert (found.waiting, found.held, found.durability) == (1, 0, Durability.NONE)  # the tests' server does not sync


# ---- the way there ----


@pytest.mark.parametrize(
    ("host", "uses_tls"), [("db.firma.example", True), ("192.0.2.1", True), ("::1", False), ("/run/postgresql", False)]
)
def test_another_machine_is_reached_with_tls_and_a_checked_certificate_only(host: str, *, uses_tls: bool) -> None:
    context = tls_context(host, None)
    assert (context is not None) == uses_tls
    if context is not None:
        assert context.check_hostname
        assert context.verify_mode.name == "CERT_REQUIRED"


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(SpoolError, match=r"ca\.pem cannot be used"):
        tls_context("localhost", tmp_path / "ca.pem")


@pytest.fixture
def server_with_tls() -> Iterator[tuple[PostgresqlServer, Path]]:
    """A server with a certificate for `localhost`, and the file of its authority."""
    with private_folder("tls") as folder:
        authority = Authority(folder)
        certificate = authority.issue("localhost")
        if os.geteuid() == 0:
            shutil.chown(certificate.key, "nobody")
        Path(certificate.key).chmod(0o600)
        files = (f"ssl_cert_file={certificate.chain}", f"ssl_key_file={certificate.key}")
        with running_postgresql("fsync=off", "ssl=on", *files) as server:
            yield server, Path(authority.ca_file)


async def test_a_password_is_sent_to_the_server_of_the_certificate_and_to_no_other(
    server_with_tls: tuple[PostgresqlServer, Path],
) -> None:
    server, ca_file = server_with_tls

    async def password() -> str:
        return "geheim"

    def target(host: str, authorities: Path | None) -> DatabaseTarget:
        tls = ssl.create_default_context() if authorities is None else tls_context(host, authorities)
        return DatabaseTarget(host, server.port, SERVICE, "postgres", password, tls)

    connection = await connect(target("localhost", ca_file))
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    await connection.close()
    assert "geheim" not in repr(target("localhost", ca_file))
    for wrong, hint in (
        (target("127.0.0.1", ca_file), "the name that the certificate has"),
        (target("localhost", None), "engine_ca_file"),
    ):
        with pytest.raises(SpoolError, match="certificate is not valid") as refused:
            await connect(wrong)
        assert hint in refused.value.hint


async def test_a_server_without_tls_gets_no_password(databases: Databases) -> None:
    async def password() -> str:
        return "geheim"

    tls = ssl.create_default_context()
    target = DatabaseTarget("127.0.0.1", databases.server.port, SERVICE, "spool", password, tls)
    with pytest.raises(SpoolError, match="rejected SSL"):
        await connect(target)


async def test_a_standby_is_not_used_until_it_is_promoted() -> None:
    """It may lack what the primary has committed: a COMMIT without an answer would be taken for one that failed."""
    with running_postgresql() as primary, running_standby(primary) as standby:
        target = DatabaseTarget(str(standby.socket_folder), standby.port, SERVICE, "postgres")
        with pytest.raises(SpoolError, match="is a standby"):
            await connect(target)
        primary.kill()
        standby.promote()
        connection = await connect(target)
        await connection.close()


# ---- time ----


async def test_a_step_that_only_this_machine_sees_moves_nothing(databases: Databases, clock: StillClock) -> None:
    """It was suspended: its monotonic clock stood still, and the others went on."""
    target = databases.new()
    other_clock = StillClock()
    async with opened(target, clock) as suspended, opened(target, other_clock) as other:
        await other.accept(arrival("a1"))
        clock.time += timedelta(hours=1)
        other_clock.pass_by(timedelta(hours=1))
        await other.instance.look()
        assert await suspended.due() == {ANNA: timedelta(hours=-1)}
        assert await other.due() == {ANNA: timedelta(hours=-1)}


async def test_a_step_of_the_server_moves_what_waits_once_for_all_instances(
    databases: Databases, clock: StillClock
) -> None:
    target = databases.new()
    other_clock = StillClock()
    async with opened(target, clock) as one, opened(target, other_clock) as two:
        await one.accept(arrival("a1"))
        clock.time += timedelta(hours=5)
        other_clock.time += timedelta(hours=5)
        databases.sql("UPDATE senderproxy.instance SET alive_until = alive_until - interval '5 hours'")
        assert await one.due() == {ANNA: timedelta()}
        assert await two.due() == {ANNA: timedelta()}


# ---- plans ----


CALLS = {
    "due": (claims.LEASE_DUE, ("account:anna", 1769847300000, 10)),
    "expired": (claims.LEASE_EXPIRED, ("account:anna", 1769847399000, 10)),
    "undelayed": (claims.LEASE_UNDELAYED, (1769847399000, 10)),
    "one": (claims.LEASE_ONE, ("m77",)),
    "due times": (store.DUE, ("account:anna",)),
    "due times of all lanes": (store.DUE, (None,)),
    "waiting messages of an account": (
        "SELECT number FROM message WHERE number < $1 AND account = $2 ORDER BY number DESC LIMIT 10",
        (2**62, "anna"),
    ),
}


@pytest.mark.slow
async def test_no_call_of_the_delivery_reads_the_whole_queue(databases: Databases) -> None:
    """A hundred thousand rows without content, of fifty lanes, the first hundred of one leased."""
    target = databases.new()
    databases.sql(_MANY)
    connection = await connect(target)
    for name, (statement, values) in CALLS.items():
        await connection.execute("BEGIN")
        own = (await connection.fetchval("SELECT number FROM instance"),) if "lease" in statement else ()
        found = await connection.fetch(statement, *values, *own)
        read = await connection.fetchrow(
            "SELECT sum(seq_tup_read), sum(idx_tup_fetch) FROM pg_stat_xact_user_tables"
            " WHERE schemaname = 'senderproxy' AND relname IN ('message', 'recipient')"
        )
        await connection.execute("ROLLBACK")
        assert found, name
        assert read[0] == 0, name
        assert read[1] < 3000, name  # the leased ones, or one row for each lane
    connection.terminate()


_MANY = """
INSERT INTO senderproxy.message SELECT n, 'm' || n, 1769847300000, 'l', '{"host":"a","name":"b","protocol":"ESMTP"}', '', 0,
  'anna@firma.example', 'anna', NULL, 10, NULL, NULL, 0, 'k', NULL, 0, 1, 0, 1769847300000 + n, 1, NULL
  FROM generate_series(1, 100000) AS n;
INSERT INTO senderproxy.recipient SELECT n, 0, 'carl@elsewhere.example', 'k', 'waiting', 1769847300000 - n, 0, NULL, '', 0, NULL,
  'account:' || CASE WHEN n % 10 = 0 THEN 'anna' ELSE 'a' || n % 50 END FROM generate_series(1, 100000) AS n;
INSERT INTO senderproxy.instance (name, process, format, alive_until, postmaster)
  VALUES ('one', '', 1, clock_timestamp() + interval '1 hour', pg_postmaster_start_time());
INSERT INTO senderproxy.lease (instance, message, lane) SELECT number, n, 'account:anna'
  FROM senderproxy.instance, generate_series(99010, 100000, 10) AS n;
ANALYZE senderproxy.message; ANALYZE senderproxy.recipient;
"""
