"""Every store of a vault, to be held to the port. As a program: a writer that holds the lock until its input ends.

A new store needs an entry in STORES, and one in KEPT.
"""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.vault.row_store import RowStore
from vault import VaultStore
from vault._file_store import FileStore


def _in_files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


def _in_rows(folder: Path) -> list[bytes]:
    with closing(sqlite3.connect(folder / "vault.db")) as database:
        return [row[0] for row in database.execute("SELECT sealed FROM vault")]


STORES: dict[str, Callable[[Path], VaultStore]] = {
    "file": lambda folder: FileStore(folder / "office.vault"),
    "row": RowStore,
}
KEPT: dict[str, Callable[[Path], list[bytes]]] = {"file": _in_files, "row": _in_rows}  # all bytes readable there


if __name__ == "__main__":
    writer = STORES[sys.argv[1]](Path(sys.argv[2])).open_writer()
    print("held", flush=True)
    sys.stdin.readline()
    writer.release()
