"""A message handed to us, and who handed it."""

from dataclasses import dataclass
from datetime import datetime

from senderproxy.mail.address import Address, AddressPattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message


@dataclass(frozen=True, slots=True)
class Client:
    """One connected client and what it may do. `senders` None: any sender that has an account."""

    host: str  # IP address
    name: str  # the argument of HELO or EHLO, as it came
    protocol: str  # SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA (RFC 3848)
    user: str | None = None  # who logged in, if anybody
    senders: tuple[AddressPattern, ...] | None = None
    forced_sender: Address | None = None  # what its listener sends everything as, whatever the client says
    lenient: bool = False  # its listener takes what devices send, and has it mended

    def may_use(self, address: Address) -> bool:
        """True where this client may send as the address."""
        return self.senders is None or any(pattern.matches(address) for pattern in self.senders)

    def __str__(self) -> str:
        return f"{self.user} at {self.host}" if self.user else self.host


@dataclass(frozen=True, slots=True)
class Submission:
    """One complete transaction as the listener received it; or a report of our own (`report_on`)."""

    id: str
    listener: str
    client: Client
    envelope: Envelope
    message: Message
    received_at: datetime  # aware, UTC; when its last octet had come
    report_on: str | None = None  # this tells what became of the message with that id; no report is made on it
    carrier: str | None = None  # the id of the account that carries it whoever wrote it; None: routing decides
