"""SPF records: the terms of one record, with its first syntax error by its place. PURE.

Guarantees: time in proportion to the length. A record with an error anywhere is an error as a whole, as for a receiver.
Not here: the evaluation (spf). RFC 7208 sections 4.6.1, 5 to 7 and 12.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

VERSION: Final = "v=spf1"
_NAME_LIMIT: Final = 253  # octets of a domain name, RFC 1035 section 2.3.4
_LABEL_LIMIT: Final = 63  # octets, same section
_IPV4_BITS: Final = 32  # of an address
_IPV6_BITS: Final = 128  # of an address
_TERM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)([:=/]?)(.*)", re.DOTALL)
_CIDR = re.compile(r"(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?")
_MACRO = re.compile(r"%\{([A-Za-z])([0-9]{0,3})([rR]?)([.+,/_=-]*)\}|%([%_-])")
_MACRO_LETTERS: Final = frozenset("slodiphv")  # RFC 7208 section 7.2; c, r and t are for explanations only
_MECHANISMS: Final = frozenset(("all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"))
_TARGETS: Final = frozenset(("include", "exists", "redirect"))  # these need a domain

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class SpfTerm:
    """A mechanism, or the modifier `redirect`."""

    text: str  # as published
    qualifier: str  # + - ~ ?
    name: str  # lower case
    target: str = ""  # domain-spec, with its macros; empty: the domain of the record
    network: Network | None = None  # of ip4 and ip6
    prefixes: tuple[int, int] = (32, 128)  # bits of IPv4 and IPv6 addresses that count, of a and mx


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record without a syntax error."""

    text: str
    terms: tuple[SpfTerm, ...]  # mechanisms in order
    redirect: SpfTerm | None
    ignored: tuple[str, ...] = ()  # modifiers with the name of a mechanism: `include=`, for example


@dataclass(frozen=True, slots=True)
class SpfSyntaxError:
    """The first error of a record; `place` counts the terms after the version from 1."""

    term: str
    place: int


class _InvalidTerm(ValueError):
    """A term that is none."""


def is_spf(text: str) -> bool:
    """True if a TXT record is an SPF record: RFC 7208 section 4.5."""
    return text[: len(VERSION)].lower() == VERSION and text[len(VERSION) : len(VERSION) + 1] in ("", " ")


def is_misspelt_spf(text: str) -> bool:
    """True for a text that is meant as an SPF record and is none."""
    begin = text[:40].lstrip(" \"'\t=").lower().replace(" ", "")
    return not is_spf(text) and begin.startswith(("v=spf", "v:spf", "spf1"))


def parse_spf(text: str) -> SpfRecord | SpfSyntaxError:
    """The terms of a text that `is_spf`."""
    terms: list[SpfTerm] = []
    ignored: list[str] = []
    modifiers: dict[str, SpfTerm] = {}
    place = 0
    for word in text[len(VERSION) :].split(" "):
        if not word:
            continue
        place += 1
        try:
            term = _term(word)
        except _InvalidTerm:
            return SpfSyntaxError(word, place)
        if term is None:
            if word.partition("=")[0].lower() in _MECHANISMS:
                ignored.append(word)
        elif term.name not in ("redirect", "exp"):
            terms.append(term)
        elif term.name in modifiers:  # RFC 7208 section 6: at most once
            return SpfSyntaxError(word, place)
        else:
            modifiers[term.name] = term
    return SpfRecord(text, tuple(terms), modifiers.get("redirect"), tuple(ignored))


def _term(word: str) -> SpfTerm | None:
    """The term of a word; None for an unknown modifier: receivers ignore it. Raises _InvalidTerm."""
    match = _TERM.fullmatch(word)
    if match is None or not word.isascii() or not word.isprintable():
        raise _InvalidTerm(word)
    qualifier, name, separator, rest = match.groups()
    name = name.lower()
    if separator == "=":
        if qualifier:
            raise _InvalidTerm(word)
        if name not in ("redirect", "exp"):
            return None
        return SpfTerm(word, "+", name, _domain_spec(rest, word))
    if name not in _MECHANISMS:
        raise _InvalidTerm(word)
    return _mechanism(word, qualifier or "+", name, separator + rest)


