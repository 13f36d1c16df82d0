"""SPF: does the record of a domain name the addresses of this machine? PURE.

For mail that this machine hands to the recipients' servers itself. Guarantees: evaluated as a receiver does, with its
limits on look-ups; a failed look-up, or a term that depends on the message, is never taken for a wrong record.
Not here: the record of a domain whose mail leaves through a provider (spf). RFC 7208 sections 4.6, 5 and 6.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.judgement import shown
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.spf import LOOKUPS, VOID_LOOKUPS
from senderproxy.domain_records.spf_record import SpfRecord, SpfSyntaxError, SpfTerm, expand, is_spf, parse_spf

_HOSTS: Final = 10  # names in the answer to one `mx`, RFC 7208 section 4.6.4
_COUNTED: Final = frozenset(("include", "a", "mx", "ptr", "exists"))

IpAddress: TypeAlias = IPv4Address | IPv6Address


class SpfResult(Enum):
    """Result of a receiver's check. The value is the key in JSON."""

    NAMED = "named"  # pass
    NOT_NAMED = "not-named"  # any other result, for certain
    INVALID = "invalid"  # permerror
    UNKNOWN = "unknown"  # no reply of the DNS, or it depends on the message


@dataclass(frozen=True, slots=True)
class AddressVerdict:
    """The result for the addresses of this machine: the worst one. `record`: as published, or empty."""

    result: SpfResult
    address: str  # the first one with this result
    record: str = ""
    why: str = ""  # of an invalid record or an unknown result

    @property
    def is_wrong(self) -> bool:
        """True if receivers refuse mail from the address, or sort it out."""
        return self.result in (SpfResult.NOT_NAMED, SpfResult.INVALID)


_WORST_FIRST: Final = (SpfResult.INVALID, SpfResult.NOT_NAMED, SpfResult.UNKNOWN, SpfResult.NAMED)


def judge_addresses(lookups: Lookups, domain: str, addresses: Iterable[str]) -> AddressVerdict:
    """The worst result of these addresses of this machine; there is at least one."""
    verdicts = [_judge(lookups, domain, ip_address(address)) for address in addresses]
    return min(verdicts, key=lambda verdict: _WORST_FIRST.index(verdict.result))


class _PermError(Exception):
    """The record is invalid for every receiver."""


class _Uncertain(Exception):
    """A term that depends on the message."""


def _judge(lookups: Lookups, domain: str, address: IpAddress) -> AddressVerdict:
    texts: tuple[str, ...] = ()
    try:
        texts = tuple(text for text in lookups.texts(domain) if is_spf(text))
        check = _Check(lookups, address)
        result = SpfResult.NOT_NAMED
        if texts and check.check(domain) == "+":
            result = SpfResult.NAMED
        elif check.uncertain:
            result = SpfResult.UNKNOWN
        return AddressVerdict(result, str(address), shown(" | ".join(texts)), shown(check.uncertain))
    except _PermError as error:
        return AddressVerdict(SpfResult.INVALID, str(address), shown(" | ".join(texts)), shown(str(error)))
    except (LookupFailed, _Uncertain) as error:
        return AddressVerdict(SpfResult.UNKNOWN, str(address), shown(" | ".join(texts)), shown(str(error)))


class _Check:
    """check_host() of RFC 7208 section 4, for one address and the limits of one evaluation."""

    def __init__(self, lookups: Lookups, address: IpAddress) -> None:
        self._lookups = lookups
        self._address = address
        self._count = 0  # terms that cause look-ups
        self._void = 0  # of these, without a result
        self.uncertain = ""  # a term that may give a pass, by the message; what follows decides if it does not

    def check(self, domain: str) -> str:
        """The qualifier of the term that matches; `?` if none does. Raises _PermError, _Uncertain, LookupFailed."""
        record = self._record(domain)
        for term in record.terms:
            if term.name in _COUNTED:
                self._note_look_up()
            if self._matches_certainly(domain, term):
                return term.qualifier
        if record.redirect is None or any(term.name == "all" for term in record.terms):
            return "?"
        self._note_look_up()
        return self.check(_name(record.redirect, domain))

    def _record(self, domain: str) -> SpfRecord:
        found = [text for text in self._lookups.texts(domain) if is_spf(text)]
        if len(found) != 1:
            raise _PermError(f"{domain}: {len(found)} SPF")
        record = parse_spf(found[0])
        if isinstance(record, SpfSyntaxError):
            raise _PermError(record.term)
        return record

    def _matches_certainly(self, domain: str, term: SpfTerm) -> bool:
        """True if the term matches; a `+` term that depends on the message does not, and is noted."""
        before = self.uncertain
        try:
            matches = self._matches(domain, term)
        except _Uncertain as error:
            self.uncertain, matches = str(error), False
        if term.qualifier != "+" and self.uncertain != before:
            raise _Uncertain(self.uncertain)
        return matches

    def _matches(self, domain: str, term: SpfTerm) -> bool:
        match term.name:
            case "all":
                return True
            case "ip4" | "ip6":
                return term.network is not None and self._address in term.network
            case "include":
                return self.check(_name(term, domain)) == "+"
            case "a":
                return self._is_among(term, self._addresses(_name(term, domain)))
            case "mx":
                return self._matches_mx(term, _name(term, domain))
            case "exists":
                return bool(self._addresses(_name(term, domain), kinds=("A",)))
            case _:  # ptr: RFC 7208 section 5.5 asks not to use it, and receivers may ignore it
                return False

    def _matches_mx(self, term: SpfTerm, name: str) -> bool:
        servers = [server for server in self._lookups.records(name, "MX") if server.strip(".")]
        self._note_void(not servers)
        if len(servers) > _HOSTS:
            raise _PermError(f"{term.text}: {len(servers)} MX")
        return any(self._is_among(term, self._lookups.records(server, self._kind)) for server in servers)

    @property
    def _kind(self) -> str:
        return "A" if self._address.version == 4 else "AAAA"

    def _addresses(self, name: str, kinds: tuple[str, ...] = ()) -> list[str]:
        found = [record for kind in kinds or (self._kind,) for record in self._lookups.records(name, kind)]
        self._note_void(not found)
        return found

    def _is_among(self, term: SpfTerm, records: Iterable[str]) -> bool:
        bits = term.prefixes[self._address.version == 6]
        return any(self._address in ip_network((record, bits), strict=False) for record in records)

    def _note_look_up(self) -> None:
        self._count += 1
        if self._count > LOOKUPS:
            raise _PermError(f"> {LOOKUPS}")

    def _note_void(self, is_void: bool) -> None:
        self._void += is_void
        if self._void > VOID_LOOKUPS:
            raise _PermError(f"> {VOID_LOOKUPS} void")


def _name(term: SpfTerm, domain: str) -> str:
    """The name of a term; without one, that of the record. Raises _Uncertain."""
    if not term.target:
        return domain
    name = expand(term.target, domain)
    if name is None:
        raise _Uncertain(term.text)
    return name
