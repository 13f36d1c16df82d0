"""The sessions of one account: opened, lent to one message at a time, kept warm, closed.

Guarantees: a session is lent only for the key it was opened for (login, smarthosts, version of the secret); who waits
is served in the order of coming, in bounded time; one login at a time, whose failure answers everybody who waits for
it. What an upstream says of its own limits (messages on a session, sessions at once) is learnt.
Not here: which session to take (reuse), how one is opened (session), whether the account may send (health).
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.classify import NotOpened, Trouble
from senderproxy.delivery.reuse import Open, PoolLimits, Reuse, Seat, choose, is_worn, next_look
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply
from senderproxy.routing.provider import Smarthost

FORGET_LEARNT: Final = 3600.0  # seconds after which what was learnt is put to the test again


@dataclass(frozen=True, slots=True)
class Key:
    """What a session must have in common with the message it carries."""

    account_id: str
    login: str
    version: str  # of the secret
    smarthosts: tuple[Smarthost, ...]
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session is wanted."""

    key: Key
    terms: PoolLimits
    open: Callable[[], Awaitable[Session | NotOpened]]
    objection: Callable[[], NotOpened | None]  # asked again before each step: the account may be stopped by now
    failed: Callable[[NotOpened], None]  # told once for each login that failed, before those who wait for it
    wait_seconds: float


@dataclass(eq=False, slots=True)
class PooledSession:
    """A session in use for one message. Give it back to the pool it came from."""

    number: int
    key: Key
    session: Session
    opened_at: float
    idle_since: float
    busy: bool = False
    warm: bool = False  # it was not opened for this message


@dataclass(eq=False, slots=True)
class _Waiter:
    order: SessionRequest
    future: "asyncio.Future[PooledSession | NotOpened]"
    opened_since: float | None
    late: bool = False


