"""DiskThreads: a disk that hangs refuses calls in the end, and blocks are read ahead without loss or leak."""

import asyncio
import gc
import threading
from collections.abc import Generator

import pytest

from senderproxy.aio import wait_done
from senderproxy.disk_threads import DiskThreads, DiskTimeout
from senderproxy.spool.sqlite.content import LostBody
from tests.fakes.memory_spool import KeptBody

BODY = KeptBody(b"octets", True, False)


class CountedBody(KeptBody):
    """A body that counts its users."""

    users = 0

    def retain(self) -> None:
        type(self).users += 1

    def close(self) -> None:
        type(self).users -= 1


def threads_named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


async def until(condition: threading.Event) -> None:
    while not condition.is_set():
        await asyncio.sleep(0.001)


async def test_calls_are_refused_only_while_no_thread_responds() -> None:
    disk, release = DiskThreads("test", count=2, hang_seconds=0), threading.Event()
    first = disk.do(lambda: release.wait(30))
    assert not disk.hangs
    second = disk.do(lambda: release.wait(30))
    with pytest.raises(DiskTimeout):
        disk.do(int)
    with pytest.raises(DiskTimeout):
        await disk.read(BODY)
    closing = disk.do_always(lambda: "closed")
    release.set()
    for call in (first, second, closing):
        await wait_done(call)
    assert closing.result() == "closed"
    assert not disk.hangs
    assert await disk.read(BODY) == b"octets"


async def test_a_system_without_threads_refuses_calls_and_the_closing_of_a_reader_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    disk, body = DiskThreads("test"), CountedBody(b"octets", True, False)
    with pytest.raises(DiskTimeout, match="no thread"):
        disk.do(int)
    reader = disk.read_ahead((number for number in range(3)), body)
    with pytest.raises(DiskTimeout, match="no thread"):
        await reader.next()
    reader.close()
    assert body.users == 0
    monkeypatch.undo()
    assert await disk.read(BODY) == b"octets"


async def test_busy_threads_that_respond_do_not_hang() -> None:
    disk, release = DiskThreads("test", count=1, hang_seconds=60), threading.Event()
    calls = [disk.do(lambda: release.wait(30)) for _ in range(20)]
    assert not disk.hangs
    release.set()
    for call in calls:
        await wait_done(call)


async def test_the_threads_end_with_their_last_user() -> None:
    name = "test-end"
    disk: DiskThreads | None = DiskThreads(name)
    assert disk is not None
    await wait_done(disk.do(int))
    await asyncio.sleep(0)
    assert threads_named(name) == 1
    disk = None
    gc.collect()
    while threads_named(name):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 100])
async def test_all_blocks_are_read_in_order(count: int) -> None:
    disk = DiskThreads("test")
    reader = disk.read_ahead((number for number in range(count)), BODY)
    numbers: list[int] = []
    while blocks := await reader.next():
        numbers += blocks
    reader.close()
    assert numbers == list(range(count))


async def test_few_blocks_are_read_ahead() -> None:
    disk, read = DiskThreads("test", count=1), 0

    def blocks() -> Generator[int, None, None]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield number

    reader = disk.read_ahead(blocks(), BODY)
    used = len(await reader.next())
    reader.close()
    await wait_done(disk.do(int))  # behind the reading ahead, and the closing
    assert used <= read <= 2 * used


@pytest.mark.parametrize(("readers", "blocks"), [(1, 8), (8, 8), (9, 7), (16, 4), (32, 2), (50, 2)])
async def test_of_many_bodies_few_blocks_each_are_read(readers: int, blocks: int) -> None:
    disk = DiskThreads("test")
    begun = [disk.read_ahead((number for number in range(9)), BODY) for _ in range(readers)]
    assert disk.blocks_at_once == blocks
    assert list(await begun[0].next()) == list(range(blocks))
    for reader in begun:
        reader.close()
    assert disk.blocks_at_once == 8


async def test_an_error_of_the_disk_is_raised_by_next() -> None:
    def blocks() -> Generator[bytes, None, None]:
        yield from LostBody("input/output error").blocks()

    reader = DiskThreads("test").read_ahead(blocks(), BODY)
    with pytest.raises(OSError, match="input/output"):
        await reader.next()
    reader.close()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_reader_that_is_closed_during_a_read_keeps_the_body_until_its_end(cancelled: bool) -> None:
    disk = DiskThreads("test", timeout_seconds=60 if cancelled else 0.01)
    begun, release, closed = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> Generator[bytes, None, None]:
        try:
            begun.set()
            assert release.wait(30)
            yield b""
        finally:
            closed.set()

    body = CountedBody(b"", True, False)
    reader = disk.read_ahead(blocks(), body)
    reading = asyncio.create_task(reader.next())
    await until(begun)
    if cancelled:
        reading.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else DiskTimeout):
        await reading
    reader.close()
    await asyncio.sleep(0)
    assert (body.users, closed.is_set()) == (1, False)
    release.set()
    await until(closed)
    while body.users:
        await asyncio.sleep(0.001)
