"""Marker of the running process, beside the control socket: shows the next one that it ended without a stop.

Guarantees: a crash, and a kill from outside (by the kernel, by systemd's watchdog), leave the marker; a stop, and an
end of the machine with it, do not count. The times of the last crashes stay for a day, across restarts. A file that
cannot be read or written is logged, and the service starts.
Not here: the cause of a crash and the messages in progress (control.crash_journal), its report (monitoring.conditions).
"""

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from senderproxy import log_events
from senderproxy.log import event

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_REMEMBERED: Final = timedelta(days=1)  # a crash is reported for so long
_CRASHES: Final = 100  # times that are stored; more of them say nothing else
_SIZE: Final = 20_000  # octets that are read

_log = logging.getLogger("senderproxy.control")


class RunMarker:
    """The file. Used by one process at a time, the one that listens on the control socket."""

    def __init__(self, path: Path, boot: Path = _BOOT) -> None:
        self._path = path
        self._boot_file = boot
        self._boot = ""
        self._crashes: list[datetime] = []

    def start(self, now: datetime) -> Sequence[datetime]:
        """Set the marker; return the times at which a start found one, oldest first, of the last day."""
        self._boot = _text(self._boot_file).strip()
        before = self._read()
        self._crashes = [at for at in _times(before.get("crashes")) if timedelta() <= now - at < _REMEMBERED]
        if before.get("running") is True and before.get("boot") == self._boot:
            self._crashes = [*self._crashes, now][-_CRASHES:]
        self._write(is_running=True)
        return self._crashes

    def stop(self) -> None:
        """Remove the marker."""
        self._write(is_running=False)

    def _read(self) -> dict[str, Any]:
        try:
            entry = json.loads(_text(self._path) or "{}")
        except (ValueError, RecursionError):
            return {}
        return entry if isinstance(entry, dict) else {}

    def _write(self, *, is_running: bool) -> None:
        entry = {"running": is_running, "boot": self._boot, "crashes": [at.isoformat() for at in self._crashes]}
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as out:
                json.dump(entry, out)
            temporary.replace(self._path)
        except OSError as error:
            event(_log, log_events.CRASH_NOTE_FAILED, file=self._path, why=error.strerror)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_SIZE)
    except OSError:
        return ""


def _times(value: object) -> list[datetime]:
    found: list[datetime] = []
    for text in value if isinstance(value, list) else []:
        try:
            at = datetime.fromisoformat(str(text))
        except ValueError:
            continue
        if at.tzinfo is not None:
            found.append(at)
    return found
