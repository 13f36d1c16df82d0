"""What the world's mail servers read about a domain: does its DNS vouch for mail that leaves through the provider?

Guarantees: bounded in time; a question that could not be asked is told apart from one that was answered with nothing.
Not here: which domains (cli.check). The only module that says dns.
RFC 7208 (SPF), RFC 6376 section 3.6.2 (DKIM keys), RFC 7489 section 6.1 (DMARC).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import dns.exception
import dns.resolver

from senderproxy.cli.findings import Finding, Level

_SECONDS: Final = 5.0  # for one question, retries included
_LOOKUPS: Final = 10  # RFC 7208 section 4.6.4


@dataclass(frozen=True, slots=True)
class Vouching:
    """What a domain's DNS must say so that mail through a provider is believed."""

    spf: tuple[str, ...]  # an include of one of these; the first is what to write
    dkim: tuple[str, ...]  # selectors, one of which must be there; empty: they differ from domain to domain


# IONOS: https://www.ionos.de/hilfe/domains/mailserver-und-verwandte-records-konfigurieren/ (SPF on by default), and
# the records that its zones carry; perfora and kundenserver are the older names.
_IONOS: Final = Vouching(
    ("_spf-eu.ionos.com", "_spf-us.ionos.com", "_spf.kundenserver.de", "_spf.perfora.net"),
    ("s1-ionos", "s2-ionos"),
)
KNOWN: Final[Mapping[str, Vouching]] = MappingProxyType(
    dict.fromkeys(("ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr", "1und1"), _IONOS)
    | {
        # https://support.google.com/a/answer/33786, https://learn.microsoft.com/defender-office-365/email-authentication-spf-configure
        "gmail": Vouching(("_spf.google.com",), ("google",)),
        "m365": Vouching(("spf.protection.outlook.com",), ("selector1", "selector2")),
    }
)


class Unasked(Exception):
    """No answer came: the network or the name server is at fault, not the domain."""


class Asker:
    """Asks the system's name servers, or those given."""

    def __init__(self, nameservers: tuple[str, ...] = (), port: int = 53) -> None:
        try:
            self._resolver = dns.resolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            raise Unasked("this machine has no name servers configured") from error
        if nameservers:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port
        self._resolver.lifetime = _SECONDS

    def texts(self, name: str) -> list[str]:
        """The TXT records of a name, aliases followed; none where there are none. Raises Unasked."""
        try:
            answer = self._resolver.resolve(name, "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unasked(f"no answer about {name} ({type(error).__name__})") from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


def check_domain(asker: Asker, domain: str, provider: str, vouching: Vouching) -> Iterator[Finding]:
    """SPF, DKIM and DMARC of one domain, each with its mend."""
    for judged in (_spf, _dkim, _dmarc):
        try:
            found = judged(asker, domain, provider, vouching)
        except Unasked as error:
            found = Finding(Level.UNKNOWN, f"DNS of {domain}", f"could not ask: {error}", "Is there a network?")
        if found is not None:
            yield found


def _spf(asker: Asker, domain: str, provider: str, vouching: Vouching) -> Finding:
    what, include = f"SPF of {domain}", vouching.spf[0]
    records = _policies(asker, domain)
    if not records:
        mend = f'Add to {domain} a TXT record: "v=spf1 include:{include} ~all"'
        return Finding(Level.WRONG, what, "there is none: receivers cannot tell your mail from forged mail", mend)
    if len(records) > 1:
        mend = "Make one of them: put all include: parts into a single record."
        return Finding(Level.WRONG, what, f"there are {len(records)} records, so none counts", mend)
    if _reaches(asker, records[0], vouching.spf):
        return Finding(Level.OK, what, f"vouches for {provider}")
    mend = f"Add include:{include} to it: {records[0]}"
    return Finding(Level.WRONG, what, f"does not vouch for {provider}", mend)


def _policies(asker: Asker, name: str) -> list[str]:
    return [text for text in asker.texts(name) if text.lower().split(" ")[0] == "v=spf1"]


def _reaches(asker: Asker, record: str, wanted: tuple[str, ...]) -> bool:
    """Whether a policy includes one of the wanted ones, through as many others as a receiver would follow."""
    waiting, seen = [record], 0
    while waiting and seen <= _LOOKUPS:
        for target in _targets(waiting.pop(0)):
            if target in wanted:
                return True
            seen += 1
            if seen <= _LOOKUPS:
                waiting += _policies(asker, target)[:1]
    return False


def _targets(record: str) -> Iterator[str]:
    """The domains a policy hands on to: include: and redirect=."""
    for term in record.lower().split():
        for prefix in ("include:", "redirect="):
            if (bare := term.lstrip("+-~?")).startswith(prefix):
                yield bare.removeprefix(prefix).rstrip(".")


def _dkim(asker: Asker, domain: str, provider: str, vouching: Vouching) -> Finding | None:
    if not vouching.dkim:
        return None
    what = f"DKIM of {domain}"
    found = [selector for selector in vouching.dkim if asker.texts(f"{selector}._domainkey.{domain}")]
    if found:
        return Finding(Level.OK, what, f"the key {found[0]} of {provider} is there")
    names = " or ".join(f"{selector}._domainkey.{domain}" for selector in vouching.dkim)
    mend = f"Switch DKIM on at {provider}; it shows what to enter where the DNS is kept elsewhere ({names})."
    return Finding(Level.ADVICE, what, f"no key of {provider} is there: mail leaves without a valid signature", mend)


def _dmarc(asker: Asker, domain: str, _provider: str, _vouching: Vouching) -> Finding:
    what = f"DMARC of {domain}"
    if any(text.lower().replace(" ", "").startswith("v=dmarc1") for text in asker.texts(f"_dmarc.{domain}")):
        return Finding(Level.OK, what, "is there")
    mend = f'Add to _dmarc.{domain} a TXT record: "v=DMARC1; p=none;"'
    return Finding(Level.ADVICE, what, "there is none, which large receivers count against you", mend)
