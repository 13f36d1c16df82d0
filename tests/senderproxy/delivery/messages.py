"""Messages, envelopes and credentials of the delivery tests, and sessions at a simulator."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from senderproxy.clock import SystemClock
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import Session, SessionTimeouts
from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.routing.account import Credential
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.simulator.faults import FaultStage
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings

ANNA = "anna@firma.example"
SECRET = "geheim-Anna-1"
BERT = "bert@firma.example"
BERTS_SECRET = "geheim-Bert-1"
MAILBOXES = {ANNA: SimulatedMailbox(SECRET), BERT: SimulatedMailbox(BERTS_SECRET)}
SETTINGS = SimulatorSettings(mailboxes=MAILBOXES)
HOSTNAME = "office.example"

# The usual ones: no reply of a server that answers is missed, however busy the machine.
PATIENT = SessionTimeouts()

# For a session whose result does not matter.
IMPATIENT = SessionTimeouts(
    connect=0.4, greeting=0.4, ehlo=0.4, auth=0.4, mail=0.4, rcpt=0.4, data=0.4, block=0.4, final_dot=0.4, quit=0.4,
    free_session=0.4,
)  # fmt: skip

_WAIT = {
    FaultStage.HANDSHAKE: "connect",
    FaultStage.BANNER: "greeting",
    FaultStage.STARTTLS: "connect",
    FaultStage.BODY: "block",
    FaultStage.DOT: "final_dot",
}


def impatient_at(stage: FaultStage) -> SessionTimeouts:
    """Timeouts for an upstream that is silent at this stage: it answers at all others, as late as a busy machine lets it."""
    return replace(PATIENT, **{_WAIT.get(stage, stage.value): 0.4})


@dataclass(frozen=True, slots=True)
class Blocks:
    """A body in memory."""

    parts: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))

    @property
    def is_ascii(self) -> bool:
        return all(part.isascii() for part in self.parts)

    @property
    def has_long_lines(self) -> bool:
        return False

    @property
    def disk(self) -> None:
        return None

    def blocks(self) -> Iterator[bytes]:
        yield from self.parts

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


HEADER = (
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nFrom: Anna <anna@firma.example>\r\nTo: carl@elsewhere.example\r\n"
    b"Subject: Angebot\r\nMessage-ID: <1@firma.example>\r\n\r\n"
)


def make_message(*body: bytes, header: bytes = HEADER) -> Message:
    """A message; the body as stuffed blocks."""
    return Message(HeaderSection(header), Blocks(body or (b"Guten Tag,\r\nhier ist es.\r\n",)))


def to(*recipients: str, sender: str = ANNA) -> Envelope:
    """An envelope from Anna."""
    paths = recipients or ("carl@elsewhere.example",)
    return Envelope(parse_address(sender), tuple(parse_address(path) for path in paths))


def credential(login: str = ANNA, secret: str = SECRET, version: str = "v1") -> Credential:
    return Credential(login, secret, version)


def smarthost_of(simulator: Simulator, security: Security = Security.IMPLICIT_TLS) -> Smarthost:
    port = simulator.port_tls if security is Security.IMPLICIT_TLS else simulator.port_starttls
    return Smarthost(simulator.host, port, security, None if security is Security.NONE else str(simulator.ca_file))


async def open_at(
    smarthost: Smarthost,
    *,
    timeouts: SessionTimeouts = PATIENT,
    with_credential: Credential | None = None,
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN"),
) -> Session | OpenFailed:
    return await SessionOpener(timeouts, HOSTNAME, Resolver(SystemClock())).open(
        smarthost, mechanisms, with_credential or credential()
    )


@asynccontextmanager
async def session_at(
    simulator: Simulator, security: Security = Security.IMPLICIT_TLS, timeouts: SessionTimeouts = PATIENT
) -> AsyncIterator[Session]:
    """A session that is logged in as Anna; gone at the end."""
    session = await open_at(smarthost_of(simulator, security), timeouts=timeouts)
    assert isinstance(session, Session), session
    try:
        yield session
    finally:
        session.abort()
        await session.wait_closed()
