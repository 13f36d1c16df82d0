"""Record of everything the simulator observed: sessions, logins, messages, protocol violations.

Guarantees: it contains no password. An entry is made before the client gets the reply, so a client that has its reply
finds the matching entry.

Not here: decisions (simulator.rules), waiting for entries (simulator.server).
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_HOUR: Final = 3600.0  # seconds; the period of recipients_per_hour


@dataclass(frozen=True, slots=True)
class RecordedLogin:
    """One completed AUTH."""

    session: int
    login: str
    mechanism: str
    accepted: bool
    under_tls: bool


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One accepted message, also if a scripted fault lost the reply."""

    id: str
    login: str | None
    reverse_path: str  # "" is the null reverse-path
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)  # without dot-stuffing; empty without record_content
    size: int
    sha256: str
    session: int
    transaction: int
    at: float  # the event loop's time
    parameters: tuple[str, ...] = ()  # of MAIL FROM, upper-case names


@dataclass(frozen=True, slots=True)
class Violation:
    """One violation of the protocol by a client."""

    session: int
    command: str
    description: str

    def __str__(self) -> str:
        return f"session {self.session}, {self.command}: {self.description}"


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """One refused message or path, with the reasons that a real provider does not give."""

    session: int
    login: str | None
    reply: str
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class SessionRecord:
    """One connection, from its start to its end."""

    number: int
    implicit_tls: bool
    opened_at: float
    tls_version: str | None = None
    ehlo_names: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)  # as sent; credentials replaced by ***
    replies: list[str] = field(default_factory=list)  # the first line of each
    login: str | None = None
    messages: int = 0
    ended: str | None = None  # None while it is open; "quit", "lost", "dropped", "closed by the simulator"

    @property
    def verbs(self) -> list[str]:
        """The verbs of all commands, in order."""
        return [command.partition(" ")[0].upper() for command in self.commands]


class Observations:
    """Everything that one simulator observed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self.sessions: list[SessionRecord] = []
        self.logins: list[RecordedLogin] = []
        self.received: list[ReceivedMessage] = []
        self.refused: list[RefusedMessage] = []
        self.violations: list[Violation] = []
        self.clear_text_logins: list[str] = []
        self.max_concurrent_sessions: Counter[str] = Counter()  # by login
        self._open: list[SessionRecord] = []  # sessions that had not ended when it was last looked through
        self._recipient_times: dict[str, deque[float]] = {}

    def notify(self) -> None:
        """Wake those who wait for an entry."""
        self._on_change()

    def open_session(self, *, implicit_tls: bool, at: float) -> SessionRecord:
        record = SessionRecord(len(self.sessions) + 1, implicit_tls, at)
        self.sessions.append(record)
        self._open.append(record)
        self.notify()
        return record

    def add_login(self, record: SessionRecord, attempt: RecordedLogin) -> None:
        self.logins.append(attempt)
        if attempt.accepted:
            record.login = attempt.login
            self._open = [each for each in self._open if each.ended is None]
            now_open = sum(each.login == attempt.login for each in self._open)
            self.max_concurrent_sessions[attempt.login] = max(self.max_concurrent_sessions[attempt.login], now_open)
        self.notify()

    def recipients_in_the_last_hour(self, login: str, at: float) -> int:
        """Number of recipients accepted for this login in the hour before `at`."""
        times = self._recipient_times.setdefault(login, deque())
        while times and times[0] <= at - _HOUR:
            times.popleft()
        return len(times)

    def count_recipient(self, login: str, at: float) -> None:
        self._recipient_times.setdefault(login, deque()).append(at)
