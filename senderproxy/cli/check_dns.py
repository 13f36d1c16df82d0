"""DNS records of a domain: does it authorize mail sent through the provider (SPF), is mail signed (DKIM, DMARC)? PURE.

Guarantees: a failed lookup is not mistaken for a missing record.
Not here: the choice of domains (cli.check), the queries, which are an argument (dns_client).
RFC 7208 (SPF), RFC 6376 section 3.6.2 (DKIM keys), RFC 7489 section 6.1 (DMARC).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from senderproxy.cli.findings import Finding, Level
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.translation import _, ngettext

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


# Returns the TXT records of a name; raises LookupFailed.
TxtQuery: TypeAlias = Callable[[str], Sequence[str]]


def lookup_failed_finding(subject: str, error: LookupFailed) -> Finding:
    """The finding for a lookup without a reply."""
    return Finding(
        Level.UNKNOWN,
        subject,
        _("DNS lookup failed: {error}").format(error=error),
        _("Check the network and the name servers of this machine."),
    )


def check_domain(query: TxtQuery, domain: str, provider: str, records: ProviderRecords) -> Iterator[Finding]:
    """Check SPF, DKIM and DMARC of one domain."""
    for check in (_spf, _dkim, _dmarc):
        try:
            finding = check(query, domain, provider, records)
        except LookupFailed as error:
            finding = lookup_failed_finding(_("DNS of {domain}").format(domain=domain), error)
        if finding is not None:
            yield finding


def _spf(query: TxtQuery, domain: str, provider: str, records: ProviderRecords) -> Finding:
    subject, include = _("SPF of {domain}").format(domain=domain), records.spf[0]
    found = _spf_records(query, domain)
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
    if _includes(query, found[0], records.spf):
        return Finding(Level.OK, subject, _("includes the servers of {provider}").format(provider=provider))
    return Finding(
        Level.WRONG,
        subject,
        _("does not include the servers of {provider}").format(provider=provider),
        _("Add include:{include} to the record: {record}").format(include=include, record=found[0]),
    )


def _spf_records(query: TxtQuery, name: str) -> list[str]:
    return [text for text in query(name) if text.lower().split(" ")[0] == "v=spf1"]


def _includes(query: TxtQuery, record: str, wanted: tuple[str, ...]) -> bool:
    """True if the record includes one of the wanted domains, within the lookups that a receiver makes."""
    pending, seen = [record], 0
    while pending and seen <= _MAX_SPF_LOOKUPS:
        for target in _spf_targets(pending.pop(0)):
            if target in wanted:
                return True
            seen += 1
            if seen <= _MAX_SPF_LOOKUPS:
                pending += _spf_records(query, target)[:1]
    return False


def _spf_targets(record: str) -> Iterator[str]:
    """The domains to which a record refers: include: and redirect=."""
    for term in record.lower().split():
        for prefix in ("include:", "redirect="):
            if (bare := term.lstrip("+-~?")).startswith(prefix):
                yield bare.removeprefix(prefix).rstrip(".")


def _dkim(query: TxtQuery, domain: str, provider: str, records: ProviderRecords) -> Finding | None:
    if not records.dkim:
        return None
    subject = _("DKIM of {domain}").format(domain=domain)
    found = [selector for selector in records.dkim if query(f"{selector}._domainkey.{domain}")]
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


def _dmarc(query: TxtQuery, domain: str, _provider: str, _records: ProviderRecords) -> Finding:
    subject = _("DMARC of {domain}").format(domain=domain)
    texts = query(f"_dmarc.{domain}")
    if any(text.lower().replace(" ", "").startswith("v=dmarc1") for text in texts):
        return Finding(Level.OK, subject, _("has a record"))
    return Finding(
        Level.ADVICE,
        subject,
        _("there is no DMARC record; large receivers expect one"),
        _('Add a TXT record to _dmarc.{domain}: "v=DMARC1; p=none;"').format(domain=domain),
    )
