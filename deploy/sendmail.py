#!/usr/bin/python3 -IS
"""sendmail(1) for cron, PHP and scripts of this machine: submits a message to senderproxy.

Guarantees: exit code 0 only after senderproxy has accepted the message for all recipients; after any other code, none
of them gets it, so it can be sent again. The exception is a connection lost after the message was sent, before the
reply. Exit codes are those of sysexits(3), 75 when senderproxy is down. The input is read to its end before the
connection is made; above 1 MiB it is stored in an unnamed file. Parsing is linear in the size of the input.
Not here: a queue, logins, TLS. The repair of header fields and the choice of the account are the relay's.
RFC 5322 (header, addresses), RFC 5321 (submission); options as in Postfix's sendmail(1), see docs/sendmail.md.

Installed as /usr/lib/senderproxy/sendmail. It imports nothing of senderproxy, and of the standard library only what
starts fast: no typing, dataclasses, pathlib, email, smtplib.
"""

from __future__ import annotations  # typing is not imported

import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EX_OK = 0
EX_USAGE = 64  # the command line, or no recipient
EX_DATAERR = 65  # the message or an address in it cannot be sent
EX_NOUSER = 67  # a recipient does not exist
EX_UNAVAILABLE = 69  # refused for another reason
EX_TEMPFAIL = 75  # senderproxy is down, or replied 4xx: try again
EX_NOPERM = 77  # the sender or this machine is not allowed
EX_CONFIG = 78  # no usable configuration

SENDMAIL_CONF = "/etc/senderproxy/sendmail.conf"
SERVICE_CONF = "/etc/senderproxy/senderproxy.toml"
MAILNAME = "/etc/mailname"  # Debian Policy 11.6: the domain of addresses without one
ALIASES = "/etc/aliases"
PROGRAM = "/usr/bin/senderproxy"

CONNECT_SECONDS = 30
REPLY_SECONDS = 300  # RFC 5321 section 4.5.3.2
FINAL_SECONDS = 600  # after the final dot; senderproxy replies within 540 at the latest
_HEADER_LIMIT = 4 << 20  # octets; senderproxy's own limit is far below
_MEMORY_LIMIT = 1 << 20  # octets of a body in memory
_CHUNK = 1 << 16  # octets of one read
_REPLY_LINES = 1000  # of one reply

USAGE = "sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [-B 8BITMIME] [-bm|-bs|-bp] [-v] [RECIPIENT ...]"


