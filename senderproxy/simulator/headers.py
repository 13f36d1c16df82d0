"""Header check of the simulated provider at the end of DATA.

Guarantees: all faults are reported at once. A header without faults conforms to RFC 5322 section 3 in the fields that
the provider checks. It is parsed with a tokenizer of its own, without recursion.

Not here: the reply (simulator.mail_commands), the permission to use the author (simulator.rules).

RFC 5322 sections 3.2, 3.3, 3.4 and 3.6.
"""

import re
from typing import Final

# Refused if repeated, according to the provider's own list.
_SINGLE: Final = ("bcc", "cc", "date", "from", "sender", "subject", "to")

_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_QUOTED = re.compile(r'"(?:[^"\\\r\n]|\\[^\r\n])*"')
_LITERAL = re.compile(r"\[[!-Z^-~ ]*\]")
_BLANK = re.compile(r"[ \t]+")
_FIELD_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_DATE = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\s*,)?\s*(\d{1,2})\s+"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(\d{4})\s+"
    r"(\d{2}):(\d{2})(?::(\d{2}))?\s+(?:[+-]\d{4}|UT|GMT|[ECMP][SD]T|[A-IK-Za-ik-z])",
    re.IGNORECASE,
)

_Token = tuple[str, str]  # kind ("word", or the special itself) and text


class _Unreadable(Exception):
    """The text of a field does not match its grammar."""


def header_of(content: bytes) -> bytes:
    """The header block, without the blank line that ends it."""
    if content.startswith(b"\r\n"):
        return b""
    end = content.find(b"\r\n\r\n")
    return content if end < 0 else content[: end + 2]


def header_faults(content: bytes) -> tuple[str, ...]:
    """Return all faults for which the provider refuses this header."""
    header = header_of(content)
    faults: list[str] = []
    if not header.isascii():
        faults.append("octets above 127 in the header")
    fields, stray_lines = _fields_of(header)
    faults += stray_lines
    faults += [f"{name.capitalize()} occurs {len(fields[name])} times" for name in _SINGLE if len(fields[name]) > 1]
    faults += [f"{name.capitalize()} is missing" for name in ("date", "from") if not fields[name]]
    for name in ("from", "sender", "to"):
        for value in fields[name]:
            fault = _fault_in_addresses(name, value)
            faults += [fault] if fault else []
    faults += [f"invalid Date: {value.strip()[:60]!r}" for value in fields["date"] if not is_date(value)]
    return tuple(faults)


def authors_of(content: bytes) -> tuple[str, ...]:
    """Return the addresses in the From field; none if it is missing or invalid."""
    fields, _ = _fields_of(header_of(content))
    try:
        return tuple(address for value in fields["from"] for address in read_addresses(value, groups=False))
    except _Unreadable:
        return ()


def is_date(value: str) -> bool:
    """True for a date-time of RFC 5322 section 3.3."""
    try:
        text = "".join(_without_comments(value)).strip()
    except _Unreadable:
        return False
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    day, _year, hour, minute, second = found.groups(default="0")
    return 1 <= int(day) <= 31 and int(hour) < 24 and int(minute) < 60 and int(second) <= 60


def read_addresses(value: str, *, groups: bool) -> list[str]:
    """Parse an address list. Raises _Unreadable if it is invalid."""
    tokens = _tokens_of(value)
    addresses: list[str] = []
    at = 0
    while True:
        at, found = _read_one(tokens, at, groups=groups)
        addresses += found
        if at == len(tokens):
            return addresses
        if tokens[at][0] != ",":
            raise _Unreadable(f"unexpected {tokens[at][1]!r}")
        at += 1


def _fields_of(header: bytes) -> tuple[dict[str, list[str]], list[str]]:
    """Return the checked fields, unfolded, and the lines that are not a field."""
    fields: dict[str, list[str]] = {name: [] for name in _SINGLE}
    stray_lines: list[str] = []
    current: list[str] | None = None
    for line in header.split(b"\r\n")[: header.count(b"\r\n")]:
        text = line.decode("latin-1")
        if line[:1] in (b" ", b"\t"):
            if current:
                current[-1] += text
            continue
        found = _FIELD_NAME.match(line)
        if found is None:
            stray_lines.append(f"not a header field: {text[:40]!r}")
            current = None
            continue
        current = fields.get(found[1].decode("ascii").lower())
        if current is not None:
            current.append(text[found.end() :])
    return fields, stray_lines


