"""Queries by dnspython: the implementation of dns_client.client, loaded with the first DnsClient.

Guarantees: all of dnspython is loaded with this module.
Not here: the meaning of the records, the time for all queries (dns_client.client).
"""

from typing import Any

import dns.exception
import dns.rdata
import dns.resolver
import dns.reversename
import dns.update  # a reply may claim to be one; dnspython would import it then

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.translation import _

# Else it imports them when a reply has one: an upgrade may have replaced them then.
dns.rdata.load_all_types()  # type: ignore[no-untyped-call]


class Queries:
    """Queries at the system's name servers, or at those given."""

    def __init__(self, nameservers: tuple[str, ...], port: int) -> None:
        """Raises LookupFailed if the system has no name servers."""
        try:
            self._resolver = dns.resolver.Resolver(configure=not nameservers)
        except (dns.resolver.NoResolverConfiguration, OSError, ValueError) as error:
            raise LookupFailed(_("this machine has no name servers configured")) from error
        if nameservers:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port

    def ask(self, name: str, kind: str, seconds: float) -> tuple[list[Any], bool, float]:
        """The records, whether the name exists, and the TTL of the records. Raises LookupFailed."""
        try:
            answer = self._resolver.resolve(name, kind, lifetime=seconds)
            return list(answer), True, float(answer.rrset.ttl if answer.rrset is not None else 0)
        except dns.resolver.NXDOMAIN:
            return [], False, 0.0
        except dns.resolver.NoAnswer:
            return [], True, 0.0
        except (dns.exception.DNSException, OSError, ValueError) as error:
            text = _("no reply about {name} ({error})").format(name=name, error=type(error).__name__)
            raise LookupFailed(text) from error

    @staticmethod
    def reverse_name(address: str) -> str:
        """The name whose PTR records name an address."""
        return dns.reversename.from_address(address).to_text(omit_final_dot=True)
