"""An IMAP server on a real socket, whose answers and failures a test decides.

It keeps folders with messages, and knows what a Sent folder needs: LOGIN, AUTHENTICATE, LIST, NAMESPACE, CREATE,
SUBSCRIBE, STATUS, EXAMINE, UID SEARCH, UID FETCH, APPEND. Each stage may be replaced by a failure.
"""

import base64
import re
import shlex
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser

from tests.peers.certificates import Certificate

LOGIN, PASSWORD = "anna@firma.example", "geheim-anna"

Fault = Callable[["Connection"], None]
"""Acts in place of an answer; the connection is closed after it, unless it returns with `goes_on` set."""


@dataclass
class Message:
    flags: str
    date: str
    content: bytes


@dataclass
class Folder:
    flags: str = ""
    messages: list[Message] = field(default_factory=list)


@dataclass
class ImapServer:
    """The state of the server. `fault`: asked at each stage, by its name and number of visits; None: none."""

    before_login: str = "IMAP4rev1 AUTH=PLAIN SASL-IR"
    after_login: str = "IMAP4rev1 SPECIAL-USE LIST-EXTENDED NAMESPACE LITERAL+ UIDPLUS"
    folders: dict[str, Folder] = field(default_factory=lambda: {"INBOX": Folder(), "Gesendet": Folder("\\Sent")})
    prefix: str = ""
    delimiter: str = "/"
    limit: int | None = None  # of a folder, by STATUS
    answers: dict[str, str] = field(default_factory=dict)  # by command: the tagged line in place of the usual one
    searches_fields: bool = True  # else an unusual field is ignored, and everything is found
    fault: Callable[[str], Fault | None] = lambda _stage: None
    port: int = 0
    commands: list[str] = field(default_factory=list)
    unasked: int = 0  # APPENDs with a literal that did not wait
    context: ssl.SSLContext | None = None
    implicit_tls: bool = False

    def sent(self, name: str = "Gesendet") -> list[bytes]:
        return [message.content for message in self.folders[name].messages]


class Gone(Exception):
    """The connection is over."""


