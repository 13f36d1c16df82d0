"""Reception while the disk of large messages hangs: only their own connections wait."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.disk_threads import DiskThreads
from senderproxy.listener.server import Listener
from tests.fakes.hanging_disk import HangingSpill
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, TIMEOUTS, SmtpClient, settings, until

LARGE = MESSAGE + (b"x" * 76 + b"\r\n") * 20_000  # 1.5 MB


@asynccontextmanager
async def listening_on(spill: HangingSpill, intake: RecordingIntake) -> AsyncIterator[Listener]:
    listener = Listener(settings(), (), HOSTNAME, intake, SystemClock(), timeouts=TIMEOUTS, spill=spill)
    await listener.start()
    try:
        yield listener
    finally:
        spill.release.set()
        await listener.stop(0)


async def start_large(listener: Listener, message: bytes = LARGE + b".\r\n") -> SmtpClient:
    """A client that sends the data of a message, as far as the listener reads it."""
    client = await SmtpClient.greeted(listener)
    await client.send(b"MAIL FROM:<anna@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\n")
    await client.answers(3)
    client.writer.write(message)
    return client


@pytest.fixture
def spill(tmp_path: Path) -> HangingSpill:
    return HangingSpill(tmp_path)


async def test_a_write_that_hangs_delays_its_own_message_only(spill: HangingSpill) -> None:
    intake = RecordingIntake()
    async with listening_on(spill, intake) as listener:
        slow = await start_large(listener)
        await until(lambda: spill.begun > 0)
        other = await SmtpClient.greeted(listener)
        assert (await other.mail()).code == 250
        assert (await other.mail(LARGE)).code == 250
        assert [len(taken.wire) for taken in intake.taken] == [len(MESSAGE), len(LARGE)]
        spill.release.set()
        assert (await slow.answer()).code == 250
        assert intake.taken[-1].wire == LARGE
        assert (await slow.mail()).code == 250
        await slow.close()
        await other.close()
    await until(lambda: spill.open_files == 0)


async def test_a_client_is_not_read_while_its_blocks_wait(spill: HangingSpill) -> None:
    """The socket buffers of both sides take up to 10 MB."""
    async with listening_on(spill, RecordingIntake()) as listener:
        slow = await start_large(listener, LARGE * 24 + b".\r\n")
        await until(lambda: spill.begun > 0)
        other = await SmtpClient.greeted(listener)
        for _ in range(100):  # in each of them the listener could read from the slow client, too
            assert (await other.mail()).code == 250
        assert slow.writer.transport.get_write_buffer_size() > 10_000_000
        spill.release.set()
        assert (await slow.answer()).code == 250
        await slow.close()
        await other.close()


async def test_a_disk_that_does_not_respond_in_time_is_a_451_and_the_connection_goes_on(tmp_path: Path) -> None:
    spill = HangingSpill(tmp_path, disk=DiskThreads("test", timeout_seconds=0.05))
    intake = RecordingIntake()
    async with listening_on(spill, intake) as listener:
        client = await start_large(listener)
        answer = await client.answer()
        assert (answer.code, answer.text) == (451, "4.3.0 The disk does not respond; try again later")
        assert (await client.mail()).code == 250
        await until(lambda: spill.begun > 0)  # a thread may start late
        assert (spill.begun, spill.open_files) == (1, 1), "the write has not returned"
        spill.release.set()
        await until(lambda: spill.open_files == 0)
        assert [taken.wire for taken in intake.taken] == [MESSAGE]
        await client.close()


async def test_while_all_threads_hang_large_messages_are_refused_at_once(tmp_path: Path) -> None:
    disk = DiskThreads("test", count=2, hang_seconds=0.3)
    spill = HangingSpill(tmp_path, hanging=2, disk=disk)
    async with listening_on(spill, RecordingIntake()) as listener:
        hanging = [await start_large(listener) for _ in range(2)]
        await until(lambda: disk.hangs and spill.begun == 2)
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(LARGE)).code == 451
        assert (await client.mail()).code == 250
        assert len(spill.files) == 2
        disk._hang_seconds = 60  # from now on it is only slow, if at all
        spill.release.set()
        assert [(await each.answer()).code for each in hanging] == [250, 250]
        assert not disk.hangs
        assert (await client.mail(LARGE)).code == 250
        for each in (*hanging, client):
            await each.close()


async def test_a_system_without_threads_is_a_451_to_large_messages_and_the_connection_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    intake = RecordingIntake()
    async with listening_on(HangingSpill(tmp_path, hanging=0), intake) as listener:
        client = await SmtpClient.greeted(listener)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            assert (await client.mail(LARGE)).code == 451
            assert (await client.mail()).code == 250
        assert (await client.mail(LARGE)).code == 250
        assert [len(taken.wire) for taken in intake.taken] == [len(MESSAGE), len(LARGE)]
        await client.close()


@pytest.mark.parametrize("size", [len(MESSAGE) + 300_000, len(LARGE)], ids=["still read", "not read any more"])
async def test_a_client_that_leaves_during_a_write_leaves_no_open_file(spill: HangingSpill, size: int) -> None:
    intake = RecordingIntake()
    async with listening_on(spill, intake) as listener:
        client = await start_large(listener, LARGE[:size])
        await until(lambda: spill.begun > 0)
        client.reset()
        other = await SmtpClient.greeted(listener)
        assert (await other.mail()).code == 250
        assert spill.open_files == 1, "a descriptor in use is not closed: another file could get its number"
        spill.release.set()
        await until(lambda: spill.open_files == 0 and listener.connections == 1)
        await other.close()
    assert [taken.wire for taken in intake.taken] == [MESSAGE]


async def test_a_stop_does_not_wait_for_a_write_that_hangs(spill: HangingSpill) -> None:
    intake = RecordingIntake()
    async with listening_on(spill, intake) as listener:
        client = await start_large(listener)
        await until(lambda: spill.begun > 0)
        await asyncio.wait_for(listener.stop(0), 10)
        assert not spill.release.is_set()
        assert (await client.answer()).code == 421
        await client.close()
        spill.release.set()
        await until(lambda: spill.open_files == 0)
    assert intake.started == 0
