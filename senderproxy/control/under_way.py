"""UnderWayFile: relay.ports.UnderWay in a file of fixed places, beside the operator's socket.

Promises: no sync, and where /run is in memory no disk; what was being tried when the process died is found by the next
one, and after a power cut nothing is. Whatever is wrong with the file, mail goes on without it.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from senderproxy.log import event

_SIZE: Final = 32  # octets of one place: a message's id, filled up with zeros
_NOBODY: Final = bytes(_SIZE)
_MOST: Final = 4096  # places that are read

_log = logging.getLogger("senderproxy.control")


class UnderWayFile:
    """One process writes it at a time: the one that holds the spool."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._places: dict[str, int] = {}
        self._free: list[int] = []

    def take_over(self) -> Sequence[str]:
        """What the process before this one had begun and not ended; from here on the file is ours."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            left = os.pread(self._file, _SIZE * _MOST, 0)
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._give_up(error)
            return []
        places = [left[start : start + _SIZE].rstrip(b"\0") for start in range(0, len(left), _SIZE)]
        return [place.decode("ascii", "replace") for place in places if place]

    def begin(self, message_id: str) -> None:
        octets = message_id.encode("ascii", "replace")
        if self._file is None or len(octets) > _SIZE:
            return
        place = self._free.pop() if self._free else len(self._places)
        self._places[message_id] = place
        self._write(place, octets.ljust(_SIZE, b"\0"))

    def end(self, message_id: str) -> None:
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
            logging.WARNING,
            "what is under way cannot be noted: a message that ends the process would not be recognised",
            file=self._path,
            why=error.strerror,
        )
