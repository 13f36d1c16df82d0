"""Admission of clients by network, SMTP AUTH, and the senders that each client may use.

Guarantees: a host outside `allow` gets only a refusal; a password is compared in constant time, never stored, never
logged; an unknown user name takes as much time as a known one. A failed login counts also if its client has left.
Not here: the AUTH exchange (wire.auth), enforcement of the senders (relay.decide).
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
from typing import Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.config.values import IpNetwork
from senderproxy.errors import SenderproxyError
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.listener.password_threads import PasswordThreads
from senderproxy.listener.turned_away import TurnedAway, TurnedAwayClients
from senderproxy.log import event
from senderproxy.mail.address import AddressPattern
from senderproxy.mail.host_group import IpAddress, group_of, host_address, host_group
from senderproxy.mail.reply import Reply
from senderproxy.translation import _
from senderproxy.wire import replies
from senderproxy.wire.auth import LoginAttempt
from senderproxy.worker_threads import WorkerThreadsError

_log = logging.getLogger("senderproxy.listener")

# scrypt parameters, RFC 7914: 32 MiB of memory and about 0.1 s for each guess.
_COST: Final = 2**15  # N; memory is 128 * N * r octets
_BLOCK_SIZE: Final = 8  # r, as RFC 7914 section 2 recommends
_PARALLEL: Final = 1  # p
_MAX_COST: Final = 2**18  # N of a stored hash, 256 MiB with r = 8: a typing error must not allocate gigabytes
_SALT: Final = 16  # octets, NIST SP 800-132 section 5.1
_DIGEST: Final = 32  # octets, as long as SHA-256's


class PasswordHashError(SenderproxyError):
    """A client's password in the configuration is not a valid password hash."""


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
    """A salted hash of the password, `scrypt$n$r$p$salt$hash`, for the configuration."""
    made = _Scrypt(_COST, _BLOCK_SIZE, _PARALLEL, secrets.token_bytes(_SALT), bytes(_DIGEST))
    digest = _derive(password, made)
    return f"scrypt${made.cost}${made.block_size}${made.parallel}${_encode(made.salt)}${_encode(digest)}"


def verify_password(password: str, stored: str) -> bool:
    """True where the password matches the hash. Raises PasswordHashError where `stored` is not a valid hash."""
    return _read_hash(stored).matches(password)


