"""Runs senderproxy and counts what its main thread does: calls, tasks, futures, reads and writes of sockets.

    python benchmarks/counting.py FILE --config senderproxy.toml run

SIGUSR2 writes the counts since the signal before to FILE, as JSON; counting begins with the first. A call is one of a
Python function (each resumption of a coroutine, too) or of a function in C. Code that is counted is several times
slower: its times mean nothing.
"""

import json
import os
import runpy
import signal
import sys
from asyncio.base_events import BaseEventLoop
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any, Final

SENDS: Final = frozenset({"send", "sendall", "sendmsg", "sendto"})
RECEIVES: Final = frozenset({"recv", "recv_into", "recvmsg", "recvfrom"})
_TASK: Final = BaseEventLoop.create_task.__code__
_FUTURE: Final = BaseEventLoop.create_future.__code__


class Counter:
    """The counts since the last order."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._orders = 0
        self._reset()

    def _reset(self) -> None:
        self.python_calls = self.c_calls = self.tasks = self.futures = self.sends = self.receives = 0

    def count(self, frame: FrameType, what: str, function: Any) -> None:
        """The profile function of the thread."""
        if what == "call":
            self.python_calls += 1
            code = frame.f_code
            if code is _TASK:
                self.tasks += 1
            elif code is _FUTURE:
                self.futures += 1
        elif what == "c_call":
            self.c_calls += 1
            name = function.__name__
            if name in SENDS and isinstance(function.__self__, socket):
                self.sends += 1
            elif name in RECEIVES and isinstance(function.__self__, socket):
                self.receives += 1

    def order(self, _number: int, _frame: object) -> None:
        """Write the counts and begin again."""
        sys.setprofile(None)
        self._orders += 1
        counts = {
            "order": self._orders, "calls": self.python_calls + self.c_calls, "python_calls": self.python_calls,
            "tasks": self.tasks, "futures": self.futures, "sends": self.sends, "receives": self.receives,
        }  # fmt: skip
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(counts), encoding="ascii")
        os.replace(new, self._file)
        self._reset()
        sys.setprofile(self.count)


def main() -> None:
    del sys.path[0]  # the folder of this file has names that others use, too
    signal.signal(signal.SIGUSR2, Counter(Path(sys.argv.pop(1))).order)
    runpy.run_module("senderproxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
