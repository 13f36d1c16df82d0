"""SASL mechanisms of a login at a smarthost, as the client's side of a dialogue. PURE.

Guarantees: the number of answers is bounded, whatever the server asks. A password is sent only by PLAIN and LOGIN, a
token only by XOAUTH2 and OAUTHBEARER. A server that does not know the password cannot pass SCRAM-SHA-256.
Not here: the choice of a mechanism and the commands (delivery.opening), channel binding.
RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 2195 (CRAM-MD5), RFC 5802 and RFC 7677 (SCRAM-SHA-256),
RFC 7628 (OAUTHBEARER), https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
"""

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from senderproxy.routing.provider import Smarthost

FOR_TOKENS: Final = ("XOAUTH2", "OAUTHBEARER")

# RFC 7677 section 4 asks for 4096 at least; the upper bound keeps the derivation below 20 ms of the event loop.
_ITERATIONS: Final = range(4096, 20_001)
_SALT: Final = 1024  # octets; servers use 12 to 32
_LONGEST: Final = 4096  # octets of a SCRAM message
_NONCE: Final = 1024  # characters of both sides together


class MechanismError(Exception):
    """The server broke the rules of the mechanism. The text is for logs and replies, without secrets."""


@dataclass(frozen=True, slots=True)
class LoginSecret:
    """The data of one login. `nonce`: visible ASCII without commas, never used before."""

    login: bytes
    secret: bytes = field(repr=False)
    smarthost: Smarthost
    nonce: str


class LoginDialogue:
    """The client's side of one login.

    `initial`: the initial response, None where the mechanism has none. `after_refusal`: the steps that only a refusal
    needs.
    """

    def __init__(self, initial: bytes | None, *steps: Callable[[bytes], bytes], after_refusal: int = 0) -> None:
        self.initial = initial
        self._steps = list(steps)
        self._after_refusal = after_refusal

    def answer(self, challenge: bytes) -> bytes:
        """Return the answer to a challenge. Raises MechanismError if none is due."""
        if not self._steps:
            raise MechanismError("the server asked for more than the mechanism has")
        return self._steps.pop(0)(challenge)

    def require_complete(self) -> None:
        """Check the end of an accepted login: no step of the server may be missing. Raises MechanismError."""
        if len(self._steps) > self._after_refusal:
            raise MechanismError("the server accepted the login before its end")


def begin(mechanism: str, secret: LoginSecret) -> LoginDialogue:
    """Begin a login by a mechanism of routing.provider.PASSWORD_MECHANISMS or FOR_TOKENS."""
    return _BEGINNINGS[mechanism](secret)


def decode_challenge(text: str) -> bytes:
    """Return the octets of a challenge. Raises MechanismError."""
    try:
        return base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except (ValueError, binascii.Error):
        raise MechanismError("the server's challenge is not base64") from None


def secrets_in(login: bytes, secret: bytes) -> tuple[bytes, ...]:
    """Return the forms of the secret in a server's echo: plain, and the base64 of each mechanism."""
    if not secret:
        return ()
    plain = b"\0" + login + b"\0" + secret
    bearer = _bearer(login, secret)
    return (*(base64.b64encode(each) for each in (plain, bearer, secret)), secret)


def _plain(data: LoginSecret) -> LoginDialogue:
    return LoginDialogue(b"\0" + data.login + b"\0" + data.secret)


def _login(data: LoginSecret) -> LoginDialogue:
    # One word at a time: a server that ignores the user name on the first line would take the password for it.
    return LoginDialogue(None, lambda _prompt: data.login, lambda _prompt: data.secret)


def _cram_md5(data: LoginSecret) -> LoginDialogue:
    def answer(challenge: bytes) -> bytes:
        digest = hmac.new(data.secret, challenge, hashlib.md5).hexdigest()
        return data.login + b" " + digest.encode("ascii")

    return LoginDialogue(None, answer)


def _xoauth2(data: LoginSecret) -> LoginDialogue:
    # A refusal is a challenge with the reason in JSON; the empty answer to it gets the reply.
    return LoginDialogue(_bearer(data.login, data.secret), lambda _reason: b"", after_refusal=1)


def _bearer(login: bytes, token: bytes) -> bytes:
    return b"user=" + login + b"\x01auth=Bearer " + token + b"\x01\x01"


def _oauthbearer(data: LoginSecret) -> LoginDialogue:
    host = f"host={data.smarthost.host}\x01port={data.smarthost.port}\x01".encode()
    first = b"n,a=" + _escaped(data.login) + b",\x01" + host + b"auth=Bearer " + data.secret + b"\x01\x01"
    return LoginDialogue(first, lambda _reason: b"\x01", after_refusal=1)  # RFC 7628 section 3.2.3


def _escaped(login: bytes) -> bytes:
    """A user name in a GS2 header or a SCRAM message. RFC 5802 section 5.1."""
    return login.replace(b"=", b"=3D").replace(b",", b"=2C")


class _Scram:
    """SCRAM-SHA-256 without channel binding, on the client's side. RFC 5802 section 3."""

    def __init__(self, data: LoginSecret) -> None:
        self._password = _prepared(data.secret)
        self._nonce = data.nonce.encode("ascii")
        self.first = b"n=" + _escaped(data.login) + b",r=" + self._nonce
        self._server_signature = b""

    def prove(self, challenge: bytes) -> bytes:
        values = _values(challenge)
        nonce, salt, count = values.get(b"r", b""), _octets(values.get(b"s", b"")), values.get(b"i", b"")
        if b"m" in values or not nonce.startswith(self._nonce) or nonce == self._nonce or len(nonce) > _NONCE:
            raise MechanismError("the server's SCRAM challenge has no nonce of its own")
        if not salt or len(salt) > _SALT or len(count) > 6 or not count.isdigit() or int(count) not in _ITERATIONS:
            raise MechanismError("the server's SCRAM challenge has an unusable salt or iteration count")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(count))
        final = b"c=biws,r=" + nonce
        signed = self.first + b"," + challenge + b"," + final
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        return final + b",p=" + base64.b64encode(proof)

    def verify(self, challenge: bytes) -> bytes:
        shown = _octets(_values(challenge).get(b"v", b""))
        if not hmac.compare_digest(shown, self._server_signature):
            raise MechanismError("the server did not prove that it knows the password")
        return b""


def _scram_sha_256(data: LoginSecret) -> LoginDialogue:
    scram = _Scram(data)
    return LoginDialogue(b"n,," + scram.first, scram.prove, scram.verify)


def _hmac(key: bytes, octets: bytes) -> bytes:
    return hmac.new(key, octets, hashlib.sha256).digest()


def _values(message: bytes) -> Mapping[bytes, bytes]:
    """The attributes of a SCRAM message; the first of two equal ones. RFC 5802 section 5.1."""
    found: dict[bytes, bytes] = {}
    for part in message[:_LONGEST].split(b","):
        name, _equals, value = part.partition(b"=")
        found.setdefault(name, value)
    return found


def _octets(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _prepared(password: bytes) -> bytes:
    """The password by SASLprep (RFC 4013); unchanged if it is no text."""
    if password.isascii():
        return password
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


_BEGINNINGS: Final[Mapping[str, Callable[[LoginSecret], LoginDialogue]]] = MappingProxyType(
    {
        "PLAIN": _plain,
        "LOGIN": _login,
        "SCRAM-SHA-256": _scram_sha_256,
        "CRAM-MD5": _cram_md5,
        "XOAUTH2": _xoauth2,
        "OAUTHBEARER": _oauthbearer,
    }
)
