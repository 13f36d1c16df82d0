"""Records of a provider's authorization by a domain: SPF include and DKIM selectors. PURE."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from senderproxy.routing.account import Account
from senderproxy.routing.fallback import Fallback, replaced_senders


@dataclass(frozen=True, slots=True)
class ProviderRecords:
    """The records of a domain that authorize a provider."""

    spf: tuple[str, ...]  # an include of one of these; the first is the one to add
    dkim: tuple[str, ...]  # selectors, one of which must have a key


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
# Domains of mailboxes at these providers: their records are the provider's business.
_MAILBOX_DOMAINS: Final = frozenset(
    (
        *("gmail.com", "googlemail.com", "online.de"),
        *("outlook.com", "outlook.de", "hotmail.com", "hotmail.de", "live.com", "live.de", "msn.com"),
    )
)
_TENANTS: Final = ".onmicrosoft.com"  # Microsoft signs and lists these itself


def records_of_domains(
    accounts: Iterable[Account], preset_of: Callable[[str], str]
) -> Mapping[tuple[str, str], ProviderRecords]:
    """The domains of these accounts whose records are known and the office's business, each with its provider.

    `preset_of` returns the preset of a provider.
    """
    return {
        (pattern.domain, account.provider): records
        for account in accounts
        if (records := PROVIDER_RECORDS.get(preset_of(account.provider))) is not None
        for pattern in account.carries
        if _is_own_domain(pattern.domain)
    }


def records_of_fallbacks(
    fallbacks: Iterable[tuple[Account, Fallback]], preset_of: Callable[[str], str]
) -> Mapping[tuple[str, str], ProviderRecords | None]:
    """The domains of these accounts whose mail their fallbacks send unchanged, each with the fallback's provider.

    None: the records of that provider are not known.
    """
    found: dict[tuple[str, str], ProviderRecords | None] = {}
    for account, fallback in fallbacks:
        replaced, name = set(replaced_senders(account, fallback)), fallback.provider.name
        for pattern in account.carries:
            if pattern not in replaced and _is_own_domain(pattern.domain):
                found[pattern.domain, name] = PROVIDER_RECORDS.get(preset_of(name))
    return found


def _is_own_domain(domain: str) -> bool:
    return domain not in _MAILBOX_DOMAINS and not domain.endswith(_TENANTS) and not domain.startswith("[")
