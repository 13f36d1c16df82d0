"""Store of a vault's sealed bytes: the port between the vault and the place of its bytes.

Guarantees: those stated at each method; `tests/vault/test_store.py` holds every implementation to them.

Not here: the meaning of the bytes (_format, _seal), the store that is a file (_file_store).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Value that shows whether stored bytes were replaced. Only the store that made it reads its parts."""

    parts: tuple[int, ...]


class SealedSource(ABC):
    """Sealed bytes of one vault, for reading."""

    path: Path | None = None
    """The file, to be named in errors; None if the bytes are in no file."""

    @abstractmethod
    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        """Return the complete bytes of one generation, and their fingerprint. Needs no lock.

        Returns at most `limit` + 1 bytes: one more than `limit` shows the caller that there are too many. Raises
        Missing, UnsafeFile or DiskError.
        """

    @abstractmethod
    def fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint of the bytes stored now, None if there are none. Raises DiskError.

        It differs from that of the bytes before after each `replace`. An event loop calls this for each message: it
        takes one system call at most, so a store behind a network returns what it was told last.
        """


class StoreWriter(ABC):
    """The lock of a store, held by the only one who may write."""

    @abstractmethod
    def replace(self, sealed: bytes, *, expected: Fingerprint, keep_previous: bool) -> Fingerprint:
        """Replace the bytes that have the fingerprint `expected`. Returns the new fingerprint.

        The new bytes are durable on return. If this raises, the old ones are still stored, unless the error says
        otherwise. Without `keep_previous` no earlier bytes stay in the store; with it, a store may keep those before.
        Raises InUse if other bytes are stored by now, or DiskError.
        """

    @abstractmethod
    def release(self) -> None:
        """Release the lock. Never raises. If the process is killed, the lock is released as well."""


class VaultStore(SealedSource):
    """Place of the sealed bytes of one vault, for reading and writing."""

    @abstractmethod
    def create(self, sealed: bytes) -> None:
        """Store the bytes of a new vault, durable on return. Raises Exists if there are any, which stay."""

    @abstractmethod
    def open_writer(self) -> StoreWriter:
        """Take the lock. Raises InUse while another writer has it, Missing without stored bytes."""


_UNCHANGED: Final = Fingerprint(())  # bytes in memory are never replaced


class SealedBytes(SealedSource):
    """Sealed bytes in memory, for instance those of a backup."""

    def __init__(self, sealed: bytes) -> None:
        self._sealed = sealed

    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        return self._sealed[: limit + 1], _UNCHANGED

    def fingerprint(self) -> Fingerprint:
        return _UNCHANGED
