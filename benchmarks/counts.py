"""Costs of a message that are counted: calls, tasks and futures of senderproxy, system calls of any relay.

Guarantees: counted runs are separate from timed ones, because counting slows the relay. Counts are those between two
moments, with everything that happens beside the messages.
"""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.process_group import ProcessGroup
from benchmarks.relays.senderproxy import PassThrough, Queue
from tests.peers.process import PATIENCE, wait_until

COUNTING: Final = Path(__file__).with_name("counting.py")
NO_STRACE: Final = "strace is not here: sudo apt-get install --no-install-recommends strace"
_TRACED: Final = re.compile(r"^TracerPid:\s+[1-9]", re.MULTILINE)


class Counted(PassThrough):
    """A senderproxy whose calls are counted."""

    def counts(self) -> dict[str, int]:
        """Return the counts since the last call of this; the first one begins to count."""
        file = self.folder / "counts"
        before = _order(file)
        assert self._program is not None
        self._program.signal(signal.SIGUSR2)
        wait_until(lambda: _order(file) > before, "senderproxy has written its counts", peer=self)
        found: dict[str, int] = json.loads(file.read_text())
        return found

    def _service_words(self) -> list[str]:
        """Return the command that runs the service and counts."""
        words = (str(COUNTING), str(self.folder / "counts"), "--config", str(self.config_file), "run")
        return [sys.executable, "-W", "error", *words]


class CountedPassThrough(Counted):
    """Pass-through."""


class CountedQueue(Counted, Queue):
    """Queue mode."""


COUNTED: Final = {PassThrough: CountedPassThrough, Queue: CountedQueue}


def _order(file: Path) -> int:
    return int(json.loads(file.read_text())["order"]) if file.exists() else 0


@contextlib.contextmanager
def system_calls(group: ProcessGroup) -> Iterator[dict[str, int]]:
    """Count the system calls of a group's processes, new ones included, by name; complete after the block."""
    if shutil.which("strace") is None:
        raise FileNotFoundError(NO_STRACE)
    with tempfile.NamedTemporaryFile("r", prefix="bench-calls-") as table:
        pids = group.pids()
        targets = [word for pid in pids for word in ("-p", str(pid))]
        found: dict[str, int] = {}
        with subprocess.Popen(
            ["strace", "-c", "-f", "-U", "calls,name", "-o", table.name, *targets], stderr=subprocess.DEVNULL
        ) as strace:
            try:
                wait_until(lambda: strace.poll() is not None or _all_traced(pids), "strace is there", PATIENCE)
                yield found
            finally:
                strace.terminate()
        for line in table:
            if match := re.match(r"\s*(\d+) +(\w+)$", line):
                found[match[2]] = int(match[1])
        if not found.pop("total", 0):
            raise RuntimeError("strace counted nothing")


def _all_traced(pids: Sequence[int]) -> bool:
    return all(_TRACED.search(text) for pid in pids if (text := _status(pid)))


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""  # it has ended


def each(counts: dict[str, Any], messages: int) -> dict[str, float]:
    """Return the counts of one message."""
    return {name: count / messages for name, count in counts.items() if name != "order"}
