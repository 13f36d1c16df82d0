"""Threads for the verification of clients' passwords, shared by all listeners.

Guarantees: as many key derivations run at once as a small server can spare, and nothing else uses their threads. A
login waits for other logins only, and mail never waits for a login. The threads have a lower priority than the loop
where the system permits it; the unit's sandbox does not. The number of logins that wait is bounded, in all and for each
host, so that one host cannot shut out the others.
Not here: the derivation (listener.client_auth), the limit on failed logins (listener.login_throttle).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from senderproxy.worker_threads import WorkerThreads

DERIVATIONS: Final = 2  # at once: 64 MiB and two cores, which a small server can spare
_NICENESS: Final = 10  # a tenth of the event loop's share where both want one core: mail goes first
LOGINS_LIMIT: Final = 100  # logins at once; the last one waits 5 s at 0.1 s for each derivation
LOGINS_OF_HOST: Final = 25  # of them from one host: devices behind one address, and three more such hosts

_T = TypeVar("_T")


class PasswordThreads:
    """Two threads, and the count of logins that use them or wait for them."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(DERIVATIONS)  # held during a derivation
        self._threads = WorkerThreads("password", DERIVATIONS, niceness=_NICENESS)
        self._logins: Counter[str] = Counter()  # by host

    def enter(self, host: str) -> bool:
        """Count a login; False if there is no place for it. `leave` must follow."""
        if self._logins[host] >= LOGINS_OF_HOST or self._logins.total() >= LOGINS_LIMIT:
            return False
        self._logins[host] += 1
        return True

    def leave(self, host: str) -> None:
        """End a counted login."""
        self._logins[host] -= 1
        if not self._logins[host]:
            del self._logins[host]

    async def derive(self, derivation: Callable[[], _T]) -> _T:
        """Run a derivation on a thread, while holding `free`. Raises WorkerThreadsError if none can be started."""
        return await self._threads.do(derivation)
