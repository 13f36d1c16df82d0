"""Parser for command lines and their parameters: strict grammar, original case. PURE.

Guarantees: any octets are parsed to a Command, MailCommand or RcptCommand, or to the Reply that names the error; no
exception is raised. A reply repeats nothing of the client's input except a readable address or the name of a parameter
(an unknown "command" may be a password sent too late). What the strict parser accepts, the lenient one accepts with the
same meaning.
Not here: corrections for devices (wire.lenient), the order of commands (wire.dialogue), their effect (listener).
RFC 5321 sections 4.1.1, 4.1.2 and 4.5.3.1; RFC 1870 (SIZE), RFC 6152 (BODY), RFC 4954 section 5 (AUTH=), RFC 6531
section 3.4 (SMTPUTF8).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from senderproxy.mail.address import NULL_PATH, Address, AddressError, ReversePath, is_local_name, parse_address
from senderproxy.mail.reply import Reply, reply
from senderproxy.value_class import value_class
from senderproxy.wire import replies
from senderproxy.wire.lenient import LoosePath, describe_error, find_path, normalize_line

COMMAND_LIMIT: Final = 512  # octets with CRLF, RFC 5321 section 4.5.3.1.4
AUTH_LIMIT: Final = 12_288  # octets with CRLF of a line in an AUTH exchange, RFC 4954 section 4
NAME_LIMIT: Final = 255  # octets of the domain in HELO and EHLO, RFC 5321 section 4.5.3.1.2

# Octets that each extension adds: SIZE 26 (RFC 1870), BODY 17 (RFC 6152), AUTH= 500 (RFC 4954), SMTPUTF8 10 (RFC 6531),
# and for NOTIFY and ORCPT, which some clients send although they are not offered, 28 and 500 (RFC 3461 section 4).
_LIMITS: Final[Mapping[str, int]] = {
    "AUTH": AUTH_LIMIT,
    "MAIL": COMMAND_LIMIT + 26 + 17 + 500 + 10,
    "RCPT": COMMAND_LIMIT + 28 + 500,
}

# Parameters of extensions that are not offered, but that some clients send. They can be ignored without an effect on
# delivery: submitter, requested reports, priority.
_IGNORED_IN_MAIL: Final = frozenset({"AUTH", "RET", "ENVID", "MT-PRIORITY"})
_IGNORED_IN_RCPT: Final = frozenset({"NOTIFY", "ORCPT"})
_NAME_SHOWN: Final = 40  # characters of an unknown parameter's name in a reply; keeps the line short

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_VERB = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,19})(?: ++(.*))?\Z", re.DOTALL)
_PATH = re.compile(r'<((?>(?:"(?>(?:[^"\\]|\\.)*)"|[^"<>])*))>(.*)\Z', re.DOTALL)
_ROUTE = re.compile(r'@[^\s@<>",:]++(?>(?:, ?@[^\s@<>",:]++)*):')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-~]++))?")
_DIGITS = re.compile(r"[0-9]{1,20}")
_POSTMASTER = re.compile(r"(?<=\ATO:<)postmaster(?=>)", re.IGNORECASE)


@value_class
class Command:
    """A verb in upper case and its argument as received, empty where there was none."""

    verb: str
    argument: str

    def __repr__(self) -> str:
        return f"Command({self.verb})"  # the argument of AUTH is a secret


@value_class
class MailCommand:
    """A parsed MAIL FROM. `size`: the SIZE parameter in octets; `eight_bit`: BODY=8BITMIME."""

    reverse_path: ReversePath
    size: int | None = None
    eight_bit: bool = False


@value_class
class RcptCommand:
    """A parsed RCPT TO."""

    forward_path: Address


def line_limit(verb: str, *, extended: bool) -> int:
    """The limit for a command line in octets with CRLF. `extended`: the client sent EHLO."""
    return _LIMITS.get(verb, COMMAND_LIMIT) if extended else COMMAND_LIMIT


def read_command(line: bytes, *, extended: bool = True, lenient: bool = False) -> Command | Reply:
    """Parse one command line, given without its line end."""
    if lenient:
        line = normalize_line(line)
    if _CONTROL.search(line):
        return reply(500, "5.5.2", "Control character in command line")
    found = _VERB.match(line.rstrip(b" "))
    if found is None:
        return reply(500, "5.5.2", "Bad command syntax")
    verb = found[1].decode("ascii").upper()
    if len(line) + 2 > line_limit(verb, extended=extended):
        return reply(500, "5.5.6" if verb == "AUTH" else "5.5.2", "Command line too long")
    try:
        return Command(verb, _text(verb, found[2] or b""))
    except UnicodeDecodeError:
        return reply(500, "5.5.2", "Bad UTF-8 syntax")


def read_mail(
    argument: str, size_limit: int, *, lenient: bool = False, forced_sender: Address | None = None, origin: str = ""
) -> MailCommand | Reply:
    """Parse the argument of MAIL: `FROM:<reverse-path>` and its parameters.

    `size_limit` in octets. With `lenient`, `forced_sender` (if any) replaces a reverse-path that is not an address.
    Without one, a local name in brackets (`<root>`) gets the domain `origin`, as Postfix does.
    """
    found = _read_from(argument)
    if lenient and isinstance(found, Reply):
        found = _read_from_loosely(argument, forced_sender, origin) or found
    if isinstance(found, Reply):
        return found
    reverse_path, rest = found
    parameters = _read_parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    return _mail_with(reverse_path, parameters, size_limit) if parameters else MailCommand(reverse_path)


def read_rcpt(argument: str, *, lenient: bool = False, origin: str = "") -> RcptCommand | Reply:
    """Parse the argument of RCPT: `TO:<forward-path>` and its parameters.

    `Postmaster` gets the domain `origin`, if any: RFC 5321 section 4.5.1 wants it accepted without one.
    """
    found = _read_to(_POSTMASTER.sub(rf"\g<0>@{origin}", argument, count=1) if origin else argument)
    if lenient and isinstance(found, Reply):
        found = _read_to_loosely(argument) or found
    if isinstance(found, Reply):
        return found
    forward_path, rest = found
    parameters = _read_parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    for name in parameters:
        if name not in _IGNORED_IN_RCPT:
            return _unsupported(name)
    return RcptCommand(forward_path)


def _read_from(argument: str) -> tuple[ReversePath, str] | Reply:
    """The reverse-path and the rest of the argument."""
    split = _split_path(argument, "FROM:", "MAIL FROM:<address>", "5.1.7")
    if isinstance(split, Reply):
        return split
    path, rest = split
    reverse_path = _read_path(path, "5.1.7") if path else NULL_PATH
    return reverse_path if isinstance(reverse_path, Reply) else (reverse_path, rest)


def _read_to(argument: str) -> tuple[Address, str] | Reply:
    """The forward-path and the rest of the argument."""
    split = _split_path(argument, "TO:", "RCPT TO:<address>", "5.1.3")
    if isinstance(split, Reply):
        return split
    path, rest = split
    if not path:
        return reply(501, "5.1.3", "Missing recipient address; only a reverse-path may be empty")
    forward_path = _read_path(path, "5.1.3")
    return forward_path if isinstance(forward_path, Reply) else (forward_path, rest)


def _read_from_loosely(
    argument: str, forced_sender: Address | None, origin: str
) -> tuple[ReversePath, str] | Reply | None:
    """The same for an argument against the grammar; None where FROM: is missing."""
    loose = find_path(argument, "FROM")
    if loose is None:
        return None
    path = NULL_PATH if loose.is_null else _read_loose_path(loose, "5.1.7") or forced_sender
    if path is None and origin and is_local_name(loose.address) and f"<{loose.address}>" in argument:
        path = Address(loose.address, origin)
    return (path, loose.parameters) if path else reply(501, "5.1.7", describe_error(loose, "sender"))


def _read_to_loosely(argument: str) -> tuple[Address, str] | Reply | None:
    loose = find_path(argument, "TO")
    if loose is None:
        return None
    path = _read_loose_path(loose, "5.1.3")
    return (path, loose.parameters) if path else reply(501, "5.1.3", describe_error(loose, "recipient"))


def _read_loose_path(loose: LoosePath, status: str) -> Address | None:
    path = None if loose.is_ambiguous else _read_path(loose.address, status)
    return path if isinstance(path, Address) else None


def _text(verb: str, argument: bytes) -> str:
    """The argument decoded from UTF-8. In HELO and EHLO, a host name with umlauts may be in any code page."""
    if verb in {"HELO", "EHLO"} and not argument.isascii():
        return "".join(chr(octet) if octet < 128 else "?" for octet in argument)
    return argument.decode("utf-8")


def _split_path(argument: str, keyword: str, syntax: str, status: str) -> tuple[str, str] | Reply:
    """The path without its angle brackets, and the rest."""
    if argument[: len(keyword)].upper() != keyword:
        return reply(501, "5.5.4", f"Syntax: {syntax}")
    text = argument[len(keyword) :].lstrip(" ")
    found = _PATH.match(text)
    if found is None:
        return reply(501, status, f"{_path_error(text)}; syntax: {syntax}")
    rest = found[2]
    if rest and rest[0] != " ":
        return reply(501, status, f"No space after the closing bracket; syntax: {syntax}")
    return found[1], rest


def _path_error(text: str) -> str:
    if not text:
        return "Missing address"
    if text[0] != "<":
        return "Missing angle brackets around the address"
    if ">" not in text:
        return "Missing closing bracket"
    return "Unbalanced brackets or quotation marks"


@lru_cache(maxsize=2048)
def _read_path(path: str, status: str) -> Address | Reply:
    """The mailbox of a path. A source route before it is ignored (RFC 5321 section 4.1.1.3 and appendix C)."""
    route = _ROUTE.match(path)
    mailbox = path[route.end() :] if route else path
    try:
        return parse_address(mailbox)
    except AddressError as error:
        if not mailbox.rpartition("@")[0].isascii():
            return replies.NON_ASCII_LOCAL_PART
        return reply(501, status, f"Bad address: {error}")


def _read_parameters(text: str) -> dict[str, str | None] | Reply:
    """`NAME=value` and `NAME`, separated by spaces; names in upper case, values as received."""
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None:
            return reply(501, "5.5.4", "Malformed parameter; syntax: NAME=value")
        name = found[1].upper()
        if name in parameters:
            return reply(501, "5.5.4", f"Duplicate parameter {name}")
        parameters[name] = found[2]
    return parameters


def _mail_with(reverse_path: ReversePath, parameters: dict[str, str | None], size_limit: int) -> MailCommand | Reply:
    size: int | None = None
    eight_bit = False
    for name, value in parameters.items():
        if name == "SIZE":
            if value is None or not _DIGITS.fullmatch(value):
                return reply(501, "5.5.4", "Bad SIZE value: not a number of octets")
            size = int(value)
        elif name == "BODY":
            if value is None or value.upper() not in {"7BIT", "8BITMIME"}:
                return reply(501, "5.5.4", "Bad BODY value: not 7BIT or 8BITMIME")
            eight_bit = value.upper() == "8BITMIME"
        elif name == "SMTPUTF8":
            if value is not None:
                return reply(501, "5.5.4", "SMTPUTF8 takes no value")
        elif name not in _IGNORED_IN_MAIL:
            return _unsupported(name)
        elif name == "AUTH" and value is None:
            return reply(501, "5.5.4", "Missing AUTH value: a mailbox or <>")
    if size is not None and size > size_limit:
        return replies.too_large(size_limit)
    return MailCommand(reverse_path, size, eight_bit)


def _unsupported(name: str) -> Reply:
    if name == "REQUIRETLS":
        return reply(555, "5.7.30", "REQUIRETLS not supported")  # RFC 8689 section 5
    return reply(555, "5.5.4", f"Unsupported parameter {name[:_NAME_SHOWN]}")
