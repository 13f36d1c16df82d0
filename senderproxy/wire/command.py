"""Commands and their parameters: strict grammar, original case kept.

Guarantees: whatever a client sends is either a Command, a MailCommand, a RcptCommand, or the Reply that says what is
wrong with it; nothing is raised, nothing a client sent is repeated in a reply unless it is a readable address or the
name of a parameter (an unknown "command" may be a password that came too late). Lenient readers take all that strict
ones take, with the same meaning.
Not here: what devices may have meant (wire.lenient), in which order commands may come (wire.dialogue), what
they do (listener).
RFC 5321 sections 4.1.1, 4.1.2 and 4.5.3.1; RFC 1870 (SIZE), RFC 6152 (BODY), RFC 4954 section 5 (AUTH=).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from senderproxy.mail.address import NULL_PATH, Address, AddressError, ReversePath, parse_address
from senderproxy.mail.reply import Reply, reply
from senderproxy.wire import replies
from senderproxy.wire.lenient import LoosePath, split_loosely, straighten, what_is_wrong

COMMAND_LIMIT: Final = 512  # octets with CRLF, RFC 5321 section 4.5.3.1.4
AUTH_LIMIT: Final = 12_288  # RFC 4954 section 4: a login's lines may be this long
PATH_LIMIT: Final = 256  # octets with the brackets, RFC 5321 section 4.5.3.1.3
NAME_LIMIT: Final = 255  # of HELO and EHLO: a domain, RFC 5321 section 4.5.3.1.2

# What each extension lets a command grow by: SIZE 26 (RFC 1870), BODY 17 (RFC 6152), AUTH= 500 (RFC 4954), and what
# RFC 3461 section 4 grants to NOTIFY and ORCPT, which some clients send unasked.
_LIMITS: Final[Mapping[str, int]] = {
    "AUTH": AUTH_LIMIT,
    "MAIL": COMMAND_LIMIT + 26 + 17 + 500,
    "RCPT": COMMAND_LIMIT + 28 + 500,
}

# Parameters of extensions we do not offer, which some clients send all the same, and which can be left out without
# changing what happens to the message: who vouches for it, which reports are wished for, how urgent it is.
_LEFT_OUT_OF_MAIL: Final = frozenset({"AUTH", "RET", "ENVID", "MT-PRIORITY"})
_LEFT_OUT_OF_RCPT: Final = frozenset({"NOTIFY", "ORCPT"})

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_VERB = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,19})(?: +(.*?))? *\Z", re.DOTALL)
_PATH = re.compile(r'<((?>(?:"(?>(?:[^"\\]|\\.)*)"|[^"<>])*))>(.*)\Z', re.DOTALL)
_ROUTE = re.compile(r'@[^\s@<>",:]++(?>(?:, ?@[^\s@<>",:]++)*):')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-~]++))?")
_DIGITS = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Command:
    """A verb in upper case, and its argument as it came (empty where there was none)."""

    verb: str
    argument: str

    def __repr__(self) -> str:
        return f"Command({self.verb})"  # the argument of AUTH is a secret


@dataclass(frozen=True, slots=True)
class MailCommand:
    """What MAIL FROM said."""

    reverse_path: ReversePath
    size: int | None = None
    eight_bit: bool = False


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """What RCPT TO said."""

    forward_path: Address


def line_limit(verb: str, *, extended: bool) -> int:
    """How long a command line may be, CRLF included; `extended`: the client greeted with EHLO."""
    return _LIMITS.get(verb, COMMAND_LIMIT) if extended else COMMAND_LIMIT


def read_command(line: bytes, *, extended: bool = True, lenient: bool = False) -> Command | Reply:
    """Read one command line, without its line end."""
    if lenient:
        line = straighten(line)
    if _CONTROL.search(line):
        return reply(500, "5.5.2", "A command is one line of printable characters that ends in CR LF")
    found = _VERB.match(line)
    if found is None:
        return reply(500, "5.5.2", "That is no command")
    verb = found[1].decode("ascii").upper()
    if len(line) + 2 > line_limit(verb, extended=extended):
        return reply(500, "5.5.6" if verb == "AUTH" else "5.5.2", "The line is too long for this command")
    try:
        return Command(verb, _text(verb, found[2] or b""))
    except UnicodeDecodeError:
        return reply(500, "5.5.2", "The command has characters outside ASCII that are not UTF-8")


def read_mail(
    argument: str, size_limit: int, *, lenient: bool = False, forced_sender: Address | None = None
) -> MailCommand | Reply:
    """Read what follows MAIL: `FROM:<reverse-path>` and its parameters.

    Where the listener is lenient and forces a sender, that one stands in for a reverse-path that is no address.
    """
    found = _read_from(argument)
    if lenient and isinstance(found, Reply):
        found = _read_from_loosely(argument, forced_sender) or found
    if isinstance(found, Reply):
        return found
    reverse_path, rest = found
    parameters = _read_parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    return _mail_with(reverse_path, parameters, size_limit) if parameters else MailCommand(reverse_path)


def read_rcpt(argument: str, *, lenient: bool = False) -> RcptCommand | Reply:
    """Read what follows RCPT: `TO:<forward-path>` and its parameters."""
    found = _read_to(argument)
    if lenient and isinstance(found, Reply):
        found = _read_to_loosely(argument) or found
    if isinstance(found, Reply):
        return found
    forward_path, rest = found
    parameters = _read_parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    for name in parameters:
        if name not in _LEFT_OUT_OF_RCPT:
            return _not_offered(name)
    return RcptCommand(forward_path)


def _read_from(argument: str) -> tuple[ReversePath, str] | Reply:
    """The reverse-path, and what follows it."""
    split = _split_path(argument, "FROM:", "MAIL FROM:<anna@firma.example>", "5.1.7")
    if isinstance(split, Reply):
        return split
    path, rest = split
    reverse_path = _read_path(path, "5.1.7") if path else NULL_PATH
    return reverse_path if isinstance(reverse_path, Reply) else (reverse_path, rest)


def _read_to(argument: str) -> tuple[Address, str] | Reply:
    """The forward-path, and what follows it."""
    split = _split_path(argument, "TO:", "RCPT TO:<bert@kunde.example>", "5.1.3")
    if isinstance(split, Reply):
        return split
    path, rest = split
    if not path:
        return reply(501, "5.1.3", "The recipient is missing; an empty address can only be a sender")
    forward_path = _read_path(path, "5.1.3")
    return forward_path if isinstance(forward_path, Reply) else (forward_path, rest)


def _read_from_loosely(argument: str, forced_sender: Address | None) -> tuple[ReversePath, str] | Reply | None:
    """The same for what is against the grammar; None where nothing can be made of it."""
    loose = split_loosely(argument, "FROM")
    if loose is None:
        return None
    path = NULL_PATH if loose.is_null else _read_loose_path(loose, "5.1.7") or forced_sender
    return (path, loose.parameters) if path else reply(501, "5.1.7", what_is_wrong(loose, "sender"))


def _read_to_loosely(argument: str) -> tuple[Address, str] | Reply | None:
    loose = split_loosely(argument, "TO")
    if loose is None:
        return None
    path = _read_loose_path(loose, "5.1.3")
    return (path, loose.parameters) if path else reply(501, "5.1.3", what_is_wrong(loose, "recipient"))


def _read_loose_path(loose: LoosePath, status: str) -> Address | None:
    path = None if loose.is_ambiguous else _read_path(loose.address, status)
    return path if isinstance(path, Address) else None


def _text(verb: str, argument: bytes) -> str:
    """The argument as text: UTF-8, except that a computer may have an umlaut in its name, in whatever code page."""
    if verb in {"HELO", "EHLO"}:
        return "".join(chr(octet) if octet < 128 else "?" for octet in argument)
    return argument.decode("utf-8")


def _split_path(argument: str, keyword: str, example: str, status: str) -> tuple[str, str] | Reply:
    """The path between its brackets, and what follows them."""
    if argument[: len(keyword)].upper() != keyword:
        return reply(501, "5.5.4", f"It should read {example}")
    text = argument[len(keyword) :].lstrip(" ")
    found = _PATH.match(text)
    if found is None:
        return reply(501, status, f"{_what_is_wrong_with(text)}; it should read {example}")
    rest = found[2]
    if rest and rest[0] != " ":
        return reply(501, status, f"Something stands directly after the closing bracket; it should read {example}")
    return found[1], rest


def _what_is_wrong_with(text: str) -> str:
    if not text:
        return "The address is missing"
    if text[0] != "<":
        return "The address must stand in angle brackets"
    if ">" not in text:
        return "The closing bracket is missing"
    return "The brackets or quotation marks do not match"


@lru_cache(maxsize=2048)
def _read_path(path: str, status: str) -> Address | Reply:
    """The mailbox of a path. A route before it is dropped (RFC 5321 section 4.1.1.3 and appendix C)."""
    route = _ROUTE.match(path)
    mailbox = path[route.end() :] if route else path
    if len(mailbox.encode("utf-8", "replace")) + 2 > PATH_LIMIT:
        return reply(501, status, f"The address is longer than {PATH_LIMIT} characters")
    try:
        return parse_address(mailbox)
    except AddressError as error:
        if not mailbox.rpartition("@")[0].isascii():
            return reply(553, "5.6.7", "An address with characters outside ASCII before the @ cannot be sent from here")
        return reply(501, status, f"Bad address: {error}")


def _read_parameters(text: str) -> dict[str, str | None] | Reply:
    """`NAME=value` and `NAME`, separated by blanks; names in upper case, values as they came."""
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None:
            return reply(501, "5.5.4", "A parameter after the address is malformed; it should read NAME=value")
        name = found[1].upper()
        if name in parameters:
            return reply(501, "5.5.4", f"The parameter {name} is given twice")
        parameters[name] = found[2]
    return parameters


def _mail_with(reverse_path: ReversePath, parameters: dict[str, str | None], size_limit: int) -> MailCommand | Reply:
    size: int | None = None
    eight_bit = False
    for name, value in parameters.items():
        if name == "SIZE":
            if value is None or not _DIGITS.fullmatch(value):
                return reply(501, "5.5.4", "SIZE must be a number of octets")
            size = int(value)
        elif name == "BODY":
            if value is None or value.upper() not in {"7BIT", "8BITMIME"}:
                return reply(501, "5.5.4", "BODY must be 7BIT or 8BITMIME")
            eight_bit = value.upper() == "8BITMIME"
        elif name not in _LEFT_OUT_OF_MAIL:
            return _not_offered(name)
        elif name == "AUTH" and value is None:
            return reply(501, "5.5.4", "AUTH must name a mailbox or be AUTH=<>")
    if size is not None and size > size_limit:
        return replies.too_large(size_limit)
    return MailCommand(reverse_path, size, eight_bit)


def _not_offered(name: str) -> Reply:
    if name == "SMTPUTF8":
        return reply(555, "5.6.7", "SMTPUTF8 is not offered here")
    if name == "REQUIRETLS":
        return reply(555, "5.7.30", "REQUIRETLS is not offered here")  # RFC 8689 section 5
    return reply(555, "5.5.4", f"The parameter {name[:40]} is not offered here")
