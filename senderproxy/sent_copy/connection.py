"""Connection to an IMAP server for imaplib, bounded in time and octets.

Guarantees: each step ends within its time and the whole within the attempt's, however slowly the server reads or
writes. A bounded number of octets is received, in lines and literals of bounded length. The certificate is always
verified; nothing that the server sent before TLS is used after it. A failure of the socket stays in the
attempt: imaplib would report it as a refusal. Nothing is logged, and the login is in no exception.
Not here: commands (sent_copy.session, sent_copy.append). RFC 9051 section 2.2, RFC 8314.
"""

import imaplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any, Final

from senderproxy.first_connection import connect_first
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.translation import N_

STEP_SECONDS: Final = 60.0  # from the end of a command to the end of its answer; a busy server needs a few
_CONNECT_SECONDS: Final = 15.0  # for each address of the server; then the next one is tried
_LINE_LIMIT: Final = 64 * 1024  # octets of a line; the keywords of a folder may have thousands
_LITERAL_LIMIT: Final = 16 * 1024  # octets; servers send names of folders and header fields so
_TOTAL_LIMIT: Final = 1024 * 1024  # octets received in one attempt: a list of ten thousand folders
_LINES_LIMIT: Final = 20_000  # lines received in one attempt; each takes imaplib 20 microseconds
_READ: Final = 8 * 1024  # octets in one read of the socket


class ImapStep(Enum):
    """The present step of an attempt; its value is for the operator."""

    AUTHORITIES = N_("certificates of authorities")
    LOOK_UP = N_("address look-up")
    CONNECTION = N_("connection")
    TLS = N_("TLS handshake")
    GREETING = N_("greeting")
    STARTTLS = N_("STARTTLS")
    LOGIN = N_("login")
    FOLDER = N_("search for the folder")
    SEARCH = N_("search for the copy")
    APPEND = N_("transfer of the copy")


class TooMuchData(Exception):
    """The server sends more than any answer has."""


class NotImap(Exception):
    """The server does not answer as IMAP demands."""


class Closed(ConnectionError):
    """The server closed the connection."""


class NotOnThisMachine(Exception):
    """A server without TLS has an address other than loopback. `args[0]`: the address."""


class StarttlsMissing(Exception):
    """The server does not offer STARTTLS."""


@dataclass(slots=True)
class Attempt:
    """One attempt. `deadline`: on the clock `monotonic`, in seconds.

    `fault`: of the socket; `goodbye`: the server's words at the end, raw. None and empty so far.
    """

    server: ImapServer
    monotonic: Callable[[], float]
    deadline: float
    step: ImapStep = ImapStep.AUTHORITIES
    fault: Exception | None = None
    goodbye: bytes = b""


