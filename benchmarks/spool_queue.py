"""Cost of queries and claims with many waiting messages and years of history.

    python benchmarks/spool_queue.py [--folder DIR] [--waiting 10000] [--history 100000]

One account has all waiting messages but one. Each figure is the median of a hundred queries.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.spool_accept import ANNA, CLOCK, arrival
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Lane, Query, RecipientState, RecipientStatus

TAKEN = reply(250, "2.0.0", "queued as A1B2C3D4E5")


def open_spool(folder: Path) -> SqliteSpool:
    return SqliteSpool.open(folder, CLOCK, SpoolLimits(timedelta(days=30)))


async def fill(folder: Path, waiting: int, history: int) -> None:
    spool = open_spool(folder)
    for start in range(0, history, 500):
        done = [arrival(4096, number) for number in range(start, start + 500)]
        delivered = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=TAKEN)
        await spool.accept(*(replace(one, states=dict.fromkeys(one.states, delivered)) for one in done))
    for start in range(0, waiting, 500):
        await spool.accept(*(arrival(4096, number) for number in range(start, start + 500)))
    await spool.accept(replace(arrival(4096, 1), account="bert"))
    await spool.close()


async def ask(name: str, question: Callable[[], Awaitable[object]], times: int = 100) -> None:
    waits = []
    for _ in range(times):
        begun = time.perf_counter()
        await question()
        waits.append(time.perf_counter() - begun)
    print(f"  {name:40} {statistics.median(waits) * 1000:8.2f} ms   longest {max(waits) * 1000:8.2f} ms")


async def measure(folder: Path) -> None:
    print(f"the database has {(folder / 'spool.db').stat().st_size >> 20} MiB")
    begun = time.perf_counter()
    spool = open_spool(folder)
    print(f"  {'opened':40} {(time.perf_counter() - begun) * 1000:8.2f} ms")
    begun = time.perf_counter()
    (claim,) = await spool.claim(Lane.of_account("anna"), 1)
    print(f"  {'first claim after that':40} {(time.perf_counter() - begun) * 1000:8.2f} ms")

    async def attempt() -> None:
        (taken,) = await spool.claim(Lane.of_account("anna"), 1)
        state = RecipientState(RecipientStatus.DELIVERED, tries=1, reply=TAKEN)
        await spool.settle(taken, SpoolUpdate(dict.fromkeys(taken.due, state)))

    async def the_other() -> None:
        (taken,) = await spool.claim(Lane.of_account("bert"), 1)
        await spool.settle(taken, SpoolUpdate({}))

    await ask("due", spool.due)
    await ask("claim and settle", attempt)
    await ask("claim of the other account", the_other)
    await ask("totals", spool.totals, 10)
    await ask("list of what waits, 50", lambda: spool.find(Query(unfinished=True), limit=50))
    await ask("find by id", lambda: spool.find(Query(id=claim.submission.id), limit=50))
    await ask("find by recipient", lambda: spool.find(Query(recipient="carl5@elsewhere.example"), limit=50))
    await ask("find by recipient's domain", lambda: spool.find(Query(recipient="@elsewhere.example"), limit=50), 5)
    await ask("find by author", lambda: spool.find(Query(sender=str(ANNA)), limit=50), 5)
    await ask("find by status: delivered", lambda: spool.find(Query(status=RecipientStatus.DELIVERED), limit=50))
    await ask("find by status: failed (none)", lambda: spool.find(Query(status=RecipientStatus.FAILED), limit=50))
    await ask("find by time", lambda: spool.find(Query(since=CLOCK.now() - timedelta(days=1)), limit=50), 5)
    begun = time.perf_counter()
    await spool.sweep(CLOCK.now() + timedelta(days=31))
    print(f"  {'sweep of all the history':40} {(time.perf_counter() - begun) * 1000:8.2f} ms")
    await spool.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--history", type=int, default=100_000)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="spool-queue-", dir=options.folder))
    try:
        asyncio.run(fill(base / "spool", options.waiting, options.history))
        asyncio.run(measure(base / "spool"))
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
