"""System calls that kill the process, fail or are counted at a chosen call; otherwise the real ones."""

import os
import signal
from collections.abc import Callable

from vault._file import SystemCalls

CALLS = tuple(name for name in vars(SystemCalls) if not name.startswith("_"))


class WatchedDisk(SystemCalls):
    """Runs `before` ahead of every call, once armed. Writes are split into small pieces, so that halves can be seen."""

    def __init__(self, before: Callable[[int, str], None], piece: int = 300) -> None:
        self.calls: list[str] = []
        self.armed = False
        self._before = before
        self._piece = piece

    def _tick(self, call: str) -> None:
        if self.armed:
            self.calls.append(call)
            self._before(len(self.calls), call)


def _watched(call: str) -> Callable[..., object]:
    real = getattr(SystemCalls, call)

    def method(disk: WatchedDisk, *arguments: object) -> object:
        disk._tick(call)
        if call == "write":
            file, content = arguments
            arguments = (file, content[: disk._piece])  # type: ignore[index]
        return real(disk, *arguments)

    return method


for _call in CALLS:
    setattr(WatchedDisk, _call, _watched(_call))


def killing(at: int) -> WatchedDisk:
    """Kill this process ahead of the call of that number."""

    def before(number: int, call: str) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return WatchedDisk(before)


def failing(at: int, error: int, *, permanently: bool = False) -> WatchedDisk:
    """Fail the call of that number, with `permanently` also all later ones."""

    def before(number: int, call: str) -> None:
        if number == at or (permanently and number > at):
            raise OSError(error, os.strerror(error))

    return WatchedDisk(before)


def counting() -> WatchedDisk:
    return WatchedDisk(lambda number, call: None)
