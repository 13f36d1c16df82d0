"""FileStore: the sealed bytes of a vault in a private file.

Guarantees: those of the port (_store). The previous content is kept as NAME.bak unless the writer forbids it.

Not here: permissions, links, the order of a replacement, the lock file (_file).
"""

from pathlib import Path

from vault import _file
from vault._file import SystemCalls, WriteLock
from vault._store import Fingerprint, StoreWriter, VaultStore


class FileStore(VaultStore):
    """The file at a path. `disk` makes the system calls; tests pass one that fails."""

    path: Path

    def __init__(self, path: Path | str, disk: SystemCalls | None = None) -> None:
        self.path, self._disk = Path(path), disk or SystemCalls()

    def read(self, limit: int) -> tuple[bytes, Fingerprint]:
        return _file.read_private(self.path, limit=limit, disk=self._disk, single_name=True)

    def fingerprint(self) -> Fingerprint | None:
        return _file.fingerprint(self.path, self._disk)

    def create(self, sealed: bytes) -> None:
        _file.create(self.path, sealed, self._disk)

    def open_writer(self) -> StoreWriter:
        return _FileWriter(self.path, self._disk, WriteLock.take(self.path, self._disk))


class _FileWriter(StoreWriter):
    def __init__(self, path: Path, disk: SystemCalls, lock: WriteLock) -> None:
        self._path, self._disk, self._lock = path, disk, lock

    def replace(self, sealed: bytes, *, expected: Fingerprint, keep_previous: bool) -> Fingerprint:
        return _file.replace(self._path, sealed, expected=expected, keep_previous=keep_previous, disk=self._disk)

    def release(self) -> None:
        self._lock.release()
