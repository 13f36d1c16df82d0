"""Session choice: an idle session, a new one, or none yet for the next message. PURE.

Guarantees: only a session of the same login, secret and smarthosts is chosen; the most recently used one first, so
that surplus sessions stay idle and are closed. Never more sessions than the account may have. Never two logins of one
account at a time, so that a wrong password costs one failed login, however many messages wait.
Not here: the sessions themselves (delivery.pool), the clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from senderproxy.routing.provider import Smarthost
from senderproxy.value_class import value_class


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The properties that a session and its messages must have in common."""

    account_id: str
    login: str
    version: str  # of the password or the grant
    smarthosts: tuple[Smarthost, ...]
    mechanisms: tuple[str, ...]


class SessionInfo(Protocol):
    """The facts about one open session that decide."""

    @property
    def number(self) -> int:
        """The session's number in its pool."""
        ...

    @property
    def key(self) -> SessionKey:
        """The key it was opened for."""
        ...

    @property
    def busy(self) -> bool:
        """True while it carries a message."""
        ...

    @property
    def message_count(self) -> int:
        """The number of messages that the upstream accepted on it."""
        ...

    @property
    def opened_at(self) -> float:
        """The time when it was opened, in seconds on the monotonic clock."""
        ...

    @property
    def idle_since(self) -> float:
        """The end of its last message, in seconds on the monotonic clock."""
        ...


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The limits for the sessions of an account: configured, or reported by the upstream."""

    connections: int  # sessions at once
    messages_per_connection: int | None  # None: no limit
    idle_seconds: float  # an idle session is closed after this time


@value_class
class Reuse:
    """Use the session of this number."""

    number: int


@value_class
class OpenNew:
    """Open a session."""


@value_class
class KeepWaiting:
    """Wait for a busy session, a login in progress or the end of a session that is being closed."""


Action: TypeAlias = Reuse | OpenNew | KeepWaiting


@value_class
class Choice:
    """The action, and the numbers of the sessions to close before it."""

    action: Action
    close: tuple[int, ...] = ()


def choose(
    sessions: Iterable[SessionInfo],
    key: SessionKey,
    limits: PoolLimits,
    *,
    opening: bool,
    closing: int,
    now: float,
    opened_since: float | None = None,
) -> Choice:
    """Choose for the message at the head of the queue.

    `key` is the message's; `opening`: a login is in progress; `closing`: the number of sessions that are being closed;
    `now` is on the monotonic clock. `opened_since` excludes sessions that were opened before.
    """
    total, idle, unusable = 0, list[SessionInfo](), list[int]()
    for session in sessions:
        total += 1
        if session.busy:
            continue
        if _matches(session, key) and not is_expired(session, limits, now):
            idle.append(session)
        else:
            unusable.append(session.number)
    close = tuple(unusable)
    candidates = [session for session in idle if opened_since is None or session.opened_at >= opened_since]
    if candidates:
        return Choice(Reuse(max(candidates, key=_idle_order).number), close)
    if opening:
        return Choice(KeepWaiting(), close)
    if total + closing < limits.connections:  # a session counts until the upstream has closed it
        return Choice(OpenNew(), close)
    if idle and not close and not closing:
        return Choice(KeepWaiting(), (min(idle, key=_idle_order).number,))  # frees a slot; the next call opens
    return Choice(KeepWaiting(), close)


def is_expired(session: SessionInfo, limits: PoolLimits, now: float) -> bool:
    """True if the session has reached its limit of messages, or has been idle too long to be reliable."""
    if limits.messages_per_connection is not None and session.message_count >= limits.messages_per_connection:
        return True
    return not session.busy and now - session.idle_since >= limits.idle_seconds


def next_expiry(sessions: Iterable[SessionInfo], limits: PoolLimits) -> float | None:
    """Return the time when the first idle session expires; None if no session is idle."""
    return min((session.idle_since + limits.idle_seconds for session in sessions if not session.busy), default=None)


def _matches(session: SessionInfo, key: SessionKey) -> bool:
    return session.key is key or session.key == key


def _idle_order(session: SessionInfo) -> tuple[float, int]:
    return session.idle_since, session.number
