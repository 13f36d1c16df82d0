"""Memory of a service's process while a large message goes through the spool in PostgreSQL."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from benchmarks.scale_database import opened, running_database, table
from benchmarks.spool_accept import arrival
from benchmarks.spool_written import delivered
from senderproxy.mail.message import Message
from senderproxy.relay.ports import SpoolUpdate
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.tracking.record import Lane

SIZES: Final = (0, 25, 150)  # MB; the first one is a small message, for comparison
_BLOCK: Final = (b"Zeile %d\r\n" * 6000)[:65536]


class _LongBody:
    """A body of any size without its octets: the same block again and again."""

    is_ascii, has_long_lines, disk = True, False, None

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self.size = blocks * len(_BLOCK)

    def blocks(self) -> Iterator[bytes]:
        for _ in range(self._blocks):
            yield _BLOCK

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


def _memory(name: str) -> float:
    """VmRSS or VmHWM of this process, in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


async def _through(target: DatabaseTarget, size: int) -> tuple[float, float, float]:
    """MB before, at the peak, afterwards."""
    spool = await opened(target)
    lane = Lane.of_account("anna")
    for blocks in (1, size * 1_000_000 // len(_BLOCK)):  # the first one warms up
        given = arrival(1024, 0)
        message = Message(given.submission.message.header, _LongBody(max(1, blocks)))
        if blocks != 1:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
        before = _memory("VmRSS")
        await spool.accept(replace(given, submission=replace(given.submission, message=message)))
        [claim] = await spool.claim(lane, 1)
        read = sum(len(block) for block in claim.submission.message.body.blocks())
        assert read == message.body.size
        state, event = delivered()
        await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, state), events=(event,)))
    figures = before, _memory("VmHWM"), _memory("VmRSS")
    await spool.close()
    return figures


def _process(pipe: Connection, target: DatabaseTarget, size: int) -> None:
    pipe.send(asyncio.run(_through(target, size)))


def large_messages() -> str:
    """A process for each size."""
    spawn = multiprocessing.get_context("spawn")
    lines = []
    with running_database() as database:
        for size in SIZES:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_process, args=(theirs, database.target, size), daemon=True)
            process.start()
            try:
                before, peak, after = ours.recv()
            finally:
                process.join(60)
                process.kill()
            lines.append((f"{size} MB" if size else "64 KB", *(f"{each:.1f}" for each in (before, peak, after))))
    columns = ("message", "MB before", "MB at the peak", "MB after")
    return table("A large message through the spool: accept, claim, read, result", columns, lines)
