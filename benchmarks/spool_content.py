"""Storage of a message's content: in the database, in chunks or as one value, or in a file.

    python benchmarks/spool_content.py [--folder DIR] [--sizes ...] [--clients ...] [--seconds 3]

Four variants, each with the same row and the same group commit (all waiting messages share one transaction and one
sync). `row`: the body is one value. `chunks`: a row for each 64 KiB. `file`: a file, synced with its folder before the
row is committed. `link`: the body is already in an unnamed file, as a large one is while the listener receives it, and
gets a name. For all four the body is first written to such a file, as the listener does, with the clock stopped; then
it is read in blocks, so that the memory used is the variant's own. Each run is a process: messages a second, octets
written for each message (counted by the block device, after a final sync and checkpoint, including the listener's file
as far as the kernel wrote it) as a multiple of its size, the peak memory, and the time until the content is deleted.
"""

import argparse
import os
import queue
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

WAYS = ("row", "chunks", "file", "link")
BLOCK = 64 * 1024
FRESH = os.urandom(BLOCK)


class Bench:
    """One variant, one size, one number of clients."""

    def __init__(self, way: str, folder: Path) -> None:
        self.way = way
        self.folder = folder
        (folder / "content").mkdir()
        self.content = os.open(folder / "content", os.O_RDONLY | os.O_DIRECTORY)
        self.database = sqlite3.connect(folder / "db", isolation_level=None, check_same_thread=False)
        self.database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute("PRAGMA secure_delete = FAST")
        self.database.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, file TEXT, body BLOB) STRICT")
        self.database.execute(
            "CREATE TABLE chunk (message INTEGER, part INTEGER, octets BLOB, PRIMARY KEY (message, part)) STRICT"
        )
        self.jobs: queue.SimpleQueue[tuple[int, str | None, int, threading.Event] | None] = queue.SimpleQueue()
        self.writer = threading.Thread(target=self.write)
        self.writer.start()

    def unnamed(self, size: int) -> int:
        """A body in the form in which the listener passes it on."""
        file = os.open(self.folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        for start in range(0, size, BLOCK):
            os.write(file, FRESH[: min(BLOCK, size - start)])
        return file

    def take(self, number: int, body: int, size: int) -> None:
        """Store one client's message."""
        name = None
        if self.way == "file":
            name = str(number)
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.content)
            for block in blocks(body, size):
                os.write(file, block)
            os.fsync(file)
            os.close(file)
            os.fsync(self.content)
        elif self.way == "link":
            name = str(number)
            os.fsync(body)
            os.link(f"/proc/self/fd/{body}", name, dst_dir_fd=self.content, follow_symlinks=True)
            os.fsync(self.content)
        safe = threading.Event()
        self.jobs.put((number, name, body, safe))
        safe.wait()

    def write(self) -> None:
        """The writer thread."""
        while (job := self.jobs.get()) is not None:
            batch = [job]
            while not self.jobs.empty():
                more = self.jobs.get()
                if more is None:
                    return
                batch.append(more)
            self.database.execute("BEGIN IMMEDIATE")
            for number, name, body, _ in batch:
                self.insert(number, name, body)
            self.database.execute("COMMIT")
            for *_, safe in batch:
                safe.set()

    def insert(self, number: int, name: str | None, body: int) -> None:
        size = os.fstat(body).st_size
        octets = b"".join(blocks(body, size)) if self.way == "row" else None
        self.database.execute("INSERT INTO message VALUES (?, ?, ?)", (number, name, octets))
        if self.way == "chunks":
            for part, block in enumerate(blocks(body, size)):
                self.database.execute("INSERT INTO chunk VALUES (?, ?, ?)", (number, part, block))

    def forget(self, count: int) -> None:
        """Delete all messages, as after their delivery."""
        for number in range(count):
            self.database.execute("BEGIN IMMEDIATE")
            self.database.execute("DELETE FROM chunk WHERE message = ?", (number,))
            self.database.execute("DELETE FROM message WHERE number = ?", (number,))
            self.database.execute("COMMIT")
            if self.way in ("file", "link"):
                os.unlink(str(number), dir_fd=self.content)

    def end(self) -> None:
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        os.sync()


def blocks(body: int, size: int) -> Iterator[bytes]:
    for position in range(0, size, BLOCK):
        yield os.pread(body, BLOCK, position)


def sectors_written(folder: Path) -> int:
    """Octets written to the disk of the folder, by any process."""
    device = os.stat(folder).st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(path.read_text().split()[6]) * 512


def run(way: str, size: int, clients: int, seconds: float, folder: Path) -> None:
    """One row of the table."""
    bench = Bench(way, folder)
    most = max(2, min(4000, (1 << 30) // size))
    os.sync()
    numbers = iter(range(most))
    before, start = sectors_written(folder), time.perf_counter()
    waits: list[float] = []

    def client() -> None:
        for number in numbers:
            if time.perf_counter() - start > seconds and waits:
                return
            body = bench.unnamed(size)
            begun = time.perf_counter()
            bench.take(number, body, size)
            waits.append(time.perf_counter() - begun)
            os.close(body)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(waits) / (sum(waits) / clients)
    bench.end()
    written = sectors_written(folder) - before
    start = time.perf_counter()
    bench.forget(len(waits))
    gone = time.perf_counter() - start
    bench.jobs.put(None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{size:>10} {way:>7} {clients:>3} clients {rate:9.1f}/s"
        f" {written / len(waits) / size:7.2f} x written {peak:5} MiB   gone in {gone / len(waits) * 1000:7.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 16384, 65536, 131072, 262144, 1 << 20, 50 << 20])
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--one", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, size, clients = options.one
        run(way, int(size), int(clients), options.seconds, options.folder)
        return
    for size in options.sizes:
        for clients in options.clients:
            for way in WAYS:
                folder = tempfile.mkdtemp(prefix="spool-content-", dir=options.folder)
                one = ["--one", way, str(size), str(clients), "--folder", folder, "--seconds", str(options.seconds)]
                subprocess.run([sys.executable, __file__, *one], check=True)
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
