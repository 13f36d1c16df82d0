"""The floor: what thirty lines of aiosmtpd and aiosmtplib give, as anybody would write them first."""

import contextlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from benchmarks.relays.port import Job
from tests.peers.process import Program, greeting, private_folder, reserved_ports

PROGRAM: Final = Path(__file__).with_name("floor_program.py")


class Floor:
    """floor_program, running."""

    name: ClassVar[str] = "floor"
    answers_first: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self._job = job
        self._things = contextlib.ExitStack()
        self.folder = Path()
        self.port = 0

    @staticmethod
    def version() -> str | None:
        """Those of the two libraries."""
        return f"aiosmtpd {version('aiosmtpd')} + aiosmtplib {version('aiosmtplib')}"

    def log(self) -> str:
        """Return what it printed."""
        return (self.folder / "floor.log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as things:
            self.folder = things.enter_context(private_folder(self.name))
            [self.port] = things.enter_context(reserved_ports(1))
            program = Program(
                self.name,
                [sys.executable, PROGRAM, str(self.port), str(self._job.tls_port),
                 self._job.ca_file, str(self._job.message_size), self._job.password],
                self.folder / "floor.log",
            )  # fmt: skip
            things.callback(program.kill)
            program.wait_until(lambda: greeting(self.port), "the floor greets")
            self._things = things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    def kill_and_start(self) -> None:
        """It keeps nothing that could survive."""
        raise NotImplementedError

    def push(self) -> None:
        """Nothing waits."""
