"""Identity of a process, by which another one on the same machine knows that it has ended.

Guarantees: says that a process is gone only if it ran under this kernel since its start, in this namespace of process
ids: a container or another machine is never mistaken for this one.
Not here: instances on other machines (spool.postgresql.instance).
"""

import os
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_START_TIME: Final = 19  # the place in /proc/PID/stat behind the name (proc(5): field 22)


def own_process() -> str:
    """This process; empty if the system does not tell."""
    here, started = _here(), _started(os.getpid())
    return "" if not here or started is None else f"{here} {os.getpid()} {started}"


def is_gone(process: str) -> bool:
    """True if the process of that identity ran here and has ended."""
    here, _space, rest = process.rpartition(" ")
    here, _space, pid = here.rpartition(" ")
    return bool(here) and here == _here() and pid.isdigit() and str(_started(int(pid))) != rest


def _here() -> str:
    """The boot of this machine and the namespace of this process; empty if they are unknown."""
    try:
        return f"{_BOOT.read_text(encoding='ascii').strip()} {_NAMESPACE.readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """The start of a process, in ticks since the boot; None if there is no such process, or it has ended."""
    try:
        _name, _end, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return None if fields[0] in ("Z", "X") else fields[_START_TIME]
