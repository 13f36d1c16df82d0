"""A message as submitted by a client. PURE."""

from dataclasses import dataclass
from datetime import datetime

from senderproxy.mail.address import Address, AddressPattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.value_class import value_class


@dataclass(frozen=True, slots=True)
class Client:
    """One connected client and its permissions. `senders` None: any sender that has an account."""

    host: str  # IP address
    name: str  # the argument of HELO or EHLO, as received
    protocol: str  # SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA (RFC 3848)
    user: str | None = None  # the login name, None without a login
    senders: tuple[AddressPattern, ...] | None = None
    forced_sender: Address | None = None  # the sender that its listener forces on all messages
    lenient: bool = False  # its listener accepts and repairs invalid messages of devices

    def may_use(self, address: Address) -> bool:
        """True if this client may send as the address."""
        return self.senders is None or any(pattern.matches(address) for pattern in self.senders)

    def __str__(self) -> str:
        return f"{self.user} at {self.host}" if self.user else self.host


@value_class
class Submission:
    """One complete transaction as received by the listener, or a report of our own (`report_on`)."""

    id: str
    listener: str
    client: Client
    envelope: Envelope
    message: Message
    received_at: datetime  # aware, UTC; time of the last octet
    report_on: str | None = None  # the id of the message that this report is about; no report is sent about a report
    carrier: str | None = None  # the id of the account that must send it; None: routing decides

    def with_message(self, message: Message) -> "Submission":
        """A copy with this message."""
        return Submission(
            self.id, self.listener, self.client, self.envelope, message, self.received_at, self.report_on, self.carrier
        )
