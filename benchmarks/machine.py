"""The machine of a measurement: hardware, versions, date."""

import os
import platform
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.peers.packages import PROJECT


def machine(command: str, relays: dict[str, str], missing: dict[str, str], *, exact: bool) -> dict[str, Any]:
    """Return the facts that a reader needs to evaluate the figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _output(["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "system": f"{_system()}, Linux {platform.release()}",
        "python": interpreter(),
        "openssl": ssl.OPENSSL_VERSION,
        "sync_ms": _sync_seconds() * 1000,
        "load_average": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "cpu_counted_by": "a control group" if exact else "the process tree",
        "relays": relays,
        "missing": missing,
    }


def interpreter() -> str:
    """Return version, file and compiler: two builds of one version differ by a seventh of the CPU time."""
    file = Path(sys.executable).resolve()
    return f"Python {platform.python_version()} ({file}, {platform.python_compiler()})"


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return names[0] if names else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown"


def _sync_seconds(tries: int = 50) -> float:
    """Return the median time of a synced write of 4 KB on the disk of the relays' queues."""
    taken = []
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        for _ in range(tries):
            before = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - before)
    return sorted(taken)[tries // 2]
