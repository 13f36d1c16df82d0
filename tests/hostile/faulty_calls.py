"""Faults of the disk and of the name server for one process, switched on and off from outside.

The library is built from the C file beside this one with the machine's compiler. A fault is in force while a file of its name exists.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_suffix(".c")
HOST: Final = "hanging-name-server.invalid"  # no name server is asked for it


class CallFault(Enum):
    """One fault; the values are the names of files."""

    HANG = "hang"  # writes and syncs do not return
    SLOW = "slow"  # each of them takes 0.02 seconds
    FULL = "full"  # writes fail with ENOSPC
    DNS = "dns"  # look-ups of HOST do not return


class OneFailure(Enum):
    """A call that fails once; the values are the names of files."""

    WRITE = "fail-write"  # ENOSPC, in the spool
    SOCKET = "fail-socket"  # EMFILE, of socket and accept
    OPEN = "fail-open"  # EMFILE
    THREAD = "fail-thread"  # EAGAIN, of the start of a thread
    MEMORY = "fail-memory"  # ENOMEM, of an allocation after the next connection was accepted


class FaultSwitches:
    """The switches of all faults, in a folder; any process may use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def in_force(self, fault: CallFault) -> Iterator[None]:
        """The fault, until the end of the block."""
        switch = self.folder / fault.value
        switch.touch()
        try:
            yield
        finally:
            switch.unlink()

    def fail_once(self, call: OneFailure, nth: int) -> None:
        """The n-th such call from now on fails; an earlier failure of this call that is still due comes first."""
        switch = self.folder / f"{call.value}.new"
        switch.write_text(str(nth))
        switch.rename(self.folder / call.value)

    def clear_failures(self) -> None:
        """Failures that no call has seen yet are withdrawn."""
        for call in OneFailure:
            (self.folder / call.value).unlink(missing_ok=True)


class FaultyCalls(FaultSwitches):
    """The library and its switches, in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "faults")
        self.folder.mkdir()
        self._library = folder / "faulty_calls.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(self._library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)

    def environment(self, path: Path) -> dict[str, str]:
        """Variables for the process that has the faults; those of the disk concern files below the path."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAULTS_FOLDER": str(self.folder),
            "FAULTS_PATH": str(path),
            "FAULTS_HOST": HOST,
        }
