"""No relay: load speaks to the smarthost itself, each connection logged in as one account.

What this row shows is how much load and smarthost can do; a relay that comes near it is measured too low.
"""

from types import TracebackType
from typing import ClassVar, Self

from benchmarks.relays.port import Job


class Straight:
    """The way without anybody on it."""

    name: str = "straight"
    answers_first: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.port = job.tls_port

    @staticmethod
    def version() -> str | None:
        """Nothing can be missing."""
        return "load to smarthost"

    def log(self) -> str:
        """Nobody writes one."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def kill_and_start(self) -> None:
        """There is no process to kill."""

    def push(self) -> None:
        """There is no queue."""
