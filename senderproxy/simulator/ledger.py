"""What the simulator saw: every session, every login, every message, every breach of the wire's rules.

Guarantees: nothing here holds a password; what is recorded is recorded before the client hears of it, so a client that
has its reply finds the matching entry.
Not here: deciding (simulator.rules), waiting for entries (simulator.server).
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class RecordedLogin:
    """One AUTH that was carried to its end."""

    session: int
    login: str
    mechanism: str
    accepted: bool
    under_tls: bool


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message the simulator answered for (or took and then lost its reply, when told so)."""

    id: str
    login: str | None
    reverse_path: str  # "" is the null reverse-path
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)  # without dot-stuffing; empty when the simulator keeps none
    size: int
    sha256: str
    session: int
    transaction: int
    at: float  # the event loop's time
    parameters: tuple[str, ...] = ()  # of MAIL FROM, upper-case names


@dataclass(frozen=True, slots=True)
class Violation:
    """Something no client may put on the wire."""

    session: int
    command: str
    what: str

    def __str__(self) -> str:
        return f"session {self.session}, {self.command}: {self.what}"


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message or a path that was refused, with the reason a real provider keeps to itself."""

    session: int
    login: str | None
    answer: str
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class SessionRecord:
    """One connection, from accept to end."""

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
        """The commands' first words, in order."""
        return [command.partition(" ")[0].upper() for command in self.commands]


class Ledger:
    """Everything one simulator saw."""

    def __init__(self, on_entry: Callable[[], None]) -> None:
        self._on_entry = on_entry
        self.sessions: list[SessionRecord] = []
        self.logins: list[RecordedLogin] = []
        self.received: list[ReceivedMessage] = []
        self.refused: list[RefusedMessage] = []
        self.violations: list[Violation] = []
        self.clear_text_logins: list[str] = []
        self.most_sessions_at_once: Counter[str] = Counter()  # by login
        self._recipient_times: dict[str, deque[float]] = {}

    def entered(self) -> None:
        """Something was written down: whoever waits may look."""
        self._on_entry()

    def open_session(self, *, implicit_tls: bool, at: float) -> SessionRecord:
        record = SessionRecord(len(self.sessions) + 1, implicit_tls, at)
        self.sessions.append(record)
        self.entered()
        return record

    def log_login(self, record: SessionRecord, attempt: RecordedLogin) -> None:
        self.logins.append(attempt)
        if attempt.accepted:
            record.login = attempt.login
            now_open = sum(1 for each in self.sessions if each.login == attempt.login and each.ended is None)
            self.most_sessions_at_once[attempt.login] = max(self.most_sessions_at_once[attempt.login], now_open)
        self.entered()

    def recipients_in_the_last_hour(self, login: str, at: float) -> int:
        """How many recipients this login had taken in the hour before `at`."""
        times = self._recipient_times.setdefault(login, deque())
        while times and times[0] <= at - _HOUR:
            times.popleft()
        return len(times)

    def count_recipient(self, login: str, at: float) -> None:
        self._recipient_times.setdefault(login, deque()).append(at)
