"""Logins of all accounts at one server: which of them may be tried after others have failed.

Guarantees: while no login fails, two are in progress at the same time. After a failure they are tried one after the
other; after three accounts have failed in a row, one login is tried after 5, 15 and 60 minutes and the others wait for
its result. At most five failed logins an hour, so that a provider does not block the address of the office; an account
whose login worked within the last day may be tried beyond that. A success, a new secret and the operator end the wait.
Not here: one account's own state (delivery.account_health), AUTH itself (delivery.opening).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from senderproxy.delivery.account_health import LOGIN_WAITS
from senderproxy.mail.reply import Reply
from senderproxy.routing.provider import Provider, Smarthost

TOGETHER: Final = 3  # accounts that fail in a row before the others wait
HOURLY: Final = 5  # failed logins an hour; providers block an address after ten and more
_HOUR: Final = 3600.0  # seconds
_AT_ONCE: Final = 2  # logins in progress while none fails
_SERVERS: Final = 256  # gates in memory; more than a configuration has smarthosts


@dataclass(frozen=True, slots=True)
class LoginWait:
    """A login may not be tried now. `seconds`: the time until it may."""

    seconds: float
    failures: int
    accounts: tuple[str, ...]
    last_reply: Reply


@dataclass(slots=True)
class LoginGate:
    """The logins at one server."""

    now: Callable[[], float]  # monotonic clock, seconds
    _failed_at: deque[float] = field(default_factory=lambda: deque(maxlen=HOURLY))
    _streak: dict[str, str] = field(default_factory=dict)  # accounts that failed since the last success: version
    _failures: int = 0  # since the last success
    _last_reply: Reply | None = None
    _in_progress: int = 0
    _waiters: list["asyncio.Future[None]"] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """True if any login may be tried: none has failed."""
        return self._last_reply is None or not self._failed_at

    def wait(self, account: str, version: str, *, proven: bool) -> LoginWait | None:
        """Return the wait for a login of this account; None if it may be tried.

        `version` is that of its secret; `proven`: a login with it worked within the last day.
        """
        now = self.now()
        if self._last_reply is None or self.is_open:
            return None
        if account in self._streak and self._streak[account] != version:
            return None  # a new secret
        until = 0.0
        if len(self._streak) >= TOGETHER:
            until = self._failed_at[-1] + LOGIN_WAITS[min(self._failures - TOGETHER, len(LOGIN_WAITS) - 1)]
        if len(self._failed_at) == HOURLY and not (proven and len(self._streak) < TOGETHER):
            until = max(until, self._failed_at[0] + _HOUR)
        if until <= now:
            return None
        return LoginWait(until - now, self._failures or len(self._failed_at), tuple(self._streak), self._last_reply)

    async def enter(self, account: str, version: str, *, proven: bool) -> LoginWait | None:
        """Begin a login, as soon as no other prevents it; returns the wait if it may not be tried.

        Call `leave` at its end. A login that may not be tried needs no `leave`.
        """
        while (waiting := self.wait(account, version, proven=proven)) is None:
            if self._in_progress < (1 if self._failures else _AT_ONCE):
                self._in_progress += 1
                return None
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            finally:
                if turn in self._waiters:
                    self._waiters.remove(turn)
        self._wake()
        return waiting

    def leave(self) -> None:
        """End a login that `enter` began."""
        self._in_progress -= 1
        self._wake()

    def failed(self, account: str, version: str, upstream_reply: Reply) -> None:
        """Record a failed login."""
        self._failed_at.append(self.now())
        self._failures += 1
        self._last_reply = upstream_reply
        if account in self._streak or len(self._streak) < TOGETHER:
            self._streak[account] = version
        self._wake()

    def succeeded(self) -> None:
        """Record a login that worked: the server checks passwords, and knows this address."""
        self._streak.clear()
        self._failures = 0

    def lift(self) -> bool:
        """Forget every failure: the operator has acted. False if there was none."""
        had_failures = self._last_reply is not None
        self.succeeded()
        self._failed_at.clear()
        self._last_reply = None
        self._wake()
        return had_failures

    def _wake(self) -> None:
        """Let the waiting logins check again, in their order."""
        waiters, self._waiters = self._waiters, []
        for turn in waiters:
            if not turn.done():
                turn.set_result(None)


class LoginGates:
    """The gates of all servers."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._gates: dict[str, LoginGate] = {}

    def wait(
        self, provider: Provider, account: str, version: str, is_proven: Callable[[str], bool]
    ) -> LoginWait | None:
        """Return the wait for a login at the first server of this provider; None if it may be tried."""
        if not provider.smarthosts:
            return None
        gate = self._gates.get(str(provider.smarthosts[0]))
        return None if gate is None or gate.is_open else gate.wait(account, version, proven=is_proven(version))

    def lift(self, provider: Provider) -> bool:
        """Forget every failure at the servers of this provider. False if there was none."""
        lifted = [self.of(smarthost).lift() for smarthost in provider.smarthosts]
        return True in lifted

    def of(self, smarthost: Smarthost) -> LoginGate:
        """Return the gate of this server."""
        name = str(smarthost)
        gate = self._gates.pop(name, None) or LoginGate(self._now)
        self._gates[name] = gate
        if len(self._gates) > _SERVERS:
            del self._gates[next(iter(self._gates))]
        return gate
