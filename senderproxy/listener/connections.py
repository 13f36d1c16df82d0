"""Shared state of one listener's connections: admission, limits, transactions in progress.

Guarantees: no more clients than the limits allow; a client over a limit gets a reply that says so, unless too many are
rejected at the same time.
Not here: the sockets (listener.server), the conversation (listener.relay_smtp), the limits by themselves
(listener.connection_table, listener.rates).
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.config.model import ListenerSettings
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.listener.client_auth import Admission, ClientAuth, is_loopback
from senderproxy.listener.connection_table import ConnectionLimits, ConnectionTable, Evictable
from senderproxy.listener.event_limiter import EventLimiter
from senderproxy.listener.rates import ClientRates, RateLimits
from senderproxy.listener.turned_away import TurnedAway
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.data_decoder import BareLf
from senderproxy.wire.dialogue import Dialogue, SessionOffer

LEAVING_LIMIT: Final = 100  # rejected and evicted connections at once that get a last reply; more are dropped
_RESERVED_SHARE: Final = 10  # the part of all connections reserved where the configuration says no number: a tenth
_BLOCK_TIMEOUT: Final = 180.0  # seconds, RFC 5321 section 4.5.3.2.5


@dataclass(frozen=True, slots=True)
class ListenerTimeouts:
    """Limits on the time a client may take."""

    idle: float  # seconds for one command, from the last reply to its line end; RFC 5321 section 4.5.3.2.7: 300 or more
    before_mail: float  # seconds for one command until the first MAIL is accepted; not longer than `idle`
    block: float  # seconds without an octet of a message's data; RFC 5321 section 4.5.3.2.5: 180
    min_rate: float = 4096.0  # octets a second, average after `idle` seconds: bounds the time of a whole message
    handshake: float = 30.0  # seconds for the TLS handshake: some round trips, and a slow device's computing time
    false_end: float = 5.0  # seconds of silence after LF.LF, with which a device believes that its message has ended
    linger: float = 1.0  # seconds for the client to read a last reply before the connection is closed: a round trip

    @classmethod
    def of(cls, settings: ListenerSettings) -> "ListenerTimeouts":
        """The limits in a listener's settings."""
        idle = settings.idle_seconds
        return cls(
            idle=idle,
            before_mail=min(idle, settings.idle_before_mail_seconds),
            block=min(idle, _BLOCK_TIMEOUT),
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection. `is_check`: a proxy that names no client; `host` is the proxy's address then."""

    host: str
    is_check: bool = False


CONNECTED: Final = Peer("")  # the end that the socket names


class Transaction(Protocol):
    """A complete message until its reply is known."""

    def cancel(self) -> object:
        """Interrupt it, if its upstream certainly does not have it."""
        ...


class ListenerPhase(Enum):
    """The treatment of new connections."""

    SERVING = auto()
    DRAINING = auto()  # a proxy's health checks are refused, clients are served
    CLOSING = auto()  # all are refused


class Connection(Evictable, Protocol):
    """One connection, as the listener closes it."""

    def finish(self, reply: Reply) -> None:
        """Send this reply and close after the message in progress; at once where there is none."""
        ...

    def evict(self) -> None:
        """Reply 421 and close at once."""
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
    evicted: int = 0
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


class NoMail:
    """An implementation of wire.dialogue.MessageQuota for connections that are there to look, not to send."""

    def message(self) -> Reply | None:
        """The refusal of each message."""
        return replies.NO_CLIENT_ADDRESS

    def recipient(self) -> Reply | None:
        """The refusal of each recipient."""
        return replies.NO_CLIENT_ADDRESS


_NO_MAIL: Final = NoMail()


class ClientQuota:
    """An implementation of wire.dialogue.MessageQuota: the rates of one client, with a log event at each limit."""

    __slots__ = ("_client", "_clock", "_count", "_events", "_rates")

    def __init__(
        self,
        client: str,
        rates: ClientRates,
        events: EventLimiter,
        clock: Clock,
        count_turned_away: Callable[[str, TurnedAway, str], None],
    ) -> None:
        self._client = client
        self._rates = rates
        self._events = events
        self._clock = clock
        self._count = count_turned_away

    def connection(self) -> Reply | None:
        """Count a connection; the reply where the client opens too many."""
        if self._rates.connection(self._client, self._clock.monotonic()):
            return None
        limit = self._rates.limits.connections
        self._events.log(log_events.CLIENT_CONNECTION_RATE, client=self._client, limit=limit)
        return replies.connection_rate(self._client, limit)

    def message(self) -> Reply | None:
        """Count a message; the reply where the client sends too many."""
        if self._rates.message(self._client, self._clock.monotonic()):
            return None
        limit = self._rates.limits.messages
        self._events.log(log_events.CLIENT_MESSAGE_RATE, client=self._client, limit=limit)
        return self._refuse(replies.message_rate(self._client, limit))

    def recipient(self) -> Reply | None:
        """Count a recipient; the reply where the client names too many."""
        if self._rates.recipient(self._client, self._clock.monotonic()):
            return None
        limit = self._rates.limits.recipients
        self._events.log(log_events.CLIENT_RECIPIENT_RATE, client=self._client, limit=limit)
        return self._refuse(replies.recipient_rate(self._client, limit))

    def _refuse(self, answer: Reply) -> Reply:
        self._count(self._client, TurnedAway.MESSAGE_RATE, str(answer))
        return answer


class ListenerState:
    """Shared state of one listener's connections."""

    # 15 attributes: what the conversations of all connections share, each with its own module.

    def __init__(
        self,
        settings: ListenerSettings,
        hostname: str,
        auth: ClientAuth,
        clock: Clock,
        timeouts: ListenerTimeouts,
        spill: SpillDirectory,
    ) -> None:
        self.settings = settings
        self.hostname = hostname
        self.auth = auth
        self.clock = clock
        self.timeouts = timeouts
        self.spill = spill
        self.tls: ssl.SSLContext | None = None
        self.phase = ListenerPhase.SERVING
        self.counters = Counters()
        self.events = EventLimiter()
        self.table: ConnectionTable[Connection] = ConnectionTable(connection_limits(settings, auth), self._evict)
        self.transactions: set[Transaction] = set()
        self._rates = ClientRates(
            RateLimits(
                settings.max_connections_per_minute,
                settings.max_messages_per_minute,
                settings.max_recipients_per_minute,
            )
        )
        self._leaving: set[Connection] = set()  # rejected or evicted, with their last reply
        self._idle: asyncio.Event | None = None  # of the last connection and transaction; None: no one waits

    def register(self, connection: Connection, host: str, *, is_check: bool = False) -> Admission | Reply | None:
        """Admit a client, or give the reply that rejects it; None: drop it, too many are being rejected already."""
        if is_check:
            return self._register_check(connection, host)
        result = self._admit(connection, host)
        if isinstance(result, Admission):
            self.counters.connections += 1
            return result
        reason, refusal = result
        self.counters.turned_away += 1
        self.auth.count_turned_away(host, reason, str(refusal))
        return self._leave(connection, refusal)

    def _register_check(self, connection: Connection, proxy: str) -> Admission | Reply | None:
        """Admit a connection without a client's address, as a proxy's health check is; it may not send mail.

        It is not counted: neither as a client nor as one that is turned away.
        """
        if self.phase is not ListenerPhase.SERVING:
            closing = self.phase is ListenerPhase.CLOSING
            return self._leave(connection, (replies.stopping if closing else replies.draining)(self.hostname))
        admission = Admission(login_required=False, senders=(), client=proxy, known=True, is_check=True)
        refusal = self.table.add(connection, admission)
        return admission if refusal is None else self._leave(connection, refusal)

    def unregister(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.table.remove(connection)
        self._leaving.discard(connection)
        self._check_idle()

    def quota(self, admission: Admission) -> ClientQuota | NoMail | None:
        """The limits on the rates of a client; None for a known one, which has none."""
        if admission.is_check:
            return _NO_MAIL
        return self._rates_of(admission)

    def _rates_of(self, admission: Admission) -> ClientQuota | None:
        if admission.known:
            return None
        return ClientQuota(admission.client, self._rates, self.events, self.clock, self.auth.count_turned_away)

    def offer(self, host: str, admission: Admission) -> SessionOffer:
        """The extensions and limits for a client."""
        return SessionOffer(
            hostname=self.hostname,
            size_limit=self.settings.max_message_size,
            recipient_limit=self.settings.max_recipients,
            header_limit=self.settings.max_header_size,
            field_limit=self.settings.max_header_fields,
            starttls=self.tls is not None and self.settings.tls == "starttls",
            auth=self.auth.offers_login and not admission.is_check,
            auth_in_clear=is_loopback(host),
            login_required=admission.login_required,
            bare_lf=BareLf(self.settings.bare_lf),
            forced_sender=self.settings.sender,
            lenient=self.settings.lenient,
        )

    def new_body(self) -> BodyBuffer:
        """An empty buffer for the next message's body."""
        return BodyBuffer(self.settings.spill_bytes, self.spill)

    def add_transaction(self, transaction: "asyncio.Task[Reply]") -> None:
        """Count a message that is with the intake until it is done, also where its client leaves."""
        self.transactions.add(transaction)
        transaction.add_done_callback(self.end_transaction)

    def message_answered(self, connection: Connection, dialogue: Dialogue, reply: Reply) -> None:
        """Note the reply to a message of a connected client."""
        self.counters.count(reply)
        self.table.transaction_ended(connection)
        dialogue.message_finished()

    async def wait_idle(self, seconds: float | None) -> bool:
        """Wait until no connection and no transaction is left; False where that takes more than so many seconds.

        None: wait without a limit.
        """
        idle = self._idle = asyncio.Event()
        self._check_idle()
        try:
            async with asyncio.timeout(seconds):
                await idle.wait()
        except TimeoutError:
            return False
        return True

    def all_connections(self) -> list[Connection]:
        """All connections, those included that are being rejected."""
        return [*self.table.all(), *self._leaving]

    def _admit(self, connection: Connection, host: str) -> Admission | tuple[TurnedAway, Reply]:
        if self.phase is ListenerPhase.CLOSING:
            return TurnedAway.STOPPING, replies.stopping(self.hostname)
        admission = self.auth.admit(host)
        if isinstance(admission, Reply):
            return TurnedAway.NOT_ALLOWED, admission
        quota = self._rates_of(admission)
        if quota is not None and (refusal := quota.connection()) is not None:
            return TurnedAway.CONNECTION_RATE, refusal
        if (refusal := self.table.add(connection, admission)) is not None:
            return TurnedAway.TOO_MANY_CONNECTIONS, refusal
        return admission

    def _leave(self, connection: Connection, reply: Reply) -> Reply | None:
        """The reply for a connection that is rejected; None where too many are leaving already."""
        if len(self._leaving) >= LEAVING_LIMIT:
            return None
        self._leaving.add(connection)
        return reply

    def _evict(self, connection: Connection, admission: Admission) -> None:
        """Disconnect a client that made room, with a reply unless too many connections are leaving already."""
        if admission.is_check:
            connection.abort()
            return
        self.counters.evicted += 1
        self.events.log(log_events.CLIENT_EVICTED, client=admission.client)
        self.auth.count_turned_away(admission.client, TurnedAway.EVICTED, log_events.CLIENT_EVICTED.sentence)
        if len(self._leaving) < LEAVING_LIMIT:
            self._leaving.add(connection)
            connection.evict()
        else:
            connection.abort()

    def end_transaction(self, transaction: Transaction) -> None:
        """Forget a message whose reply is known."""
        self.transactions.discard(transaction)
        if self._idle is not None:
            self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not len(self.table) and not self._leaving and not self.transactions:
            self._idle.set()


def connection_limits(settings: ListenerSettings, auth: ClientAuth) -> ConnectionLimits:
    """The limits in a listener's settings. Without [[clients]] no connections are reserved."""
    reserved = settings.reserved_connections
    if reserved is None:
        reserved = settings.max_connections // _RESERVED_SHARE
    return ConnectionLimits(
        settings.max_connections, settings.max_connections_per_client, reserved if auth.names_clients else 0
    )
