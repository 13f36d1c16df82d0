"""The interface of a relay under test."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from benchmarks.messages import PASSWORD, address


@dataclass(frozen=True)
class Job:
    """The task of every relay: the accounts, the smarthost, and the limits."""

    senders: int
    tls_port: int
    starttls_port: int
    ca_file: Path
    per_account: int
    clients: int
    message_size: int = 200_000_000

    @property
    def logins(self) -> list[str]:
        """The accounts; each carries its own address."""
        return [address(number) for number in range(self.senders)]

    @property
    def password(self) -> str:
        """The password of all accounts; the smarthost distinguishes logins by name."""
        return PASSWORD


class Relay(Protocol):
    """A relay; it runs while entered."""

    name: str
    answers_first: ClassVar[bool]
    """It takes the responsibility with its 250, and delivers later."""

    @property
    def port(self) -> int:
        """The port on the loopback interface."""
        ...

    def __init__(self, job: Job) -> None: ...

    @staticmethod
    def version() -> str | None:
        """Return its name and version, or None if it is not on this machine."""
        ...

    def log(self) -> str:
        """Return the end of its log."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def kill_and_start(self) -> None:
        """Kill it, as a power failure would, and start it with the same spool; only with `answers_first`."""
        ...

    def push(self) -> None:
        """Make all waiting messages due, as an operator may; no effect if they are tried at once anyway."""
        ...
