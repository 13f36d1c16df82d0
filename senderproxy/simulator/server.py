"""The simulator itself: two listeners on loopback, a throw-away authority, and everything that was seen.

    async with Simulator(SimulatorSettings(mailboxes={...})) as simulator:
        ...                              # port_tls, port_starttls; clients trust ca_file
        await simulator.wait_for(1)
        assert simulator.received[0].login == "anna@firma.example"

Guarantees: free ports; on leaving, every connection is cut, every task has ended, the files are gone, and a breach of
the wire's rules or a fault of the simulator's own is raised (unless something else already is).
Not here: the session (simulator.dialogue), what was seen (simulator.ledger).
"""

import asyncio
import ssl
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from senderproxy.clock import SystemClock
from senderproxy.errors import SenderproxyError
from senderproxy.simulator.certificates import Authority
from senderproxy.simulator.dialogue import ServerSession
from senderproxy.simulator.ledger import (
    Ledger,
    ReceivedMessage,
    RecordedLogin,
    RefusedMessage,
    SessionRecord,
    Violation,
)
from senderproxy.simulator.script import Script
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from senderproxy.simulator.wire import Wire

LOOPBACK: Final = "127.0.0.1"


class SimulatorError(SenderproxyError):
    """The simulator broke, or waited in vain."""


class WireViolated(SimulatorError):
    """A client put something on the wire that no client may; all of it is in the message."""


class Simulator:
    """One provider's submission server."""

    def __init__(
        self, settings: SimulatorSettings, script: Script | None = None, *, authority: Authority | None = None
    ) -> None:
        self.settings = settings
        self.script = script or Script()
        self._ledger = Ledger(self._ring)
        self._clock = SystemClock()
        self.authority = authority or Authority.create(self._clock.now())
        self._bell = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._ports: list[int] = [0, 0]
        self._sessions: dict[asyncio.Task[None], Wire] = {}
        self._faults: list[BaseException] = []
        self._contexts: dict[tuple[CertificateKind, bool, str], ssl.SSLContext] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    # Opening and closing

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="senderproxy-simulator-")
        self.ca_file.write_bytes(self.authority.pem)
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_down()
        if self._directory is not None:
            self._directory.cleanup()
        if fault is None:
            self.raise_what_went_wrong()

    def raise_what_went_wrong(self) -> None:
        """Raise for faults of the simulator's own, and for breaches of the wire's rules where the settings are
        strict.
        """
        if self._faults:
            raise SimulatorError("the simulator itself broke") from self._faults[0]
        if self.settings.wire_strict and self.wire_violations:
            raise WireViolated("; ".join(map(str, self.wire_violations)))

    async def come_back(self) -> None:
        """Listen, on the same ports as before."""
        loop = asyncio.get_running_loop()
        for place, implicit_tls in enumerate((True, False)):
            server = await loop.create_server(self._factory(implicit_tls=implicit_tls), LOOPBACK, self._ports[place])
            self._ports[place] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def go_down(self) -> None:
        """Stop listening and cut every connection: the provider is unreachable."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self.drop_sessions()

    async def drop_sessions(self) -> None:
        """Cut every connection there is now; new ones are welcome."""
        tasks = list(self._sessions)
        for task in tasks:
            self._sessions[task].abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports' own farewell, one turn later

    def _factory(self, *, implicit_tls: bool) -> Callable[[], Wire]:
        def begin(wire: Wire) -> None:
            task = asyncio.create_task(ServerSession(self, wire, implicit_tls=implicit_tls).run())
            self._sessions[task] = wire
            task.add_done_callback(self._session_over)

        return lambda: Wire(begin)

    def _session_over(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)
        self._ring()

    # Where it is, and how to trust it

    @property
    def host(self) -> str:
        return LOOPBACK

    @property
    def port_tls(self) -> int:
        """The port that speaks TLS from the first octet, as 465 does."""
        return self._ports[0]

    @property
    def port_starttls(self) -> int:
        """The port that begins in clear text, as 587 does."""
        return self._ports[1]

    @property
    def ca_file(self) -> Path:
        """The authority's certificate; whoever trusts it accepts the simulator's good certificate and no other."""
        return self._file("authority.pem")

    def client_context(self) -> ssl.SSLContext:
        """A client's TLS settings that trust the simulator's authority, and only it."""
        return ssl.create_default_context(cadata=self.authority.pem.decode("ascii"))

    def tls_context(self) -> ssl.SSLContext:
        """The server's TLS settings, with the certificate that the settings ask for at this moment."""
        asked = (self.settings.certificate, self.settings.only_old_tls, self.settings.host)
        if asked not in self._contexts:
            self._contexts[asked] = self._make_context(*asked)
        return self._contexts[asked]

    def _make_context(self, kind: CertificateKind, only_old_tls: bool, host: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if only_old_tls:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        pem = self._file(f"server-{len(self._contexts)}.pem")
        pem.touch(mode=0o600)
        pem.write_bytes(self.authority.issue(host, kind, self._clock.now()))
        context.load_cert_chain(pem)
        return context

    def _file(self, name: str) -> Path:
        if self._directory is None:
            raise SimulatorError("the simulator is not open")
        return Path(self._directory.name) / name

    # What was seen

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def received(self) -> list[ReceivedMessage]:
        return self._ledger.received

    @property
    def refused(self) -> list[RefusedMessage]:
        return self._ledger.refused

    @property
    def sessions(self) -> list[SessionRecord]:
        return self._ledger.sessions

    @property
    def connections(self) -> int:
        """How many were made so far."""
        return len(self._ledger.sessions)

    @property
    def open_connections(self) -> int:
        return len(self._sessions)

    @property
    def wire_violations(self) -> list[Violation]:
        return self._ledger.violations

    @property
    def clear_text_logins(self) -> list[str]:
        """The mechanisms of every AUTH that was not under TLS."""
        return self._ledger.clear_text_logins

    def logins(self, login: str | None = None) -> list[RecordedLogin]:
        """The logins tried, all or those of one mailbox."""
        return [attempt for attempt in self._ledger.logins if login in (None, attempt.login)]

    def failed_logins(self, login: str | None = None) -> int:
        """How many logins were refused, of all or of one mailbox."""
        return sum(1 for attempt in self.logins(login) if not attempt.accepted)

    # Waiting

    def _ring(self) -> None:
        self._bell.set()

    async def wait_until(
        self, holds: Callable[["Simulator"], bool], deadline: float | None = 10.0, what: str = ""
    ) -> None:
        """Wait until something is so; asked again whenever the simulator has seen something. No deadline: for ever."""
        try:
            async with asyncio.timeout(deadline):
                while not holds(self):
                    self._bell.clear()
                    await self._bell.wait()
        except TimeoutError:
            purpose = f" for {what}" if what else ""
            raise SimulatorError(f"waited {deadline} s in vain{purpose}: {self._story()}") from None

    async def wait_for(self, messages: int, deadline: float = 10.0) -> list[ReceivedMessage]:
        """Wait until so many messages have been taken in all."""
        await self.wait_until(lambda simulator: len(simulator.received) >= messages, deadline, f"{messages} messages")
        return self.received

    def _story(self) -> str:
        """What happened instead, for the person who reads the failing test."""
        lines = [f"{len(self.received)} received, {self.connections} connections"]
        lines += [
            f"session {session.number} ({session.ended or 'open'}): {', '.join(session.commands[-6:])}"
            f" -> {session.replies[-1] if session.replies else 'nothing said'}"
            for session in self.sessions[-5:]
        ]
        return "; ".join(lines)