class Connection:
    """One client."""

    def __init__(self, server: ImapServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.goes_on = False
        self.tag = b""  # of the present command
        self._stream = sock.makefile("rb")
        self._folder = ""

    # ---- for faults ----

    def write(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            raise Gone from None

    def wait_for_end(self) -> None:
        """Say nothing until the client goes."""
        self.sock.settimeout(None)
        with suppress(OSError):
            while self.sock.recv(65536):
                pass

    # ---- the dialogue ----

    def serve(self) -> None:
        try:
            if self.server.implicit_tls:
                self._begin_tls()
            self._stage("greeting")
            self.write(b"* OK ready\r\n")
            while line := self._stream.readline(65536):
                self._command(line)
        except (Gone, OSError, ValueError):
            pass

    def _line(self) -> bytes:
        if line := self._stream.readline():
            return line
        raise Gone

    def _stage(self, name: str) -> None:
        if (fault := self.server.fault(name)) is not None:
            self.goes_on = False
            fault(self)
            if not self.goes_on:
                raise Gone

    def _begin_tls(self) -> None:
        assert self.server.context is not None
        self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
        self._stream = self.sock.makefile("rb")

    def _command(self, line: bytes) -> None:
        tag, _, rest = line.decode().strip().partition(" ")
        self.tag = tag.encode()
        words = rest.split(" ")
        name = words.pop(0).upper()
        if name == "UID":
            name = words.pop(0).upper()
        self.server.commands.append(rest)
        self._stage(name.lower())
        if answer := self.server.answers.get(name):
            if name == "APPEND":
                self._literal(rest)
            self.write(f"{tag} {answer}\r\n".encode())
            return
        getattr(self, f"_{name.lower()}", self._unknown)(tag, rest)

    def _ok(self, tag: str, code: str = "") -> None:
        self.write(f"{tag} OK {code}done\r\n".encode())

    def _unknown(self, tag: str, rest: str) -> None:
        self.write(f"{tag} BAD unknown command\r\n".encode())

    def _capability(self, tag: str, rest: str) -> None:
        self.write(f"* CAPABILITY {self.server.before_login}\r\n".encode())
        self._ok(tag)

    def _starttls(self, tag: str, rest: str) -> None:
        self._ok(tag)
        self._begin_tls()

    def _authenticate(self, tag: str, rest: str) -> None:
        method = rest.split(" ")[1].upper()
        self.write(b"+ \r\n")
        said = base64.b64decode(self._stream.readline()).decode()
        if method == "LOGIN":
            self.write(b"+ UGFzc3dvcmQ6\r\n")
            said = f"\0{said}\0{base64.b64decode(self._stream.readline()).decode()}"
        expected = {
            "XOAUTH2": f"user={LOGIN}\x01auth=Bearer {PASSWORD}\x01\x01",
            "OAUTHBEARER": f"n,a={LOGIN},\x01host=127.0.0.1\x01port={self.server.port}\x01auth=Bearer {PASSWORD}\x01\x01",
        }.get(method, f"\0{LOGIN}\0{PASSWORD}")
        if said != expected and "auth=" in said:
            self.write(b"+ eyJzdGF0dXMiOiI0MDEifQ==\r\n")
            assert self._line() in (b"\r\n", b"AQ==\r\n")
        self._logged_in(tag, accepted=said == expected)

    def _login(self, tag: str, rest: str) -> None:
        _, user, password = shlex.split(rest)
        self._logged_in(tag, accepted=(user, password) == (LOGIN, PASSWORD))

    def _logged_in(self, tag: str, *, accepted: bool) -> None:
        if not accepted:
            self.write(f"{tag} NO [AUTHENTICATIONFAILED] wrong\r\n".encode())
            return
        self._ok(tag, f"[CAPABILITY {self.server.after_login}] ")

    def _namespace(self, tag: str, rest: str) -> None:
        self.write(f'* NAMESPACE (("{self.server.prefix}" "{self.server.delimiter}")) NIL NIL\r\n'.encode())
        self._ok(tag)

    def _list(self, tag: str, rest: str) -> None:
        special = "(SPECIAL-USE)" in rest
        pattern = shlex.split(rest)[-1]
        anything = re.escape(pattern).replace("\\*", ".*").replace("%", f"[^{re.escape(self.server.delimiter)}]*")
        for name, folder in self.server.folders.items():
            if re.fullmatch(anything, name) and (not special or folder.flags):
                self.write(f'* LIST ({folder.flags}) "{self.server.delimiter}" "{name}"\r\n'.encode())
        self._ok(tag)

    def _create(self, tag: str, rest: str) -> None:
        [_, name] = shlex.split(rest)
        self.server.folders[name] = Folder()
        self._ok(tag)

    def _subscribe(self, tag: str, rest: str) -> None:
        self._ok(tag)

    def _status(self, tag: str, rest: str) -> None:
        limit = "NIL" if self.server.limit is None else self.server.limit
        self.write(f'* STATUS "{shlex.split(rest)[1]}" (APPENDLIMIT {limit})\r\n'.encode())
        self._ok(tag)

    def _examine(self, tag: str, rest: str) -> None:
        [_, name] = shlex.split(rest)
        if name not in self.server.folders:
            self.write(f"{tag} NO [NONEXISTENT] no such folder\r\n".encode())
            return
        self._folder = name
        self.write(f"* {len(self.server.folders[name].messages)} EXISTS\r\n* FLAGS (\\Seen)\r\n".encode())
        self._ok(tag, "[READ-ONLY] ")

    def _search(self, tag: str, rest: str) -> None:
        wanted = re.findall(r'HEADER (\S+) (?:"([^"]*)"|(\S+))', rest)
        found = []
        for number, message in enumerate(self.server.folders[self._folder].messages, 1):
            header = BytesHeaderParser().parsebytes(message.content)
            if all(
                (first or second) in str(header.get(name, ""))
                or (name.startswith("X-") and not self.server.searches_fields)
                for name, first, second in wanted
            ):
                found.append(str(number))
        self.write(f"* SEARCH {' '.join(found)}\r\n".encode())
        self._ok(tag)

    def _fetch(self, tag: str, rest: str) -> None:
        numbers = [int(number) for number in rest.split(" ")[2].split(",")]
        item = re.search(r"BODY\.PEEK\[HEADER\.FIELDS \((\S+)\)\]", rest)
        assert item is not None
        for number in numbers:
            header = BytesHeaderParser().parsebytes(self.server.folders[self._folder].messages[number - 1].content)
            value = header.get(item[1])
            octets = f"{item[1]}: {value}\r\n\r\n".encode() if value else b"\r\n"
            head = f"* {number} FETCH (UID {number} BODY[HEADER.FIELDS ({item[1]})] {{{len(octets)}}}\r\n"
            self.write(head.encode() + octets + b")\r\n")
        self._ok(tag)

    def _append(self, tag: str, rest: str) -> None:
        name, flags, date, content = self._literal(rest)
        self._stage("literal read")
        if name not in self.server.folders:
            self.write(f"{tag} NO [TRYCREATE] no such folder\r\n".encode())
            return
        self.server.folders[name].messages.append(Message(flags, date, content))
        self._stage("stored")
        self._ok(tag, "[APPENDUID 1 1] ")

    def _literal(self, rest: str) -> tuple[str, str, str, bytes]:
        found = re.fullmatch(r'(?i:APPEND) "((?:[^"\\]|\\.)*)" \(([^)]*)\) "([^"]+)" \{(\d+)(\+?)\}', rest)
        assert found is not None, rest
        name, flags, date, size, plus = found.groups()
        if plus:
            self.server.unasked += 1
        else:
            self._stage("continuation")
            self.write(b"+ go on\r\n")
        half = self._stream.read(int(size) // 2)
        self._stage("literal")
        content = half + self._stream.read(int(size) - len(half))
        if len(content) != int(size):
            raise Gone
        assert self._line() == b"\r\n"
        return name.replace('\\"', '"').replace("\\\\", "\\"), flags, date, content

    def _logout(self, tag: str, rest: str) -> None:
        self.write(b"* BYE\r\n")
        self._ok(tag)
        raise Gone


@contextmanager
def imap_server(state: ImapServer | None = None, certificate: Certificate | None = None) -> Iterator[ImapServer]:
    """Serve on a free port of 127.0.0.1; all threads and connections are gone afterwards."""
    state = state or ImapServer()
    if certificate is not None:
        state.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        state.context.load_cert_chain(certificate.chain, certificate.key)
    threads, sockets = list[threading.Thread](), list[socket.socket]()

    def serve(sock: socket.socket) -> None:
        connection = Connection(state, sock)
        try:
            connection.serve()
        finally:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection._stream.close()
            connection.sock.close()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(sock)
            thread = threading.Thread(target=serve, args=(sock,))
            threads.append(thread)
            thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        state.port = listener.getsockname()[1]
        acceptor = threading.Thread(target=accept, args=(listener,))
        acceptor.start()
        try:
            yield state
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
