"""The service in a process that measures itself: `python -m tests.peers.probe SOCKET --config FILE run`.

Guarantees: the figures do not depend on how busy the machine is. Each connection to the socket gets one line of JSON. Memory in use is what malloc has handed out and not got back; with
PYTHONMALLOC=malloc that is all of it, to the octet, whatever the operating system counts as resident. A pass of the event
loop is measured in CPU time of its thread: what it computes, without the time that it waits for a processor.
"""

import asyncio
import ctypes
import gc
import json
import math
import os
import selectors
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from senderproxy.cli.main import main as run
from senderproxy.service import loop_monitor
from senderproxy.service.measured_selector import MeasuredSelector
from senderproxy.spool.sqlite import store
from senderproxy.spool.sqlite.writer import WriteJob, Writer
from tests.peers.senderproxy import Senderproxy

ENVIRONMENT: Final = {
    "PYTHONMALLOC": "malloc",
    # Without the caches of threads, which would count as memory in use.
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}


class _Mallinfo2(ctypes.Structure):
    """<malloc.h>; mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """One measurement of the service."""

    in_use: int  # octets, after a full collection, without SQLite's
    database: int  # octets in use by SQLite, most of them for pages; `PRAGMA cache_size` bounds them
    garbage: int  # octets that the collection freed
    collection_seconds: float
    resident: int  # octets
    descriptors: int
    threads: int
    tasks: int
    longest_pass: float  # seconds of CPU time; since the last measurement
    most_commits: int  # that the 250 to one queued message waited for, the one in progress included; likewise

    def __str__(self) -> str:
        return (
            f"{self.in_use / 2**20:.2f} MiB in use, {self.database / 2**20:.2f} MiB by SQLite, {self.garbage / 1024:.0f} KiB garbage"
            f" ({self.collection_seconds * 1000:.0f} ms), {self.resident / 2**20:.1f} MiB resident,"
            f" {self.descriptors} descriptors, {self.threads} threads, {self.tasks} tasks,"
            f" longest pass {self.longest_pass:.3f} s of CPU time, {self.most_commits} commits for a message"
        )


def has_mallinfo() -> bool:
    """True if this C library is glibc 2.33 or newer."""
    return hasattr(ctypes.CDLL(None), "mallinfo2")


def _ask(address: Path) -> Figures:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(address))
        with connection.makefile() as lines:
            return Figures(**json.loads(lines.readline()))


class ProbedService(Senderproxy):
    """senderproxy with a probe in its process."""

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.environment = {**self.environment, **ENVIRONMENT}
        (self.folder / "probe").unlink(missing_ok=True)
        super().start()

    def measure(self) -> Figures:
        """Measure it now."""
        return _ask(self.folder / "probe")

    def _service_words(self) -> list[str]:
        words = super()._service_words()
        module = words.index("-m") + 1
        assert words[module] == "senderproxy"
        return [*words[:module], "tests.peers.probe", str(self.folder / "probe"), *words[module + 1 :]]


# ---- in the service's process ----


class _CpuSelector(MeasuredSelector):
    """Measures the CPU time of each pass, too, from the end of the start on."""

    longest = 0.0
    _began: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._began is not None and self.limit < math.inf:
            _CpuSelector.longest = max(_CpuSelector.longest, time.thread_time() - self._began)
        found = super().select(timeout)
        self._began = time.thread_time()
        return found


class _CountingWriter(Writer):
    """Counts the commits between the submission of a client's message and the end of its own commit."""

    most = 0

    def submit(self, job: WriteJob) -> "asyncio.Future[Any]":
        if job.messages and job.needs_space:
            before, done = self.commits, job.done

            def committed(result: object) -> object:
                _CountingWriter.most = max(_CountingWriter.most, self.commits - before)
                return done(result) if done else result

            job.done = committed
        return super().submit(job)


def _octets_in_use() -> int:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _octets_of_sqlite() -> int:
    """0 where the library is part of the interpreter and hides its functions."""
    import _sqlite3

    used = getattr(ctypes.CDLL(getattr(_sqlite3, "__file__", None)), "sqlite3_memory_used", None)
    if used is None:
        return 0
    used.restype = ctypes.c_int64
    return int(used())


def _loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that the main thread runs."""
    frame: FrameType | None = sys._current_frames()[threading.main_thread().ident or 0]
    while frame is not None:
        if frame.f_code.co_name == "run_forever":
            found = frame.f_locals["self"]
            assert isinstance(found, asyncio.AbstractEventLoop)
            return found
        frame = frame.f_back
    return None


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _measure() -> Figures:
    before = _octets_in_use()
    database = _octets_of_sqlite()
    started = time.thread_time()
    gc.collect()
    seconds = time.thread_time() - started
    after = _octets_in_use()
    loop = _loop()
    longest, _CpuSelector.longest = _CpuSelector.longest, 0.0
    most, _CountingWriter.most = _CountingWriter.most, 0
    return Figures(
        in_use=after - database,
        database=database,
        garbage=before - after,
        collection_seconds=seconds,
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        descriptors=_count(Path("/proc/self/fd")),
        threads=_count(Path("/proc/self/task")),
        tasks=len(asyncio.all_tasks(loop)) if loop is not None else 0,
        longest_pass=longest,
        most_commits=most,
    )


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(json.dumps(asdict(_measure())).encode() + b"\n")


def main() -> None:
    """Run the service's command line beside the probe."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv.pop(1))
    listener.listen()
    threading.Thread(target=_serve, args=(listener,), name="probe", daemon=True).start()
    vars(loop_monitor)["MeasuredSelector"] = _CpuSelector
    vars(store)["Writer"] = _CountingWriter
    sys.exit(run())


if __name__ == "__main__":
    main()
