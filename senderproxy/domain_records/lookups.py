"""Lookups: the DNS queries about one domain, each made once. PURE: the query is an argument.

Guarantees: at most QUERIES queries. A failed query is never taken for a missing record; a name that does not exist has
no records.
Not here: the queries themselves and their time limit (dns_client).
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.translation import _

# Returns the records of a name and a type (TXT, MX, A, AAAA, CNAME) as text; raises LookupFailed. MX: the servers, the
# preferred one first; "." for the null MX of RFC 7505.
Query: TypeAlias = Callable[[str, str], Sequence[str]]

QUERIES: Final = 150  # of one domain; a usual one needs ten, an SPF record with 25 names 60


class Lookups:
    """The records of one domain, and of the names that they refer to."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._found: dict[tuple[str, str], Sequence[str] | LookupFailed] = {}  # QUERIES

    def records(self, name: str, kind: str) -> Sequence[str]:
        """The records of this type; empty if there are none. Raises LookupFailed."""
        key = name.lower().rstrip("."), kind
        if key not in self._found:
            self._found[key] = self._ask(*key)
        found = self._found[key]
        if isinstance(found, LookupFailed):
            raise found
        return found

    def texts(self, name: str) -> Sequence[str]:
        """The TXT records of a name. Raises LookupFailed."""
        return self.records(name, "TXT")

    def has_address(self, name: str) -> bool:
        """True if the name has an IPv4 or IPv6 address. Raises LookupFailed."""
        return bool(self.records(name, "A") or self.records(name, "AAAA"))

    def _ask(self, name: str, kind: str) -> Sequence[str] | LookupFailed:
        if len(self._found) >= QUERIES:
            return LookupFailed(_("no reply about {name} (too many look-ups)").format(name=name))
        try:
            return tuple(self._query(name, kind))
        except LookupFailed as error:
            return error
