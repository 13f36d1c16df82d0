"""Crash records for the next process: the messages being attempted, and the interpreter's traceback.

CrashJournalFile is relay.ports.CrashJournal. It writes without a sync, and usually to memory (/run).
Guarantees: messages become suspects only after a crash of the process itself, not after a power cut or a kill from
outside. An error of the files is logged, and mail goes on.
Not here: the treatment of suspects (relay).
"""

import faulthandler
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.log import event

_SLOT: Final = 32  # octets; one message's id, padded with zeros
_EMPTY: Final = bytes(_SLOT)
_SLOTS: Final = 4096  # slots that are read; far more than attempts at once
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_TRACEBACK_LIMIT: Final = 20_000  # octets that are read of a traceback
_FRAMES: Final = 3  # innermost functions in the cause: enough to name the place, and one line of the log

_log = logging.getLogger("senderproxy.control")


class CrashTraceback:
    """The file for the interpreter's traceback of a crash: functions and lines, no values."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        try:
            self._file = os.open(path, _FLAGS | os.O_APPEND, 0o600)
            faulthandler.enable(self._file, all_threads=False)
        except OSError as error:
            event(_log, log_events.CRASH_NOTE_FAILED, file=path, why=error.strerror)

    def read(self) -> str:
        """The crash of the previous process: error and innermost functions; empty if it did not crash. Clears it."""
        if self._file is None:
            return ""
        text = os.pread(self._file, _TRACEBACK_LIMIT, 0).decode("utf-8", "replace")
        os.ftruncate(self._file, 0)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "; ".join([*lines[:1], *[line for line in lines if line.startswith("File ")][:_FRAMES]])


class CrashJournalFile:
    """The messages being attempted. Written by one process at a time: the one that holds the spool."""

    def __init__(self, path: Path, crash: Callable[[], str]) -> None:
        """`crash`: returns the crash of the previous process; empty if it did not crash."""
        self._path = path
        self._crash = crash
        self.crash_cause = ""  # of the previous process; empty if it did not crash
        self._file: int | None = None
        self._slots: dict[str, int] = {}
        self._further: dict[str, int] = {}  # attempts of a message beyond the first, at the same time
        self._free: list[int] = []

    def take_suspects(self) -> Sequence[str]:
        """The messages that the previous process was attempting when it crashed; clears the file."""
        try:
            self._file = os.open(self._path, _FLAGS, 0o600)
            left = os.pread(self._file, _SLOT * _SLOTS, 0)
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._log_failure(error)
            return []
        self.crash_cause = self._crash()
        if not self.crash_cause:
            return []  # it stopped, or was killed from outside: no message caused that
        event(_log, log_events.CRASH_DETECTED, cause=self.crash_cause)
        slots = [left[start : start + _SLOT].rstrip(b"\0") for start in range(0, len(left), _SLOT)]
        return [slot.decode("ascii", "replace") for slot in slots if slot]

    def attempt_started(self, message_id: str) -> None:
        """See relay.ports.CrashJournal."""
        octets = message_id.encode("ascii", "replace")
        if self._file is None or len(octets) > _SLOT:
            return
        if message_id in self._slots:  # its recipients in another lane are attempted, too
            self._further[message_id] = self._further.get(message_id, 0) + 1
            return
        slot = self._free.pop() if self._free else len(self._slots)
        self._slots[message_id] = slot
        self._write(slot, octets.ljust(_SLOT, b"\0"))

    def attempt_ended(self, message_id: str) -> None:
        """See relay.ports.CrashJournal."""
        if further := self._further.pop(message_id, 0):
            if further > 1:
                self._further[message_id] = further - 1
            return
        slot = self._slots.pop(message_id, None)
        if slot is not None:
            self._free.append(slot)
            self._write(slot, _EMPTY)

    def close(self) -> None:
        """Close the file; nothing more is written."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, slot: int, octets: bytes) -> None:
        if self._file is not None:
            try:
                os.pwrite(self._file, octets, slot * _SLOT)
            except OSError as error:
                self.close()
                self._log_failure(error)

    def _log_failure(self, error: OSError) -> None:
        event(
            _log,
            log_events.CRASH_JOURNAL_FAILED,
            file=self._path,
            why=error.strerror,
        )
