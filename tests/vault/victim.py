"""Writer process that is killed in tests: forks one child for each order and prints how the child ended.

Orders, one for each line: SCENARIO FOLDER N. N is the call ahead of which the child kills itself. `trace` instead of a
number makes the child stop before it begins, so that a tracer can attach, and continue at SIGCONT.
Answers: `pid P` for a stopped child, then `killed` or `done CODE`.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from tests.vault.disks import WatchedDisk, counting, killing
from vault import KeyFile, Vault
from vault._file_store import FileStore

NEXT = {"anna": b"geheim-anna-2", "dora": b"geheim-dora-2" * 40}


def create(folder: Path, disk: WatchedDisk, begin: object) -> None:
    begin()  # type: ignore[operator]
    Vault.create(FileStore(folder / "office.vault", disk), unlock=KeyFile(folder / "office.key"))


def save(folder: Path, disk: WatchedDisk, begin: object) -> None:
    _write(folder, disk, begin, rekey=False)


def rekey(folder: Path, disk: WatchedDisk, begin: object) -> None:
    _write(folder, disk, begin, rekey=True)


def _write(folder: Path, disk: WatchedDisk, begin: object, *, rekey: bool) -> None:
    key = KeyFile(folder / "office.key")
    with Vault.open(FileStore(folder / "office.vault", disk), unlock=key, write=True) as box:
        for name, record in NEXT.items():
            box.put(name, record)
        if rekey:
            box.rekey(key)
        begin()  # type: ignore[operator]
        box.save()


def whole(folder: Path, disk: WatchedDisk, begin: object) -> None:
    """Write with the system calls from taking the lock to releasing it included."""
    begin()  # type: ignore[operator]
    _write(folder, disk, lambda: None, rekey=False)


SCENARIOS = {"create": create, "save": save, "rekey": rekey, "whole": whole}


def child(scenario: str, folder: Path, at: str) -> None:
    disk = counting() if at == "trace" else killing(int(at))

    def begin() -> None:
        if at == "trace":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            disk.armed = True

    SCENARIOS[scenario](folder, disk, begin)


def main() -> None:
    for order in sys.stdin:
        scenario, folder, at = order.split()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER: any process may trace this one
            code = 1
            try:
                child(scenario, Path(folder), at)
                code = 0
            finally:
                os._exit(code)
        if at == "trace":
            os.waitpid(pid, os.WUNTRACED)
            print(f"pid {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else f"done {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