class ImapConnection(imaplib.IMAP4):
    """A connection with its greeting read; see IMAPClient for commands."""

    def __init__(self, attempt: Attempt) -> None:
        """Connect. Raises OSError, the exceptions of this module and of imaplib, ValueError for what is not IMAP."""
        self.attempt = attempt
        server = attempt.server
        self.context = None if server.security is Security.NONE else _verified_context(server.ca_file)
        self._step_end = attempt.deadline
        self._received = bytearray()  # up to _LINE_LIMIT and one read
        self._left = _TOTAL_LIMIT
        self._lines_left = _LINES_LIMIT
        super().__init__(server.host, server.port)

    def allow(self, seconds: float) -> None:
        """Give the server so much time from now, within the deadline of the attempt."""
        self._step_end = min(self.attempt.monotonic() + seconds, self.attempt.deadline)

    # ---- the interface between imaplib and the socket ----

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:  # noqa: ARG002  imaplib's
        """Connect to the first address that accepts; with TLS if the server begins with it."""
        self.host, self.port = host, port
        self.sock = self._first_socket(host, port)
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.attempt.server.security is Security.IMPLICIT_TLS:
                self._begin_tls()
            self.attempt.step = ImapStep.GREETING
            self.allow(STEP_SECONDS)
        except BaseException:
            self.sock.close()
            raise

    def readline(self) -> bytes:
        """The next line, with its end."""
        searched = 0
        self._lines_left -= 1
        if self._lines_left < 0:
            raise self._failed(TooMuchData())
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LINE_LIMIT:
                raise self._failed(TooMuchData())
            self._receive()
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        if line[:6].upper() == b"* BYE ":
            self.attempt.goodbye = line[6:]
        return line

    def read(self, size: int) -> bytes:
        """The next octets: a literal."""
        if size > _LITERAL_LIMIT:
            raise self._failed(TooMuchData())
        while len(self._received) < size:
            self._receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def send(self, data: Any) -> None:  # noqa: ANN401  bytes-like, as of socket.sendall
        """Send all of it. The time for the answer begins."""
        rest = memoryview(data)
        try:
            while rest:
                self.allow(STEP_SECONDS)
                self.sock.settimeout(self._seconds_left())
                rest = rest[self.sock.send(rest) :]
        except OSError as fault:
            raise self._failed(fault) from None
        self.allow(STEP_SECONDS)

    def shutdown(self) -> None:
        """Close the connection."""
        self.sock.close()

    def starttls(self, ssl_context: ssl.SSLContext | None = None) -> tuple[Any, list[Any]]:  # noqa: ARG002
        """STARTTLS with the verified context of this connection. Raises StarttlsMissing."""
        self.attempt.step = ImapStep.STARTTLS
        kind, data = self.xatom("STARTTLS")
        if kind != "OK":
            raise StarttlsMissing
        if self._received:  # sent before TLS, to be taken for an answer after it (CVE-2021-33515)
            raise NotImap
        self._begin_tls()
        self.allow(STEP_SECONDS)
        return kind, data

    def login(self, user: str, password: str) -> tuple[Any, list[Any]]:
        """LOGIN with both words quoted. Raises ValueError for characters that a quoted word cannot have."""
        words = [quoted(word.encode("ascii")).decode("ascii") for word in (user, password)]
        kind, data = self._simple_command("LOGIN", *words)
        if kind != "OK":
            raise self.error(data[-1].decode("utf-8", "replace"))
        self.state = "AUTH"
        return kind, data

    def special_folders(self) -> list[Any]:
        """The folders with a special use, as `imapclient.response_parser` takes them. RFC 6154 section 3."""
        kind, data = self._simple_command("LIST", "(SPECIAL-USE)", '""', '"*"')
        if kind != "OK":
            raise self.error(data[-1].decode("utf-8", "replace"))
        return list(self._untagged_response(kind, data, "LIST")[1])

    # ---- parts ----

    def _first_socket(self, host: str, port: int) -> socket.socket:
        self.attempt.step = ImapStep.LOOK_UP
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.attempt.step = ImapStep.CONNECTION
        if self.context is None:
            for one in addresses:
                if not ip_address(str(one[4][0]).partition("%")[0]).is_loopback:
                    raise NotOnThisMachine(str(one[4][0]))
        return connect_first(addresses, self._seconds_to_connect)

    def _seconds_to_connect(self) -> float:
        self.allow(_CONNECT_SECONDS)
        return self._seconds_left()

    def _begin_tls(self) -> None:
        assert self.context is not None
        self.attempt.step = ImapStep.TLS
        self.allow(STEP_SECONDS)
        self.sock.settimeout(self._seconds_left())
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)

    def _receive(self) -> None:
        try:
            self.sock.settimeout(self._seconds_left())
            data = self.sock.recv(_READ)
        except OSError as fault:
            raise self._failed(fault) from None
        if not data:
            raise self._failed(Closed())
        self._left -= len(data)
        if self._left < 0:
            raise self._failed(TooMuchData())
        self._received += data

    def _seconds_left(self) -> float:
        if (left := self._step_end - self.attempt.monotonic()) <= 0:
            raise TimeoutError
        return left

    def _failed(self, fault: Exception) -> Exception:
        self.attempt.fault = fault
        return fault


def _verified_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def quoted(word: bytes) -> bytes:
    """A quoted string. Raises ValueError for octets that it cannot have. RFC 9051 section 4.3."""
    if not word.isascii() or any(octet < 32 or octet == 127 for octet in word):
        raise ValueError("not a word for a quoted string")
    return b'"' + word.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