class Failure(Exception):
    """The reason why the message was not sent, for standard error and the system's log."""

    def __init__(self, code: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.hint = code, text, hint


def main(arguments: list[str]) -> int:
    """Run the command line (`arguments` with the program's name); returns the exit code."""
    try:
        return _run(Options(arguments))
    except Failure as failure:
        sys.stderr.write(f"sendmail: {failure.text}\n" + (f"To fix: {failure.hint}\n" if failure.hint else ""))
        if failure.code != EX_USAGE:
            _log(failure)
        return failure.code
    except KeyboardInterrupt:
        return 130


def _run(options: Options) -> int:
    match options.mode:
        case "ignore":
            return EX_OK
        case "queue":
            return _show([PROGRAM, "queue", "list"])
        case "flush":
            return _show([PROGRAM, "queue", "retry", "--all"])
        case "smtp":
            return stand_alone(read_settings(options.configuration))
        case _:
            return submit(options)


def _show(command: list[str]) -> int:
    """Become senderproxy's command to show or flush its queue."""
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise Failure(EX_UNAVAILABLE, f"{command[0]}: {error.strerror}.") from None


def _log(failure: Failure) -> None:
    """Write the failure to the system's log: PHP and cron drop standard error."""
    import syslog

    syslog.openlog("senderproxy-sendmail", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_ERR, f"message of user {os.getuid()} not sent: {failure.text}".replace("\n", " "))


# ---- command line ----

_WITH_VALUE = frozenset("ABCFLNORVXbefhopr")  # the rest of the word, or the next word
_WITH_REST = frozenset("dq")  # the rest of the word only
_WITHOUT = frozenset("GIUcimntvx")
_MODES = {"m": "send", "s": "smtp", "p": "queue", "i": "ignore", "h": "ignore", "H": "ignore"}
_NAMES = {"mailq": "queue", "newaliases": "ignore"}  # names of links to this program


class Options:
    """Options of the command line. Raises Failure for options without a meaning here."""

    def __init__(self, arguments: list[str]) -> None:
        self.mode = _NAMES.get(os.path.basename(arguments[0]), "send")
        self.sender: str | None = None
        self.full_name = ""
        self.from_header = False
        self.dot_ends = True
        self.eight_bit = True
        self.verbose = False
        self.configuration = ""
        words = arguments[1:]
        while words and words[0].startswith("-") and words[0] != "-":
            word = words.pop(0)
            if word == "--":
                break
            self._read_word(word[1:], words)
        self.recipients = words
        if self.mode != "send" and (self.from_header or self.recipients):
            raise Failure(EX_USAGE, "-t and recipients are for sending only.", USAGE)

    def _read_word(self, letters: str, words: list[str]) -> None:
        """Read a word of options, as `ti` or `fADDRESS`; a value may be the next word."""
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _WITHOUT:
                self._set(letter, "")
                continue
            if letter not in _WITH_VALUE | _WITH_REST:
                raise Failure(EX_USAGE, f"Unknown option -{letter}.", USAGE)
            if letter in _WITH_VALUE and not letters:
                if not words:
                    raise Failure(EX_USAGE, f"Option -{letter} needs a value.", USAGE)
                letters = words.pop(0)
            self._set(letter, letters)
            return

    def _set(self, letter: str, value: str) -> None:
        match letter:
            case "f" | "r":
                self.sender = value
            case "F":
                self.full_name = value
            case "t":
                self.from_header = True
            case "i":
                self.dot_ends = False
            case "o" if value.startswith("i"):
                self.dot_ends = False
            case "B":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    raise Failure(EX_USAGE, "-B needs 7BIT or 8BITMIME.", USAGE)
                self.eight_bit = value.upper() == "8BITMIME"
            case "C":
                self.configuration = value
            case "I":
                self.mode = "ignore"
            case "q" if not value or value[0].isdigit():
                self.mode = "ignore" if value else "flush"
            case "q":
                raise Failure(
                    EX_USAGE, "A part of the queue is retried by senderproxy.", "senderproxy queue retry --help"
                )
            case "v":
                self.verbose = True
            case "b" if value in _MODES:
                self.mode = _MODES[value]
            case "b" if value in ("d", "D", "l"):
                raise Failure(EX_USAGE, f"-b{value}: the daemon is a service.", "systemctl start senderproxy")
            case "b":
                raise Failure(EX_USAGE, f"Unsupported option -b{value}.", USAGE)
            case _:
                pass  # accepted and ignored: it concerns a queue, reports or a configuration of other programs


# ---- configuration ----


class Settings:
    """The relay's address, the domain of addresses without one, the file of aliases."""

    def __init__(self, host: str, port: int, domain: str, aliases: str) -> None:
        self.host, self.port, self.domain, self.aliases = host, port, domain, aliases


def read_settings(path: str = "") -> Settings:
    """Read sendmail.conf, and the configuration of the service for all other settings. Raises Failure."""
    given = _read_conf(path or SENDMAIL_CONF, required=bool(path))
    service: dict[str, Any] = {}
    if "server" in given:
        host, port = _host_and_port(given["server"])
    else:
        service = _read_service_conf()
        host, port = _listener(service)
    domain = given.get("domain") or _first_line(MAILNAME) or _own_name(service)
    return Settings(host, port, domain.lower(), given.get("aliases") or ALIASES)


def _read_conf(path: str, *, required: bool) -> dict[str, str]:
    """Read lines of `name = value`."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read(_CHUNK)
    except FileNotFoundError:
        if required:
            raise Failure(EX_CONFIG, f"{path}: no such file.") from None
        return {}
    except OSError as error:
        raise Failure(EX_CONFIG, f"{path}: {error.strerror}.", f"chmod 644 {path}") from None
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = line.partition("=")
            if not equals or name.strip() not in ("server", "domain", "aliases"):
                raise Failure(EX_CONFIG, f"{path}: invalid line: {line.strip()[:80]}", "server, domain or aliases = …")
            found[name.strip()] = value.strip().strip('"')
    return found


def _read_service_conf() -> dict[str, Any]:
    import tomllib  # slower than a line of sendmail.conf, by a few milliseconds

    try:
        with open(SERVICE_CONF, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise Failure(EX_CONFIG, "senderproxy is not set up.", "sudo senderproxy setup") from None
    except OSError as error:
        hint = f"Write `server = ADDRESS:PORT` into {SENDMAIL_CONF}."
        raise Failure(EX_CONFIG, f"{SERVICE_CONF}: {error.strerror}.", hint) from None
    except ValueError as error:  # damaged, or half written: the service goes on with its previous one
        raise Failure(EX_TEMPFAIL, f"{SERVICE_CONF}: {error}.", "senderproxy check") from None


def _listener(service: dict[str, Any]) -> tuple[str, int]:
    """Choose the listener for this machine: without a login and TLS from the start, on loopback before others."""
    listed: Any = service.get("listeners", [{}])
    usable: list[tuple[bool, int, str, int]] = []
    for listener in listed if isinstance(listed, list) else [listed]:
        if listener.get("auth") != "required" and listener.get("tls") != "implicit":
            host, port = _host_and_port(str(listener.get("address", "127.0.0.1:2525")))
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            usable.append((not host.startswith("127.") and host != "::1", len(usable), host, port))
    if not usable:
        hint = f"Add a listener on 127.0.0.1, or write `server = ADDRESS:PORT` into {SENDMAIL_CONF}."
        raise Failure(EX_CONFIG, f"{SERVICE_CONF}: each listener needs a login or TLS from the start.", hint)
    return min(usable)[2:]


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise Failure(EX_CONFIG, f"Not an address with a port: {text}", "server = 127.0.0.1:2525")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(1000).strip()
    except OSError:
        return ""


def _own_name(service: dict[str, Any]) -> str:
    """Return the machine's name, from the configuration or the system, with a domain in any case."""
    identity = service.get("identity")
    configured = identity.get("hostname") if isinstance(identity, dict) else None
    name = str(configured or os.uname().nodename)
    return name if "." in name else f"{name}.localdomain"


# ---- input ----


def unix_lines(descriptor: int, *, dot_ends: bool) -> Iterator[bytes]:
    """Yield the input in pieces with LF line ends, up to its end or, with `dot_ends`, up to a line with a dot alone."""
    held, line_start = b"", True
    while chunk := os.read(descriptor, _CHUNK):
        data = held + chunk
        held = data[-3:][len(data[-3:].rstrip(b".\r")) :]  # perhaps a lone dot, or the first half of CRLF
        data = _without_cr(data[: len(data) - len(held)])
        if dot_ends and (end := (b"\n" + data if line_start else data).find(b"\n.\n")) >= 0:
            yield data[: end if line_start else end + 1]
            return
        if data:
            yield data
            line_start = data.endswith(b"\n")
    rest = held.rstrip(b"\r")
    if rest and not (dot_ends and line_start and rest == b"."):
        yield rest


def _without_cr(data: bytes) -> bytes:
    """Return the lines without CR at their ends."""
    data = data.replace(b"\r\n", b"\n")
    if b"\r\n" in data:  # CR CR LF; not by repeated replacement, which is quadratic for many CRs
        data = b"\n".join([line.rstrip(b"\r") for line in data.split(b"\n")])
    return data


_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")  # RFC 5322 section 2.2; 4.5 allows blanks before the colon
_MAILBOX_LINE = re.compile(rb">*From ")  # of an mbox file


def split_header(pieces: Iterator[bytes]) -> tuple[list[bytes], Iterator[bytes]]:
    """Return the header fields, each with its line ends, and the pieces of the body. Raises Failure.

    The header section ends at an empty line, or before a line that is neither a field nor its continuation.
    """
    fields: list[bytearray] = []
    buffer, begin, searched = bytearray(), 0, 0
    for piece in pieces:
        buffer += piece
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[begin : end + 1])
            if not _add_line(fields, line):
                body = bytes(buffer[end + 1 if line == b"\n" else begin :])
                return [bytes(field) for field in fields], _chain(body, pieces)
            begin = searched = end + 1
        searched = len(buffer)
        if searched > _HEADER_LIMIT:
            raise Failure(EX_DATAERR, f"The header section has more than {_HEADER_LIMIT} octets.")
    rest = bytes(buffer[begin:])
    if rest and _add_line(fields, rest + b"\n"):
        rest = b""
    return [bytes(field) for field in fields], _chain(rest, iter(()))


