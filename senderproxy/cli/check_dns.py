"""DNS records of a domain: does it authorize mail sent through the provider (SPF), is mail signed (DKIM, DMARC)?

Guarantees: bounded in time; a failed lookup is not mistaken for a missing record.
Not here: the choice of domains (cli.check). The only module that imports dns.
RFC 7208 (SPF), RFC 6376 section 3.6.2 (DKIM keys), RFC 7489 section 6.1 (DMARC).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import dns.exception
import dns.resolver

from senderproxy.cli.findings import Finding, Level
from senderproxy.translation import _, ngettext

_TIMEOUT: Final = 5.0  # seconds for one lookup, retries included
_MAX_SPF_LOOKUPS: Final = 10  # RFC 7208 section 4.6.4


@dataclass(frozen=True, slots=True)
class ProviderRecords:
    """The records by which a domain authorizes a provider."""

    spf: tuple[str, ...]  # an include of one of these; the first is the one to add
    dkim: tuple[str, ...]  # selectors, one of which must have a key; empty: they differ between domains


# IONOS: https://www.ionos.de/hilfe/domains/mailserver-und-verwandte-records-konfigurieren/ (SPF on by default), and
# the records that its zones carry; perfora and kundenserver are the older names.
_IONOS: Final = ProviderRecords(
    ("_spf-eu.ionos.com", "_spf-us.ionos.com", "_spf.kundenserver.de", "_spf.perfora.net"),
    ("s1-ionos", "s2-ionos"),
)
PROVIDER_RECORDS: Final[Mapping[str, ProviderRecords]] = MappingProxyType(
    dict.fromkeys(("ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr", "1und1"), _IONOS)
    | {
        # https://support.google.com/a/answer/33786, https://learn.microsoft.com/defender-office-365/email-authentication-spf-configure
        "gmail": ProviderRecords(("_spf.google.com",), ("google",)),
        "m365": ProviderRecords(("spf.protection.outlook.com",), ("selector1", "selector2")),
    }
)


class LookupFailed(Exception):
    """There was no reply: the network or the name server is at fault, not the domain."""


class DnsClient:
    """TXT lookups at the system's name servers, or at those given."""

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
        try:
            answer = self._resolver.resolve(name, "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            text = _("no reply about {name} ({error})").format(name=name, error=type(error).__name__)
            raise LookupFailed(text) from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


def lookup_failed_finding(subject: str, error: LookupFailed) -> Finding:
    """The finding for a lookup without a reply."""
    return Finding(
        Level.UNKNOWN,
        subject,
        _("DNS lookup failed: {error}").format(error=error),
        _("Check the network and the name servers of this machine."),
    )


def check_domain(client: DnsClient, domain: str, provider: str, records: ProviderRecords) -> Iterator[Finding]:
    """Check SPF, DKIM and DMARC of one domain."""
    for check in (_spf, _dkim, _dmarc):
        try:
            finding = check(client, domain, provider, records)
        except LookupFailed as error:
            finding = lookup_failed_finding(_("DNS of {domain}").format(domain=domain), error)
        if finding is not None:
            yield finding


def _spf(client: DnsClient, domain: str, provider: str, records: ProviderRecords) -> Finding:
    subject, include = _("SPF of {domain}").format(domain=domain), records.spf[0]
    found = _spf_records(client, domain)
    if not found:
        return Finding(
            Level.WRONG,
            subject,
            _("there is no SPF record: receivers cannot tell your mail from forged mail"),
            _('Add a TXT record to {domain}: "v=spf1 include:{include} ~all"').format(domain=domain, include=include),
        )
    if len(found) > 1:
        return Finding(
            Level.WRONG,
            subject,
            ngettext(
                "there is {count} record, so none is valid", "there are {count} records, so none is valid", len(found)
            ).format(count=len(found)),
            _("Merge them: put all include: parts into a single record."),
        )
    if _includes(client, found[0], records.spf):
        return Finding(Level.OK, subject, _("includes the servers of {provider}").format(provider=provider))
    return Finding(
        Level.WRONG,
        subject,
        _("does not include the servers of {provider}").format(provider=provider),
        _("Add include:{include} to the record: {record}").format(include=include, record=found[0]),
    )


def _spf_records(client: DnsClient, name: str) -> list[str]:
    return [text for text in client.txt_records(name) if text.lower().split(" ")[0] == "v=spf1"]


def _includes(client: DnsClient, record: str, wanted: tuple[str, ...]) -> bool:
    """True if the record includes one of the wanted domains, within the lookups that a receiver makes."""
    pending, seen = [record], 0
    while pending and seen <= _MAX_SPF_LOOKUPS:
        for target in _spf_targets(pending.pop(0)):
            if target in wanted:
                return True
            seen += 1
            if seen <= _MAX_SPF_LOOKUPS:
                pending += _spf_records(client, target)[:1]
    return False


def _spf_targets(record: str) -> Iterator[str]:
    """The domains to which a record refers: include: and redirect=."""
    for term in record.lower().split():
        for prefix in ("include:", "redirect="):
            if (bare := term.lstrip("+-~?")).startswith(prefix):
                yield bare.removeprefix(prefix).rstrip(".")


def _dkim(client: DnsClient, domain: str, provider: str, records: ProviderRecords) -> Finding | None:
    if not records.dkim:
        return None
    subject = _("DKIM of {domain}").format(domain=domain)
    found = [selector for selector in records.dkim if client.txt_records(f"{selector}._domainkey.{domain}")]
    if found:
        text = _("has the key {selector} of {provider}").format(selector=found[0], provider=provider)
        return Finding(Level.OK, subject, text)
    names = ", ".join(f"{selector}._domainkey.{domain}" for selector in records.dkim)
    return Finding(
        Level.ADVICE,
        subject,
        _("no key of {provider} found: mail is sent without a valid signature").format(provider=provider),
        _("Enable DKIM at {provider}. If the DNS is hosted elsewhere, enter the records that it shows: {names}").format(
            provider=provider, names=names
        ),
    )


def _dmarc(client: DnsClient, domain: str, _provider: str, _records: ProviderRecords) -> Finding:
    subject = _("DMARC of {domain}").format(domain=domain)
    texts = client.txt_records(f"_dmarc.{domain}")
    if any(text.lower().replace(" ", "").startswith("v=dmarc1") for text in texts):
        return Finding(Level.OK, subject, _("has a record"))
    return Finding(
        Level.ADVICE,
        subject,
        _("there is no DMARC record; large receivers expect one"),
        _('Add a TXT record to _dmarc.{domain}: "v=DMARC1; p=none;"').format(domain=domain),
    )
