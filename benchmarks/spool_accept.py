"""Messages a second that the spool accepts, compared with the limit of the disk.

    python benchmarks/spool_accept.py [--seconds 3] [--folder DIR] [--profile]

Each client is a coroutine that hands over its next message when the last one is stored, as an SMTP client does after
its 250. `raw sync` writes the same octets to one file, one message and one fdatasync after the other: no program that
answers 250 after the sync can be faster with one client. Each row has messages a second, the median and the slowest of
a hundred waits, CPU and octets written for each message.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from senderproxy.clock import SystemClock
from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Arrival
from senderproxy.spool.sqlite.content import RowBody
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, RecipientState, RecipientStatus

CLIENT = Client("192.0.2.7", "mail.firma.example", "ESMTP")
ANNA = parse_address("anna@firma.example")
LINE = b"x" * 76 + b"\r\n"
CLOCK = SystemClock()


@dataclass(slots=True)
class Figures:
    """The result of one run."""

    count: int
    seconds: float
    cpu: float
    written: int
    waits: list[float]

    def __str__(self) -> str:
        waits = sorted(self.waits)
        return (
            f"{self.count / self.seconds:8.0f}/s   median {statistics.median(waits) * 1000:6.2f} ms"
            f"   99 % {waits[int(len(waits) * 0.99)] * 1000:6.2f} ms   longest {waits[-1] * 1000:7.2f} ms"
            f"   CPU {self.cpu / self.count * 1e6:6.0f} us"
            f"   written {self.written / self.count / 1024:8.1f} KiB"
        )


def arrival(size: int, number: int) -> Arrival:
    """A message of this many octets, to its own recipient."""
    ident = CLOCK.new_id()
    carl = parse_address(f"carl{number % 997}@elsewhere.example")
    header = HeaderSection(
        b"From: Anna <anna@firma.example>\r\nTo: carl@elsewhere.example\r\nSubject: bench\r\n"
        b"Date: Sat, 31 Jan 2026 08:15:00 +0000\r\nMessage-ID: <" + ident.encode() + b"@firma.example>\r\n\r\n"
    )
    body = RowBody(LINE * max(1, (size - len(header.raw)) // len(LINE)), True, False)
    now = CLOCK.now()
    submission = Submission(ident, "scanner", CLIENT, Envelope(ANNA, (carl,)), Message(header, body), now)
    facts = {"client": str(CLIENT), "listener": "scanner", "account": "anna", "author": str(ANNA), "mode": "queue"}
    return Arrival(
        submission,
        "anna",
        str(ANNA),
        {carl: RecipientState(RecipientStatus.WAITING)},
        (Event(now, EventKind.ACCEPTED, (), facts | {"size": str(submission.message.size)}),),
    )


def written() -> int:
    """Octets that this process has written to disks."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


async def accept(folder: Path, clients: int, size: int, seconds: float, tuning: Tuning) -> Figures:
    """This many clients, each with its next message as soon as the last one is stored."""
    spool = SqliteSpool.open(folder, CLOCK, SpoolLimits(timedelta(days=30)), tuning=tuning)
    waits: list[float] = []
    numbers: Iterator[int] = iter(range(10**9))
    start, cpu, before = time.perf_counter(), time.process_time(), written()
    end = start + seconds

    async def client() -> None:
        while (begun := time.perf_counter()) < end:
            await spool.accept(arrival(size, next(numbers)))
            waits.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    took, used, octets = time.perf_counter() - start, time.process_time() - cpu, written() - before
    await spool.close()
    return Figures(len(waits), took, used, octets, waits)


def raw(folder: Path, size: int, seconds: float) -> Figures:
    """One file, one write and one sync for each message: the limit of the disk for one client."""
    file = os.open(folder / "raw", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    block = (LINE * (size // len(LINE) + 1))[:size]
    waits: list[float] = []
    start, cpu, before = time.perf_counter(), time.process_time(), written()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        os.pwrite(file, block, len(waits) * size % (64 << 20))
        os.fdatasync(file)
        waits.append(time.perf_counter() - begun)
    figures = Figures(len(waits), time.perf_counter() - start, time.process_time() - cpu, written() - before, waits)
    os.close(file)
    (folder / "raw").unlink()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1024, 4096, 65536, 262144])
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 10, 50])
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="spool-accept-", dir=options.folder))
    try:
        for size in options.sizes:
            print(f"{size} octets")
            print(f"  raw sync     {raw(base, size, options.seconds)}")
            for clients in options.clients:
                folder = base / f"{size}-{clients}"
                profile = cProfile.Profile() if options.profile else None
                if profile:
                    profile.enable()
                figures = asyncio.run(accept(folder, clients, size, options.seconds, Tuning()))
                if profile:
                    profile.disable()
                print(f"  {clients:3} clients  {figures}")
                if profile:
                    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(25)
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
