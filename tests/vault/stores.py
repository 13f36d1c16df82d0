"""Places of one vault, each with a store to be held to the port. A new store needs a Place.

As a program: a writer that has the lock until its input ends.
"""

import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tests.vault.row_store import RowStore
from vault import VaultStore
from vault._file_store import FileStore

ROOT = Path(__file__).parents[2]
LIMIT = 1_000_000  # octets to be read at most, in these tests


class Place(ABC):
    """The place of one vault, empty at first."""

    @abstractmethod
    def store(self) -> VaultStore:
        """The store as another program has it, new at each call."""

    @abstractmethod
    def kept(self) -> list[bytes]:
        """All bytes that can be read there."""

    @abstractmethod
    def writer_command(self) -> Sequence[str]:
        """The arguments of Python for a process that opens a writer and calls `hold`."""

    def discard(self, store: VaultStore) -> None:  # noqa: B027  most hold nothing
        """End what the store holds open."""

    def wait_for_the_dead(self) -> None:  # noqa: B027  the kernel ends the locks of a file with their process
        """Return when a killed writer has its lock no more."""

    def replace(self, sealed: bytes, *, keep_previous: bool = True) -> None:
        store = self.store()
        writer = store.open_writer()
        try:
            _, read = store.read(LIMIT)
            writer.replace(sealed, expected=read, keep_previous=keep_previous)
        finally:
            writer.release()
            self.discard(store)

    def sealed(self) -> bytes:
        store = self.store()
        try:
            return store.read(LIMIT)[0]
        finally:
            self.discard(store)

    @contextmanager
    def another_writer(self) -> Iterator[subprocess.Popen[str]]:
        words = [sys.executable, *self.writer_command()]
        holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        with holder:
            try:
                assert holder.stdout
                assert holder.stdout.readline() == "held\n"
                yield holder
            finally:
                if holder.poll() is None:
                    holder.kill()


class FilePlace(Place):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self) -> VaultStore:
        return FileStore(self.folder / "office.vault")

    def kept(self) -> list[bytes]:
        return [path.read_bytes() for path in self.folder.iterdir()]

    def writer_command(self) -> Sequence[str]:
        return ["-m", "tests.vault.stores", type(self).__name__, str(self.folder)]


class RowPlace(FilePlace):
    def store(self) -> VaultStore:
        return RowStore(self.folder)

    def kept(self) -> list[bytes]:
        with closing(sqlite3.connect(self.folder / "vault.db")) as database:
            return [row[0] for row in database.execute("SELECT sealed FROM vault")]


PLACES: dict[str, Callable[[Path], Place]] = {each.__name__: each for each in (FilePlace, RowPlace)}


def hold(store: VaultStore) -> None:
    """Hold the lock until the input ends."""
    writer = store.open_writer()
    print("held", flush=True)
    sys.stdin.readline()
    writer.release()


if __name__ == "__main__":
    hold(PLACES[sys.argv[1]](Path(sys.argv[2])).store())
