"""DnsClient: queries at the system's name servers.

Guarantees: bounded in time, each query and all of a client together; a failed query is not mistaken for a missing
record. dnspython is loaded with the first client, on the thread that makes it: most services look nothing up.
Not here: conclusions from the records (domain_records, routing.provider_names), addresses of smarthosts, which the
system resolves (delivery.resolver).
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from senderproxy.clock import SystemClock
from senderproxy.dns_client.answers import NULL_MX, AddressAnswer, Exchanger, ExchangerAnswer
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.late_import import ProgramReplaced, late_import
from senderproxy.translation import _

if TYPE_CHECKING:
    from senderproxy.dns_client.dnspython import Queries

_TIMEOUT: Final = 5.0  # seconds for one query, retries included
_ALL: Final = 30.0  # seconds for all queries of one client: about six of a silent name server, many of one that replies


@lru_cache(maxsize=1)
def load() -> "type[Queries]":
    """Load dnspython, unless it is. Takes 0.1 s on any thread. Raises ProgramReplaced.

    Called before mail needs look-ups; else the first client loads it.
    """
    with late_import():
        from senderproxy.dns_client.dnspython import Queries
    return Queries


class DnsClient:
    """Queries about one domain at the system's name servers, or at those given."""

    def __init__(self, nameservers: tuple[str, ...] = (), port: int = 53) -> None:
        """Raises LookupFailed if the system has no name servers. Not on an event loop: see `load`."""
        try:
            self._queries = load()(nameservers, port)
        except ProgramReplaced as error:
            raise LookupFailed(error.message) from error
        self._monotonic = SystemClock.monotonic
        self._left = _ALL

    def records(self, name: str, kind: str) -> list[str]:
        """The TXT, MX, A, AAAA or CNAME records of a name as text, aliases followed; empty if there are none.

        MX: the servers, the preferred one first, and "." for the null MX of RFC 7505. Raises LookupFailed.
        """
        found = self._records(name, kind)
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in found]
        if kind == "MX":
            found = sorted(found, key=lambda record: int(record.preference))
            return [str(record.exchange).rstrip(".") or "." for record in found]
        return [str(record).rstrip(".") for record in found]

    def mail_servers(self, domain: str) -> list[str]:
        """The names in the MX records of a domain, the preferred one first; empty if there are none (or the null MX of
        RFC 7505). Raises LookupFailed."""
        return [name for name in self.records(domain, "MX") if name != "."]

    def exchangers(self, domain: str) -> ExchangerAnswer:
        """The MX records of a domain, with their preferences, in no order. Raises LookupFailed."""
        found, exists, seconds = self._ask(domain, "MX")
        return ExchangerAnswer(
            tuple(Exchanger(int(one.preference), str(one.exchange).rstrip(".").lower() or NULL_MX) for one in found),
            exists,
            seconds,
        )

    def addresses(self, host: str) -> AddressAnswer:
        """The addresses of a host, IPv4 first; aliases are followed. Raises LookupFailed.

        If one of the two queries fails, the answer of the other one is used, unless it is empty.
        """
        found: list[str] = []
        lifetimes: list[float] = []
        failure: LookupFailed | None = None
        for kind in ("A", "AAAA"):
            try:
                records, _exists, seconds = self._ask(host, kind)
            except LookupFailed as error:
                failure = error
                continue
            found += [str(record.address) for record in records]
            lifetimes += [seconds] if records else []
        if failure is not None and not found:
            raise failure
        return AddressAnswer(tuple(found), 0.0 if failure is not None else min(lifetimes, default=0.0))

    def host_names(self, address: str) -> list[str]:
        """The names of an address in its PTR records; empty if there are none. Raises LookupFailed."""
        name = self._queries.reverse_name(address)
        return [str(record.target).rstrip(".").lower() for record in self._records(name, "PTR")]

    def _records(self, name: str, kind: str) -> list[Any]:
        return self._ask(name, kind)[0]

    def _ask(self, name: str, kind: str) -> tuple[list[Any], bool, float]:
        """The records, whether the name exists, and the TTL of the records."""
        if self._left <= 0:
            raise LookupFailed(_("no reply about {name} ({error})").format(name=name, error="Timeout"))
        begin = self._monotonic()
        try:
            return self._queries.ask(name, kind, min(_TIMEOUT, self._left))
        finally:
            self._left -= self._monotonic() - begin
