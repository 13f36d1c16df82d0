"""State of one session that its commands share.

Not here: the commands (simulator.session, simulator.mail_commands), what is sent (simulator.scripted_replies).
"""

import asyncio
import ssl
from typing import Protocol

from senderproxy.simulator.byte_stream import ByteStream
from senderproxy.simulator.faults import FaultPoint, FaultScript, FaultStage
from senderproxy.simulator.observations import Observations, SessionRecord, Violation
from senderproxy.simulator.provider_replies import ProviderReplies, ServerReply
from senderproxy.simulator.rules import PathCommand, SimulatedMailbox
from senderproxy.simulator.settings import SimulatorSettings


class SimulatorView(Protocol):
    """The simulator as a session sees it. Settings and script may change at any time."""

    settings: SimulatorSettings
    script: FaultScript

    @property
    def observations(self) -> Observations: ...

    def tls_context(self) -> ssl.SSLContext: ...


class ServerTransaction:
    """One transaction, from MAIL to the final dot."""

    def __init__(self, reverse: PathCommand) -> None:
        self.reverse = reverse
        self.recipients: list[str] = []


class SessionState:
    """State of one session."""

    def __init__(self, simulator: SimulatorView, stream: ByteStream, *, implicit_tls: bool) -> None:
        self.simulator = simulator
        self.now = asyncio.get_running_loop().time
        self.record: SessionRecord = simulator.observations.open_session(implicit_tls=implicit_tls, at=self.now())
        self.under_tls = False
        self.greeted = False  # EHLO or HELO was accepted since the start, or since STARTTLS
        self.login: str | None = None
        self.transaction: ServerTransaction | None = None
        self.transaction_number = 0  # 0 before the first MAIL
        self.command = "banner"  # the command in progress, for violations
        self._stream = stream

    @property
    def settings(self) -> SimulatorSettings:
        return self.simulator.settings

    @property
    def replies(self) -> ProviderReplies:
        return self.simulator.settings.replies

    @property
    def observations(self) -> Observations:
        return self.simulator.observations

    @property
    def mailbox(self) -> SimulatedMailbox | None:
        return self.settings.mailboxes.get(self.login) if self.login is not None else None

    def fill(self, template: ServerReply, **values: str) -> ServerReply:
        """Fill the placeholders of a provider's reply."""
        known = {"host": self.settings.host, "peer": self._stream.peer, "login": self.login or ""}
        known |= {"ehlo": self.record.ehlo_names[-1] if self.record.ehlo_names else ""}
        known |= {"path": "", "recipient": "", "id": ""}
        return template.fill(**(known | values))

    def report_violation(self, description: str) -> None:
        """Record a violation of the protocol by the client."""
        self.observations.violations.append(Violation(self.record.number, self.command, description))
        self.observations.notify()

    def fault_point(self, stage: FaultStage, octets: int = 0) -> FaultPoint:
        return FaultPoint(stage, self.record.number, self.transaction_number, self.login, octets)

    def extensions(self) -> tuple[str, ...]:
        """The extensions offered now, in alphabetical order as the platform lists them."""
        settings = self.settings
        offered = list(settings.further_extensions)
        if settings.eight_bit_mime:
            offered.append("8BITMIME")
        if settings.mechanisms and (self.under_tls or settings.auth_before_tls):
            offered.append(f"AUTH {' '.join(settings.mechanisms)}")
        if settings.pipelining:
            offered.append("PIPELINING")
        if settings.size_limit is not None:
            offered.append(f"SIZE {settings.size_limit}")
        if settings.starttls_offered and not self.under_tls:
            offered.append("STARTTLS")
        return tuple(sorted(offered))
