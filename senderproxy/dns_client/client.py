"""DnsClient: queries at the system's name servers.

Guarantees: bounded in time; a failed query is not mistaken for a missing record.
Not here: conclusions from the records (cli.check_dns, routing.provider_names), addresses of smarthosts, which the
system resolves (delivery.resolver).
"""

from typing import Any, Final

import dns.exception
import dns.resolver

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.translation import _

_TIMEOUT: Final = 5.0  # seconds for one query, retries included


class DnsClient:
    """TXT and MX queries at the system's name servers, or at those given."""

    def __init__(self, nameservers: tuple[str, ...] = (), port: int = 53) -> None:
        """Raises LookupFailed if the system has no name servers."""
        try:
            self._resolver = dns.resolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            raise LookupFailed(_("this machine has no name servers configured")) from error
        if nameservers:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port
        self._resolver.lifetime = _TIMEOUT

    def txt_records(self, name: str) -> list[str]:
        """The TXT records of a name, aliases followed; empty if there are none. Raises LookupFailed."""
        return [b"".join(record.strings).decode("utf-8", "replace") for record in self._records(name, "TXT")]

    def mail_servers(self, domain: str) -> list[str]:
        """The names in the MX records of a domain, the preferred one first; empty if there are none (or the null MX of
        RFC 7505). Raises LookupFailed."""
        records = sorted(self._records(domain, "MX"), key=lambda record: int(record.preference))
        names = [str(record.exchange).rstrip(".") for record in records]
        return [name for name in names if name]

    def _records(self, name: str, kind: str) -> list[Any]:
        try:
            return list(self._resolver.resolve(name, kind))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            text = _("no reply about {name} ({error})").format(name=name, error=type(error).__name__)
            raise LookupFailed(text) from error
