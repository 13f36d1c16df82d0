"""A day of a spool, in a process of its own, saying before and after each step what must be there then.

    python -m tests.crash.workload FOLDER MARKS [careless-commits | careless-folders]

The model beside it (MemorySpool) works out what each message should look like. A line `begin` names the step and all
messages it changes, as they are when it is done; `end` says that we were told it is safe. The careless ways leave syncs
out: a test that cannot see the difference would be worth nothing.
"""

import asyncio
import hashlib
import json
import os
import random
import stat
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from senderproxy.listener.body import SpillDirectory
from senderproxy.mail.message import Message
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import Arrival, Claim, Spool, SpoolUpdate
from senderproxy.spool.sqlite import database, store
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import arrival
from tests.fakes.buffered_body import buffered_body
from tests.fakes.claims import next_claim
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import written

TUNING = Tuning(row_limit=1500, wal_pages=50, wal_limit=100_000, cache_size=20_000)
HISTORY = timedelta(days=30)
PEOPLE = ("carl@elsewhere.example", "dora@elsewhere.example", "emil@other.example")


async def snapshot(spool: Spool, ident: str) -> Any:
    """All there is to say of a message; None where there is none."""
    records = await spool.find(Query(id=ident), limit=1)
    if not records:
        return None
    (record,) = records
    header = await spool.header(ident)
    return {
        "received": record.received_at.isoformat(),
        "account": record.account,
        "size": record.size,
        "report_on": record.report_on,
        "recipients": {
            str(path): [repr(replace(state, due_in=None)), str(record.due_at(state))]
            for path, state in record.recipients.items()
        },
        "events": [repr(one) for one in await spool.events(ident)],
        "header": None if header is None else header.raw.hex(),
    }


async def digest(spool: Spool, ident: str) -> str | None:
    """Of the content, read through a claim."""
    claim = await spool.claim_one(ident)
    if claim is None:
        return None
    try:
        return hashlib.sha256(b"".join(claim.submission.message.blocks())).hexdigest()
    except OSError as error:
        return str(error)
    finally:
        await spool.settle(claim, SpoolUpdate({}))


