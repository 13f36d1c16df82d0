"""Bodies in memory and on disk."""

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from senderproxy.aio import wait_done
from senderproxy.disk_threads import READ_BLOCK
from senderproxy.listener.body import BLOCK, WRITE_BLOCK, BodyBuffer, SpillDirectory
from senderproxy.listener.memory_files import MemoryFiles
from tests.fakes.buffered_body import buffered_body, write
from tests.fakes.filling_disk import FillingDisk


def full_disk() -> BinaryIO:
    return Path("/dev/full").open("w+b", buffering=0)


class FullDisk(SpillDirectory):
    open = staticmethod(full_disk)


@pytest.fixture
def spill(tmp_path: Path) -> SpillDirectory:
    return SpillDirectory(tmp_path)


async def test_a_small_body_stays_in_memory(spill: SpillDirectory, tmp_path: Path) -> None:
    body = await buffered_body(100, spill, [b"x" * 60, b"y" * 40])
    assert (body.on_disk, body.disk) == (False, None)
    assert b"".join(body.blocks()) == b"x" * 60 + b"y" * 40
    assert body.size == 100
    assert list(tmp_path.iterdir()) == []
    body.close()


async def test_a_large_body_is_on_disk_without_a_name_and_reads_the_same_twice(
    spill: SpillDirectory, tmp_path: Path
) -> None:
    pieces = [bytes([n % 256]) * (n * 37 % 5000) for n in range(400)]
    body = await buffered_body(100, spill, pieces)
    assert body.disk is spill.disk
    whole = b"".join(pieces)
    for _ in range(2):
        blocks = list(body.blocks())
        assert b"".join(blocks) == whole
        assert max(map(len, blocks)) <= READ_BLOCK
    assert await spill.disk.read(body) == whole
    [directory] = tmp_path.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == []
    body.close()
    await spill.remove()
    assert list(tmp_path.iterdir()) == []


async def test_after_the_threshold_a_block_at_a_time_is_in_memory(spill: SpillDirectory) -> None:
    body = BodyBuffer(1000, spill)
    body.append(b"x" * 1001)
    held = [body.must_write]
    await write(body)
    for piece in (b"x" * WRITE_BLOCK, b"x"):
        body.append(piece)
        held.append(body.must_write)
    assert held == [True, False, True]
    await write(body)
    assert len(b"".join(body.blocks())) == body.size == 1001 + WRITE_BLOCK + 1
    body.close()


async def test_blocks_from_memory_are_bounded_as_well(spill: SpillDirectory) -> None:
    body = await buffered_body(1 << 20, spill, [b"x" * 200_000])
    assert max(map(len, body.blocks())) == BLOCK
    body.close()


async def test_a_body_records_if_it_is_ascii(spill: SpillDirectory) -> None:
    body = BodyBuffer(1000, spill)
    body.append(b"plain")
    before = body.is_ascii
    body.append("Grüße".encode())
    body.append(b"plain")
    assert (before, body.is_ascii) == (True, False)
    body.close()


async def test_a_deleted_directory_is_created_again(spill: SpillDirectory, tmp_path: Path) -> None:
    first = spill.open()
    [directory] = tmp_path.iterdir()
    directory.rmdir()
    second = spill.open()
    assert len(list(tmp_path.iterdir())) == 1
    first.close()
    second.close()


async def test_a_full_disk_raises_oserror() -> None:
    with pytest.raises(OSError) as error:
        await buffered_body(10, FullDisk(), [b"x" * 10, b"x"])
    assert error.value.errno == errno.ENOSPC


# ---- a disk that takes no more, and files in memory in its place ----


async def until_released(memory: MemoryFiles) -> None:
    async with asyncio.timeout(20):
        while memory.reserved:
            await asyncio.sleep(0.001)


PIECES = [bytes([number]) * 100_000 for number in range(10)]


@pytest.mark.parametrize("space", [None, 0, 1, 250_000, 300_000, 600_001])
async def test_a_body_goes_on_in_memory_when_the_disk_is_full(tmp_path: Path, space: int | None) -> None:
    memory = MemoryFiles()
    disk = FillingDisk(tmp_path, space, memory)
    body = await buffered_body(1000, disk, PIECES)
    assert b"".join(body.blocks()) == b"".join(PIECES)
    assert b"".join(body.blocks()) == b"".join(PIECES)
    assert body.disk_error is not None
    assert body.disk_error.errno == errno.ENOSPC
    assert memory.reserved == body.size == 1_000_000
    assert all(file.closed for file in disk.files)
    body.close()
    await until_released(memory)


async def test_a_body_on_a_disk_with_space_uses_no_memory_file(tmp_path: Path) -> None:
    memory = MemoryFiles()
    body = await buffered_body(1000, FillingDisk(tmp_path, 2_000_000, memory), PIECES)
    assert (memory.reserved, body.disk_error) == (0, None)
    body.close()


@pytest.mark.parametrize("limit", [50_000, 999_999])
async def test_beyond_the_limit_of_memory_files_the_error_of_the_disk_is_raised(tmp_path: Path, limit: int) -> None:
    memory = MemoryFiles(limit)
    with pytest.raises(OSError) as error:
        await buffered_body(1000, FillingDisk(tmp_path, 0, memory), PIECES)
    assert error.value.errno == errno.ENOSPC


async def test_all_bodies_share_the_limit_and_give_it_back(tmp_path: Path) -> None:
    memory = MemoryFiles(1_500_000)
    disk = FillingDisk(tmp_path, None, memory)
    first = await buffered_body(1000, disk, PIECES)
    second = BodyBuffer(1000, disk)
    for piece in PIECES[:5]:
        second.append(piece)
    await write(second)
    second.append(PIECES[5])
    with pytest.raises(OSError):
        await write(second)
    first.close()
    second.close()
    await until_released(memory)
    third = await buffered_body(1000, disk, PIECES)
    assert memory.reserved == 1_000_000
    third.close()


async def test_a_truncated_file_is_noticed(spill: SpillDirectory) -> None:
    body = await buffered_body(10, spill, [b"x" * 100_000])
    file = body.unnamed_file()
    assert file is not None
    os.ftruncate(file, 70_000)
    with pytest.raises(OSError, match="shorter"):
        list(body.blocks())
    body.close()


async def test_a_second_user_keeps_the_body_open(tmp_path: Path) -> None:
    body = await buffered_body(10, SpillDirectory(tmp_path), [b"x" * 100])
    body.retain()
    body.close()
    assert b"".join(body.blocks()) == b"x" * 100
    body.close()
    assert (body.size, body.unnamed_file()) == (0, None)


async def test_a_write_in_progress_keeps_the_file_open_after_its_user_has_left(spill: SpillDirectory) -> None:
    """A descriptor that is closed during a call may be another file when the call goes on."""
    body = BodyBuffer(10, spill)
    body.append(b"x" * 100)
    writing = body.write()
    body.close()
    await wait_done(writing)
    assert writing.exception() is None
    assert body.unnamed_file() is None


@pytest.mark.parametrize("on_disk", [False, True])
async def test_reading_a_closed_body_raises_oserror(spill: SpillDirectory, on_disk: bool) -> None:
    body = await buffered_body(1000 if on_disk else 1 << 30, spill, [b"x" * (READ_BLOCK + 1)])
    reader = body.blocks()
    next(reader)
    body.close()
    with pytest.raises(OSError, match="closed"):
        next(reader)