def _add_line(fields: list[bytearray], line: bytes) -> bool:
    """Add a line to the fields; False if it is not part of the header section."""
    if _FIELD.match(line):
        fields.append(bytearray(line))
    elif line[:1] in (b" ", b"\t") and fields:
        fields[-1] += line
    elif fields or not _MAILBOX_LINE.match(line):
        return False
    return True


def _chain(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from pieces


class Body:
    """A body with CRLF line ends: in memory, or in an unnamed file if it is large."""

    def __init__(self) -> None:
        self.size = 0
        self.is_ascii = True
        self._pieces: list[bytes] = []
        self._file: int | None = None

    def add(self, piece: bytes) -> None:
        """Append a piece with LF line ends. Raises Failure if the disk is full."""
        wire = piece.replace(b"\n", b"\r\n")
        self.size += len(wire)
        self.is_ascii = self.is_ascii and wire.isascii()
        self._pieces.append(wire)
        if self.size > _MEMORY_LIMIT:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = _unnamed_file()
            for piece in self._pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise Failure(EX_TEMPFAIL, f"Temporary file: {error.strerror}.") from None
        self._pieces.clear()

    def pieces(self) -> Iterator[bytes]:
        """Yield the octets; no piece ends between CR and LF."""
        if self._file is not None:
            os.lseek(self._file, 0, os.SEEK_SET)
            while piece := os.read(self._file, _CHUNK):
                yield piece + os.read(self._file, 1) if piece.endswith(b"\r") else piece
        yield from self._pieces


def _unnamed_file() -> int:
    import tempfile  # slow to import, and seldom needed

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


# ---- addresses ----

_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*"?|\[[^\[\]\s]*\]|\s+|[^\s"(),:;<>\[]+|.', re.DOTALL)
_COMMENT_PART = re.compile(rb"[^()\\]+|\\.|.", re.DOTALL)
# A quoted local part or atoms; nothing that ends a command or a path (RFC 5321 section 4.1.2).
_ADDRESS = re.compile(
    rb'(?:"(?:[^"\\\0-\x1f\x7f]|\\[\x20-\x7e])*"|[^\0-\x20\x7f"(),:;<>\[\]\\@]+)(?:@(?:\[[^\0-\x20\x7f<>\[\]]+\]|[^\0-\x20\x7f"(),:;<>\[\]\\@]+))?'
)


def addresses(text: bytes) -> list[bytes]:
    """Return the addresses of a list (RFC 5322 section 3.4) without names, comments and groups. Raises Failure."""
    found: list[bytes] = []
    words: list[bytes] = []  # tokens of the current entry outside of < and >
    inside: list[bytes] | None = None  # tokens between them
    closed = False  # an address in < and > was read; what follows up to the comma is no part of it
    for token in _tokens(text):
        if token == b"<":
            inside = []
        elif token == b">" and inside is not None:
            found.append(_joined(inside))
            inside, closed = None, True
        elif inside is not None:
            if token in (b",", b":"):
                inside.clear()  # a route (RFC 5322 section 4.4)
            else:
                inside.append(token)
        elif token == b":":
            words.clear()  # the name of a group
        elif token in (b",", b";"):
            found.append(b"" if closed else _joined(words))
            closed = False
            words.clear()
        else:
            words.append(token)
    if inside is not None:
        raise Failure(EX_DATAERR, f"An address without its closing >: {_shown(text)}")
    found.append(b"" if closed else _joined(words))
    return [_checked(address) for address in found if address]


def _tokens(text: bytes) -> Iterator[bytes]:
    """Yield the tokens of a structured field, a blank for white space and comments."""
    position = 0
    while match := _TOKEN.match(text, position):
        token, position = match[0], match.end()
        if token == b"(":
            position = _end_of_comment(text, position)
        yield b" " if token == b"(" or token.isspace() else token


def _end_of_comment(text: bytes, position: int) -> int:
    depth = 1
    for match in _COMMENT_PART.finditer(text, position):
        depth += (match[0] == b"(") - (match[0] == b")")
        if not depth:
            return match.end()
    return len(text)


def _joined(tokens: Sequence[bytes]) -> bytes:
    """Join the tokens of an address: blanks count, except at its ends and beside a dot or an @."""
    joined = bytearray()
    blank = False
    for token in tokens:
        if token == b" ":
            blank = bool(joined)
            continue
        if blank and not joined.endswith((b".", b"@")) and not token.startswith((b".", b"@")):
            joined += b" "
        joined += token
        blank = False
    return bytes(joined)


def _checked(address: bytes) -> bytes:
    if not _ADDRESS.fullmatch(address):
        raise Failure(EX_DATAERR, f"Not an address: {_shown(address)}")
    return address


def _shown(octets: bytes) -> str:
    """Return octets for a message of one line."""
    text = octets[:200].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)


