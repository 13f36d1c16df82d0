"""The smarthost's side of SMTP: a login under TLS, and a sender that must belong to the login.

Guarantees: MAIL with an address other than the login's is 550, as at providers with the strict rule. Everything else
with valid syntax is accepted. Clients that pipeline without an offer are counted as impatient.
Not here: the octets and the distance (wire), the counts (ledger).
"""

import base64
from collections.abc import Callable
from typing import Final

from benchmarks.messages import END, HEADER_LIMIT, NAME, PASSWORD, sender_of
from tests.benchmarks.reference.smarthost.ledger import Ledger
from tests.benchmarks.reference.smarthost.wire import Wire

DOT: Final = b"\r\n.\r\n"
TAIL: Final = len(END) + len(DOT)
OK: Final = b"250 2.0.0 ok\r\n"
GO_ON: Final = b"354 go on\r\n"
NOT_NOW: Final = b"421 4.3.2 not now\r\n"


class SmarthostState:
    """State shared by all connections."""

    def __init__(self, *, pipelining: bool) -> None:
        self.pipelining = pipelining
        self.ledger = Ledger()
        self.busy = False  # reply 421 to every client, as an overloaded provider does
        self.taken: Callable[[], None] = lambda: None


class Dialogue:
    """One connection."""

    def __init__(self, wire: Wire, state: SmarthostState) -> None:
        self._wire = wire
        self._state = state
        self._rest = b""
        self._login = ""
        self._login_step: list[bytes] | None = None
        self._secure = False
        self._begun = False
        self._mail = False
        self._recipients: list[bytes] = []
        self._in_data = False
        self._head = b""
        self._tail = b""
        self._answers = {
            b"EHLO": self._ehlo, b"STAR": self._starttls, b"AUTH": self._auth, b"MAIL": self._mail_from,
            b"RCPT": self._rcpt, b"DATA": self._data, b"RSET": self._rset, b"NOOP": lambda _: OK, b"QUIT": self._quit,
        }  # fmt: skip

    def begin(self) -> None:
        """Greet."""
        self._begun = True
        self._state.ledger.opened()
        if self._state.busy:
            self._wire.send(NOT_NOW)
            self._wire.close()
        else:
            self._wire.send(b"220 smarthost.example ESMTP\r\n")

    def end(self) -> None:
        """Forget the connection."""
        if self._begun:
            self._state.ledger.open_now -= 1

    def secured(self, *, resumed: bool) -> None:
        """Count the handshake; what was said before it counts no more (RFC 3207 section 4.2)."""
        self._secure = True
        self._rest = b""
        self._state.ledger.handshakes += 1
        self._state.ledger.resumed += resumed

    def receive(self, data: bytes) -> None:
        """Answer all complete commands in one write."""
        if self._in_data:
            data = self._take(data)
            if self._in_data:
                return
        self._rest += data
        answers = []
        while (end := self._rest.find(b"\r\n")) >= 0:
            line, self._rest = self._rest[:end], self._rest[end + 2 :]
            if self._rest and not self._state.pipelining:
                self._state.ledger.impatient += 1
            answers.append(self._answer(line))
            if answers[-1] == NOT_NOW:
                break
            if answers[-1] == GO_ON and self._rest:
                early, self._rest = self._rest, b""
                self._rest = self._take(early)
        if answers:
            self._answer_all(b"".join(answers))

    def _answer_all(self, answers: bytes) -> None:
        if answers:
            self._state.ledger.flights += 1
            self._wire.send(answers)
        if answers.startswith(b"221") or answers.endswith(NOT_NOW):
            self._wire.close()

    def _answer(self, line: bytes) -> bytes:
        if self._login_step is not None:
            return self._auth_login(line)
        answer = self._answers.get(line[:4].upper())
        return answer(line) if answer else b"500 5.5.1 what?\r\n"

    def _ehlo(self, _: bytes) -> bytes:
        more = b"250-PIPELINING\r\n" if self._state.pipelining else b""
        more += b"250-AUTH PLAIN LOGIN\r\n" if self._secure else b"250-STARTTLS\r\n"
        return (
            b"250-smarthost.example\r\n250-SIZE 300000000\r\n250-8BITMIME\r\n" + more + b"250 ENHANCEDSTATUSCODES\r\n"
        )

    def _starttls(self, _: bytes) -> bytes:
        if self._secure:
            return b"503 5.5.1 already\r\n"
        self._answer_all(b"220 2.0.0 go on\r\n")
        self._wire.secure()
        return b""

    def _auth(self, line: bytes) -> bytes:
        if not self._secure:
            return b"538 5.7.11 not in the clear\r\n"
        words = line.split()
        if len(words) > 1 and words[1].upper() == b"LOGIN":
            self._login_step = words[2:3]
            return b"334 UGFzc3dvcmQ6\r\n" if self._login_step else b"334 VXNlcm5hbWU6\r\n"
        if len(words) == 3 and words[1].upper() == b"PLAIN":
            _, login, password = base64.b64decode(words[2]).split(b"\0")
            return self._log_in(login, password)
        return b"504 5.5.4 PLAIN with an initial response, or LOGIN\r\n"

    def _auth_login(self, line: bytes) -> bytes:
        assert self._login_step is not None
        self._login_step.append(line)
        if len(self._login_step) == 1:
            return b"334 UGFzc3dvcmQ6\r\n"
        login, password = map(base64.b64decode, self._login_step)
        self._login_step = None
        return self._log_in(login, password)

    def _log_in(self, login: bytes, password: bytes) -> bytes:
        if password.decode() != PASSWORD or sender_of(login.decode()) < 0:
            self._state.ledger.failed_logins += 1
            return b"535 5.7.8 Authentication credentials invalid\r\n"
        self._login = login.decode()
        self._state.ledger.logins += 1
        return b"235 2.7.0 welcome\r\n"

    def _mail_from(self, line: bytes) -> bytes:
        if self._state.busy:
            return NOT_NOW
        if not self._login:
            return b"530 5.7.0 log in first\r\n"
        path = line[line.find(b"<") + 1 : line.find(b">")].decode("ascii", "replace")
        if path != self._login:
            self._state.ledger.wrong_sender += 1
            return b"550 5.7.1 Sender address is not allowed.\r\n"
        self._mail, self._recipients = True, []
        return OK

    def _rcpt(self, line: bytes) -> bytes:
        if not self._mail:
            return b"503 5.5.1 MAIL first\r\n"
        self._recipients.append(line[line.find(b"<") + 1 : line.find(b">")])
        return OK

    def _data(self, _: bytes) -> bytes:
        if not self._recipients:
            return b"554 5.5.1 no valid recipients\r\n"
        self._in_data, self._head, self._tail = True, b"", b"\r\n"
        return GO_ON

    def _rset(self, _: bytes) -> bytes:
        self._mail, self._recipients = False, []
        return OK

    def _quit(self, _: bytes) -> bytes:
        return b"221 2.0.0 bye\r\n"

    def _take(self, data: bytes) -> bytes:
        """Read the message; return what follows its final dot."""
        ledger = self._state.ledger
        ledger.octets += len(data)
        if len(self._head) < HEADER_LIMIT:
            self._head += data[:HEADER_LIMIT]
        seen = self._tail + data
        end = seen.find(DOT, max(0, len(self._tail) - len(DOT) + 1))
        if end < 0:
            self._tail = seen[-TAIL:]
            return b""
        self._in_data, self._mail = False, False
        name = NAME.search(self._head)
        if name is None:
            ledger.strangers += 1  # a bounce, a warning of the relay's own
        else:
            whole = seen[max(0, end + 2 - len(END)) : end + 2] == END
            ledger.take(name[1], int(name[2]), sender_of(self._login), self._recipients, whole=whole)
        self._head = b""
        self._answer_all(b"250 2.0.0 taken\r\n")
        self._state.taken()
        return seen[end + len(DOT) :]
