"""What a relay is to the benchmark."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from benchmarks.letters import PASSWORD, address


@dataclass(frozen=True)
class Job:
    """What every relay is told: the accounts, the smarthost, and how much it may do at once."""

    senders: int
    tls_port: int
    starttls_port: int
    ca_file: Path
    per_account: int
    clients: int
    message_size: int = 200_000_000

    @property
    def logins(self) -> list[str]:
        """The accounts: each carries its own address."""
        return [address(number) for number in range(self.senders)]

    @property
    def password(self) -> str:
        """The same for all: the smarthost tells logins apart by their names."""
        return PASSWORD


class Relay(Protocol):
    """One of them; running while entered."""

    name: str
    answers_first: ClassVar[bool]
    """It takes the responsibility with its 250, and delivers later."""

    @property
    def port(self) -> int:
        """Where it listens on the loopback."""
        ...

    def __init__(self, job: Job) -> None: ...

    @staticmethod
    def version() -> str | None:
        """Return what it is, or None when it is not on this machine."""
        ...

    def log(self) -> str:
        """Return the end of what it has written."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def kill_and_start(self) -> None:
        """Fall, as at a power cut, and come up again with the same spool; only where `answers_first`."""
        ...

    def push(self) -> None:
        """Have all that waits tried at once, as an operator may; nothing where it is tried at once anyway."""
        ...
