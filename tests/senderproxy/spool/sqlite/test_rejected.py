"""A settlement that the database refuses fails alone, together with others in one transaction."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolRejected, SpoolUpdate
from senderproxy.spool.sqlite import statements
from senderproxy.spool.sqlite.statements import Settlement
from senderproxy.tracking.record import Query, RecipientStatus
from tests.fakes.arrivals import DELIVERED, arrival
from tests.senderproxy.spool.sqlite.open_spool import claimed, opened


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG])
async def test_the_others_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    settle = statements.settle

    def refuse(connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> list[bool]:
        if any(one.message.id == "m1" for one in settlements):
            error = sqlite3.DatabaseError("no")
            error.sqlite_errorcode = code
            raise error
        return settle(connection, settlements)

    async with opened(tmp_path / "spool") as spool:
        await spool.accept(*(arrival(f"m{number}") for number in range(3)))
        claims = [await claimed(spool) for _ in range(3)]
        monkeypatch.setattr(statements, "settle", refuse)
        results = await asyncio.gather(
            *(spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED))) for claim in claims),
            spool.accept(arrival("m3")),
            return_exceptions=True,
        )
        assert [isinstance(result, SpoolRejected) for result in results] == [False, True, False, False]
        monkeypatch.undo()
        delivered = await spool.find(Query(status=RecipientStatus.DELIVERED), limit=9)
        assert {record.id for record in delivered} == {"m0", "m2"}
        await spool.settle(claims[1], SpoolUpdate(dict.fromkeys(claims[1].due, DELIVERED)))  # its lease goes on


async def test_a_report_whose_id_is_taken_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.accept(arrival("m1"), arrival("r1", account="bert"))
        claim = await claimed(spool)
        report = arrival("r1", "anna@firma.example", reverse_path=None, report_on="m1")
        with pytest.raises(SpoolRejected):
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED), reports=(report,)))
