"""Rules of the simulated provider: permitted addresses, the grammar of MAIL and RCPT.

Guarantees: same input, same result. Addresses and parameters are parsed strictly, with a grammar of its own.

Not here: the texts of replies (simulator.provider_replies), the syntax of the header (simulator.headers), counts and
times (simulator.observations).

RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2; RFC 4954 section 5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from senderproxy.simulator.provider_replies import ServerReply

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_LOCAL = rf'(?:{_ATEXT}(?:\.{_ATEXT})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[!-Z^-~]+\])"
_PATH = re.compile(rf"<({_LOCAL}@{_DOMAIN})>")
_ADDRESS = re.compile(rf"{_LOCAL}@{_DOMAIN}")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")

NULL: Final = ""  # the null reverse-path; an empty string cannot be an address


class OwnershipRule(Enum):
    """Addresses that the provider permits a mailbox as the origin of a message."""

    ANY = "any"
    DOMAIN = "domain"  # any address in the mailbox's own domain: IONOS since January 2024
    ADDRESS = "address"  # the mailbox's own address and its aliases: GMX, WEB.DE, most Postfix hosters


class EnforcedAt(Enum):
    """Command at which a reverse-path against the ownership rule is refused."""

    MAIL = "mail"
    RCPT = "rcpt"  # Postfix with smtpd_delay_reject
    DATA = "data"


@dataclass(frozen=True, slots=True)
class SimulatedMailbox:
    """Password and addresses of one login."""

    password: str = field(repr=False)
    address: str = ""  # its address, if the login is not an address
    aliases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()  # further domains under the rule "domain"


@dataclass(frozen=True, slots=True)
class PathCommand:
    """Parsed argument of MAIL or RCPT."""

    path: str  # NULL, or local@domain as written
    parameters: Mapping[str, str]


def domain_of(address: str) -> str:
    """The part after the last @, in lower case."""
    return address.rpartition("@")[2].lower()


def may_send_as(address: str, login: str, mailbox: SimulatedMailbox, rule: OwnershipRule) -> bool:
    """True if this login may send as this address. The null reverse-path is a setting of its own."""
    own = mailbox.address or login
    match rule:
        case OwnershipRule.ANY:
            return True
        case OwnershipRule.DOMAIN:
            return domain_of(address) in {domain_of(own), *(domain.lower() for domain in mailbox.domains)}
        case OwnershipRule.ADDRESS:
            return address.lower() in {own.lower(), *(alias.lower() for alias in mailbox.aliases)}


def reply_for_recipient(address: str, answers: Mapping[str, ServerReply]) -> ServerReply | None:
    """Return the reply configured for this address or its `@domain`, None if the recipient is accepted."""
    return answers.get(address.lower()) or answers.get(f"@{domain_of(address)}")


def read_path_command(argument: str, keyword: str) -> PathCommand | None:
    """Parse the argument of MAIL or RCPT. Returns None if it is not exactly in the form of RFC 5321.

    Stricter than most servers on purpose: some refuse a space after the colon, a missing bracket or a source route, so
    a relay must not send them.
    """
    if argument[: len(keyword) + 1].upper() != f"{keyword}:":
        return None
    path, *rest = argument[len(keyword) + 1 :].split(" ")
    found = _PATH.fullmatch(path)
    if found is None and not (path == "<>" and keyword == "FROM"):
        return _quoted_path_command(argument, keyword)
    parameters = _read_parameters(rest)
    return None if parameters is None else PathCommand(found[1] if found else NULL, parameters)


def _quoted_path_command(argument: str, keyword: str) -> PathCommand | None:
    """Parse a path with a quoted local part that contains spaces."""
    found = _PATH.match(argument, len(keyword) + 1)
    if found is None:
        return None
    rest = argument[found.end() :]
    if rest and not rest.startswith(" "):
        return None
    parameters = _read_parameters(rest[1:].split(" ") if rest else [])
    return None if parameters is None else PathCommand(found[1], parameters)


def _read_parameters(words: list[str]) -> Mapping[str, str] | None:
    parameters: dict[str, str] = {}
    for word in words:
        found = _PARAMETER.fullmatch(word)
        if found is None or found[1].upper() in parameters:
            return None
        parameters[found[1].upper()] = found[2] or ""
    return parameters


def parameters_offered(extensions: tuple[str, ...]) -> frozenset[str]:
    """Return the MAIL and RCPT parameters of the offered extensions."""
    parameters = {
        "SIZE": ("SIZE",),
        "8BITMIME": ("BODY",),
        "AUTH": ("AUTH",),
        "DSN": ("RET", "ENVID", "NOTIFY", "ORCPT"),
        "SMTPUTF8": ("SMTPUTF8",),
        "REQUIRETLS": ("REQUIRETLS",),
    }
    names = {extension.partition(" ")[0].upper() for extension in extensions}
    return frozenset(parameter for name in names for parameter in parameters.get(name, ()))
