"""The simulator: two listeners on loopback, a temporary certificate authority, and everything it observed.

    async with Simulator(SimulatorSettings(mailboxes={...})) as simulator:
        ...                              # port_tls, port_starttls; clients trust ca_file
        await simulator.wait_for(1)
        assert simulator.received[0].login == "anna@firma.example"

Guarantees: free ports. On exit every connection is closed, every task has ended and the files are removed; a protocol
violation or an internal error is raised (unless another exception already is).

Not here: the session (simulator.session), the record (simulator.observations).
"""

import asyncio
import socket
import ssl
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from senderproxy.clock import SystemClock
from senderproxy.errors import SenderproxyError
from senderproxy.simulator.byte_stream import ByteStream
from senderproxy.simulator.certificates import Authority
from senderproxy.simulator.faults import FaultScript
from senderproxy.simulator.observations import (
    Observations,
    ReceivedMessage,
    RecordedLogin,
    RefusedMessage,
    SessionRecord,
    Violation,
)
from senderproxy.simulator.session import ServerSession
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings

LOOPBACK: Final = "127.0.0.1"


class SimulatorError(SenderproxyError):
    """Internal error of the simulator, or a timeout while waiting for something."""


class ProtocolViolated(SimulatorError):
    """A client violated the protocol. The message lists all violations."""


class Simulator:
    """Submission server of one provider."""

    def __init__(
        self,
        settings: SimulatorSettings,
        script: FaultScript | None = None,
        *,
        authority: Authority | None = None,
        address: str = LOOPBACK,
    ) -> None:
        self.settings = settings
        self.script = script or FaultScript()
        self._observations = Observations(self._notify)
        self._clock = SystemClock()
        self._address = address
        self.authority = authority or Authority.create(self._clock.now())
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._ports: list[int] = [0, 0]
        self._held: list[socket.socket] = []  # bound to the ports while it does not listen
        self._sessions: dict[asyncio.Task[None], ByteStream] = {}
        self._faults: list[BaseException] = []
        self._contexts: dict[tuple[CertificateKind, bool, str, str | None], ssl.SSLContext] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    # ---- start and stop ----

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="senderproxy-simulator-")
        self.ca_file.write_bytes(self.authority.pem)
        await self.go_online()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_offline()
        self._release_ports()
        if self._directory is not None:
            self._directory.cleanup()
        if fault is None:
            self.raise_failures()

    def raise_failures(self) -> None:
        """Raise internal errors and, if the settings say so, protocol violations."""
        if self._faults:
            raise SimulatorError("internal error of the simulator") from self._faults[0]
        if self.settings.raise_violations and self.violations:
            raise ProtocolViolated("; ".join(map(str, self.violations)))

    async def go_online(self) -> None:
        """Listen on the same ports as before."""
        loop = asyncio.get_running_loop()
        for place, implicit_tls in enumerate((True, False)):
            server = await loop.create_server(
                self._factory(implicit_tls=implicit_tls), self._address, self._ports[place]
            )
            self._ports[place] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        self._release_ports()

    def _release_ports(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()

    async def go_offline(self) -> None:
        """Stop listening and close every connection: the provider is unreachable. Its ports stay its own."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._release_ports()
        self._held = [_held_port(self._address, port) for port in self._ports]
        await self.drop_sessions()

    async def drop_sessions(self) -> None:
        """Close all current connections. New ones are accepted."""
        tasks = list(self._sessions)
        for task in tasks:
            self._sessions[task].abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next loop iteration

    def _factory(self, *, implicit_tls: bool) -> Callable[[], ByteStream]:
        def begin(stream: ByteStream) -> None:
            task = asyncio.create_task(ServerSession(self, stream, implicit_tls=implicit_tls).run())
            self._sessions[task] = stream
            task.add_done_callback(self._session_over)

        return lambda: ByteStream(begin)

    def _session_over(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)
        self._notify()

    # ---- addresses and certificates ----

    @property
    def host(self) -> str:
        return self._address

    @property
    def port_tls(self) -> int:
        """The port with implicit TLS, as 465."""
        return self._ports[0]

    @property
    def port_starttls(self) -> int:
        """The port with STARTTLS, as 587."""
        return self._ports[1]

    @property
    def ca_file(self) -> Path:
        """Path of the authority's certificate. A client that trusts it accepts only the valid certificate."""
        return self._file("authority.pem")

    def client_context(self) -> ssl.SSLContext:
        """TLS context of a client that trusts only the simulator's authority."""
        return ssl.create_default_context(cadata=self.authority.pem.decode("ascii"))

    def tls_context(self) -> ssl.SSLContext:
        """TLS context of the server, with the certificate of the current settings."""
        settings = self.settings
        key = (settings.certificate, settings.only_old_tls, settings.host, settings.client_authority)
        if key not in self._contexts:
            self._contexts[key] = self._make_context(*key)
        return self._contexts[key]

    def _make_context(
        self, kind: CertificateKind, only_old_tls: bool, host: str, client_authority: str | None
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_authority)
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

    # ---- observations ----

    @property
    def observations(self) -> Observations:
        return self._observations

    @property
    def received(self) -> list[ReceivedMessage]:
        return self._observations.received

    @property
    def refused(self) -> list[RefusedMessage]:
        return self._observations.refused

    @property
    def sessions(self) -> list[SessionRecord]:
        return self._observations.sessions

    @property
    def connections(self) -> int:
        """Number of connections so far."""
        return len(self._observations.sessions)

    @property
    def open_connections(self) -> int:
        return len(self._sessions)

    @property
    def violations(self) -> list[Violation]:
        return self._observations.violations

    @property
    def clear_text_logins(self) -> list[str]:
        """The mechanism of each AUTH without TLS."""
        return self._observations.clear_text_logins

    def logins(self, login: str | None = None) -> list[RecordedLogin]:
        """All login attempts, or those of one login."""
        return [attempt for attempt in self._observations.logins if login in (None, attempt.login)]

    def failed_logins(self, login: str | None = None) -> int:
        """Number of refused logins, of all or of one login."""
        return sum(1 for attempt in self.logins(login) if not attempt.accepted)

    # ---- waiting ----

    def _notify(self) -> None:
        self._changed.set()

    async def wait_until(
        self, condition: Callable[["Simulator"], bool], deadline: float | None = 30.0, purpose: str = ""
    ) -> None:
        """Wait until the condition holds, checked after each observation.

        Raises SimulatorError after `deadline` seconds (None: no limit).
        """
        try:
            async with asyncio.timeout(deadline):
                while not condition(self):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            waiting_for = f" waiting for {purpose}" if purpose else ""
            raise SimulatorError(f"timeout after {deadline} s{waiting_for}: {self._summary()}") from None

    async def wait_for(self, messages: int, deadline: float = 30.0) -> list[ReceivedMessage]:
        """Wait until that many messages have been accepted in total."""
        await self.wait_until(lambda simulator: len(simulator.received) >= messages, deadline, f"{messages} messages")
        return self.received

    def _summary(self) -> str:
        """The recent sessions, for the reader of a failed test."""
        lines = [f"{len(self.received)} received, {self.connections} connections"]
        lines += [
            f"session {session.number} ({session.ended or 'open'}): {', '.join(session.commands[-6:])}"
            f" -> {session.replies[-1] if session.replies else 'no reply'}"
            for session in self.sessions[-5:]
        ]
        return "; ".join(lines)


def _held_port(address: str, port: int) -> socket.socket:
    """A socket that keeps this port from others; Linux lets a second one listen there that says SO_REUSEADDR, too."""
    held = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, port))
    return held