def with_domain(address: bytes, domain: str) -> bytes:
    """Return an address with the domain of this machine if it has none."""
    return address if _has_domain(address) else address + b"@" + domain.encode()


def _has_domain(address: bytes) -> bool:
    return b"@" in address.rpartition(b'"')[2]


# ---- aliases ----


class Aliases:
    """Addresses for local users, from a file as /etc/aliases: programs, files and lists in it are not supported."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._targets: dict[bytes, bytes] | None = None

    def expand(self, address: bytes) -> list[bytes]:
        """Return the addresses for a recipient: itself if it has a domain or no alias. Raises Failure."""
        found: list[bytes] = []
        waiting, seen = [address], {address.lower()}
        while waiting:
            each = waiting.pop()
            target = None if _has_domain(each) else self._read().get(each.lower())
            if target is None:
                found.append(each)
                continue
            for other in self._addresses(each, target):
                if other.lower() not in seen:
                    seen.add(other.lower())
                    waiting.append(other)
                elif other.lower() == each.lower():
                    found.append(each)  # `root: root, it@…` keeps root, as in other programs
        return found

    def _addresses(self, name: bytes, target: bytes) -> list[bytes]:
        parts = [part for part in target.split(b",") if part.strip().strip(b'"')[:1] not in (b"", b"|", b"/", b":")]
        if not parts:
            hint = f"In {self._path}: {_shown(name)}: it@firma.example"
            raise Failure(EX_NOUSER, f"The alias of {_shown(name)} has no address of mail.", hint)
        return addresses(b",".join(parts))

    def _read(self) -> dict[bytes, bytes]:
        if self._targets is None:
            try:
                with open(self._path, "rb") as file:
                    text = re.sub(rb"\n[ \t]+", b" ", file.read(_HEADER_LIMIT))
            except OSError:
                text = b""
            entries = (line.partition(b":") for line in text.splitlines() if not line.lstrip().startswith(b"#"))
            self._targets = {name.strip().strip(b'"').lower(): target for name, colon, target in entries if colon}
        return self._targets


# ---- header ----

_RECIPIENT_FIELDS = frozenset([b"to", b"cc", b"bcc"])
# Not sent, as in Postfix (message_drop_headers): Bcc is secret, the others belong to stored messages.
_DROPPED_FIELDS = frozenset([b"bcc", b"resent-bcc", b"return-path", b"content-length"])


def recipients_of(fields: Iterable[bytes]) -> list[bytes]:
    """Return the addresses of To, Cc and Bcc, or those of their Resent- forms if the message is resent."""
    original: list[bytes] = []
    resent: list[bytes] | None = None
    for field in fields:
        name, _colon, value = field.partition(b":")
        name = name.strip().lower()
        if name.startswith(b"resent-"):
            resent = resent or []
            if name.removeprefix(b"resent-") in _RECIPIENT_FIELDS:
                resent += addresses(value)
        elif name in _RECIPIENT_FIELDS:
            original += addresses(value)
    return original if resent is None else resent


def outgoing_header(fields: list[bytes], author: str, name: str, domain: str) -> bytes:
    """Return the header section with its empty line: without the dropped fields, with From, Date and Message-ID."""
    names = {field.partition(b":")[0].strip().lower() for field in fields}
    prefix = "Resent-" if any(each.startswith(b"resent-") for each in names) else ""
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in _DROPPED_FIELDS]
    now = time.time()
    missing = {
        f"{prefix}From": f"{_display_name(name)}<{author}>" if author else "MAILER-DAEMON",
        f"{prefix}Date": time.strftime("%a, %d %b %Y %H:%M:%S %z", time.localtime(now)),
        f"{prefix}Message-ID": f"<{int(now)}.{os.urandom(8).hex()}@{domain}>",
    }
    added = [
        f"{each}: {value}\n".encode("utf-8", "surrogateescape")
        for each, value in missing.items()
        if each.lower().encode() not in names
    ]
    return b"".join([*kept, *added, b"\n"]).replace(b"\n", b"\r\n")


def _display_name(name: str) -> str:
    """Return a name as a quoted string, or as encoded words (RFC 2047) of at most 75 characters."""
    name = "".join(letter if letter.isprintable() else " " for letter in name).strip()
    if not name:
        return ""
    if name.isascii():
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '" '
    import binascii

    words = [name[start : start + 11] for start in range(0, len(name), 11)]  # 11 letters: at most 44 octets
    encoded = (binascii.b2a_base64(word.encode("utf-8", "replace"), newline=False).decode() for word in words)
    return "\n ".join(f"=?UTF-8?B?{word}?=" for word in encoded) + " "


def user_names() -> tuple[str, str]:
    """Return the login and the full name of this program's user."""
    import pwd

    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid{os.getuid()}", ""
    full = os.environ.get("NAME") or user.pw_gecos.partition(",")[0].replace("&", user.pw_name.capitalize())
    return user.pw_name, full


