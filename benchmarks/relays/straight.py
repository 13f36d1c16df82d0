"""No relay: the load connects to the smarthost itself, each connection logged in as one account.

This row shows the limit of load and smarthost; a relay near it is measured too low.
"""

from types import TracebackType
from typing import ClassVar, Self

from benchmarks.relays.port import Job


class Straight:
    """The direct path."""

    name: str = "straight"
    answers_first: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.port = job.tls_port

    @staticmethod
    def version() -> str | None:
        """Return a description; there is no program that could be missing."""
        return "load to smarthost"

    def log(self) -> str:
        """There is no log."""
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
