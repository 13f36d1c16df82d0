"""Presets found by the words of an operator, by a server's name, by an address or by MX records. PURE.

Guarantees: a preset is found only by a name of its own, by its submission server or by its domain of mail servers.
Not here: the look-up of MX records (dns_client), the presets (routing.presets).

Domains of mail servers and mailboxes: Thunderbird's autoconfiguration database (github.com/thunderbird/autoconfig,
ispdb: the `domain` elements, which are for MX records too); of ionos.* the mail servers in public zone files.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from senderproxy.routing.presets import PRESETS

_DOMAINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        domain: preset
        for preset, domains in {
            "ionos-de": "ionos.de 1und1.de kundenserver.de schlund.de",
            "ionos-com": "ionos.com 1and1.com",
            "ionos-uk": "ionos.co.uk 1and1.co.uk",
            "ionos-es": "ionos.es",
            "ionos-fr": "ionos.fr",
            "ionos-exchange": "exchange.ionos.eu",
            "gmx": "gmx.net gmx.de gmx.at gmx.ch gmx.eu gmx.biz gmx.org gmx.info",
            "web.de": "web.de",
            "mail.com": "mail.com",
            "strato": "strato.de rzone.de",
            "t-online": "t-online.de",
            "hetzner": "your-server.de",
            "domainfactory": "df.eu ispgateway.de",
            "ovh": "ovh.net",
            "posteo": "posteo.de",
            "vodafone": "vodafonemail.de",
            "gmail": "gmail.com googlemail.com google.com",
            "m365": "office365.com onmicrosoft.com mail.protection.outlook.com",
        }.items()
        for domain in domains.split()
    }
)

# Names without blanks, signs and case; `_word` makes them.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1and1": "1und1",
        "telekom": "t-online",
        "telekomde": "t-online",
        "google": "gmail",
        "googlemail": "gmail",
        "googleworkspace": "gmail",
        "microsoft": "m365",
        "microsoft365": "m365",
        "office365": "m365",
        "o365": "m365",
        "exchangeonline": "m365",
        "outlook": "m365",
        "df": "domainfactory",
        "ovhcloud": "ovh",
    }
)
_IONOS: Final = "ionos"  # several presets, one for each country
_IONOS_BY_COUNTRY: Final[Mapping[str, str]] = MappingProxyType(
    {"uk": "ionos-uk", "es": "ionos-es", "fr": "ionos-fr", "de": "ionos-de"}
)
# One platform with the same mail servers: mx00.ionos.de and mx00.kundenserver.de take the mail of all of them.
_OF_IONOS: Final = frozenset(("ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr", "1und1"))


def preset_names() -> list[str]:
    """The presets with a server."""
    return sorted(name for name, preset in PRESETS.items() if preset.smarthosts)


def preset_named(text: str, domain: str = "", proposed: str | None = None) -> str | None:
    """The preset with this name, written in any way; None if there is none.

    `domain` is that of a mailbox, and `proposed` the preset of its MX records: they choose among the servers of IONOS.
    """
    word = _word(text)
    if word == _IONOS:
        if proposed is not None and proposed.startswith(_IONOS):
            return proposed
        return _IONOS_BY_COUNTRY.get(domain.rpartition(".")[2], "ionos-de")
    return {_word(name): name for name in preset_names()}.get(word) or _WORDS.get(word)


def has_countries(text: str) -> bool:
    """True for the name of a provider with a server for each country, so that a domain has to choose."""
    return _word(text) == _IONOS


def preset_of_server(host: str) -> str | None:
    """The preset with this submission server."""
    name = host.lower().rstrip(".")
    return next(
        (preset.name for preset in PRESETS.values() for smarthost in preset.smarthosts if smarthost.host == name), None
    )


def preset_of_mail_servers(hosts: Iterable[str]) -> str | None:
    """The preset with these mail servers: names in MX records, the preferred one first, or a mailbox's domain."""
    for host in hosts:
        labels = host.lower().rstrip(".").split(".")
        for begin in range(len(labels)):
            if preset := _DOMAINS.get(".".join(labels[begin:])):
                return preset
    return None


def is_mail_server_of(host: str, preset: str) -> bool:
    """True if this name of an MX record is one of the servers of the preset's provider; of IONOS in any country."""
    found = preset_of_mail_servers((host,))
    return found is not None and _provider(found) == _provider(preset)


def _provider(preset: str) -> str:
    return _IONOS if preset in _OF_IONOS else preset


def similar_presets(text: str) -> list[str]:
    """The presets with a similar name."""
    word = _word(text)
    begun = [name for name in preset_names() if word and _word(name).startswith(word)]
    return begun or get_close_matches(text.lower(), preset_names(), 3)


def _word(text: str) -> str:
    return "".join(c for c in text.casefold().replace("&", "und").replace("+", "und") if c.isalnum())