@dataclass(frozen=True, slots=True)
class Admission:
    """Rights of an admitted host. `senders` None: any sender that has an account."""

    login_required: bool
    senders: tuple[AddressPattern, ...] | None
    client: str  # the name by which its connections are counted: its address, or the /64 network of an unknown one
    known: bool  # this machine, or in [[clients]]: no limits on its rates, and it may have the reserved connections
    is_check: bool = False  # a proxy's connection without a client's address: it may not send mail


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user of a client. `senders` None: any sender that has an account."""

    name: str
    senders: tuple[AddressPattern, ...] | None


class ClientAuth:
    """Admission and authentication for one listener."""

    def __init__(
        self,
        settings: ListenerSettings,
        clients: Iterable[ClientSettings],
        clock: Clock,
        throttle: LoginThrottle | None = None,
        passwords: PasswordThreads | None = None,
        turned_away: TurnedAwayClients | None = None,
    ) -> None:
        """`turned_away`: the counts of clients that got no further, shared by all listeners."""
        self._turned_away = TurnedAwayClients() if turned_away is None else turned_away
        self._auth = settings.auth
        self._clock = clock
        self._allow = settings.allow
        self._networks: list[tuple[IpNetwork, tuple[AddressPattern, ...] | None]] = []
        self._default: tuple[AddressPattern, ...] | None = None  # senders of hosts without an entry; None: any
        self._users: dict[str, tuple[_Scrypt, tuple[AddressPattern, ...] | None]] = {}
        for client in clients:
            self._add(client)
        self._networks.sort(key=lambda entry: entry[0].prefixlen, reverse=True)
        self._throttle = throttle or LoginThrottle(ThrottleLimits())
        self._passwords = passwords or PasswordThreads()
        self._dummy = _dummy_hash(self._users.values())
        # A repeated login is recognised without deriving the key again: a scanner logs in for each page it sends.
        self._pepper = secrets.token_bytes(32)  # octets, the key length of HMAC-SHA-256
        self._verified: dict[str, bytes] = {}

    @property
    def names_clients(self) -> bool:
        """True where there are [[clients]]."""
        return bool(self._networks or self._users)

    @property
    def offers_login(self) -> bool:
        """True where AUTH is configured."""
        return self._auth != "off"

    def admit(self, host: str) -> Admission | Reply:
        """The rights of a host (an IP address), or the reply that replaces the greeting."""
        address = host_address(host)
        allowed = any(address in network for network in self._allow)
        if not allowed and self._auth != "optional":
            return replies.not_allowed(host)
        known = address.is_loopback or any(address in network for network, _senders in self._networks)
        login_required = self._auth == "required" or not allowed
        return Admission(login_required, self._senders_of(address), str(address) if known else group_of(address), known)

    def count_turned_away(self, host: str, reason: TurnedAway, why: str) -> None:
        """Count a client that got no further. `host`: its address or its network; `why`: for the operator."""
        client = host if "/" in host else host_group(host)
        self._turned_away.turn_away(client, reason, why, self._clock.monotonic())

    async def verify(self, host: str, attempt: LoginAttempt) -> User | Reply:
        """The user, or the reply to a login that is wrong or locked. A reply to a wrong one is delayed."""
        if (early := self._early_result(host, attempt)) is not None:
            if isinstance(early, Reply):
                self.count_turned_away(host, TurnedAway.LOGIN_LOCKED, str(early))
            return early
        source = host_group(host)
        if not self._passwords.enter(source):
            return replies.TOO_MANY_LOGINS_AT_ONCE
        # A task of its own: a client that leaves early neither frees the thread nor avoids the count of its failure.
        check = asyncio.create_task(self._check(host, attempt))
        check.add_done_callback(lambda _: self._passwords.leave(source))
        await wait_done(check)
        result, delay = check.result()
        await asyncio.sleep(delay)
        return result

    async def _check(self, host: str, attempt: LoginAttempt) -> tuple[User | Reply, float]:
        """The result of a login that needs a key derivation, and the seconds by which its reply is delayed."""
        known = self._users.get(attempt.user)
        stored = known[0] if known else self._dummy
        async with self._passwords.free:
            # Checked again: other attempts may have failed or succeeded during the wait for a thread.
            if (early := self._early_result(host, attempt)) is not None:
                return early, 0.0
            try:
                matches = await self._passwords.derive(lambda: stored.matches(attempt.reveal()))
            except WorkerThreadsError:  # the system has no thread left
                return replies.TOO_MANY_LOGINS_AT_ONCE, 0.0
            if matches and known is not None:
                self._throttle.succeeded(host_group(host), attempt.user, self._clock.monotonic())
                self._verified[attempt.user] = self._mark(attempt)
                return User(attempt.user, known[1]), 0.0
            delay = self._throttle.failed(host_group(host), attempt.user, self._clock.monotonic())
        # Only a known name is logged: instead of an unknown one, a person may have typed the password.
        name = attempt.user if known else None
        event(_log, log_events.CLIENT_LOGIN_REFUSED, client=host, user=name, user_known=known is not None)
        self.count_turned_away(host, TurnedAway.LOGIN_FAILED, str(replies.AUTH_FAILED))
        return replies.AUTH_FAILED, delay

    def _early_result(self, host: str, attempt: LoginAttempt) -> User | Reply | None:
        """The result that needs no key derivation: locked, or verified before. None: derive."""
        source, now = host_group(host), self._clock.monotonic()
        locked = self._throttle.locked_for(source, attempt.user, now)
        if locked > 0:
            return replies.auth_locked(locked)
        mark = self._verified.get(attempt.user)
        if mark is not None and hmac.compare_digest(mark, self._mark(attempt)):
            self._throttle.succeeded(source, attempt.user, now)
            return User(attempt.user, self._users[attempt.user][1])
        return None

    def _add(self, client: ClientSettings) -> None:
        if client.default:
            self._default = client.senders
            return
        if client.user is None:
            self._networks += [(network, client.senders) for network in client.networks]
            return
        try:
            self._users[client.user] = (_read_hash(str(client.password)), client.senders)
        except PasswordHashError as error:
            message = _("The password of client {user}: {error}").format(user=client.user, error=error.message)
            raise PasswordHashError(message, hint=error.hint) from None

    def _senders_of(self, address: IpAddress) -> tuple[AddressPattern, ...] | None:
        """The senders of the smallest network with the host, else of the default entry; None: any."""
        return next((senders for network, senders in self._networks if address in network), self._default)

    def _mark(self, attempt: LoginAttempt) -> bytes:
        """A keyed digest of user and password; the key exists only in this process."""
        return hmac.digest(self._pepper, f"{attempt.user}\0{attempt.reveal()}".encode("utf-8", "replace"), "sha256")


def is_loopback(host: str) -> bool:
    """True for an address of this machine's loopback interface, also as an IPv4-mapped IPv6 address."""
    return host_address(host).is_loopback


def _derive(password: str, parameters: _Scrypt) -> bytes:
    return hashlib.scrypt(
        unicodedata.normalize("NFC", password).encode("utf-8", "replace"),
        salt=parameters.salt,
        n=parameters.cost,
        r=parameters.block_size,
        p=parameters.parallel,
        dklen=len(parameters.digest),
        maxmem=256 * parameters.cost * parameters.block_size * parameters.parallel,
    )


def _dummy_hash(users: Iterable[tuple[_Scrypt, object]]) -> _Scrypt:
    """A hash that matches no password and takes as much time as the users' own."""
    like = next((stored for stored, _senders in users), None)
    cost, block_size, parallel = (
        (like.cost, like.block_size, like.parallel) if like else (_COST, _BLOCK_SIZE, _PARALLEL)
    )
    return _Scrypt(cost, block_size, parallel, secrets.token_bytes(_SALT), secrets.token_bytes(_DIGEST))


def _read_hash(stored: str) -> _Scrypt:
    hint = _("To create a hash: senderproxy client hash-password")
    try:
        name, cost, block_size, parallel, salt, digest = stored.split("$")
        found = _Scrypt(int(cost), int(block_size), int(parallel), _decode(salt), _decode(digest))
    except (ValueError, Base64Error):
        raise PasswordHashError(_("Not a password hash of the form scrypt$n$r$p$salt$hash."), hint=hint) from None
    power_of_two = found.cost > 1 and found.cost & (found.cost - 1) == 0
    bounded = found.cost <= _MAX_COST and 1 <= found.block_size <= 16 and 1 <= found.parallel <= 4
    if name != "scrypt" or not power_of_two or not bounded or len(found.salt) < 8 or not 16 <= len(found.digest) <= 64:
        raise PasswordHashError(_("Password hash with parameters outside the allowed range."), hint=hint)
    return found


def _encode(octets: bytes) -> str:
    return b64encode(octets).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
