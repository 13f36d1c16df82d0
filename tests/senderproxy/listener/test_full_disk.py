"""Reception while the disk for temporary files takes no more: large messages are buffered in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.listener.memory_files import MemoryFiles
from senderproxy.listener.server import Listener
from tests.fakes.filling_disk import FillingDisk
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, TIMEOUTS, SmtpClient, settings, until

LARGE = MESSAGE + (b"x" * 76 + b"\r\n") * 20_000  # 1.5 MB
FULL = (452, "4.3.1 Insufficient disk space; try again later")


@asynccontextmanager
async def listening_on(disk: FillingDisk, intake: RecordingIntake) -> AsyncIterator[Listener]:
    listener = Listener(settings(), (), HOSTNAME, intake, SystemClock(), timeouts=TIMEOUTS, spill=disk)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(0)


@pytest.mark.parametrize("space", [None, 0, 700_000])
async def test_a_large_message_is_relayed_and_the_log_says_why_it_is_in_memory(
    tmp_path: Path, space: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    memory, intake = MemoryFiles(), RecordingIntake()
    async with listening_on(FillingDisk(tmp_path, space, memory), intake) as listener:
        client = await SmtpClient.greeted(listener)
        for _ in range(3):
            assert (await client.mail(LARGE)).code == 250
        await client.close()
        assert [taken.wire for taken in intake.taken] == [LARGE] * 3
        await until(lambda: memory.reserved == 0)
        found = [r for r in caplog.records if r.__dict__["senderproxy_event"] == "message_buffered_in_memory"]
        assert len(found) == 1
        assert "No space left" in found[0].__dict__["senderproxy_fields"]["why"]


async def test_beyond_the_limit_of_memory_it_is_deferred_with_the_reason_and_small_ones_are_relayed(
    tmp_path: Path,
) -> None:
    memory, intake = MemoryFiles(1_000_000), RecordingIntake()
    async with listening_on(FillingDisk(tmp_path, 0, memory), intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(LARGE)
        assert (answer.code, answer.text) == FULL
        await until(lambda: memory.reserved == 0)
        assert (await client.mail(LARGE[:800_000] + b"\r\n")).code == 250
        assert (await client.mail()).code == 250
        await client.close()


async def test_a_flood_of_large_messages_takes_no_more_memory_than_the_limit(tmp_path: Path) -> None:
    memory, intake = MemoryFiles(4_000_000), RecordingIntake()
    highest = 0

    async def submit(listener: Listener) -> int:
        nonlocal highest
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(LARGE)
        highest = max(highest, memory.reserved)
        await client.close()
        return answer.code

    async with listening_on(FillingDisk(tmp_path, 0, memory), intake) as listener:
        codes = await asyncio.gather(*(submit(listener) for _ in range(12)))
        assert set(codes) <= {250, 452}
        assert codes.count(250) >= 1
        assert highest <= 4_000_000
        await until(lambda: memory.reserved == 0)


async def test_a_message_for_the_queue_is_deferred(tmp_path: Path) -> None:
    """The spool is on the same disk and would refuse it."""
    async with listening_on(FillingDisk(tmp_path, 0, None), RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(LARGE)
        assert (answer.code, answer.text) == FULL
        assert (await client.mail()).code == 250
        await client.close()