def _fault_in_addresses(name: str, value: str) -> str | None:
    if not value.strip():
        return f"{name.capitalize()} is empty"
    try:
        addresses = read_addresses(value, groups=name == "to")
    except _Unreadable as fault:
        return f"{name.capitalize()} cannot be read: {fault}"
    if name == "sender" and len(addresses) != 1:
        return "Sender has more than one mailbox"
    return None


def _without_comments(value: str) -> list[str]:
    """Replace each comment by a blank. Comments nest (RFC 5322 section 3.2.2)."""
    kept: list[str] = []
    depth = 0
    at = 0
    while at < len(value):
        sign = value[at]
        if depth and sign == "\\":
            at += 2
            continue
        if sign == "(":
            depth += 1
        elif sign == ")" and depth:
            depth -= 1
            kept.append(" ")
        elif not depth:
            quoted = _QUOTED.match(value, at) if sign == '"' else None
            kept.append(quoted[0] if quoted else sign)
            at += len(quoted[0]) if quoted else 1
            continue
        at += 1
    if depth:
        raise _Unreadable("a comment is not closed")
    return kept


def _tokens_of(value: str) -> list[_Token]:
    text = "".join(_without_comments(value))
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
            continue
        found = _ATOM.match(text, at) or _QUOTED.match(text, at) or _LITERAL.match(text, at)
        if found is not None:
            tokens.append(("literal" if text[at] == "[" else "word", found[0]))
            at = found.end()
        elif text[at] in "<>,:;@.":
            tokens.append((text[at], text[at]))
            at += 1
        else:
            raise _Unreadable(f"{text[at]!r} is not permitted here")
    return tokens


def _read_one(tokens: list[_Token], at: int, *, groups: bool) -> tuple[int, list[str]]:
    """Parse one address: a mailbox, or a group if `groups`."""
    start = at
    while at < len(tokens) and tokens[at][0] in ("word", "."):
        at += 1
    follows = tokens[at][0] if at < len(tokens) else "the end"
    if follows == "<":
        end, address = _read_addr_spec(tokens, _after_route(tokens, at + 1))
        if end == len(tokens) or tokens[end][0] != ">":
            raise _Unreadable("'<' is not closed")
        return end + 1, [address]
    if follows == "@":
        end, address = _read_addr_spec(tokens, start)
        return end, [address]
    if follows == ":" and groups and at > start:
        return _read_group(tokens, at + 1)
    raise _Unreadable(f"an address was expected before {follows}")


def _read_group(tokens: list[_Token], at: int) -> tuple[int, list[str]]:
    addresses: list[str] = []
    if at < len(tokens) and tokens[at][0] == ";":
        return at + 1, addresses
    while at < len(tokens):
        at, found = _read_one(tokens, at, groups=False)
        addresses += found
        if at < len(tokens) and tokens[at][0] == ";":
            return at + 1, addresses
        if at == len(tokens) or tokens[at][0] != ",":
            break
        at += 1
    raise _Unreadable("a group is not closed")


def _after_route(tokens: list[_Token], at: int) -> int:
    """Skip an obsolete `@one,@two:` before the address (RFC 5322 section 4.4)."""
    if at == len(tokens) or tokens[at][0] != "@":
        return at
    while at < len(tokens) and tokens[at][0] in ("@", ",", ".", "word", "literal"):
        at += 1
    if at == len(tokens) or tokens[at][0] != ":":
        raise _Unreadable("a route is not terminated")
    return at + 1


def _read_addr_spec(tokens: list[_Token], at: int) -> tuple[int, str]:
    at, local = _read_dotted(tokens, at)
    if at == len(tokens) or tokens[at][0] != "@":
        raise _Unreadable("'@' was expected")
    at += 1
    if at < len(tokens) and tokens[at][0] == "literal":
        return at + 1, f"{local}@{tokens[at][1]}"
    at, domain = _read_dotted(tokens, at)
    return at, f"{local}@{domain.lower()}"


def _read_dotted(tokens: list[_Token], at: int) -> tuple[int, str]:
    """Parse words with single dots between them."""
    text = ""
    while at < len(tokens) and tokens[at][0] == "word":
        text += tokens[at][1]
        at += 1
        if at == len(tokens) or tokens[at][0] != ".":
            return at, text
        text += "."
        at += 1
    raise _Unreadable("a word was expected")
