"""Octets written to the disk for a queued message, and for the history of one that passed through.

    python benchmarks/spool_written.py [--folder DIR] [--clients 1 50] [--messages 5000] [--before 20000]

Each client hands over its next message when the last one is stored; beside it, a runner claims and delivers them all.
`--before`: messages in the history at the beginning; the cost of an index grows with it. Counts what the
process has written (/proc/self/io), with the copy of the write-ahead log into the database and the end of the spool.
"""

import argparse
import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.spool_accept import CLOCK, arrival, written
from senderproxy.mail.address import parse_address
from senderproxy.mail.message import Message
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import Arrival, SpoolUpdate
from senderproxy.spool.sqlite.content import RowBody
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Event, EventKind, Lane, RecipientState, RecipientStatus

_LANE = Lane.of_account("anna")
_SIZE = 4096  # octets of a message
_AT_ONCE = 50  # messages of one claim
_NUMBERS = random.Random(1)


def varied(number: int) -> Arrival:
    """A message to one of 5,000 recipients, whose body does not compress."""
    made = arrival(_SIZE, number)
    carl = parse_address(f"carl{_NUMBERS.randrange(5000)}@elsewhere{_NUMBERS.randrange(300)}.example")
    envelope = replace(made.submission.envelope, recipients=(carl,))
    header = made.submission.message.header
    body = RowBody(_NUMBERS.randbytes((_SIZE - len(header.raw)) // 2).hex().encode(), True, False)
    submission = replace(made.submission, envelope=envelope, message=Message(header, body))
    return replace(made, submission=submission, states={carl: RecipientState(RecipientStatus.WAITING)})


def delivered() -> tuple[RecipientState, Event]:
    """The state and the event of a delivery."""
    taken = reply(250, "2.0.0", f"Ok: queued as {_NUMBERS.randbytes(6).hex().upper()}")
    state = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=taken, remote="smtp.provider.example")
    facts = {"account": "anna", "outcome": "delivered", "reply": str(taken), "seconds": "0.214"}
    return state, Event(CLOCK.now(), EventKind.ATTEMPTED, (), facts)


def passed_through(number: int) -> Arrival:
    """A message that was delivered before it was acknowledged."""
    made = varied(number)
    state, event = delivered()
    return replace(made, states=dict.fromkeys(made.states, state), events=(*made.events, event))


def open_spool(folder: Path) -> SqliteSpool:
    return SqliteSpool.open(folder, CLOCK, SpoolLimits(timedelta(days=30)))


async def fill(folder: Path, count: int) -> None:
    """A history of so many messages that were passed through."""
    spool = open_spool(folder)
    for start in range(0, count, 50):
        for number in range(start, start + 50):
            spool.note(passed_through(number))
        await spool.accept(varied(start))
    await settle(spool, (count + 49) // 50)
    await spool.close()


async def settle(spool: SqliteSpool, count: int) -> None:
    """Deliver so many messages, as they arrive."""
    done = 0
    while done < count:
        claims = await spool.claim(_LANE, _AT_ONCE)
        if not claims:
            await asyncio.sleep(0.001)
        updates = []
        for claim in claims:
            state, event = delivered()
            updates.append(spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, state), events=(event,))))
        await asyncio.gather(*updates)
        done += len(claims)


async def queue(folder: Path, clients: int, count: int) -> float:
    """KiB written for one queued message."""
    before = written()
    spool = open_spool(folder)
    numbers: Iterator[int] = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await spool.accept(varied(number))

    async with asyncio.TaskGroup() as group:
        group.create_task(settle(spool, count))
        for _ in range(clients):
            group.create_task(client())
    await spool.close()
    return (written() - before) / count / 1024


async def histories(folder: Path, rate: int, count: int) -> float:
    """KiB written for the history of one message that passed through, at so many a second."""
    before = written()
    spool = open_spool(folder)
    for number in range(count):
        spool.note(passed_through(number))
        if number % (rate // 10) == 0:
            await asyncio.sleep(0.1)
    await spool.close()
    return (written() - before) / count / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 50])
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--before", type=int, default=20_000)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="spool-written-", dir=options.folder))
    try:
        asyncio.run(fill(base / "spool", options.before))
        for clients in options.clients:
            count = options.messages if clients > 1 else options.messages // 10
            print(
                f"queued, {clients:3} clients: {asyncio.run(queue(base / 'spool', clients, count)):7.2f} KiB a message"
            )
        for rate in (10, 500):
            count = options.messages if rate > 10 else 100
            figure = asyncio.run(histories(base / "spool", rate, count))
            print(f"history, {rate:3} a second: {figure:7.2f} KiB a message")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
