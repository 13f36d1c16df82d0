"""The dialogue behind AUTH: PLAIN and LOGIN, step by step.

Guarantees: each answer of the client leads to a Challenge, to a Claim, or to the Reply that ends the attempt; a
password is in no repr and no reply.
Not here: whether the claim is true (listener.client_auth), when AUTH may come (wire.dialogue).
RFC 4954, RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN; the challenges are worded as Postfix and Exim word them,
because old devices look for exactly those).
"""

import binascii
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.command import AUTH_LIMIT


class Mechanism(Enum):
    """The login methods we know, in the order in which they are offered."""

    PLAIN = "PLAIN"
    LOGIN = "LOGIN"


class LoginAttempt:
    """Who a client says it is. The password has no face."""

    __slots__ = ("__password", "user")

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self.__password = password

    def reveal(self) -> str:
        """The password, for the one who verifies it."""
        return self.__password

    def __repr__(self) -> str:
        return "Claim(***)"  # a password is typed into the wrong field often enough

    def __reduce__(self) -> str:
        raise TypeError("a claim is not copied or pickled")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server asks next; goes out behind 334."""

    text: str

    def render(self) -> bytes:
        """The whole line. The blank behind 334 stands even before nothing (RFC 4954 section 4)."""
        return b"334 " + binascii.b2a_base64(self.text.encode("ascii"), newline=False) + b"\r\n"


Progress: TypeAlias = Challenge | LoginAttempt | Reply


class Login:
    """One attempt: `begin` with the initial response of AUTH (None if there was none), then `answer` line by line."""

    __slots__ = ("__user", "_mechanism")

    def __init__(self, mechanism: Mechanism) -> None:
        self._mechanism = mechanism
        self.__user: str | None = None

    def begin(self, initial: str | None) -> Progress:
        """The first step. An initial response of `=` stands for an empty one (RFC 4954 section 4)."""
        if initial is None:
            return Challenge("" if self._mechanism is Mechanism.PLAIN else "Username:")
        return self._take("" if initial == "=" else initial)

    def answer(self, line: bytes) -> Progress:
        """What the client sent to the last challenge, without its line end."""
        if len(line) + 2 > AUTH_LIMIT:
            return replies.LOGIN_TOO_LONG
        return replies.LOGIN_ABORTED if line == b"*" else self._take(line.decode("ascii", "replace"))

    def _take(self, encoded: str) -> Progress:
        try:
            decoded = binascii.a2b_base64(encoded.encode("ascii", "replace"), strict_mode=True)
        except binascii.Error:
            return replies.LOGIN_NOT_BASE64
        text = _text(decoded)
        return self._take_plain(text) if self._mechanism is Mechanism.PLAIN else self._take_login(text)

    def _take_plain(self, text: str) -> Progress:
        parts = text.split("\0")
        if len(parts) != 3 or not parts[1]:
            return replies.LOGIN_MALFORMED
        acts_for, user, password = parts
        if acts_for not in {"", user}:
            return replies.LOGIN_REFUSED  # RFC 4616 section 2: nobody here may act for another
        return LoginAttempt(user, password)

    def _take_login(self, text: str) -> Progress:
        if "\0" in text:
            return replies.LOGIN_MALFORMED
        if self.__user is None:
            if not text:
                return replies.LOGIN_MALFORMED
            self.__user = text
            return Challenge("Password:")
        return LoginAttempt(self.__user, text)


def _text(octets: bytes) -> str:
    """UTF-8, as it must be; else the code page of an old device, so that its umlauts are taken as they were meant."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
