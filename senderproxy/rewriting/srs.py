"""Signed addresses: SRS reverse-paths of redirected mail, and sub-addresses of automatic mail. PURE.

Guarantees: an address that another key signed, that was changed, or that is older than its lifetime is never undone.
An own key signs nothing else. No `repr` shows a key. Time is linear in the length of the address.
Not here: which mail gets such an address (rewriting.plan), who may send to one (relay.decide).

The Sender Rewriting Scheme (Shevek, 2004; Mail::SRS): `SRS0=HASH=TT=domain=local-part@own` for a first redirect, and
`SRS1=HASH=first-host==HASH=TT=domain=local-part@own` for an address that is an SRS address already, so that a bounce
goes back to the first host at once. TT is the day in two base32 digits; hash and time stamp ignore case, because some
servers change it. The lifetime of 21 days is that of postsrsd.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple

from senderproxy.mail.address import Address, AddressError, parse_domain

LIFETIME: Final = timedelta(days=21)  # bounces arrive within a week (RFC 5321 section 4.5.4.1)
_DAY: Final = 86_400  # seconds
_DAYS: Final = 1024  # two base32 digits; after that a time stamp repeats
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_HASH: Final = 6  # base64 digits, about 30 bits without case; the scheme has 4, which can be guessed
_LOCAL_PART: Final = 64  # octets, RFC 5321 section 4.5.3.1.1; not every server takes more
_SEPARATORS: Final = "=+-"  # after SRS0 and SRS1
_TAG: Final = "+auto-"


class InvalidSrs(Enum):
    """The reason why an SRS address is not undone."""

    FORGED = "its signature is not from this server"
    EXPIRED = "it has expired"
    MALFORMED = "it is malformed"


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys of the vault: the first one signs, all of them verify. At least one."""

    keys: Sequence[bytes] = field(repr=False)

    def sign(self, *parts: str) -> str:
        """The hash of these texts with the first key."""
        return _hash(self.keys[0], parts)

    def verify(self, signature: str, *parts: str) -> bool:
        """True if one of the keys made the hash. Ignores case."""
        lowered = signature.lower().encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(lowered, _hash(key, parts).lower().encode("ascii")) for key in self.keys)


class _Parts(NamedTuple):
    is_first: bool  # SRS0
    separator: str
    rest: str


def _split(local_part: str) -> _Parts | None:
    """The parts of a local part in the form of SRS; None for any other."""
    name, separator, rest = local_part[:4].upper(), local_part[4:5], local_part[5:]
    if name not in ("SRS0", "SRS1") or separator not in _SEPARATORS or not separator or not rest:
        return None
    return _Parts(name == "SRS0", separator, rest)


def is_srs(address: Address) -> bool:
    """True for an address in the form of SRS, valid or not."""
    return _split(address.local_part) is not None


def make_srs(address: Address, domain: str, keys: SigningKeys, now: datetime) -> Address | None:
    """The SRS address of the domain that stands for the address; None if it would be too long."""
    found = _split(address.local_part)
    if found is None:
        stamp = _stamp(now)
        signature = keys.sign("srs0", stamp, address.domain, address.local_part)
        local_part = f"SRS0={signature}={stamp}={address.domain}={address.local_part}"
    else:
        host, rest = address.domain, f"{found.separator}{found.rest}"
        if not found.is_first:  # the first host stays
            parts = found.rest.split("=", 2)  # hash, host, rest
            if len(parts) != 3:
                return None
            host, rest = parts[1], parts[2]
        local_part = f"SRS1={keys.sign('srs1', host, rest)}={host}={rest}"
    return Address(local_part, domain) if len(local_part.encode("utf-8", "surrogatepass")) <= _LOCAL_PART else None


def undo_srs(address: Address, keys: SigningKeys, now: datetime) -> Address | InvalidSrs:
    """Return the address for which an SRS address of ours stands."""
    found = _split(address.local_part)
    if found is None:
        return InvalidSrs.MALFORMED
    try:
        if found.is_first:
            signature, stamp, domain, local_part = found.rest.split("=", 3)
            if not keys.verify(signature, "srs0", stamp, domain, local_part):
                return InvalidSrs.FORGED
            return Address(local_part, parse_domain(domain)) if _is_valid(stamp, now) else InvalidSrs.EXPIRED
        signature, host, rest = found.rest.split("=", 2)
        if not keys.verify(signature, "srs1", host, rest):
            return InvalidSrs.FORGED
        return Address(f"SRS0{rest}", parse_domain(host))
    except (ValueError, AddressError):  # ValueError: too few parts
        return InvalidSrs.MALFORMED


def make_sub_address(address: Address, keys: SigningKeys, now: datetime) -> Address | None:
    """The address with a signed +tag, for the reverse-path of automatic mail; None if it would be too long."""
    stamp = _stamp(now)
    signature = keys.sign("auto", stamp, address.domain, address.local_part)
    local_part = f"{address.local_part}{_TAG}{stamp}{signature}"
    return Address(local_part, address.domain) if len(local_part) <= _LOCAL_PART else None


def is_own_sub_address(address: Address, keys: SigningKeys, now: datetime) -> bool:
    """True for a sub-address of automatic mail that we signed within its lifetime."""
    local_part, found, rest = address.local_part.rpartition(_TAG)
    stamp, signature = rest[:2], rest[2:]
    signed = keys.verify(signature, "auto", stamp, address.domain, local_part)
    return bool(found) and signed and _is_valid(stamp, now)


def _hash(key: bytes, parts: Sequence[str]) -> str:
    # The parts are of a fixed number for each kind, which is the first one: the texts cannot be divided in another way.
    text = "\0".join(parts).lower().encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(key, text, "sha256"))[:_HASH].decode("ascii")


def _stamp(now: datetime) -> str:
    day = int(now.timestamp()) // _DAY % _DAYS
    return _BASE32[day >> 5] + _BASE32[day & 31]


def _is_valid(stamp: str, now: datetime) -> bool:
    digits = [_BASE32.find(character) for character in stamp.upper()]
    if len(digits) != 2 or min(digits) < 0:
        return False
    age = (int(now.timestamp()) // _DAY - (digits[0] * 32 + digits[1])) % _DAYS
    return age <= LIFETIME.days or age == _DAYS - 1  # tomorrow: the clock was set back meanwhile
