"""The processes of a relay under measurement, and the resources they used, ended ones included.

Guarantees: CPU seconds are those of the whole tree since the group was created. With a control group (root, any Linux
with cgroup 2) no process escapes, however it forked. Without one, the tree below the processes that we started is added
up, with ended children as far as their parents waited for them.
Memory is the proportional set size: pages shared by forks count once.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.peers.process import control_groups

PROC: Final = Path("/proc")
TICK: Final = os.sysconf("SC_CLK_TCK")
KIB: Final = 1024


class ProcessGroup:
    """The processes of a relay. They are started inside `inside`, so that they belong to the group."""

    def __init__(self, name: str) -> None:
        self._group = _make_group(name)
        self._ours: set[int] = set()

    @property
    def is_exact(self) -> bool:
        """True if a control group contains the processes."""
        return self._group is not None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Add every process started within the block to the group."""
        before = _children(os.getpid())
        home = _group_of_ours() if self._group else None
        if self._group:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            if home:
                (home / "cgroup.procs").write_text(str(os.getpid()))
            self._ours |= _children(os.getpid()) - before

    def close(self) -> None:
        """Remove the control group; its processes must have ended."""
        if self._group:
            deadline = time.monotonic() + 10
            while self.pids() and time.monotonic() < deadline:
                time.sleep(0.02)
            self._group.rmdir()

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        if self._group:
            for line in (self._group / "cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
        return sum(_ticks(pid) for pid in self.pids()) / TICK

    def memory(self) -> int:
        """Return the proportional set size of all processes, in octets."""
        return sum(_pss(pid) for pid in self.pids())

    def processes(self) -> int:
        """Return the number of processes."""
        return len(self.pids())

    def wake_ups(self) -> int:
        """Return how often the living threads have waited (voluntary context switches)."""
        return sum(voluntary_switches(pid) for pid in self.pids())

    def written(self) -> int:
        """Return the octets written to disks, with those of ended processes whose parent waited for them."""
        return sum(_written(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        """Return the ids of all processes."""
        if self._group:
            return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]
        found, waiting = [], list(self._ours)
        while waiting:
            pid = waiting.pop()
            if (PROC / str(pid)).exists():
                found.append(pid)
                waiting += _children(pid)
        return found


class MemoryWatch:
    """Repeated sampling of a group's memory; sampling costs kernel time, so it takes at most a tenth of the time."""

    def __init__(self, group: ProcessGroup) -> None:
        self._cell = group
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        pause = 0.0
        while not self._end.wait(pause):
            before = time.monotonic()
            self.peak = max(self.peak, self._cell.memory())
            pause = max(0.1, 10 * (time.monotonic() - before))


def _make_group(name: str) -> Path | None:
    root = control_groups()
    if root is None or os.geteuid() != 0:
        return None
    group = root / f"bench-{os.getpid()}-{name}"
    try:
        group.mkdir()
        (group / "cpu.stat").read_text()
    except OSError:
        return None
    return group


def _group_of_ours() -> Path | None:
    root = control_groups()
    for line in (PROC / "self" / "cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0" and root:
            return root / path.lstrip("/")
    return None


def _children(pid: int) -> set[int]:
    children: set[int] = set()
    for task in _files(PROC / str(pid) / "task"):
        with contextlib.suppress(OSError):
            children |= {int(child) for child in (task / "children").read_text().split()}
    return children


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _ticks(pid: int) -> int:
    try:
        after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(number) for number in after_name[11:15])  # utime, stime, cutime, cstime


def _written(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIB
    return 0


def voluntary_switches(pid: int) -> int:
    """Return how often the living threads of a process have waited."""
    total = 0
    for task in _files(PROC / str(pid) / "task"):
        with contextlib.suppress(OSError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total
