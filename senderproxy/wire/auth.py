"""AUTH exchange: the mechanisms PLAIN and LOGIN, step by step. PURE.

Guarantees: each response of the client leads to a Challenge, to a LoginAttempt or to the Reply that ends the exchange;
a password is in no repr and no reply. With `lenient`, base64 may lack its padding; nothing else is different.
Not here: the check of the password (listener.client_auth), when AUTH is permitted (wire.dialogue).
RFC 4954, RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN; the challenges are those of Postfix and Exim, because old
devices compare them word by word).
"""

import binascii
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.command import AUTH_LIMIT


class Mechanism(Enum):
    """Supported SASL mechanisms, in the order in which they are offered."""

    PLAIN = "PLAIN"
    LOGIN = "LOGIN"


class LoginAttempt:
    """User name and password as a client sent them, not verified. Neither is in its repr."""

    __slots__ = ("__password", "user")

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self.__password = password

    def reveal(self) -> str:
        """The password, for its verification only."""
        return self.__password

    def __repr__(self) -> str:
        return "LoginAttempt(***)"  # people type the password into the field of the user name

    def __reduce__(self) -> str:
        raise TypeError("a login attempt is not copied or pickled")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge of the server, sent with 334."""

    text: str

    def render(self) -> bytes:
        """The line with CRLF. The space after 334 is sent before an empty challenge too (RFC 4954 section 4)."""
        return b"334 " + binascii.b2a_base64(self.text.encode("ascii"), newline=False) + b"\r\n"


Progress: TypeAlias = Challenge | LoginAttempt | Reply


class AuthExchange:
    """One AUTH exchange: `start` with the initial response (None if there was none), then each response by line."""

    __slots__ = ("__user", "_lenient", "_mechanism")

    def __init__(self, mechanism: Mechanism, *, lenient: bool = False) -> None:
        self._mechanism = mechanism
        self._lenient = lenient
        self.__user: str | None = None

    def start(self, initial: str | None) -> Progress:
        """The first step. `=` is an empty initial response (RFC 4954 section 4)."""
        if initial is None:
            return Challenge("" if self._mechanism is Mechanism.PLAIN else "Username:")
        return self._decode("" if initial == "=" else initial)

    def handle_response(self, line: bytes) -> Progress:
        """The step after the client's response to the last challenge, given without its line end."""
        if len(line) + 2 > AUTH_LIMIT:
            return replies.AUTH_LINE_TOO_LONG
        return replies.AUTH_CANCELLED if line == b"*" else self._decode(line.decode("ascii", "replace"))

    def _decode(self, encoded: str) -> Progress:
        if self._lenient:
            encoded = encoded.strip(" ")
            encoded += "=" * (-len(encoded) % 4)
        try:
            decoded = binascii.a2b_base64(encoded.encode("ascii", "replace"), strict_mode=True)
        except binascii.Error:
            return replies.AUTH_NOT_BASE64
        text = _text(decoded)
        return self._plain(text) if self._mechanism is Mechanism.PLAIN else self._login(text)

    def _plain(self, text: str) -> Progress:
        parts = text.split("\0")
        if len(parts) != 3 or not parts[1]:
            return replies.AUTH_MALFORMED
        acting_as, user, password = parts
        if acting_as not in {"", user}:
            return replies.AUTH_FAILED  # RFC 4616 section 2: no user may act as another
        return LoginAttempt(user, password)

    def _login(self, text: str) -> Progress:
        if "\0" in text:
            return replies.AUTH_MALFORMED
        if self.__user is None:
            if not text:
                return replies.AUTH_MALFORMED
            self.__user = text
            return Challenge("Password:")
        return LoginAttempt(self.__user, text)


def _text(octets: bytes) -> str:
    """Text from UTF-8 (RFC 4616), or else from Latin-1, as old devices send umlauts."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