# ---- submission ----


def submit(options: Options) -> int:
    """Send the message on standard input. Raises Failure; then no recipient gets it."""
    settings = read_settings(options.configuration)
    fields, pieces = split_header(_input(dot_ends=options.dot_ends))
    body = Body()
    for piece in pieces:
        body.add(piece)
    given = [address for word in options.recipients for address in addresses(os.fsencode(word))]
    if options.from_header:
        given += recipients_of(fields)
    if not given:
        raise Failure(EX_USAGE, "No recipient: neither on the command line nor, with -t, in the header.", USAGE)
    aliases = Aliases(settings.aliases)
    expanded = [with_domain(other, settings.domain) for each in given for other in aliases.expand(each)]
    login, full_name = user_names()
    sender = _sender(options, login, settings.domain)
    header = outgoing_header(fields, os.fsdecode(sender), options.full_name or full_name, settings.domain)
    with Conversation(settings, verbose=options.verbose) as relay:
        relay.send(sender, list(dict.fromkeys(expanded)), header, body, eight_bit=options.eight_bit)
    return EX_OK


def _input(*, dot_ends: bool) -> Iterator[bytes]:
    try:
        yield from unix_lines(0, dot_ends=dot_ends)
    except OSError as error:
        raise Failure(EX_DATAERR, f"Standard input: {error.strerror}.") from None


