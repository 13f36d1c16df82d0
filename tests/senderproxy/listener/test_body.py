"""Bodies in memory and on disk."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from senderproxy.listener.body import BLOCK, BodyBuffer, SpillDirectory


def full_disk() -> BinaryIO:
    return Path("/dev/full").open("w+b", buffering=0)


@pytest.fixture
def spill(tmp_path: Path) -> SpillDirectory:
    return SpillDirectory(tmp_path)


def test_a_small_body_stays_in_memory(spill: SpillDirectory, tmp_path: Path) -> None:
    body = BodyBuffer(100, spill.open)
    body.append(b"x" * 60)
    body.append(b"y" * 40)
    assert not body.on_disk
    assert b"".join(body.blocks()) == b"x" * 60 + b"y" * 40
    assert body.size == 100
    assert list(tmp_path.iterdir()) == []
    body.close()


def test_a_large_body_is_on_disk_without_a_name_and_reads_the_same_twice(spill: SpillDirectory, tmp_path: Path) -> None:
    body = BodyBuffer(100, spill.open)
    pieces = [bytes([n % 256]) * (n * 37 % 5000) for n in range(100)]
    for piece in pieces:
        body.append(piece)
    assert body.on_disk
    whole = b"".join(pieces)
    for _ in range(2):
        blocks = list(body.blocks())
        assert b"".join(blocks) == whole
        assert max(map(len, blocks)) <= BLOCK
    [directory] = tmp_path.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == []
    body.close()
    body.close()
    spill.remove()
    assert list(tmp_path.iterdir()) == []


def test_blocks_from_memory_are_bounded_as_well(spill: SpillDirectory) -> None:
    body = BodyBuffer(1 << 20, spill.open)
    body.append(b"x" * 200_000)
    assert max(map(len, body.blocks())) == BLOCK
    body.close()


def test_a_body_records_if_it_is_ascii(spill: SpillDirectory) -> None:
    body = BodyBuffer(10, spill.open)
    body.append(b"plain")
    before = body.is_ascii
    body.append("Grüße".encode())
    body.append(b"plain")
    assert (before, body.is_ascii) == (True, False)
    body.close()


def test_a_deleted_directory_is_created_again(spill: SpillDirectory, tmp_path: Path) -> None:
    first = spill.open()
    [directory] = tmp_path.iterdir()
    directory.rmdir()
    second = spill.open()
    assert len(list(tmp_path.iterdir())) == 1
    first.close()
    second.close()


def test_a_full_disk_raises_oserror() -> None:
    body = BodyBuffer(10, full_disk)
    body.append(b"x" * 10)
    with pytest.raises(OSError) as error:
        body.append(b"x")
    assert error.value.errno == errno.ENOSPC
    body.close()


def test_a_truncated_file_is_noticed(spill: SpillDirectory) -> None:
    files: list[BinaryIO] = []

    def remember() -> BinaryIO:
        files.append(spill.open())
        return files[-1]

    body = BodyBuffer(10, remember)
    body.append(b"x" * 100_000)
    os.ftruncate(files[0].fileno(), 70_000)
    with pytest.raises(OSError, match="shorter"):
        list(body.blocks())
    body.close()


def test_a_second_user_keeps_the_body_open(tmp_path: Path) -> None:
    body = BodyBuffer(10, SpillDirectory(tmp_path).open)
    body.append(b"x" * 100)
    body.retain()
    body.close()
    assert b"".join(body.blocks()) == b"x" * 100
    body.close()
    assert body.size == 0


def test_reading_a_closed_body_raises_oserror() -> None:
    body = BodyBuffer(1_000_000, _no_file)
    body.append(b"x" * 200_000)
    reader = body.blocks()
    next(reader)
    body.close()
    with pytest.raises(OSError, match="closed"):
        next(reader)


def _no_file() -> BinaryIO:
    raise AssertionError("it fits into memory")
