"""Mail addresses: parse, compare, render. PURE.

Guarantees: `parse_address` reads the text of an Address as an equal Address. Two spellings of one mailbox have the same
`key`. Domains are lower case A-labels, local parts are as written.

Not here: addresses in header fields (mail.author), the grammar of MAIL and RCPT (wire.command).

RFC 5321 section 4.1.2, RFC 5890, RFC 5891.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

import idna
import idna.uts46data  # idna imports it at the first use only; a running service must not load modules

# Octets. RFC 5321 section 4.5.3.1.1 asks for 64 at least; reply addresses of web services have more and are delivered.
# With the longest domain, two quotes and the brackets the address still fits a line of a header field (998 octets).
LOCAL_PART_LIMIT: Final = 700
DOMAIN_LIMIT: Final = 255  # octets, RFC 5321 section 4.5.3.1.2

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = re.compile(rf"[{_ATEXT}]++(?>(?:\.[{_ATEXT}]++)*)")
# Old mail servers create addresses such as `anna.@x` and `a..b@x`. They exist and are delivered, so they are accepted.
_LOOSE_DOT_STRING = re.compile(rf"[{_ATEXT}.]++")
_QUOTED = re.compile(r'"((?>(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*))"')
_DOTS: Final = (".", "\u3002", "\uff0e", "\uff61")  # RFC 3490 section 3.1: also written with these
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LITERAL = re.compile(r"\[(?:([0-9.]{7,15})|[Ii][Pp][Vv]6:([0-9A-Fa-f:.]{2,45}))\]")


class AddressError(ValueError):
    """Invalid address. The message gives the reason, for the person who typed it."""


class NonAsciiLocalPart(AddressError):
    """A local part outside ASCII: valid with SMTPUTF8 (RFC 6531), but no provider accepts it."""


class Address(NamedTuple):  # its hash is C's: each message looks up a dozen
    """One mailbox address. Compare by `key`: `==` is case-sensitive in the local part."""

    local_part: str  # as written, without quoting
    domain: str  # lower case, A-label, or an address literal in brackets

    def __str__(self) -> str:
        return f"{_quote_if_needed(self.local_part)}@{self.domain}"

    @property
    def key(self) -> str:
        """The same for all spellings of one mailbox. No known provider distinguishes ANNA@ from anna@."""
        return f"{self.local_part.lower()}@{self.domain}"

    @property
    def without_tag(self) -> "Address | None":
        """anna@x for anna+shop@x (RFC 5233 sub-addressing), None without a tag."""
        base, plus, _ = self.local_part.partition("+")
        return Address(base, self.domain) if plus and base else None


class NullPath(Enum):
    """Type of the null reverse-path, `<>` (RFC 5321 section 4.5.5)."""

    NULL = "<>"

    def __str__(self) -> str:
        return ""


NULL_PATH: Final = NullPath.NULL
ReversePath: TypeAlias = Address | NullPath
ForwardPath: TypeAlias = Address


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """One address, or all addresses of a domain (`@firma.example`, local_part None)."""

    local_part: str | None
    domain: str

    def __str__(self) -> str:
        return f"@{self.domain}" if self.local_part is None else str(Address(self.local_part, self.domain))

    def matches(self, address: Address) -> bool:
        """True for the named address, or any address of the named domain. Case is ignored."""
        if address.domain != self.domain:
            return False
        return self.local_part is None or self.local_part.lower() == address.local_part.lower()


_CACHED_LENGTH: Final = 383  # characters; longer addresses are rarely repeated


def parse_address(text: str) -> Address:
    """Parse `local-part@domain`. Raises AddressError with the reason.

    Accepts quoted local parts, address literals and international domains (U-labels or A-labels). Rejects control
    characters, spaces outside quotation marks and non-ASCII local parts (they need SMTPUTF8 at every server to the
    recipient, RFC 6531).
    """
    return _parse_cached(text) if len(text) <= _CACHED_LENGTH else _parse(text)


def _parse(text: str) -> Address:
    local_part, domain = _split(text)
    return Address(_read_local_part(local_part, text), parse_domain(domain))


# Cached because the same addresses occur again and again.
_parse_cached = lru_cache(maxsize=1024)(_parse)


def parse_pattern(text: str) -> AddressPattern:
    """Parse `anna@firma.example`, `@firma.example` or `*@firma.example`. Raises AddressError."""
    if text.startswith(("@", "*@")):
        return AddressPattern(None, parse_domain(text.partition("@")[2]))
    address = parse_address(text)
    return AddressPattern(address.local_part, address.domain)


def is_local_name(text: str) -> bool:
    """True for a name without a domain, such as `root`, that needs no quotation marks."""
    return bool(_LOOSE_DOT_STRING.fullmatch(text))


def parse_domain(text: str) -> str:
    """Parse a domain. Returns it in lower case as A-labels; raises AddressError.

    IDNA 2008 with UTS 46 mapping, non-transitional: straße.example does not become strasse.example. One dot at the end
    (the form of an absolute name in DNS) is dropped, as Postfix does.
    """
    if not text:
        raise AddressError("the domain after the @ is missing")
    if text.startswith("["):
        return _read_literal(text)
    text = text[:-1] if text[-1] in _DOTS and text[-2:-1] not in ("", *_DOTS) else text
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True, transitional=False).decode("ascii")
        except idna.IDNAError as error:
            raise AddressError(f"{_show(text)} is not a domain name: {_show(str(error))}") from error
    if len(domain) > DOMAIN_LIMIT:
        raise AddressError(f"the domain is longer than {DOMAIN_LIMIT} characters")
    for label in domain.split("."):
        if not _LABEL.fullmatch(label):
            raise AddressError(f"{_show(text)} is not a domain name")
    return domain


def _read_literal(text: str) -> str:
    """Parse an address literal. Returns it in the canonical form of ipaddress (RFC 5321 section 4.1.3)."""
    found = _LITERAL.fullmatch(text)
    if found is not None:
        try:
            return f"[IPv6:{IPv6Address(found[2])}]" if found[2] else f"[{IPv4Address(found[1])}]"
        except ValueError:
            pass
    raise AddressError(f"{_show(text)} is not an address literal")


def _split(text: str) -> tuple[str, str]:
    if not text:
        raise AddressError("the address is empty")
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None or text[quoted.end() : quoted.end() + 1] != "@":
            raise AddressError(f"{_show(text)} has an unclosed quotation mark before the @")
        return text[: quoted.end()], text[quoted.end() + 1 :]
    local_part, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(f"{_show(text)} has no @")
    return local_part, domain


def _read_local_part(local_part: str, whole: str) -> str:
    if len(local_part.encode("utf-8", "surrogatepass")) > LOCAL_PART_LIMIT:
        raise AddressError(f"the part before the @ is longer than {LOCAL_PART_LIMIT} characters")
    if not local_part:
        raise AddressError(f"{_show(whole)} has nothing before the @")
    quoted = _QUOTED.fullmatch(local_part)
    if quoted is not None:
        text = re.sub(r"\\(.)", r"\1", quoted.group(1))
        if not text:
            raise AddressError(f"{_show(whole)} has nothing before the @")
        return text
    if not local_part.isascii():
        raise NonAsciiLocalPart(
            f"{_show(whole)} has a character outside ASCII before the @, which providers do not accept"
        )
    if not _LOOSE_DOT_STRING.fullmatch(local_part):
        raise AddressError(f"{_show(whole)} has a character before the @ that needs quotation marks")
    return local_part


@lru_cache(maxsize=1024)
def _quote_if_needed(local_part: str) -> str:
    if _DOT_STRING.fullmatch(local_part) or _LOOSE_DOT_STRING.fullmatch(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def _show(text: str) -> str:
    """The text in printable ASCII, shortened to 100 characters, for a reply or the log."""
    printable = text.encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in printable)
    return printable if len(printable) <= 100 else printable[:97] + "..."
