"""What an operator is told when the database cannot be used: the reason, and the next step."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.postgresql.connections import connect
from senderproxy.spool.postgresql.durability import inspect_database
from senderproxy.spool.postgresql.error_words import reason_of
from senderproxy.spool.postgresql.migrations import migrate
from senderproxy.spool.postgresql.target import DatabaseTarget, tls_context
from tests.peers.postgresql import SERVICE
from tests.peers.process import LOOPBACK, reserved_ports
from tests.senderproxy.spool.postgresql.open_spool import Databases


def target(databases: Databases, secret: str = "geheim") -> DatabaseTarget:
    """By the network, with a password."""

    async def password() -> str:
        return secret

    return DatabaseTarget(LOOPBACK, databases.server.port, SERVICE, "spool", password)


@contextmanager
def refused(message: str, hint: str) -> Iterator[None]:
    with pytest.raises(SpoolError, match=message) as raised:
        yield
    assert hint in raised.value.hint


async def test_a_server_that_does_not_run_is_to_be_started(databases: Databases, tmp_path: Path) -> None:
    with reserved_ports(1) as (port,), refused("cannot be reached: Connection refused", "Start the database server"):
        await connect(replace(target(databases), port=port))
    with refused("No such file or directory", "Start the database server"):
        await connect(replace(target(databases), host=str(tmp_path)))


async def test_a_database_that_is_missing_is_to_be_made(databases: Databases) -> None:
    with refused('"missing" does not exist', "Make the database"):
        await connect(replace(target(databases), database="missing"))


async def test_a_wrong_password_is_that_of_the_service_or_of_the_owner(databases: Databases) -> None:
    wrong = target(databases, "falsch")
    with refused("authentication failed", "engine_password"):
        await connect(wrong)
    with refused("authentication failed", "the password that you typed with that of role owner"):
        await migrate(replace(wrong, user="owner"), SERVICE)


async def test_missing_rights_are_given_again_by_the_migration(databases: Databases) -> None:
    with refused("permission denied", "spool migrate --owner ROLE"):
        await migrate(target(databases), SERVICE)
    await inspect_database(target(databases))
    for revoked, given in (
        ("INSERT ON senderproxy.message", "may not read and write table message"),
        ("USAGE ON SCHEMA senderproxy", "permission denied for schema"),
    ):
        databases.sql(f"REVOKE {revoked} FROM {SERVICE}")
        try:
            with refused(given, "spool migrate --owner ROLE"):
                await inspect_database(target(databases))
        finally:
            databases.sql(f"GRANT {revoked} TO {SERVICE}")


async def test_too_few_connections_are_to_be_allowed(databases: Databases) -> None:
    databases.sql(f"ALTER ROLE {SERVICE} CONNECTION LIMIT 0")
    try:
        with refused("too many connections", "Allow more connections"):
            await connect(target(databases))
    finally:
        databases.sql(f"ALTER ROLE {SERVICE} CONNECTION LIMIT -1")


async def test_a_server_without_tls_is_to_get_it(databases: Databases) -> None:
    with refused("rejected SSL upgrade", "ssl = on"):
        await connect(replace(target(databases), tls=ssl.create_default_context()))


async def test_a_reason_is_one_line_without_the_hint_of_the_server(databases: Databases) -> None:
    connection = await connect(target(databases))
    try:
        with pytest.raises(asyncpg.UndefinedFunctionError, match="HINT") as raised:
            await connection.execute("SELECT missing(1)")
    finally:
        connection.terminate()
    assert reason_of(raised.value) == "function missing(integer) does not exist"


def test_a_file_that_is_none_of_authorities_is_to_be_corrected(tmp_path: Path) -> None:
    with refused("No such file", "engine_ca_file"):
        tls_context("db.firma.example", tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("none")
    with refused("it has none that can be read", "engine_ca_file"):
        tls_context("db.firma.example", tmp_path / "ca.pem")
