"""Who may send what: the simulator's decisions, as values.

Guarantees: same inputs, same answer; addresses and parameters are read strictly, by a grammar of this room's own.
Not here: the words (simulator.phrases), the header's syntax (simulator.headers), counting and time
(simulator.ledger).
RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2; RFC 4954 section 5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from senderproxy.simulator.phrases import Answer

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_LOCAL = rf'(?:{_ATEXT}(?:\.{_ATEXT})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[!-Z^-~]+\])"
_PATH = re.compile(rf"<({_LOCAL}@{_DOMAIN})>")
_ADDRESS = re.compile(rf"{_LOCAL}@{_DOMAIN}")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")

NULL: Final = ""  # the simulator keeps the empty reverse-path as the empty string, which no address can be


class OwnershipRule(Enum):
    """Whom the provider lets a mailbox name as the one a message comes from."""

    ANY = "any"
    DOMAIN = "domain"  # any address in the mailbox's own domain: IONOS since January 2024
    ADDRESS = "address"  # the mailbox's own address and its aliases: GMX, WEB.DE, most Postfix hosters


class Held(Enum):
    """At which command a reverse-path that breaks the rule is refused."""

    AT_MAIL = "mail"
    AT_RCPT = "rcpt"  # Postfix's smtpd_delay_reject
    AT_DATA = "data"


@dataclass(frozen=True, slots=True)
class SimulatedMailbox:
    """What stands behind one login."""

    password: str = field(repr=False)
    address: str = ""  # its address, where the login is something else
    aliases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()  # further domains that it may send for under the rule "domain"


@dataclass(frozen=True, slots=True)
class PathCommand:
    """What follows MAIL FROM: or RCPT TO:, taken apart."""

    path: str  # NULL, or local@domain as written
    parameters: Mapping[str, str]


def domain_of(address: str) -> str:
    """The part after the last @, in lower case."""
    return address.rpartition("@")[2].lower()


def may_send_as(address: str, login: str, mailbox: SimulatedMailbox, rule: OwnershipRule) -> bool:
    """Whether this login may send as this address. The null reverse-path is asked about elsewhere."""
    own = mailbox.address or login
    match rule:
        case OwnershipRule.ANY:
            return True
        case OwnershipRule.DOMAIN:
            return domain_of(address) in {domain_of(own), *(domain.lower() for domain in mailbox.domains)}
        case OwnershipRule.ADDRESS:
            return address.lower() in {own.lower(), *(alias.lower() for alias in mailbox.aliases)}


def answer_for_recipient(address: str, answers: Mapping[str, Answer]) -> Answer | None:
    """What is set down for this recipient, by its address or by `@domain`; None where it is simply taken."""
    return answers.get(address.lower()) or answers.get(f"@{domain_of(address)}")


def read_path_command(argument: str, keyword: str) -> PathCommand | None:
    """Take apart what follows MAIL or RCPT; None where it is not exactly what RFC 5321 prints.

    Stricter than real servers on purpose: a space after the colon, a missing bracket or a source route is what some
    of them refuse, so a relay must not send it.
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
    """The rare path with spaces inside its quotes, which cannot be split at spaces."""
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
    """The MAIL and RCPT parameters that belong to the extensions a server has named."""
    belonging = {
        "SIZE": ("SIZE",),
        "8BITMIME": ("BODY",),
        "AUTH": ("AUTH",),
        "DSN": ("RET", "ENVID", "NOTIFY", "ORCPT"),
        "SMTPUTF8": ("SMTPUTF8",),
        "REQUIRETLS": ("REQUIRETLS",),
    }
    named = {extension.partition(" ")[0].upper() for extension in extensions}
    return frozenset(parameter for name in named for parameter in belonging.get(name, ()))
