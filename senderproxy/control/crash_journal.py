"""What is being tried (CrashJournalFile: relay.ports.CrashJournal), and of what a process died (CrashNote), for the
next one.

Guarantees: no sync, and where /run is in memory no disk. Told is only what was being tried when the process died of a
fault of its own: after a power cut, or where somebody killed it, nothing is. Whatever is wrong with the files,
mail goes on.
"""

import faulthandler
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.log import event

_SIZE: Final = 32  # octets of one place: a message's id, filled up with zeros
_NOBODY: Final = bytes(_SIZE)
_MOST: Final = 4096  # places that are read
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST: Final = 20_000  # octets of a crash's note
_FRAMES: Final = 3  # of the stack in the cause: enough to name the place, and one line of the log

_log = logging.getLogger("senderproxy.control")


class CrashNote:
    """Where the interpreter writes, in its last moment, what it dies of: names of functions and lines, no values."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        try:
            self._file = os.open(path, _FLAGS | os.O_APPEND, 0o600)
            faulthandler.enable(self._file, all_threads=False)
        except OSError as error:
            event(_log, log_events.CRASH_NOTE_FAILED, file=path, why=error.strerror)

    def read(self) -> str:
        """What the process before this one died of; empty where it did not. Told once."""
        if self._file is None:
            return ""
        text = os.pread(self._file, _LONGEST, 0).decode("utf-8", "replace")
        os.ftruncate(self._file, 0)
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return "; ".join([*said[:1], *[line for line in said if line.startswith("File ")][:_FRAMES]])


class CrashJournalFile:
    """One process writes it at a time: the one that holds the spool. `crash` says of what the one before it died."""

    def __init__(self, path: Path, crash: Callable[[], str]) -> None:
        self._path = path
        self._crash = crash
        self._file: int | None = None
        self._places: dict[str, int] = {}
        self._free: list[int] = []

    def take_suspects(self) -> Sequence[str]:
        """What the process before this one was trying when it crashed; from here on the file is ours."""
        try:
            self._file = os.open(self._path, _FLAGS, 0o600)
            left = os.pread(self._file, _SIZE * _MOST, 0)
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._give_up(error)
            return []
        crash = self._crash()
        if not crash:
            return []  # it ended in order, or was killed from outside: that is no message's fault
        event(_log, log_events.CRASH_DETECTED, cause=crash)
        places = [left[start : start + _SIZE].rstrip(b"\0") for start in range(0, len(left), _SIZE)]
        return [place.decode("ascii", "replace") for place in places if place]

    def attempt_started(self, message_id: str) -> None:
        octets = message_id.encode("ascii", "replace")
        if self._file is None or len(octets) > _SIZE:
            return
        place = self._free.pop() if self._free else len(self._places)
        self._places[message_id] = place
        self._write(place, octets.ljust(_SIZE, b"\0"))

    def attempt_ended(self, message_id: str) -> None:
        place = self._places.pop(message_id, None)
        if place is not None:
            self._free.append(place)
            self._write(place, _NOBODY)

    def close(self) -> None:
        """Nothing more is written down."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, place: int, octets: bytes) -> None:
        if self._file is not None:
            try:
                os.pwrite(self._file, octets, place * _SIZE)
            except OSError as error:
                self.close()
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        event(
            _log,
            log_events.CRASH_JOURNAL_FAILED,
            file=self._path,
            why=error.strerror,
        )