def _sender(options: Options, login: str, domain: str) -> bytes:
    """Return the reverse-path: -f, or this program's user; empty for `-f ""` and `-f "<>"`."""
    if options.sender is None:
        return with_domain(login.encode("utf-8", "replace"), domain)
    found = addresses(os.fsencode(options.sender))
    if len(found) > 1:
        raise Failure(EX_USAGE, "-f needs one address.", USAGE)
    return with_domain(found[0], domain) if found else b""


class Conversation:
    """An SMTP connection to the relay. Its methods raise Failure."""

    def __init__(self, settings: Settings, *, verbose: bool = False) -> None:
        self._settings = settings
        self._verbose = verbose
        self._where = f"senderproxy at {settings.host} port {settings.port}"

    def __enter__(self) -> Conversation:
        try:
            self._socket = socket.create_connection((self._settings.host, self._settings.port), CONNECT_SECONDS)
        except OSError as error:
            hint = "systemctl status senderproxy"
            reason = error.strerror or "no reply"
            raise Failure(EX_TEMPFAIL, f"{self._where} cannot be reached: {reason}.", hint) from None
        self._socket.settimeout(REPLY_SECONDS)
        self._replies = self._socket.makefile("rb")
        return self

    def __exit__(self, *_error: object) -> None:
        self._replies.close()
        self._socket.close()

    def reply(self) -> list[bytes]:
        """Return the lines of the next reply, without their line ends."""
        lines: list[bytes] = []
        try:
            while len(lines) < _REPLY_LINES:
                line = self._replies.readline(_CHUNK)
                if not line.endswith(b"\n") or not line[:3].isdigit():
                    raise Failure(EX_TEMPFAIL, f"{self._where} closed the connection.")
                lines.append(line.rstrip(b"\r\n"))
                if self._verbose:
                    sys.stderr.write(_shown(line.rstrip(b"\r\n")) + "\n")
                if line[3:4] != b"-":
                    return lines
        except OSError as error:
            raise Failure(EX_TEMPFAIL, f"{self._where} does not reply: {error.strerror or error}.") from None
        raise Failure(EX_TEMPFAIL, f"{self._where} sends a reply without an end.")

    def command(self, line: bytes) -> list[bytes]:
        """Send a command without its line end, and return the reply."""
        if self._verbose:
            sys.stderr.write(f">>> {_shown(line)}\n")
        self.write(line + b"\r\n")
        return self.reply()

    def write(self, octets: bytes) -> None:
        """Send octets; a closed connection is found by the next reply."""
        try:
            self._socket.sendall(octets)
        except TimeoutError:
            raise Failure(EX_TEMPFAIL, f"{self._where} does not read.") from None
        except OSError:
            pass  # the reply, if one was sent before, has the reason

    def send(self, sender: bytes, recipients: list[bytes], header: bytes, body: Body, *, eight_bit: bool) -> None:
        """Send one message to all recipients."""
        _expect(b"2", self.reply())
        name = self._settings.domain
        ehlo = self.command(b"EHLO " + (name.encode() if name.isascii() else b"[127.0.0.1]"))
        _expect(b"2", ehlo)
        offered = {line[4:].partition(b" ")[0].upper() for line in ehlo[1:]}
        words = [b"MAIL FROM:<" + sender + b">"]
        if b"SIZE" in offered:
            words.append(b"SIZE=%d" % (len(header) + body.size))
        if b"8BITMIME" in offered and eight_bit and not (body.is_ascii and header.isascii()):
            words.append(b"BODY=8BITMIME")
        if b"SMTPUTF8" in offered and not all(map(bytes.isascii, [sender, *recipients, header])):
            words.append(b"SMTPUTF8")
        _expect(b"2", self.command(b" ".join(words)))
        for recipient in recipients:
            _expect(b"2", self.command(b"RCPT TO:<" + recipient + b">"), recipient)
        _expect(b"3", self.command(b"DATA"))
        for piece in _stuffed(header, body):
            self.write(piece)
        self._socket.settimeout(FINAL_SECONDS)
        _expect(b"2", self.reply())
        self.write(b"QUIT\r\n")


