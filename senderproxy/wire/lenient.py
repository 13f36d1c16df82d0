"""What scanners, printers and old programs send instead of the grammar, made readable.

Guarantees: what the grammar takes is never asked here, so it means the same at every listener; of what it does not take
only that is made out which can be meant in one way: where two addresses might be meant, none is taken.
Not here: whether a listener is lenient (listener.connections), whether what was made out is an address
(wire.command).
RFC 5321 section 4.1.1 is what is not kept here.
"""

import re
from dataclasses import dataclass
from typing import Final

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+=[!-~]*|SMTPUTF8|REQUIRETLS", re.IGNORECASE)
_LONGEST_SHOWN: Final = 60
_WHERE: Final = {"sender": "mail settings", "recipient": "address book"}
_EXAMPLE: Final = {"sender": "scanner@firma.example", "recipient": "bert@kunde.example"}


@dataclass(frozen=True, slots=True)
class LoosePath:
    """An address somewhere behind MAIL FROM or RCPT TO."""

    address: str  # without brackets, name and blanks; empty where there is none
    parameters: str  # what follows it
    is_null: bool = False  # it was <>, which is a sender as well
    is_ambiguous: bool = False  # it may be several addresses


def straighten(line: bytes) -> bytes:
    """The command line with blanks for tabs, a greeting without controls, and a path in UTF-8 that was in Latin-1."""
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


def split_loosely(argument: str, keyword: str) -> LoosePath | None:
    """What stands behind FROM or TO and its colon; None where those are missing."""
    word, colon, rest = argument.partition(":")
    if not colon or word.strip(" ").upper() != keyword:
        return None
    words = rest.strip(" ").split(" ")
    first = len(words)
    # Parameters end the line, and AUTH=<> has brackets of its own.
    while first > 1 and (not words[first - 1] or _PARAMETER.fullmatch(words[first - 1])):
        first -= 1
    return _find_address(" ".join(words[:first]), " ".join(words[first:]))


def _find_address(text: str, parameters: str) -> LoosePath:
    """`<a@b>`, `a@b`, `<a@b`, `a@b>` or `Name <a@b>`."""
    name, opened, inside = text.rpartition("<")
    inside, closed, behind = inside.partition(">")
    address = inside.strip(" ")
    is_null = bool(opened and closed) and not (name or address or behind)
    # A name may have an @ or a comma in it; both together look like a list.
    is_list = ">" in name or ("@" in name and not _is_quoted(name) and ("," in name or ";" in name))
    return LoosePath(address, parameters, is_null, is_list or bool(behind.strip("> ")))


def _is_quoted(name: str) -> bool:
    name = name.strip(" ")
    return len(name) > 1 and name[0] == name[-1] == '"' and name.count('"') == 2


def what_is_wrong(path: LoosePath, whose: str) -> str:
    """In words for the person who stands at the device. `whose`: the address of the `sender`, or of a `recipient`."""
    return f"{_flaw(path, whose)}; the {_WHERE[whose]} of the device should have one like {_EXAMPLE[whose]}"


def _flaw(path: LoosePath, whose: str) -> str:
    address = path.address
    local_part, at, domain = address.rpartition("@")
    if path.is_ambiguous or "@" in local_part:
        return f"More than one {whose} address in one place"
    if not address:
        return f"The {whose} address is missing"
    shown = f"{address[:_LONGEST_SHOWN]}..." if len(address) > _LONGEST_SHOWN else address
    wrong = "is none that mail can be sent with"
    if not at or not domain:
        wrong = "is not complete: the @ and a domain after it are missing" if not at else "has nothing after the @"
    elif not local_part:
        wrong = "has nothing before the @"
    elif " " in address:
        wrong = "has a blank in it"
    elif not local_part.isascii():
        wrong = "has an umlaut or another special letter before the @"
    return f"The {whose} address {shown} {wrong}"
