"""Who in the office may submit: networks, SMTP AUTH, and the senders each client may use.

Guarantees: a host outside `allow` gets nothing but a refusal; a password is compared in constant time, never kept,
never logged; a name that does not exist costs as much time as one that does.
Not here: the dialogue behind AUTH (wire.login), holding a client to its senders (wire.dialogue and
relay.decide).
RFC 4954, RFC 7914 (scrypt).
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.config.values import IpNetwork
from senderproxy.errors import SenderproxyError
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.log import event
from senderproxy.mail.address import AddressPattern
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.login import LoginAttempt

_log = logging.getLogger("senderproxy.listener")

# 32 MiB and about 0.1 s for each guess; two at once (see _AT_ONCE) stay below what a small server can spare.
_COST: Final = 2**15
_BLOCK_SIZE: Final = 8
_PARALLEL: Final = 1
_LARGEST_COST: Final = 2**18  # of a stored hash: a typing error must not ask for gigabytes
_DIGEST: Final = 32
_AT_ONCE: Final = 2

_IpAddress: TypeAlias = IPv4Address | IPv6Address


class PasswordHashError(SenderproxyError):
    """What stands in the configuration is no password hash of ours."""


@dataclass(frozen=True, slots=True)
class _Scrypt:
    """One stored hash."""

    cost: int
    block_size: int
    parallel: int
    salt: bytes
    digest: bytes

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(self.digest, _derive(password, self))

    def __repr__(self) -> str:
        return "_Scrypt(***)"


def hash_password(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`, as it stands in the configuration."""
    made = _Scrypt(_COST, _BLOCK_SIZE, _PARALLEL, secrets.token_bytes(16), bytes(_DIGEST))
    digest = _derive(password, made)
    return f"scrypt${made.cost}${made.block_size}${made.parallel}${_encode(made.salt)}${_encode(digest)}"


def verify_password(password: str, stored: str) -> bool:
    """True where the password is the one that was hashed. Raises PasswordHashError where `stored` is no hash."""
    return _read_hash(stored).matches(password)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a host may do."""

    login_required: bool
    senders: tuple[AddressPattern, ...] | None


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who proved who they are."""

    name: str
    senders: tuple[AddressPattern, ...] | None


