"""A disk for temporary files that takes no more."""

import errno
import os
from pathlib import Path
from typing import BinaryIO, cast

from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.memory_files import MemoryFiles


class FillingFile:
    """A file with space for so many octets; a write beyond them is cut, the next one fails."""

    def __init__(self, file: BinaryIO, space: int) -> None:
        self._file = file
        self._space = space

    def write(self, octets: memoryview) -> int:
        if not self._space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(octets[: self._space])
        self._space -= written
        return written

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> BinaryIO:
        return self._file

    def __exit__(self, *_: object) -> None:
        self.close()


class FillingDisk(SpillDirectory):
    """A disk on which each file has space for so many octets; None: no file can be made."""

    def __init__(self, folder: Path, space: int | None, memory: MemoryFiles | None) -> None:
        super().__init__(folder=folder, memory=memory)
        self._space_of_file = space
        self.files: list[BinaryIO] = []

    def open(self) -> BinaryIO:
        if self._space_of_file is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file = super().open()
        self.files.append(file)
        return cast("BinaryIO", FillingFile(file, self._space_of_file))
