"""Corrections for malformed commands of scanners, printers and old programs. PURE.

Guarantees: called only for input against the grammar, so correct commands mean the same on every listener; input is
corrected only where it has one meaning: of two possible addresses, none is accepted.
Not here: which listeners are lenient (listener.connections), the syntax of an address (wire.command).
Deviates from RFC 5321 section 4.1.1.
"""

import re
from dataclasses import dataclass
from typing import Final

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+=[!-~]*|SMTPUTF8|REQUIRETLS", re.IGNORECASE)
_ADDRESS_SHOWN: Final = 60  # characters of an address in a reply; fits a line of a device's display or report
_SETTING: Final = {"sender": "mail settings", "recipient": "address book"}
_EXAMPLE: Final = {"sender": "scanner@firma.example", "recipient": "bert@kunde.example"}


@dataclass(frozen=True, slots=True)
class LoosePath:
    """The address in a malformed MAIL FROM or RCPT TO."""

    address: str  # without brackets, display name and spaces; empty where there is none
    parameters: str  # the text after it
    is_null: bool = False  # it was <>, which is a valid reverse-path
    is_ambiguous: bool = False  # the text may contain several addresses


def normalize_line(line: bytes) -> bytes:
    """The command line with spaces for tabs, HELO without control characters, and a path in Latin-1 as UTF-8."""
    line = line.replace(b"\t", b" ")
    verb = line[:5].upper()
    if verb in {b"HELO ", b"EHLO "}:
        return _CONTROL.sub(b"?", line)
    if verb in {b"MAIL ", b"RCPT "}:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return line.decode("latin-1").encode("utf-8")
    return line


def find_path(argument: str, keyword: str) -> LoosePath | None:
    """The address and parameters after `keyword` (FROM or TO) and its colon; None where those are missing."""
    word, colon, rest = argument.partition(":")
    if not colon or word.strip(" ").upper() != keyword:
        return None
    words = rest.strip(" ").split(" ")
    first = len(words)
    # Parameters are at the end of the line; AUTH=<> has angle brackets too.
    while first > 1 and (not words[first - 1] or _PARAMETER.fullmatch(words[first - 1])):
        first -= 1
    return _find_address(" ".join(words[:first]), " ".join(words[first:]))


def _find_address(text: str, parameters: str) -> LoosePath:
    """`<a@b>`, `a@b`, `<a@b`, `a@b>` or `Name <a@b>`."""
    name, opened, inside = text.rpartition("<")
    inside, closed, behind = inside.partition(">")
    address = inside.strip(" ")
    is_null = bool(opened and closed) and not (name or address or behind)
    # A display name may contain an @ or a comma; both together look like a list.
    is_list = ">" in name or ("@" in name and not _is_quoted(name) and ("," in name or ";" in name))
    return LoosePath(address, parameters, is_null, is_list or bool(behind.strip("> ")))


def _is_quoted(name: str) -> bool:
    name = name.strip(" ")
    return len(name) > 1 and name[0] == name[-1] == '"' and name.count('"') == 2


def describe_error(path: LoosePath, role: str) -> str:
    """The error in an address, for the person at the device. `role`: `sender` or `recipient`."""
    return f"{_error(path, role)}; check the {_SETTING[role]} of the device (example: {_EXAMPLE[role]})"


def _error(path: LoosePath, role: str) -> str:
    address = path.address
    local_part, at, domain = address.rpartition("@")
    if path.is_ambiguous or "@" in local_part:
        return f"More than one {role} address"
    if not address:
        return f"Missing {role} address"
    shown = f"{address[:_ADDRESS_SHOWN]}..." if len(address) > _ADDRESS_SHOWN else address
    error = "is not a valid address"
    if not at or not domain:
        error = "has no @ and no domain" if not at else "has nothing after the @"
    elif not local_part:
        error = "has nothing before the @"
    elif " " in address:
        error = "contains a space"
    elif not local_part.isascii():
        error = "has an umlaut or another non-ASCII character before the @"
    return f"The {role} address {shown} {error}"
