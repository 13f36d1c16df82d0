"""Address look-ups of smarthosts, and the last good addresses for the time in which the name server does not answer.

Guarantees: look-ups run on threads of their own; a hanging one delays only those who wait for it, and they may stop
waiting at any time. There is one look-up for each host and port at a time, shared by all who wait for it. Look-ups are
bounded for each provider and in all, so that the name server of one provider does not take the threads of the others.
One that does not return is given up; a bounded number of threads is replaced then. If a look-up fails or takes long,
the last good addresses are used; the server behind them still has to prove its name by its certificate. An answer that
the host does not exist is final. Memory is bounded.
Not here: connections to the addresses (delivery.connect). RFC 8767.
"""

import asyncio
import itertools
import logging
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.worker_threads import QueueFull, Stopped, WorkerThreads

_log: Final = logging.getLogger("senderproxy.delivery")

REPLY_TIMEOUT: Final = 1.8  # seconds of a look-up before the last good addresses are used; RFC 8767 section 5
SILENCE: Final = 10.0  # seconds of a look-up before the log calls the name server silent; some are only slow
RECHECK: Final = 30.0  # seconds after a failure without another look-up; RFC 8767 section 5
MAX_AGE: Final = 3 * 24 * 3600.0  # seconds; older addresses are not used: RFC 8767 section 5 suggests 1 to 3 days
DEAD: Final = 120.0  # seconds; a look-up that takes longer is given up: three name servers asked twice take 30 to 60 s
ABANDONED: Final = 16  # look-ups given up whose threads have not returned; then the next one keeps its place
LOOK_UPS: Final = 16  # at once; a hanging one occupies a thread (about 50 KB) for 10 to 60 s
LOOK_UPS_OF_PROVIDER: Final = 2  # at once; so only eight providers with hanging name servers take all threads
_SHUTTING_DOWN: Final = "senderproxy is shutting down"
_HOSTS_LIMIT: Final = 256  # hosts with known addresses; more than any configuration has

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
LookUp: TypeAlias = Callable[[str, int], Sequence[AddressInfo]]

# Answers of a name server, in contrast to its failures: no such name, and no address of it.
_FINAL: Final = frozenset(
    code for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if (code := getattr(socket, name, None)) is not None
)


def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Look up the addresses with the operating system's resolver. May block for a minute. Raises OSError."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class ReusedAddresses:
    """A host whose look-up fails, and whose last good addresses are used. Times in ISO 8601, UTC."""

    host: str
    port: int
    why: str
    since: str  # the first failure
    tried: str  # the last one
    found: str  # the last look-up that succeeded


@dataclass(frozen=True, slots=True)
class _Failure:
    code: int  # socket.EAI_*
    why: str
    since: datetime
    tried: datetime
    tried_at: float  # monotonic clock


@dataclass(slots=True, eq=False)
class _Host:
    """The last results for one host and port."""

    name: str
    port: int
    addresses: Sequence[AddressInfo] = ()
    found: datetime | None = None
    found_at: float = -math.inf  # monotonic clock
    failure: _Failure | None = None  # None: the last look-up succeeded
    logged: bool = False  # the log says that look-ups fail
    look_up: "asyncio.Task[None] | None" = None
    begun_at: float = 0.0  # monotonic clock


