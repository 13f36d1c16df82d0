"""Sessions of one hop: a few at once, kept for the next message.

Guarantees: never more sessions than the limit; the one used last is used first; an idle one is closed after its time. A
session that ended is never used again.
Not here: opening (delivery.hops.opening), transactions (delivery.hops.courier).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.hops.opening import HopSession
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.mail.reply import reply
from senderproxy.routing.provider import Limits

_OpenSession = Callable[[], Awaitable[HopSession | OpenFailed]]
_CLOSED: Final = OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", "senderproxy is shutting down"))


class HopSessions:
    """The sessions of one hop."""

    def __init__(self, name: str, limits: Limits, clock: Clock, open_session: _OpenSession) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._open = open_session
        self._slots = asyncio.Semaphore(limits.connections)
        self._idle: list[HopSession] = []  # the one used last is the last one
        self._busy: set[HopSession] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, wait_seconds: float, *, fresh: bool = False) -> tuple[HopSession, bool] | OpenFailed:
        """Return a session for one message, and whether it was idle before; or the reason why there is none.

        `fresh`: only a new one. After `wait_seconds` without a free session the message is deferred.
        """
        try:
            async with asyncio.timeout(wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            text = f"All {self._limits.connections} sessions of {self._name} were busy for {wait_seconds:g} s"
            return OpenFailed(FailureKind.LOCAL, reply(451, "4.3.2", text))
        session: HopSession | OpenFailed = _CLOSED
        try:
            if self._is_closed:
                return _CLOSED
            if not fresh and (idle := self._take_idle()) is not None:
                session = idle
                return idle, True
            session = await self._open()
            return session if isinstance(session, OpenFailed) else (session, False)
        finally:
            if isinstance(session, HopSession):
                self._busy.add(session)
            else:
                self._slots.release()

    def release(self, session: HopSession) -> None:
        """Take a session back after its message."""
        self._busy.discard(session)
        self._slots.release()
        limit = self._limits.messages_per_connection
        is_used_up = limit is not None and session.message_count >= limit
        if self._is_closed or is_used_up or not session.usable or not self._limits.idle_seconds:
            self._close(session)
            return
        session.idle_since = self._clock.monotonic()
        self._idle.append(session)
        self._schedule()

    async def close(self) -> None:
        """Open nothing more, send QUIT on idle sessions, cut busy ones."""
        self.retire()
        for session in self._busy:
            session.abort()
        while self._closing:
            await asyncio.wait(self._closing)

    def retire(self) -> None:
        """Open nothing more; close the idle sessions now, and busy ones after their message."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.close_idle()

    def close_idle(self) -> None:
        """Close the idle sessions."""
        while self._idle:
            self._close(self._idle.pop())

    @property
    def busy(self) -> int:
        """The number of sessions that carry a message."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        """The number of sessions that do not."""
        return len(self._idle)

    def _take_idle(self) -> HopSession | None:
        self._close_expired()
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
            self._close(session)
        return None

    def _close_expired(self) -> None:
        now = self._clock.monotonic()
        while self._idle and now - self._idle[0].idle_since >= self._limits.idle_seconds:
            self._close(self._idle.pop(0))

    def _close(self, session: HopSession) -> None:
        task = asyncio.create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _schedule(self) -> None:
        """Arm the one timer, for the session that is idle longest."""
        if self._timer is None and self._idle and not self._is_closed:
            wait = self._idle[0].idle_since + self._limits.idle_seconds - self._clock.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wait), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._close_expired()
        self._schedule()
