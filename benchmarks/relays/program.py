"""Base of the relays that are one program in its own folder."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from benchmarks.relays.port import Job
from tests.peers.process import Program, greeting, private_folder, reserved_ports


class OneProgram:
    """A program started with `command`, ready when it sends a greeting, killed at the end; no data is kept."""

    name: str
    answers_first: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self._things = contextlib.ExitStack()
        self._program: Program | None = None
        self.folder = Path()
        self.port = 0

    def command(self) -> list[str | Path]:
        """Write its files and return its command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return its environment."""
        return {**os.environ, "PYTHONUNBUFFERED": "1"}

    def log(self) -> str:
        """Return what it printed."""
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as things:
            self.folder = things.enter_context(private_folder(self.name))
            [self.port] = things.enter_context(reserved_ports(1))
            things.callback(self._end)
            self._start()
            self._things = things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    def kill_and_start(self) -> None:
        """Restart it, as after a power failure."""
        self._end()
        self._start()

    def push(self) -> None:
        """No effect: no message waits, or it is tried by itself."""

    def _start(self) -> None:
        command, log = self.command(), self.folder / f"{self.name}.log"
        self._program = program = Program(self.name, command, log, environment=self.environment())
        program.wait_until(lambda: greeting(self.port), f"{self.name} greets")

    def _end(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program = None
