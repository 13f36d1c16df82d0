"""A disk whose calls hang until the test releases them."""

import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

from senderproxy.disk_threads import DiskThreads
from senderproxy.listener.body import SpillDirectory

LONGEST = 100.0  # seconds that a call hangs if the test fails: longer than a test may take


class HangingSpill(SpillDirectory):
    """Spill directory whose first `hanging` files hang in each write, until `release` is set."""

    def __init__(self, folder: Path, *, hanging: int = 1, disk: DiskThreads | None = None) -> None:
        super().__init__(folder=folder, disk=disk)
        self.hanging = hanging
        self.begun = 0  # writes that hang, or did
        self.release = threading.Event()
        self.files: list[BinaryIO] = []

    def open(self) -> BinaryIO:
        file = super().open()
        self.files.append(file)
        return cast("BinaryIO", HangingFile(file, self)) if len(self.files) <= self.hanging else file

    @property
    def open_files(self) -> int:
        return sum(not file.closed for file in self.files)


class HangingFile:
    """The file, with a write that hangs."""

    def __init__(self, file: BinaryIO, spill: HangingSpill) -> None:
        self._file = file
        self._spill = spill

    def write(self, octets: Any) -> int:
        self._spill.begun += 1
        assert self._spill.release.wait(LONGEST)
        return self._file.write(octets)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
