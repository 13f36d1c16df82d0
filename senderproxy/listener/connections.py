"""What all connections of one listener share: who is in, how many may be, and what each of them is offered.

Guarantees: no more clients than the limits say; a client over a limit is told so.
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

_TURNED_AWAY_LIMIT: Final = 100  # clients at once that are being told that they are not let in


@dataclass(frozen=True, slots=True)
class ListenerTimeouts:
    """How long a client may take, in seconds."""

    idle: float  # for one command, from the last reply to its line end (RFC 5321 section 4.5.3.2.7: at least 5 minutes)
    block: float  # without an octet of its message (RFC 5321 section 4.5.3.2.5: 3 minutes)
    slowest: float = 4096.0  # octets a second, on the average, after `idle` seconds of grace: caps the whole message
    handshake: float = 30.0
    linger: float = 1.0  # for the client to read a last reply before the connection is closed

    @classmethod
    def of(cls, settings: ListenerSettings) -> "ListenerTimeouts":
        """What the configuration grants."""
        return cls(idle=settings.idle_seconds, block=min(settings.idle_seconds, 180.0))


class Connection(Protocol):
    """One connection, as the house sees it."""

    def wind_down(self) -> None:
        """Finish the message under way, then say goodbye; at once where there is none."""
        ...

    def cut_off(self) -> None:
        """Say goodbye now."""
        ...

    def dismiss(self) -> None:
        """Say goodbye and close, whatever is under way."""
        ...

    def abort(self) -> None:
        """Drop the connection."""
        ...


@dataclass(slots=True)
class Counters:
    """What `status` shows."""

    connections: int = 0
    turned_away: int = 0
    accepted: int = 0
    deferred: int = 0
    refused: int = 0
    faults: int = 0

    def count(self, answer: Reply) -> None:
        """Note how a message was answered."""
        if answer.is_positive:
            self.accepted += 1
        elif answer.is_transient:
            self.deferred += 1
        else:
            self.refused += 1


@dataclass(slots=True, eq=False)
class ListenerState:
    """One listener's shared state."""

    settings: ListenerSettings
    hostname: str
    auth: ClientAuth
    clock: Clock
    patience: ListenerTimeouts
    spill: SpillDirectory
    tls: ssl.SSLContext | None = None
    closing: bool = False
    counters: Counters = field(default_factory=Counters)
    transactions: set["asyncio.Task[Reply]"] = field(default_factory=set)
    guests: dict[Connection, str] = field(default_factory=dict)
    _of_host: Counter[str] = field(default_factory=Counter)
    _turned_away: set[Connection] = field(default_factory=set)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, guest: Connection, host: str) -> Admission | Reply | None:
        """Let a client in, or say why not; None: there are too many even to say so."""
        verdict = self._judge(host)
        if isinstance(verdict, Admission):
            self.guests[guest] = host
            self._of_host[host] += 1
            self.counters.connections += 1
            return verdict
        self.counters.turned_away += 1
        if len(self._turned_away) >= _TURNED_AWAY_LIMIT:
            return None
        self._turned_away.add(guest)
        return verdict

    def leave(self, guest: Connection) -> None:
        """The connection is gone."""
        host = self.guests.pop(guest, None)
        if host is not None:
            self._of_host[host] -= 1
            if self._of_host[host] <= 0:
                del self._of_host[host]
        self._turned_away.discard(guest)
        self._look_around()

    def terms(self, host: str, admission: Admission) -> SessionOffer:
        """What a client is offered."""
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
        """An empty body for the next message."""
        return BodyBuffer(self.settings.spill_bytes, self.spill.open)

    def begin(self, transaction: "asyncio.Task[Reply]") -> None:
        """A message is on its way to the upstream; it is waited for although its client may leave."""
        self.transactions.add(transaction)
        transaction.add_done_callback(self._end)

    async def quiet(self, seconds: float) -> bool:
        """Wait until everybody has left and nothing is under way; False where that takes too long."""
        self._quiet.clear()
        self._look_around()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def everybody(self) -> list[Connection]:
        """All connections, those included that are just being turned away."""
        return [*self.guests, *self._turned_away]

    def _judge(self, host: str) -> Admission | Reply:
        if self.closing:
            return replies.stopping(self.hostname)
        admission = self.auth.admit(host)
        if isinstance(admission, Reply):
            return admission
        if len(self.guests) >= self.settings.max_connections:
            return replies.too_many_connections(of_one_client=False)
        if self._of_host[host] >= self.settings.max_connections_per_client:
            return replies.too_many_connections(of_one_client=True)
        return admission

    def _end(self, transaction: "asyncio.Task[Reply]") -> None:
        self.transactions.discard(transaction)
        self._look_around()

    def _look_around(self) -> None:
        if not self.guests and not self._turned_away and not self.transactions:
            self._quiet.set()
