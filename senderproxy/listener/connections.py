"""Connection registry and limits of one listener.

Guarantees: no more clients than the limits allow; a client over a limit gets a reply that says so, unless too many are
rejected at the same time.
Not here: the sockets (listener.server), the conversation (listener.relay_smtp).
"""

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from senderproxy.clock import Clock
from senderproxy.config.model import ListenerSettings
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.listener.client_auth import Admission, ClientAuth, is_loopback
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.data import BareLf
from senderproxy.wire.dialogue import SessionOffer

_REJECTED_LIMIT: Final = 100  # connections at once that wait for a rejecting reply; beyond that they are dropped
_BLOCK_TIMEOUT: Final = 180.0  # seconds, RFC 5321 section 4.5.3.2.5


@dataclass(frozen=True, slots=True)
class ListenerTimeouts:
    """Limits on the time a client may take."""

    idle: float  # seconds for one command, from the last reply to its line end; RFC 5321 section 4.5.3.2.7: 300 or more
    block: float  # seconds without an octet of a message's data; RFC 5321 section 4.5.3.2.5: 180
    min_rate: float = 4096.0  # octets a second, average after `idle` seconds: bounds the time of a whole message
    handshake: float = 30.0  # seconds for the TLS handshake: some round trips, and a slow device's computing time
    linger: float = 1.0  # seconds for the client to read a last reply before the connection is closed: a round trip

    @classmethod
    def of(cls, settings: ListenerSettings) -> "ListenerTimeouts":
        """The limits in a listener's settings."""
        return cls(idle=settings.idle_seconds, block=min(settings.idle_seconds, _BLOCK_TIMEOUT))


class Connection(Protocol):
    """One connection, as the listener closes it."""

    def finish(self) -> None:
        """Close after the message in progress; at once where there is none."""
        ...

    def interrupt(self) -> None:
        """Cancel the message in progress, reply 421 and close."""
        ...

    def force_close(self) -> None:
        """Send 421 and close, whatever is in progress."""
        ...

    def abort(self) -> None:
        """Drop the connection."""
        ...


@dataclass(slots=True)
class Counters:
    """Connections and messages since the start, as `status` shows them under these names."""

    connections: int = 0
    turned_away: int = 0
    accepted: int = 0
    deferred: int = 0
    refused: int = 0
    faults: int = 0

    def count(self, reply: Reply) -> None:
        """Count a message by its reply."""
        if reply.is_positive:
            self.accepted += 1
        elif reply.is_transient:
            self.deferred += 1
        else:
            self.refused += 1


@dataclass(slots=True, eq=False)
class ListenerState:
    """Shared state of one listener's connections."""

    settings: ListenerSettings
    hostname: str
    auth: ClientAuth
    clock: Clock
    timeouts: ListenerTimeouts
    spill: SpillDirectory
    tls: ssl.SSLContext | None = None
    closing: bool = False
    counters: Counters = field(default_factory=Counters)
    transactions: set["asyncio.Task[Reply]"] = field(default_factory=set)
    connections: dict[Connection, str] = field(default_factory=dict)  # with the host of each
    _of_host: Counter[str] = field(default_factory=Counter)
    _rejected: set[Connection] = field(default_factory=set)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def register(self, connection: Connection, host: str) -> Admission | Reply | None:
        """Admit a client, or give the reply that rejects it; None: drop it, too many are being rejected already."""
        result = self._admit(host)
        if isinstance(result, Admission):
            self.connections[connection] = host
            self._of_host[host] += 1
            self.counters.connections += 1
            return result
        self.counters.turned_away += 1
        if len(self._rejected) >= _REJECTED_LIMIT:
            return None
        self._rejected.add(connection)
        return result

    def unregister(self, connection: Connection) -> None:
        """Forget a closed connection."""
        host = self.connections.pop(connection, None)
        if host is not None:
            self._of_host[host] -= 1
            if self._of_host[host] <= 0:
                del self._of_host[host]
        self._rejected.discard(connection)
        self._check_idle()

    def offer(self, host: str, admission: Admission) -> SessionOffer:
        """The extensions and limits for a client."""
        return SessionOffer(
            hostname=self.hostname,
            size_limit=self.settings.max_message_size,
            recipient_limit=self.settings.max_recipients,
            starttls=self.tls is not None and self.settings.tls == "starttls",
            auth=self.auth.offers_login,
            auth_in_clear=is_loopback(host),
            login_required=admission.login_required,
            bare_lf=BareLf(self.settings.bare_lf),
            forced_sender=self.settings.sender,
            lenient=self.settings.lenient,
        )

    def new_body(self) -> BodyBuffer:
        """An empty buffer for the next message's body."""
        return BodyBuffer(self.settings.spill_bytes, self.spill.open)

    def add_transaction(self, transaction: "asyncio.Task[Reply]") -> None:
        """Count a message that is with the intake until it is done, also where its client leaves."""
        self.transactions.add(transaction)
        transaction.add_done_callback(self._end_transaction)

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no connection and no transaction is left; False where that takes more than so many seconds."""
        self._idle.clear()
        self._check_idle()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def all_connections(self) -> list[Connection]:
        """All connections, those included that are being rejected."""
        return [*self.connections, *self._rejected]

    def _admit(self, host: str) -> Admission | Reply:
        if self.closing:
            return replies.stopping(self.hostname)
        admission = self.auth.admit(host)
        if isinstance(admission, Reply):
            return admission
        if len(self.connections) >= self.settings.max_connections:
            return replies.TOO_MANY_CONNECTIONS
        if self._of_host[host] >= self.settings.max_connections_per_client:
            return replies.too_many_connections_from(host)
        return admission

    def _end_transaction(self, transaction: "asyncio.Task[Reply]") -> None:
        self.transactions.discard(transaction)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self.connections and not self._rejected and not self.transactions:
            self._idle.set()