class Day:
    """The spool, its model, and what they are told."""

    def __init__(self, folder: Path, marks: int) -> None:
        self.clock = StillClock()
        self.folder = folder
        self.marks = marks
        self.model = MemorySpool(self.clock, HISTORY)
        self.chance = random.Random(7)
        self.steps = 0
        self.count = 0
        self.spool = self.open()
        self.spill = SpillDirectory(folder=self.spool.spill_folder)

    def open(self) -> SqliteSpool:
        return SqliteSpool.open(
            self.folder, self.clock, SpoolLimits(HISTORY, longest_wait=timedelta(days=999)), tuning=TUNING
        )

    def say(self, **what: object) -> None:
        os.write(self.marks, json.dumps(what).encode() + b"\n")

    async def step(
        self, idents: Sequence[str], model: Callable[[], Awaitable[Any]], real: Callable[[], Awaitable[Any]]
    ) -> Any:
        self.steps += 1
        number = self.steps
        await model()
        after = {ident: await snapshot(self.model, ident) for ident in idents}
        entries = {ident: self.model.entries.get(ident) for ident in idents}
        contents = {
            ident: hashlib.sha256(b"".join(entry.submission.message.blocks())).hexdigest()
            for ident, entry in entries.items()
            if entry is not None and not entry.is_finished
        }
        self.say(begin=number, after=after, contents=contents)
        result = await real()
        self.say(end=number)
        return result

    def letter(self, size: int, people: Sequence[str] = PEOPLE[:1], **more: Any) -> Arrival:
        self.count += 1
        body = self.chance.randbytes(size // 2).hex().encode() + b"\r\n"
        return arrival(f"m{self.count}", *people, body=body, **more)

    async def accept(self, *given: Arrival, leased: bool = False) -> None:
        idents = [one.submission.id for one in given]
        claims = await self.step(
            idents, lambda: self.model.accept(*given), lambda: self.spool.accept(*given, leased=leased)
        )
        for claim in claims:
            await self.settle(claim, RecipientStatus.DELIVERED)

    async def accept_unnamed(self, size: int) -> None:
        """A body that lies in an unnamed file, as the listener's do."""
        given = self.letter(size)
        message = given.submission.message
        body = await buffered_body(100, self.spill, message.body.blocks())
        linked = _with(given, Message(message.header, body))
        await self.step([given.submission.id], lambda: self.model.accept(given), lambda: self.spool.accept(linked))
        body.close()

    async def settle(self, claim: Claim, fate: RecipientStatus, reports: int = 0) -> None:
        """The first of its recipients is settled, the others wait on; perhaps somebody is told."""
        path = next(iter(claim.due))
        answer = (
            reply(250, "2.0.0", "queued as A1B2C3") if fate is RecipientStatus.DELIVERED else reply(550, "5.1.1", "no")
        )
        due = timedelta() if fate is RecipientStatus.WAITING else None
        event = Event(self.clock.now(), EventKind.ATTEMPTED, (str(path),), {"outcome": fate.value})
        told = [self.letter(400, reverse_path=None, report_on=claim.submission.id) for _ in range(reports)]
        verdict = SpoolUpdate(
            {path: RecipientState(fate, due, 1, answer, "held" if fate is RecipientStatus.HELD else "")}, (event,), told
        )
        mine = self.model.entries[claim.submission.id]
        mine.leases = {claim.lease.id: claim.lane}
        await self.step(
            [claim.submission.id, *(one.submission.id for one in told)],
            lambda: self.model.settle(claim, verdict),
            lambda: self.spool.settle(claim, verdict),
        )

    async def attempt(self, *fates: RecipientStatus, reports: int = 0) -> None:
        for fate in fates:
            claim = await next_claim(self.spool)
            if claim is not None:
                await self.settle(claim, fate, reports)

    async def note(self) -> None:
        """A story: nobody is promised anything before it was written along."""
        given = self.letter(100, state=RecipientState(RecipientStatus.DELIVERED))

        async def model() -> None:
            self.model.note(given)

        async def real() -> None:
            self.spool.note(given)
            await written(self.spool)

        await self.step([given.submission.id], model, real)

    async def shift(self) -> None:
        """The machine's clock is set."""
        step = timedelta(minutes=self.chance.randrange(-9, 9))
        self.clock.time += step
        await self.step(list(self.model.entries), self.model.due, self.spool.due)

    async def start_again(self) -> None:
        await self.spool.close()
        self.model.restart()
        self.spool = self.open()
        self.spill = SpillDirectory(folder=self.spool.spill_folder)

    async def sweep(self) -> None:
        """What was finished long ago is forgotten."""
        self.clock.pass_by(timedelta(days=31))
        now = self.clock.now()
        old = [i for i, e in self.model.entries.items() if e.finished_at is not None and e.finished_at < now - HISTORY]
        await self.model.sweep(now)
        numbers = range(
            self.steps + 1, self.steps + 1 + len(old)
        )  # each message is deleted as a whole, not all at once
        self.steps += len(old)
        for number, ident in zip(numbers, old, strict=True):
            self.say(begin=number, after={ident: await snapshot(self.model, ident)}, contents={})
        await self.spool.sweep(now)
        for number in numbers:
            self.say(end=number)

    async def live(self) -> None:
        await self.accept(self.letter(300))
        await self.accept(self.letter(6000))
        await self.attempt(RecipientStatus.DELIVERED)
        await asyncio.gather(*(self.accept(self.letter(self.chance.choice((200, 900, 3000)))) for _ in range(12)))
        await self.attempt(
            RecipientStatus.DELIVERED, RecipientStatus.FAILED, RecipientStatus.HELD, RecipientStatus.WAITING, reports=1
        )
        await self.accept(self.letter(5000, PEOPLE), self.letter(100, PEOPLE[1:]))
        await self.accept_unnamed(9000)
        await self.note()
        await self.accept(self.letter(4000), leased=True)
        await self.shift()
        await asyncio.gather(
            *(
                self.attempt(RecipientStatus.DELIVERED, RecipientStatus.WAITING, RecipientStatus.FAILED)
                for _ in range(4)
            )
        )
        await self.start_again()
        await asyncio.gather(*(self.accept(self.letter(self.chance.choice((400, 2500)))) for _ in range(10)))
        await self.attempt(*[RecipientStatus.DELIVERED] * 6, reports=1)
        await self.sweep()
        await self.accept_unnamed(3000)
        await self.attempt(RecipientStatus.FAILED, RecipientStatus.DELIVERED, reports=2)
        await self.shift()
        await self.spool.close()
        await self.start_again()
        await self.accept(self.letter(2000))
        await self.attempt(*[RecipientStatus.DELIVERED] * 4)
        await self.spool.close()


def _with(given: Arrival, message: Message) -> Arrival:
    return replace(given, submission=replace(given.submission, message=message))


def be_careless(how: str) -> None:
    """Leave syncs out, as a program does that trusts in luck."""
    if how == "careless-commits":
        connect = database.connect

        def without(*arguments: Any, **more: Any) -> Any:
            connection = connect(*arguments, **more)
            connection.execute("PRAGMA synchronous = OFF")
            return connection

        for module in (database, store):
            assert vars(module)["connect"] is connect
            vars(module)["connect"] = without
    elif how == "careless-folders":
        fsync = os.fsync

        def of_files_alone(file: int) -> None:
            if not stat.S_ISDIR(os.fstat(file).st_mode):
                fsync(file)

        os.fsync = of_files_alone  # type: ignore[assignment]


def main() -> None:
    folder, marks, *how = sys.argv[1:]
    for one in how:
        be_careless(one)
    asyncio.run(Day(Path(folder) / "spool", os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)).live())


if __name__ == "__main__":
    main()
