"""Addresses as the envelope carries them: parse, compare, render.

Guarantees: an Address renders to something `parse_address` reads back as an equal one; two spellings of one mailbox
have one `key`. Domains are kept lower case and as A-labels, local parts as they were written.
Not here: finding an address inside a header field (mail.author), the grammar of MAIL and RCPT (wire.command).
RFC 5321 section 4.1.2, RFC 5890, RFC 5891.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

import idna

LOCAL_PART_LIMIT: Final = 64  # octets, RFC 5321 section 4.5.3.1.1
DOMAIN_LIMIT: Final = 255  # octets, RFC 5321 section 4.5.3.1.2

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = re.compile(rf"[{_ATEXT}]++(?>(?:\.[{_ATEXT}]++)*)")
# Old mail servers make addresses such as `anna.@x` and `a..b@x`; they exist and are delivered, so we carry them.
_LOOSE_DOT_STRING = re.compile(rf"[{_ATEXT}.]++")
_QUOTED = re.compile(r'"((?>(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*))"')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LITERAL = re.compile(r"\[(?:([0-9.]{7,15})|[Ii][Pp][Vv]6:([0-9A-Fa-f:.]{2,45}))\]")


class AddressError(ValueError):
    """The text is no address; the message says what is wrong with it, in words for the person who typed it."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox address. Compare with `key`: `==` is exact in the local part."""

    local_part: str  # as written, without quoting
    domain: str  # lower case, A-label, or an address literal in brackets

    def __str__(self) -> str:
        return f"{_quote_if_needed(self.local_part)}@{self.domain}"

    @property
    def key(self) -> str:
        """What two spellings of the same mailbox have in common (no provider we know tells ANNA@ from anna@)."""
        return f"{self.local_part.lower()}@{self.domain}"

    @property
    def without_tag(self) -> "Address | None":
        """anna@x for anna+shop@x (RFC 5233 sub-addressing), None where there is no tag."""
        base, plus, _ = self.local_part.partition("+")
        return Address(base, self.domain) if plus and base else None


class NullPath(Enum):
    """The reverse-path of mail that must not be answered (RFC 5321 section 4.5.5)."""

    NULL = "<>"

    def __str__(self) -> str:
        return ""


NULL_PATH: Final = NullPath.NULL
ReversePath: TypeAlias = Address | NullPath
ForwardPath: TypeAlias = Address


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """One address, or all of a domain (`@firma.example`, local_part None)."""

    local_part: str | None
    domain: str

    def __str__(self) -> str:
        return f"@{self.domain}" if self.local_part is None else str(Address(self.local_part, self.domain))

    def matches(self, address: Address) -> bool:
        """True where the address is the one named, or of the domain named; case does not matter."""
        if address.domain != self.domain:
            return False
        return self.local_part is None or self.local_part.lower() == address.local_part.lower()


_WHOLE_LIMIT: Final = 2 * LOCAL_PART_LIMIT + DOMAIN_LIMIT  # characters of an address worth remembering


def parse_address(text: str) -> Address:
    """Read `local-part@domain`; raise AddressError with the reason otherwise.

    Takes quoted local parts, address literals and international domains (as U-label or A-label); refuses control
    characters, spaces outside quotes and non-ASCII local parts (those need SMTPUTF8 end to end, RFC 6531).
    """
    return _parse_again(text) if len(text) <= _WHOLE_LIMIT else _parse(text)


def _parse(text: str) -> Address:
    local_part, domain = _split(text)
    return Address(_read_local_part(local_part, text), parse_domain(domain))


# The same people write to the same people all day long.
_parse_again = lru_cache(maxsize=1024)(_parse)


def parse_pattern(text: str) -> AddressPattern:
    """Read `anna@firma.example`, `@firma.example` or `*@firma.example`; raise AddressError otherwise."""
    if text.startswith(("@", "*@")):
        return AddressPattern(None, parse_domain(text.partition("@")[2]))
    address = parse_address(text)
    return AddressPattern(address.local_part, address.domain)


def parse_domain(text: str) -> str:
    """The domain in lower case as A-labels; raise AddressError where it is none.

    IDNA 2008 with UTS 46 mapping, non-transitional: straße.example stays itself and never becomes strasse.example.
    """
    if not text:
        raise AddressError("the domain after the @ is missing")
    if text.startswith("["):
        return _read_literal(text)
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True, transitional=False).decode("ascii")
        except idna.IDNAError as error:
            raise AddressError(f"{_show(text)} is no domain name: {_show(str(error))}") from error
    if len(domain) > DOMAIN_LIMIT:
        raise AddressError(f"the domain is longer than {DOMAIN_LIMIT} characters")
    for label in domain.split("."):
        if not _LABEL.fullmatch(label):
            raise AddressError(f"{_show(text)} is no domain name")
    return domain


def _read_literal(text: str) -> str:
    """An IP address in brackets, written in the one way in which ipaddress writes it (RFC 5321 section 4.1.3)."""
    found = _LITERAL.fullmatch(text)
    if found is not None:
        try:
            return f"[IPv6:{IPv6Address(found[2])}]" if found[2] else f"[{IPv4Address(found[1])}]"
        except ValueError:
            pass
    raise AddressError(f"{_show(text)} is no address literal")


def _split(text: str) -> tuple[str, str]:
    if not text:
        raise AddressError("the address is empty")
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None or text[quoted.end() : quoted.end() + 1] != "@":
            raise AddressError(f"{_show(text)} has a quotation mark that is not closed before the @")
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
        raise AddressError(f"{_show(whole)} has a character outside ASCII before the @, which needs SMTPUTF8")
    if not _LOOSE_DOT_STRING.fullmatch(local_part):
        raise AddressError(f"{_show(whole)} has a character before the @ that needs quotation marks")
    return local_part


@lru_cache(maxsize=1024)
def _quote_if_needed(local_part: str) -> str:
    if _DOT_STRING.fullmatch(local_part) or _LOOSE_DOT_STRING.fullmatch(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def _show(text: str) -> str:
    """The text as it may stand in a reply or a log line: printable ASCII, not longer than a line."""
    printable = text.encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in printable)
    return printable if len(printable) <= 100 else printable[:97] + "..."