class ClientAuth:
    """The clients of one listener."""

    def __init__(
        self,
        settings: ListenerSettings,
        clients: Iterable[ClientSettings],
        clock: Clock,
        rules: ThrottleLimits | None = None,
    ) -> None:
        self._auth = settings.auth
        self._clock = clock
        self._allow = settings.allow
        self._networks: list[tuple[IpNetwork, tuple[AddressPattern, ...] | None]] = []
        self._users: dict[str, tuple[_Scrypt, tuple[AddressPattern, ...] | None]] = {}
        for client in clients:
            self._take(client)
        self._networks.sort(key=lambda entry: entry[0].prefixlen, reverse=True)
        self._guard = LoginThrottle(rules or ThrottleLimits())
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobody = _like_one_of(self._users.values())
        # Who logged in before is recognised without deriving the key again: a scanner logs in for each page it sends.
        self._pepper = secrets.token_bytes(32)
        self._recognised: dict[str, bytes] = {}

    @property
    def offers_login(self) -> bool:
        """AUTH is configured."""
        return self._auth != "off"

    def admit(self, host: str) -> Admission | Reply:
        """What this host may do, or what it is greeted with instead."""
        address = _normalized(ip_address(host.partition("%")[0]))
        allowed = any(address in network for network in self._allow)
        if not allowed and self._auth != "optional":
            return replies.not_allowed(host)
        return Admission(self._auth == "required" or not allowed, self._senders_of(address))

    async def verify(self, host: str, claim: LoginAttempt) -> User | Reply:
        """Who the client is, or the reply to a claim that is not true (or may not be made now)."""
        if (early := self._early_verdict(host, claim)) is not None:
            return early
        known = self._users.get(claim.user)
        async with self._turns:
            # Looked at again: others may have guessed, or logged in, while this one waited for its turn.
            if (early := self._early_verdict(host, claim)) is not None:
                return early
            stored = known[0] if known else self._nobody
            right = await asyncio.to_thread(stored.matches, claim.reveal()) and known is not None
            if not right:
                delay = self._guard.refused(host, claim.user, self._clock.monotonic())
        if right and known is not None:
            self._guard.succeeded(claim.user)
            self._recognised[claim.user] = self._mark(claim)
            return User(claim.user, known[1])
        # Only a name we know is logged: in the place of others people type their password.
        name = claim.user if known else None
        event(_log, log_events.CLIENT_LOGIN_REFUSED, client=host, user=name, user_known=known is not None)
        await asyncio.sleep(delay)
        return replies.LOGIN_REFUSED

    def _early_verdict(self, host: str, claim: LoginAttempt) -> User | Reply | None:
        """What is clear without deriving a key: it is locked, or it is somebody we have met."""
        locked = self._guard.locked_for(host, claim.user, self._clock.monotonic())
        if locked > 0:
            return replies.login_locked(locked)
        mark = self._recognised.get(claim.user)
        if mark is not None and hmac.compare_digest(mark, self._mark(claim)):
            return User(claim.user, self._users[claim.user][1])
        return None

    def _take(self, client: ClientSettings) -> None:
        if client.user is None:
            self._networks += [(network, client.senders) for network in client.networks]
            return
        try:
            self._users[client.user] = (_read_hash(str(client.password)), client.senders)
        except PasswordHashError as error:
            raise PasswordHashError(f"The password of client {client.user}: {error.message}", hint=error.hint) from None

    def _senders_of(self, address: _IpAddress) -> tuple[AddressPattern, ...] | None:
        """Those of the smallest network the host is in; where it is in none, any."""
        return next((senders for network, senders in self._networks if address in network), None)

    def _mark(self, claim: LoginAttempt) -> bytes:
        """Means nothing outside this process: keyed with a value that only it knows."""
        return hmac.digest(self._pepper, f"{claim.user}\0{claim.reveal()}".encode("utf-8", "replace"), "sha256")


def is_loopback(host: str) -> bool:
    """True for this machine itself."""
    return _normalized(ip_address(host.partition("%")[0])).is_loopback


def _normalized(address: _IpAddress) -> _IpAddress:
    """An IPv4 client on an IPv6 socket is an IPv4 client."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _derive(password: str, how: _Scrypt) -> bytes:
    return hashlib.scrypt(
        unicodedata.normalize("NFC", password).encode("utf-8", "replace"),
        salt=how.salt,
        n=how.cost,
        r=how.block_size,
        p=how.parallel,
        dklen=len(how.digest),
        maxmem=256 * how.cost * how.block_size * how.parallel,
    )


def _like_one_of(users: Iterable[tuple[_Scrypt, object]]) -> _Scrypt:
    """A hash of no password, as costly to compare as those that are there."""
    like = next((stored for stored, _ in users), None)
    cost, block_size, parallel = (
        (like.cost, like.block_size, like.parallel) if like else (_COST, _BLOCK_SIZE, _PARALLEL)
    )
    return _Scrypt(cost, block_size, parallel, secrets.token_bytes(16), secrets.token_bytes(_DIGEST))


def _read_hash(stored: str) -> _Scrypt:
    hint = "Make one with: senderproxy client hash-password"
    try:
        name, cost, block_size, parallel, salt, digest = stored.split("$")
        found = _Scrypt(int(cost), int(block_size), int(parallel), _decode(salt), _decode(digest))
    except (ValueError, Base64Error):
        raise PasswordHashError("This is no password hash of the form scrypt$n$r$p$salt$hash.", hint=hint) from None
    power_of_two = found.cost > 1 and found.cost & (found.cost - 1) == 0
    bounded = found.cost <= _LARGEST_COST and 1 <= found.block_size <= 16 and 1 <= found.parallel <= 4
    if name != "scrypt" or not power_of_two or not bounded or len(found.salt) < 8 or not 16 <= len(found.digest) <= 64:
        raise PasswordHashError("This password hash has parameters that are not taken here.", hint=hint)
    return found


def _encode(octets: bytes) -> str:
    return b64encode(octets).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