class Pool:
    """The sessions of one account."""

    def __init__(self, account_id: str, clock: Clock) -> None:
        self._account_id = account_id
        self._clock = clock
        self._numbers = itertools.count(1)
        self._seats: dict[int, PooledSession] = {}
        self._waiters: deque[_Waiter] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._terms = PoolLimits(1, None, 0.0)
        self._learnt_messages = _Learnt()
        self._learnt_connections = _Learnt()
        self._current: Key | None = None  # the key of the last order; sessions of another one are not kept
        self._shut = False

    # --- for the courier ---

    async def borrow(self, order: SessionRequest, *, fresh: bool = False) -> PooledSession | NotOpened:
        """A session for one message, or why there is none. `fresh`: only one that is opened from now on."""
        if self._shut:
            return _closed()
        if not fresh and not self._waiters and (warm := self._warmest(order)) is not None:
            return warm
        waiter = _Waiter(
            order,
            asyncio.get_running_loop().create_future(),
            self._clock.monotonic() if fresh else None,
        )
        self._current, self._terms = order.key, order.terms
        if fresh:
            self._waiters.appendleft(waiter)  # it has waited its time before
        else:
            self._waiters.append(waiter)
        timer = asyncio.get_running_loop().call_later(order.wait_seconds, self._grow_late, waiter)
        self._serve()
        try:
            return await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise
        finally:
            timer.cancel()

    def _warmest(self, order: SessionRequest) -> PooledSession | None:
        """The session that is taken nearly always: one that fits and has been idle for the shortest time.

        Says nothing that reuse.choose would not say; only sooner.
        """
        self._current, self._terms = order.key, order.terms
        best: PooledSession | None = None
        for loan in self._seats.values():
            if loan.busy:
                continue
            if not self._fits(loan, order.key):
                return None  # it has to be closed first
            if best is None or (loan.idle_since, loan.number) > (best.idle_since, best.number):
                best = loan
        if best is None or self._is_worn(best) or order.objection() is not None:
            return None
        best.busy = best.warm = True
        return best

    def give_back(self, loan: PooledSession, *, worn: bool = False) -> None:
        """The message is done with; the session is kept warm if it can be. `worn`: it has carried its last."""
        if loan.number not in self._seats:
            return
        loan.busy = False
        loan.idle_since = self._clock.monotonic()
        if not loan.session.usable:
            self._drop(loan)
        elif worn or self._shut or not self._fits(loan, self._current) or self._is_worn(loan):
            self._close(loan)
        self._serve()

    def learn_messages(self, carried: int) -> None:
        """The upstream ended a session after so many messages: retire the next ones before that."""
        self._learnt_messages.note(carried, self._clock.monotonic())

    def retire(self, version: str | None) -> None:
        """Close what does not carry this version of the secret; None: everything. Busy ones follow when done."""
        if self._current is not None and self._current.version != version:
            self._current = None
        for loan in list(self._seats.values()):
            if not loan.busy and loan.key.version != version:
                self._close(loan)
        self._serve()

    async def shut(self) -> None:
        """Lend nothing more, say QUIT on idle sessions, cut what is still busy. Call when nothing should be busy."""
        self._shut = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            _settle(self._waiters.popleft(), _closed())
        while self._opening is not None:
            self._opening.cancel()  # again, where Python 3.11's wait_for misses one that comes with a result
            await asyncio.wait((self._opening,), timeout=0.1)
        for loan in list(self._seats.values()):
            if loan.busy:
                loan.session.abort()
            else:
                self._close(loan)
        while self._closing:
            await asyncio.wait(self._closing)
        for loan in list(self._seats.values()):
            await loan.session.wait_closed()
            self._seats.pop(loan.number, None)

    @property
    def is_empty(self) -> bool:
        """Nothing open, nothing opening or closing, nobody waiting."""
        return not (self._seats or self._waiters or self._closing or self._opening)

    @property
    def busy(self) -> int:
        return sum(loan.busy for loan in self._seats.values())

    @property
    def idle(self) -> int:
        return len(self._seats) - self.busy

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    # --- what moves it ---

    def _serve(self) -> None:
        """Give who waits longest what there is; open, close and wait as reuse says. Called after every change."""
        while self._waiters and not self._shut:
            head = self._waiters[0]
            if head.future.done():  # cancelled, and not yet withdrawn
                self._waiters.popleft()
                continue
            objection = head.order.objection()
            if objection is not None:
                _settle(self._waiters.popleft(), objection)
                continue
            now = self._clock.monotonic()
            choice = choose(
                [_seat(loan, head.order.key) for loan in self._seats.values()],
                self._effective(head.order.terms),
                opening=self._opening is not None,
                closing=len(self._closing),
                now=now,
                opened_since=head.opened_since,
            )
            for number in choice.close:
                self._close(self._seats[number])
            match choice.what:
                case Reuse(number):
                    self._waiters.popleft()
                    self._lend(self._seats[number], head, warm=head.opened_since is None)
                    continue
                case Open():
                    self._opening = asyncio.create_task(self._open(head.order))
                case _:
                    pass
            break
        if self._opening is None:
            self._send_away_the_late()
        self._watch_idle()

    async def _open(self, order: SessionRequest) -> None:
        """Log in for who waits. It is done to its end even if he goes: a login begun is not begun a second time."""
        result: Session | NotOpened | None = None
        try:
            result = await order.open()
        except Exception as fault:  # noqa: BLE001 -- handed to those who wait, who are its callers
            for waiter in self._of(order.key):
                self._waiters.remove(waiter)
                if not waiter.future.done():
                    waiter.future.set_exception(fault)
        finally:
            self._opening = None
        if isinstance(result, Session):
            self._seat_new(result, order.key)
        elif isinstance(result, NotOpened):
            self._not_opened(result, order)
        self._serve()

    def _seat_new(self, session: Session, key: Key) -> None:
        now = self._clock.monotonic()
        loan = PooledSession(next(self._numbers), key, session, opened_at=now, idle_since=now)
        self._seats[loan.number] = loan
        session.when_over(lambda: self._ended(loan))
        if self._shut or not session.usable:
            self._close(loan)
            return
        for waiter in self._of(key):
            self._waiters.remove(waiter)
            self._lend(loan, waiter, warm=False)
            return

    def _not_opened(self, result: NotOpened, order: SessionRequest) -> None:
        """Everybody who waits for this login is told; unless other sessions stand, which then are all we may have."""
        alive = sum(loan.key == order.key and loan.session.usable for loan in self._seats.values())
        if result.trouble is Trouble.LIMIT and alive:
            self._learnt_connections.note(alive, self._clock.monotonic())
            return
        order.failed(result)
        for waiter in self._of(order.key):
            self._waiters.remove(waiter)
            _settle(waiter, result)

    def _lend(self, loan: PooledSession, waiter: _Waiter, *, warm: bool) -> None:
        loan.busy, loan.warm = True, warm
        waiter.future.set_result(loan)

    def _withdraw(self, waiter: _Waiter) -> None:
        """He waits no more. What was already given to him goes back."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            given = waiter.future.result()
            if isinstance(given, PooledSession):
                self.give_back(given)
        self._serve()

    def _grow_late(self, waiter: _Waiter) -> None:
        waiter.late = True
        self._serve()

    def _send_away_the_late(self) -> None:
        for waiter in [waiter for waiter in self._waiters if waiter.late]:
            self._waiters.remove(waiter)
            words = (
                f"All {len(self._seats)} sessions of account {self._account_id} were busy for "
                f"{waiter.order.wait_seconds:g} s"
            )
            _settle(waiter, NotOpened(Trouble.LOCAL, reply(451, "4.3.2", words)))

    def _ended(self, loan: PooledSession) -> None:
        """The session died. A busy one is given back by who has it."""
        if not loan.busy:
            self._drop(loan)
            self._serve()

    def _drop(self, loan: PooledSession) -> None:
        """It is dead already: only its transport is still to go."""
        if self._seats.pop(loan.number, None) is not None:
            self._keep(loan.session.wait_closed())

    def _close(self, loan: PooledSession) -> None:
        """Say QUIT. It counts as one of ours until the upstream has heard it."""
        if self._seats.pop(loan.number, None) is not None:
            self._keep(loan.session.quit())

    def _keep(self, farewell: Awaitable[None]) -> None:
        async def wait() -> None:
            await farewell

        task = asyncio.create_task(wait())
        self._closing.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        self._serve()

    def _watch_idle(self) -> None:
        """One timer for the session that is idle longest. One that comes too soon just looks again."""
        if self._timer is not None:
            return
        terms = self._effective()
        due = next_look([_seat(loan, loan.key) for loan in self._seats.values()], terms)
        if due is not None and not self._shut:
            delay = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._close_cold)

    def _close_cold(self) -> None:
        self._timer = None
        for loan in list(self._seats.values()):
            if not loan.busy and self._is_worn(loan):
                self._close(loan)
        self._serve()

    # --- small parts ---

    def _fits(self, loan: PooledSession, key: Key | None) -> bool:
        return loan.key is key or loan.key == key

    def _is_worn(self, loan: PooledSession) -> bool:
        return is_worn(_seat(loan, loan.key), self._effective(), self._clock.monotonic())

    def _of(self, key: Key) -> list[_Waiter]:
        return [waiter for waiter in self._waiters if waiter.order.key == key and not waiter.future.done()]

    def _effective(self, terms: PoolLimits | None = None) -> PoolLimits:
        """The terms as written, narrowed by what was learnt."""
        terms = terms or self._terms
        if self._learnt_connections.limit is None and self._learnt_messages.limit is None:
            return terms
        now = self._clock.monotonic()
        return replace(
            terms,
            connections=max(1, self._learnt_connections.narrow(terms.connections, now) or 1),
            messages_per_connection=self._learnt_messages.narrow(terms.messages_per_connection, now),
        )


@dataclass(slots=True)
class _Learnt:
    """A limit the upstream told us the hard way. It may have been a bad hour only: it is forgotten after one."""

    limit: int | None = None
    at: float = 0.0

    def note(self, limit: int, now: float) -> None:
        self.limit, self.at = self.narrow(limit, now), now

    def narrow(self, written: int | None, now: float) -> int | None:
        """The smaller of what is written down and what was learnt."""
        if self.limit is None or now - self.at >= FORGET_LEARNT:
            return written
        return self.limit if written is None else min(written, self.limit)


def _seat(loan: PooledSession, wanted: Key) -> Seat:
    return Seat(loan.number, loan.key == wanted, loan.busy, loan.session.carried, loan.opened_at, loan.idle_since)


def _settle(waiter: _Waiter, answer: NotOpened) -> None:
    if not waiter.future.done():
        waiter.future.set_result(answer)


def _closed() -> NotOpened:
    return NotOpened(Trouble.LOCAL, reply(451, "4.3.2", "senderproxy is shutting down"))
