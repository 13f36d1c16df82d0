"""Costs of the spool that can be counted: syncs and memory."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]

TOGETHER = """
import asyncio, os, sys, threading
from pathlib import Path
from tests.fakes.arrivals import arrival
from tests.senderproxy.spool.sqlite.open_spool import opened
from tests.senderproxy.spool.sqlite.test_store import _busy

async def main():
    async with opened(Path(sys.argv[1])) as spool:
        await spool.accept(arrival("first"))
        go_on = await _busy(spool)
        tasks = [asyncio.create_task(spool.accept(arrival(f"m{number}"))) for number in range(60)]
        await asyncio.sleep(0)
        os.write(1, b"begin")
        go_on.set()
        await asyncio.gather(*tasks)
        os.write(1, b"end")

asyncio.run(main())
"""


def test_sixty_messages_at_once_share_one_sync(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    log = tmp_path / "log"
    subprocess.run(
        [strace, "-f", "-o", str(log), "-e", "trace=write,fsync,fdatasync,sync_file_range,msync",
         sys.executable, "-c", TOGETHER, str(tmp_path / "spool")],
        check=True,
        capture_output=True,
        env={"PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    text = log.read_text()
    between = text[text.index('write(1, "begin"') : text.index('write(1, "end"')]
    assert len(re.findall(r"(?:fsync|fdatasync|sync_file_range|msync)\(", between)) == 1


LARGE = """
import asyncio, resource, sys
from itertools import repeat
from pathlib import Path
from senderproxy.listener.body import SpillDirectory
from senderproxy.mail.message import Message
from senderproxy.relay.ports import SpoolUpdate
from tests.fakes.arrivals import DELIVERED, arrival
from tests.fakes.buffered_body import buffered_body
from tests.senderproxy.spool.sqlite.open_spool import claimed, opened
from tests.senderproxy.spool.sqlite.test_store import _with_message

async def main(folder, elsewhere):
    async with opened(folder) as spool:
        await spool.accept(arrival("first"))
        await spool.settle(await claimed(spool), SpoolUpdate({list(arrival("x").states)[0]: DELIVERED}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        given = arrival("large")
        for spill in (spool.spill_folder, elsewhere):
            block = b"x" * 998 + b"\\r\\n"
            body = await buffered_body(1 << 20, SpillDirectory(folder=spill), repeat(block, 150_000))
            await spool.accept(_with_message(given, Message(given.submission.message.header, body)))
            body.close()
            claim = await claimed(spool)
            assert sum(map(len, claim.submission.message.blocks())) > 150_000_000
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, DELIVERED)))
            given = arrival("another")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", ["/dev/shm", "here"])
def test_a_message_of_150_mb_costs_no_more_memory_than_a_small_one(tmp_path: Path, elsewhere: str) -> None:
    other = Path(elsewhere) if elsewhere != "here" else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "spool"), str(other)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT)},
    )
    assert int(done.stdout) < 8 * 1024, f"{done.stdout.strip()} KiB"
