"""Session pool of one account: sessions are opened, assigned to one message at a time, kept idle and closed.

Guarantees: a session carries messages of the key it was opened for only (login, secret, smarthosts). Messages wait in
order of arrival, for a bounded time. One login at a time; its failure is the result for every message that waits for
it. Limits that the upstream reports (messages on a session, sessions at once) are observed.
Not here: session choice (delivery.reuse), opening (delivery.opening), the account's health (delivery.account_health).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.observed_limits import ObservedLimits
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.reuse import Choice, OpenNew, PoolLimits, Reuse, SessionKey, choose, is_expired, next_expiry
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply

_NO_ROOM: Final = (FailureKind.LIMIT, FailureKind.LOCAL)  # for a further session


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """The demand for a session, the same for all messages of an account until its settings change."""

    key: SessionKey
    limits: PoolLimits
    open: Callable[[], Awaitable[Session | OpenFailed]]
    blocked: Callable[[], OpenFailed | None]  # called before each step: the account may be paused or suspended by now
    login_blocked: Callable[[], OpenFailed | None]  # called before a login: open sessions may still be used
    open_failed: Callable[[OpenFailed], None]  # called once for each failed login, before the result is passed on
    wait_seconds: float  # for a session, while all are busy


@dataclass(eq=False, slots=True)
class PooledSession:
    """An open session. While it is busy it belongs to one message, which releases it to its pool."""

    number: int
    key: SessionKey
    session: Session
    opened_at: float  # monotonic clock
    idle_since: float  # monotonic clock
    busy: bool = False
    warm: bool = False  # it was idle before this message, so it may have died meanwhile

    @property
    def message_count(self) -> int:
        """The number of messages that the upstream accepted on it."""
        return self.session.message_count


@dataclass(eq=False, slots=True)
class _Waiter:
    request: SessionRequest
    future: "asyncio.Future[PooledSession | OpenFailed]"
    opened_since: float | None
    timed_out: bool = False


class Pool:
    """The sessions of one account. One attribute for each fact about them."""

    def __init__(self, account_id: str, clock: Clock, on_observed: Callable[[], None] = lambda: None) -> None:
        """`on_observed` is called when a limit was observed."""
        self.observed = ObservedLimits()
        self._on_observed = on_observed
        self._account_id = account_id
        self._clock = clock
        self.opened = 0  # sessions so far; the number of the last one
        self._sessions: dict[int, PooledSession] = {}
        self._waiters: deque[_Waiter] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._limits = PoolLimits(1, None, 0.0)
        self._key: SessionKey | None = None  # of the last request; idle sessions of another key are closed
        self._closed = False
        self.on_closed: Callable[[], None] | None = None  # set if other instances count the sessions
        self.gives_up_one = False  # the next session that is released is closed
        self.on_idle: Callable[[], None] | None = None  # set while another account waits for a session to be closed

    # --- for the courier ---

    async def acquire(self, request: SessionRequest, *, fresh: bool = False) -> PooledSession | OpenFailed:
        """Return a session for one message, or the reason why there is none.

        `fresh`: only a session that is opened from now on. The usual message finds an idle session and does not wait.
        """
        if self._closed:
            return _shutting_down()
        if (blocked := request.blocked()) is not None:
            return blocked
        if not fresh and (pooled := self.take_idle(request)) is not None:
            return pooled
        self._key, self._limits = request.key, request.limits
        opened_since = self._clock.monotonic() if fresh else None
        waiter = _Waiter(request, asyncio.get_running_loop().create_future(), opened_since)
        if fresh:
            self._waiters.appendleft(waiter)  # it has waited before
        else:
            self._waiters.append(waiter)
        timer = asyncio.get_running_loop().call_later(request.wait_seconds, self._time_out, waiter)
        self._serve()
        try:
            return await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            timer.cancel()

    def take_idle(self, request: SessionRequest) -> PooledSession | None:
        """Take an idle session for one message of an account that is not blocked; None if none is usable."""
        if self._closed or self._waiters:
            return None
        self._key, self._limits = request.key, request.limits
        choice = self._choose(request, None, self._clock.monotonic())
        if not isinstance(choice.action, Reuse):
            return None
        self._close_numbers(choice)
        return _assign(self._sessions[choice.action.number], warm=True)

    def release(self, pooled: PooledSession, *, expired: bool = False) -> None:
        """Take a session back after its message. `expired`: the upstream accepts no further message on it."""
        if pooled.number not in self._sessions:
            return
        pooled.busy = False
        pooled.idle_since = self._clock.monotonic()
        if not pooled.session.usable:
            self._remove_dead(pooled)
        elif expired or self._closed or self.gives_up_one or pooled.key != self._key or self._is_expired(pooled):
            self.gives_up_one = False
            self._close_session(pooled)
        self._serve()
        if self.on_idle is not None:
            self.on_idle()

    def record_message_limit(self, messages: int) -> None:
        """Record that the upstream ended a session after so many messages. Later sessions are closed before that."""
        self.observed.messages_per_connection.record(messages, self._clock.monotonic())
        self._on_observed()

    def close_outdated(self, version: str | None) -> bool:
        """Close the sessions of other versions of the secret; None: all. True if it changed since the last request."""
        outdated = self._key is not None and self._key.version != version
        self._key = None if outdated else self._key
        for pooled in list(self._sessions.values()):
            if not pooled.busy and pooled.key.version != version:
                self._close_session(pooled)
        self._serve()
        return outdated

    async def close(self) -> None:
        """Refuse further requests, send QUIT on idle sessions, cut busy ones. Call when none should be busy."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            _settle(self._waiters.popleft(), _shutting_down())
        while self._opening is not None:
            self._opening.cancel()  # again: wait_for of Python 3.11 loses a cancellation that comes with a result
            await asyncio.wait((self._opening,), timeout=0.1)
        for pooled in list(self._sessions.values()):
            if pooled.busy:
                pooled.session.abort()
            else:
                self._close_session(pooled)
        while self._closing:
            await asyncio.wait(self._closing)
        for pooled in list(self._sessions.values()):
            await pooled.session.wait_closed()
            self._sessions.pop(pooled.number, None)

    @property
    def is_empty(self) -> bool:
        """True if no session is open, opening or closing, and no message waits."""
        return not (self._sessions or self._waiters or self._closing or self._opening)

    @property
    def busy(self) -> int:
        """The number of sessions that carry a message."""
        return sum(pooled.busy for pooled in self._sessions.values())

    @property
    def idle(self) -> int:
        """The number of sessions that do not."""
        return len(self._sessions) - self.busy

    @property
    def waiting(self) -> int:
        """The number of messages that wait for a session."""
        return len(self._waiters)

    # --- after every change ---

    def _serve(self) -> None:
        """Serve the waiting messages in order; open, close and wait as reuse.choose says."""
        while self._waiters and not self._closed:
            head = self._waiters[0]
            if head.future.done():  # cancelled, and not yet withdrawn
                self._waiters.popleft()
                continue
            blocked = head.request.blocked()
            if blocked is not None:
                _settle(self._waiters.popleft(), blocked)
                continue
            choice = self._choose(head.request, head.opened_since, self._clock.monotonic())
            self._close_numbers(choice)
            match choice.action:
                case Reuse(number):
                    self._waiters.popleft()
                    head.future.set_result(_assign(self._sessions[number], warm=head.opened_since is None))
                    continue
                case OpenNew() if (blocked := head.request.login_blocked()) is not None:
                    if self._has_usable(head.request.key):
                        break  # a busy session will do
                    _settle(self._waiters.popleft(), blocked)
                    continue
                case OpenNew():
                    self._opening = asyncio.create_task(self._open(head.request))
                case _:
                    pass
            break
        if self._opening is None:
            _refuse_timed_out(self._waiters, len(self._sessions), self._account_id)
        self._schedule_expiry()

    def _choose(self, request: SessionRequest, opened_since: float | None, now: float) -> Choice:
        return choose(
            self._sessions.values(),
            request.key,
            self.observed.narrow(request.limits, now),
            opening=self._opening is not None,
            closing=len(self._closing),
            now=now,
            opened_since=opened_since,
        )

    # --- opening ---

    async def _open(self, request: SessionRequest) -> None:
        """Open a session for the waiting messages. It goes on if they are cancelled: no login is started twice."""
        result: Session | OpenFailed | None = None
        had_session = self._has_usable(request.key) > 0
        try:
            result = await request.open()
        except Exception as fault:  # noqa: BLE001 -- passed to the waiting messages, which are the callers
            for waiter in _taken_with_key(self._waiters, request.key):
                waiter.future.set_exception(fault)
        finally:
            self._opening = None
        if isinstance(result, Session):
            self._add(result, request.key)
        elif isinstance(result, OpenFailed) and not (had_session and self._has_lost_its_last(result, request.key)):
            self._open_failed(result, request)
        self._serve()

    def _add(self, session: Session, key: SessionKey) -> None:
        now, self.opened = self._clock.monotonic(), self.opened + 1
        pooled = PooledSession(self.opened, key, session, opened_at=now, idle_since=now)
        self._sessions[pooled.number] = pooled
        session.on_end(lambda: self._ended(pooled))
        if self._closed or not session.usable:
            self._close_session(pooled)
            return
        for waiter in _taken_with_key(self._waiters, key, most=1):
            waiter.future.set_result(_assign(pooled, warm=False))

    def _open_failed(self, result: OpenFailed, request: SessionRequest) -> None:
        """Pass the failure to every message that waits for this login; with other sessions open, lower the limit."""
        alive = self._has_usable(request.key)
        if result.kind in _NO_ROOM and alive:
            self.observed.connections.record(alive, self._clock.monotonic())
            self._on_observed()
            return
        request.open_failed(result)
        if alive and request.blocked() is None and request.login_blocked() is not None:
            return  # only logins fail: the open sessions carry the messages
        for waiter in _taken_with_key(self._waiters, request.key):
            _settle(waiter, result)

    def _has_lost_its_last(self, result: OpenFailed, key: SessionKey) -> bool:
        """True if there was no room for a further session, and those that were open meanwhile have ended.

        The open ones were to carry the messages; now the next try waits for room.
        """
        return result.kind in _NO_ROOM and not self._has_usable(key)

    def _has_usable(self, key: SessionKey) -> int:
        """Return the number of sessions that can carry a message with this key, busy ones included."""
        return sum(pooled.key == key and pooled.session.usable for pooled in self._sessions.values())

    def sessions_at(self, hosts: Collection[str]) -> list[PooledSession]:
        """Return the open sessions at these hosts."""
        return [pooled for pooled in self._sessions.values() if pooled.session.smarthost.host in hosts]

    async def close_idle(self, pooled: PooledSession) -> None:
        """Close an idle session, so that another account can open one; returns when the upstream has closed it."""
        if pooled.number in self._sessions and not pooled.busy:
            self._close_session(pooled)
            await pooled.session.wait_closed()

    @property
    def open_count(self) -> int:
        """The number of sessions at the upstream: open, opening, and closing ones."""
        return len(self._sessions) + len(self._closing) + (self._opening is not None)

    def give_up_one(self) -> None:
        """Close a session for another instance: the coldest idle one, or the next one that is released."""
        idle = [pooled for pooled in self._sessions.values() if not pooled.busy]
        if idle and not self._waiters:
            self._close_session(min(idle, key=lambda pooled: pooled.idle_since))
        elif self._sessions:
            self.gives_up_one = True

    # --- waiting ---

    def _withdraw(self, waiter: _Waiter) -> None:
        """Remove a cancelled message. A session that it was given already is released."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            given = waiter.future.result()
            if isinstance(given, PooledSession):
                self.release(given)
        self._serve()

    def _time_out(self, waiter: _Waiter) -> None:
        waiter.timed_out = True
        self._serve()

    # --- closing ---

    def _ended(self, pooled: PooledSession) -> None:
        """Remove a session that ended by itself. A busy one is released by its message."""
        if not pooled.busy:
            self._remove_dead(pooled)
            self._serve()

    def _remove_dead(self, pooled: PooledSession) -> None:
        if self._sessions.pop(pooled.number, None) is not None:
            self._wait_for(pooled.session.wait_closed())

    def _close_session(self, pooled: PooledSession) -> None:
        """Send QUIT. The session counts against the limit until the upstream has closed it."""
        if self._sessions.pop(pooled.number, None) is not None:
            self._wait_for(pooled.session.quit())

    def _close_numbers(self, choice: Choice) -> None:
        for number in choice.close:
            self._close_session(self._sessions[number])

    def _wait_for(self, end: Awaitable[None]) -> None:
        task = asyncio.create_task(_finish(end))
        self._closing.add(task)
        task.add_done_callback(self._close_done)

    def _close_done(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        if self.on_closed is not None:
            self.on_closed()
        self._serve()
        if self.on_idle is not None:
            self.on_idle()

    def _schedule_expiry(self) -> None:
        """Arm the one timer, for the session that is idle longest. An early call only arms it again."""
        if self._timer is not None:
            return
        now = self._clock.monotonic()
        due = next_expiry(self._sessions.values(), self.observed.narrow(self._limits, now))
        if due is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._close_expired)

    def _close_expired(self) -> None:
        self._timer = None
        for pooled in list(self._sessions.values()):
            if not pooled.busy and self._is_expired(pooled):
                self._close_session(pooled)
        self._serve()

    def _is_expired(self, pooled: PooledSession) -> bool:
        now = self._clock.monotonic()
        return is_expired(pooled, self.observed.narrow(self._limits, now), now)


async def _finish(end: Awaitable[None]) -> None:
    await end


def _taken_with_key(waiters: deque[_Waiter], key: SessionKey, most: int | None = None) -> list[_Waiter]:
    """Remove those that wait with this key, so many at most, and return them."""
    found = [waiter for waiter in waiters if waiter.request.key == key and not waiter.future.done()][:most]
    for waiter in found:
        waiters.remove(waiter)
    return found


def _refuse_timed_out(waiters: deque[_Waiter], sessions: int, account_id: str) -> None:
    for waiter in [waiter for waiter in waiters if waiter.timed_out]:
        waiters.remove(waiter)
        _settle(waiter, _all_busy(sessions, account_id, waiter.request.wait_seconds))


def _all_busy(sessions: int, account_id: str, seconds: float) -> OpenFailed:
    text = f"All {sessions} sessions of account {account_id} were busy for {seconds:g} s"
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text))


def _assign(pooled: PooledSession, *, warm: bool) -> PooledSession:
    pooled.busy, pooled.warm = True, warm
    return pooled


def _settle(waiter: _Waiter, result: OpenFailed) -> None:
    if not waiter.future.done():
        waiter.future.set_result(result)


def _shutting_down() -> OpenFailed:
    return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", "senderproxy is shutting down"))