def _mechanism(word: str, qualifier: str, name: str, rest: str) -> SpfTerm:
    """A mechanism; `rest` begins with its `:` or `/`, or is empty."""
    if name in ("ip4", "ip6"):
        return SpfTerm(word, qualifier, name, network=_network(name, rest, word))
    prefixes = _IPV4_BITS, _IPV6_BITS
    if name in ("a", "mx"):
        rest, prefixes = _split_prefix_lengths(rest, word)
    target = ""
    if rest.startswith(":"):
        target = _domain_spec(rest[1:], word)
    elif rest or name in _TARGETS:
        raise _InvalidTerm(word)
    if name == "all" and target:
        raise _InvalidTerm(word)
    return SpfTerm(word, qualifier, name, target, prefixes=prefixes)


def _split_prefix_lengths(rest: str, word: str) -> tuple[str, tuple[int, int]]:
    slash = rest.find("/", rest.rfind("}") + 1)  # a macro may contain one
    if slash < 0:
        return rest, (_IPV4_BITS, _IPV6_BITS)
    match = _CIDR.fullmatch(rest[slash:])
    if match is None or int(match[1] or 0) > _IPV4_BITS or int(match[2] or 0) > _IPV6_BITS:
        raise _InvalidTerm(word)
    return rest[:slash], (int(match[1] or _IPV4_BITS), int(match[2] or _IPV6_BITS))


def _network(name: str, rest: str, word: str) -> Network:
    address, slash, length = rest[1:].partition("/")
    bits = _IPV4_BITS if name == "ip4" else _IPV6_BITS
    if not rest.startswith(":") or "%" in address:  # a zone, as in fe80::1%eth0
        raise _InvalidTerm(word)
    if slash and not (length.isascii() and length.isdigit() and len(length) <= len(str(bits))):
        raise _InvalidTerm(word)
    prefix = int(length) if slash else bits
    try:
        if name == "ip4":
            return IPv4Network((address, prefix), strict=False)
        return IPv6Network((address, prefix), strict=False)
    except ValueError:
        raise _InvalidTerm(word) from None


def _domain_spec(text: str, word: str) -> str:
    """A domain with macros. Raises _InvalidTerm. RFC 7208 section 7.1."""
    bare = _MACRO.sub("\0", text)
    if not text or "%" in bare or any(m[1] and m[1].lower() not in _MACRO_LETTERS for m in _MACRO.finditer(text)):
        raise _InvalidTerm(word)
    if bare.endswith("\0"):
        return text
    labels = bare.rstrip(".").split(".")
    last = labels[-1]
    is_name = len(labels) > 1 and all(0 < len(label) <= _LABEL_LIMIT for label in labels) and len(bare) <= _NAME_LIMIT
    if not is_name or not last.replace("-", "").isalnum() or last.isdigit():
        raise _InvalidTerm(word)
    return text


def expand(target: str, domain: str) -> str | None:
    """The name of a domain-spec; None if it depends on the message or its client. RFC 7208 section 7.3."""
    if "%" not in target:
        return target.lower().rstrip(".")
    if any(m[1] and m[1].lower() not in "do" for m in _MACRO.finditer(target)):
        return None

    def replacement(match: re.Match[str]) -> str:
        if not match[1]:
            return {"%": "%", "_": " ", "-": "%20"}[match[5]]
        parts = domain.split(".")
        if match[3]:
            parts.reverse()
        if match[2]:
            parts = parts[-int(match[2]) :] if int(match[2]) else parts
        return ".".join(parts)

    name = _MACRO.sub(replacement, target).lower().rstrip(".")
    is_name = len(name) <= _NAME_LIMIT and all(0 < len(label) <= _LABEL_LIMIT for label in name.split("."))
    return name if is_name else None