def _stuffed(header: bytes, body: Body) -> Iterator[bytes]:
    """Yield the message with doubled dots and its end (RFC 5321 section 4.5.2)."""
    line_start = True
    for piece in _chain(header, body.pieces()):
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        yield b"." + stuffed if line_start and stuffed.startswith(b".") else stuffed
        line_start = piece.endswith(b"\r\n")
    yield b".\r\n" if line_start else b"\r\n.\r\n"


_STATUS = re.compile(rb"\d\d\d[ -]([245])\.(\d{1,3})\.(\d{1,3})\b")


def _expect(first: bytes, reply: list[bytes], recipient: bytes = b"") -> None:
    """Raise the Failure of a reply with another first digit."""
    if reply[-1].startswith(first):
        return
    text = " ".join(_shown(line[4:]) for line in reply)
    about = f"{_shown(recipient)}: " if recipient else ""
    raise Failure(_code(reply[-1], recipient), f"{about}{_shown(reply[-1][:3])} {text}")


def _code(line: bytes, recipient: bytes) -> int:
    """Return the exit code for a refusal: by its enhanced status (RFC 3463), else by its code."""
    match = _STATUS.match(line)
    subject, detail = (match[2], match[3]) if match else (b"", b"")
    if (subject, detail) == (b"5", b"3"):
        return EX_UNAVAILABLE  # too many recipients: it does not help to try again
    if line.startswith(b"4"):
        return EX_TEMPFAIL
    if recipient and (subject == b"1" or not match):
        return EX_NOUSER
    if subject in (b"6", b"3") or line.startswith(b"552"):
        return EX_DATAERR  # content, or size
    return EX_NOPERM if subject == b"7" else EX_UNAVAILABLE


# ---- stand-alone mode ----


def stand_alone(settings: Settings) -> int:
    """Let the program on standard input and output speak SMTP with the relay, command by command."""
    try:
        with Conversation(settings) as relay:
            return _pass_commands(relay)
    except Failure as failure:
        _answer([b"421 4.3.2 " + failure.text.encode()])
        raise


def _pass_commands(relay: Conversation) -> int:
    commands = sys.stdin.buffer
    _answer(relay.reply())
    while line := commands.readline(_CHUNK):
        command = line.rstrip(b"\r\n")
        reply = relay.command(command)
        _answer(reply)
        if reply[-1].startswith(b"354"):
            for piece in _data(commands):
                relay.write(piece)
            _answer(relay.reply())
        if reply[-1].startswith((b"221", b"421")):
            break
    return EX_OK


def _data(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a message as the client stuffed them, with its end; an end of input is none."""
    for line in lines:
        text = line.rstrip(b"\r\n")
        yield text + b"\r\n"
        if text == b".":
            return
    raise Failure(EX_DATAERR, "The input ended inside a message.")


def _answer(reply: list[bytes]) -> None:
    sys.stdout.buffer.write(b"".join(line + b"\r\n" for line in reply))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