class Resolver:
    """The look-ups of one courier."""

    def __init__(self, clock: Clock, look_up: LookUp = look_up, *, dead_seconds: float = DEAD) -> None:
        """`look_up` may block; it raises OSError if it fails. After `dead_seconds` it is given up."""
        self._dead_seconds = dead_seconds
        self._clock = clock
        self._look_up = look_up
        self._threads = WorkerThreads("look-up", LOOK_UPS, replacements=ABANDONED)
        self._hosts: dict[tuple[str, int], _Host] = {}  # the one used last is the last one
        self._of_provider: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(self, name: str, port: int, provider: str) -> Sequence[AddressInfo]:
        """Return the addresses of a host, IPv4 and IPv6 alternating. Raises socket.gaierror.

        Without good addresses from before it waits as long as the look-up takes: the caller has the time limit.
        """
        if (numeric := _numeric(name, port)) is not None:
            return numeric
        host, now = self._host(name, port), self._clock.monotonic()
        known = self._usable(host, now)
        if known and host.failure is not None and now - host.failure.tried_at < RECHECK:
            return known
        if host.look_up is None:
            host.begun_at = now
            host.look_up = asyncio.create_task(self._run(host, provider))
        running = host.look_up
        await wait_done(running, max(0.0, host.begun_at + REPLY_TIMEOUT - now) if known else None)
        if not running.done():
            seconds = self._clock.monotonic() - host.begun_at
            self._fail(host, socket.EAI_AGAIN, f"no answer for {seconds:.0f} s", log=seconds >= SILENCE)
            return known
        if running.cancelled():
            raise socket.gaierror(socket.EAI_AGAIN, _SHUTTING_DOWN)
        running.result()  # raises what is neither an answer nor a failure of the name server
        if host.failure is not None and not (known := self._usable(host, self._clock.monotonic())):
            raise socket.gaierror(host.failure.code, host.failure.why)
        return host.addresses

    def reused(self) -> list[ReusedAddresses]:
        """Return the hosts whose last good addresses are used, because their look-up fails."""
        now = self._clock.monotonic()
        return [
            ReusedAddresses(
                host.name,
                host.port,
                host.failure.why,
                *(
                    moment.isoformat(timespec="seconds")
                    for moment in (host.failure.since, host.failure.tried, host.found)
                ),
            )
            for host in self._hosts.values()
            if host.failure is not None and host.found is not None and self._usable(host, now)
        ]

    def close(self) -> None:
        """Start no more look-ups. A hanging one is left to its thread, which does not delay the exit."""
        self._threads.stop()
        for host in self._hosts.values():
            if host.look_up is not None:
                host.look_up.cancel()

    # --- parts ---

    def _host(self, name: str, port: int) -> _Host:
        host = self._hosts.pop((name, port), None) or _Host(name, port)
        self._hosts[name, port] = host
        if len(self._hosts) > _HOSTS_LIMIT:
            del self._hosts[next(iter(self._hosts))]
        return host

    def _usable(self, host: _Host, now: float) -> Sequence[AddressInfo]:
        return host.addresses if now - host.found_at <= MAX_AGE else ()

    async def _run(self, host: _Host, provider: str) -> None:
        """Look up the host, as soon as its provider has a free place, and record the result."""
        slots = self._of_provider.setdefault(provider, asyncio.Semaphore(LOOK_UPS_OF_PROVIDER))
        try:
            async with slots:
                found = await self._look_up_on_thread(host)
            self._succeed(host, found)
        except OSError as fault:
            code = fault.errno if isinstance(fault, socket.gaierror) and fault.errno is not None else socket.EAI_SYSTEM
            self._fail(host, code, fault.strerror or type(fault).__name__)
        except UnicodeError:  # of the codec idna: an empty label, or one of more than 63 characters
            self._fail(host, socket.EAI_NONAME, "not a valid host name")
        except QueueFull:
            self._fail(host, socket.EAI_AGAIN, "too many look-ups wait for a name server")
        except Stopped:
            self._fail(host, socket.EAI_AGAIN, _SHUTTING_DOWN)
        finally:
            host.look_up = None

    async def _look_up_on_thread(self, host: _Host) -> Sequence[AddressInfo]:
        """The result of a look-up. Raises OSError, also for one that is given up: another thread replaces its own."""
        looking = self._threads.do(self._look_up, host.name, host.port)
        try:
            while not looking.done():
                await wait_done(looking, self._dead_seconds)
                if self._threads.abandon(looking):
                    event(
                        _log,
                        log_events.LOOK_UP_ABANDONED,
                        host=host.name,
                        port=host.port,
                        count=self._threads.abandoned,
                    )
                    raise socket.gaierror(socket.EAI_AGAIN, f"no answer for {self._dead_seconds:.0f} s")
            return looking.result()
        finally:
            looking.cancel()

    def _succeed(self, host: _Host, found: Sequence[AddressInfo]) -> None:
        host.addresses, host.failure = _alternating(found), None
        host.found, host.found_at = self._clock.now(), self._clock.monotonic()
        if host.logged:
            host.logged = False
            event(_log, log_events.LOOK_UP_RECOVERED, host=host.name, port=host.port)

    def _fail(self, host: _Host, code: int, why: str, *, log: bool = True) -> None:
        if code in _FINAL:
            host.addresses, host.found_at, host.logged = (), -math.inf, False
        now, at = self._clock.now(), self._clock.monotonic()
        host.failure = _Failure(code, why, host.failure.since if host.failure else now, now, at)
        if log and not host.logged and self._usable(host, at):
            host.logged = True
            age = round(at - host.found_at)
            event(_log, log_events.LOOK_UP_FAILED, host=host.name, port=host.port, why=why, age_seconds=age)


def _numeric(name: str, port: int) -> Sequence[AddressInfo] | None:
    """Return the address info of an IP address, which needs no look-up; None for a name."""
    try:
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None


def _alternating(found: Sequence[AddressInfo]) -> Sequence[AddressInfo]:
    """Return the addresses with IPv4 and IPv6 alternating, the family of the first one first: RFC 8305 section 4."""
    preferred, other = ([info for info in found if (info[0] == found[0][0]) is same] for same in (True, False))
    return [info for pair in itertools.zip_longest(preferred, other) for info in pair if info is not None]
