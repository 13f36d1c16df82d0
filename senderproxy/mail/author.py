"""Authors of a message: the mailboxes in From, Sender and Resent-From. PURE.

Guarantees: a field that two programs could read as different mailboxes is rejected. Time is linear in the length of the
field. A display name is decoded for display only.

The grammar is that of RFC 5322 without groups and without the obsolete forms: comments and blanks inside an address,
quoted local parts with punctuation. Raw 8-bit display names are accepted, because many programs send them.

Not here: the syntax of an address (mail.address), the account of a mailbox (routing.route).

RFC 5322 sections 3.4, 3.6.2, 3.6.6 and 4.4, RFC 2047.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from senderproxy.mail.address import Address, AddressError, NonAsciiLocalPart, is_local_name, parse_address
from senderproxy.mail.display import decode_words
from senderproxy.mail.header import HeaderSection
from senderproxy.value_class import value_class

_LENGTH_LIMIT: Final = 4096  # octets of one field's value; enough for twenty authors with long names
_CACHED_LENGTH: Final = 200  # octets of a value; longer ones are rarely repeated
_DEPTH_LIMIT: Final = 8  # nested comments; more are not in use


UNREADABLE: Final = "5.6.0"  # enhanced status, RFC 3463
NON_ASCII: Final = "5.6.7"  # RFC 6531 section 3.5


@value_class
class Mailbox:
    """One address and its display name (decoded, for display only)."""

    address: Address
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class LocalName:
    """A From field that names nobody outside: a local user (`root`), a device, or nothing (`<>`)."""

    name: str | None = None  # of the user, in lower case; None: there is none, or more than one word
    display_name: str | None = None


@value_class
class AuthorFields:
    """Mailboxes of the author fields. `from_` is empty without a From field, and with one that is a local name."""

    from_: tuple[Mailbox, ...]
    sender: Mailbox | None = None
    resent_from: tuple[Mailbox, ...] = ()  # of the last resending only, see `read_recent`
    sender_is_recent: bool = True  # Sender was written after the last transport, see `read_recent`
    local: LocalName | None = None


@dataclass(frozen=True, slots=True)
class UnreadableAuthor:
    """A field that is ambiguous or unreadable. Becomes 550 with this enhanced status."""

    field: str
    reason: str
    status: str = UNREADABLE


def read_authors(header: HeaderSection) -> AuthorFields | UnreadableAuthor:
    """Read the From and Sender fields, and Resent-From above the topmost Received field.

    Several From fields with the same mailboxes count as one. An unreadable Resent-From counts as missing: there may be
    several, and they do not name the author.
    """
    values = {name: header.values(name) for name in ("from", "sender")}
    rest = header.split()[1]
    if _FROM_BELOW.search(rest):
        return UnreadableAuthor(
            "From", "it is below a line that is not a header field, where some programs stop reading"
        )
    try:
        authors, local = _from_fields(values["from"])
        sender = _single_field("Sender", [value for value in values["sender"] if value.strip()])
    except _FieldError as error:
        return error.unreadable
    if len(sender) > 1:
        return UnreadableAuthor("Sender", "it names more than one mailbox")
    recent = read_recent(header, "Resent-From")
    return AuthorFields(
        authors, sender[0] if sender else None, recent, not sender or bool(read_recent(header, "Sender")), local
    )


def read_recent(header: HeaderSection, name: str) -> tuple[Mailbox, ...]:
    """Read the topmost field of this name if it is above the topmost Received field; else nothing.

    A server adds its Received field on top of what it received, so a stranger cannot write the fields above it. The
    server that hands us the message can. An unreadable field counts as missing.
    """
    places = header.indexes()
    found, transport = places.get(name.lower(), ()), places.get("received", ())
    if not found or (transport and transport[0] < found[0]):
        return ()
    return _topmost([header.split()[0][found[0]].value])


def read_senders(header: HeaderSection) -> tuple[Mailbox, ...] | UnreadableAuthor:
    """Read every mailbox that names a sender beside From: all Sender, Resent-From and Resent-Sender fields.

    RFC 5322 sections 3.6.2 and 3.6.6.
    """
    found: list[Mailbox] = []
    for field in ("Sender", "Resent-From", "Resent-Sender"):
        for value in header.values(field):
            if not value.strip():
                continue
            try:
                found += read_mailboxes(value)
            except MailboxError as error:
                return UnreadableAuthor(field, str(error), error.status)
    return tuple(found)


def find_hidden_sender(header: HeaderSection) -> UnreadableAuthor | None:
    """Find a sender field that not every program reads: below an invalid line, or behind invisible octets."""
    hidden = _SENDER_BELOW.search(header.split()[1])
    if hidden is None:
        return None
    return UnreadableAuthor(hidden[1].decode("ascii"), "it is on a line that is not a header field for every program")


def hides_sender(lines: bytes) -> bool:
    """True if one of the lines below the header fields names a sender for some programs."""
    return bool(_FROM_BELOW.search(lines) or _SENDER_BELOW.search(lines))


def read_mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    """Read the mailboxes of one field's value, at least one. Raises MailboxError if it is ambiguous or invalid."""
    return _read_cached(value) if len(value) <= _CACHED_LENGTH else _read(value)


def _read(value: bytes) -> tuple[Mailbox, ...]:
    if len(value) > _LENGTH_LIMIT:
        raise MailboxError(f"it is longer than {_LENGTH_LIMIT} characters")
    text = _FOLD.sub(_FOLD_MARK, value).strip(b" \t" + _FOLD_MARK)
    _check_text(text, value)
    common = _COMMON_FORM.fullmatch(text)
    if common is not None:
        name, angle, bare = common.group("name", "angle", "bare")
        return (Mailbox(_address(angle or bare), _plain_name(name)),)
    return _MailboxListParser(tuple(_tokens(text))).mailboxes()


# Cached because the same values occur again and again, and several modules read one field.
_read_cached = lru_cache(maxsize=1024)(_read)


class MailboxError(ValueError):
    """Reason why a field cannot be read, for the person whose program wrote it; with the enhanced status."""

    def __init__(self, reason: str, status: str = UNREADABLE) -> None:
        super().__init__(reason)
        self.status = status


class _FieldError(Exception):
    def __init__(self, field: str, reason: str, status: str = UNREADABLE) -> None:
        super().__init__(field, reason, status)
        self.unreadable = UnreadableAuthor(field, reason, status)


def _single_field(field: str, values: Sequence[bytes]) -> tuple[Mailbox, ...]:
    """Read the mailboxes of a field that may occur once; none if it is missing."""
    if not values:
        return ()
    if len(values) > 1:
        raise _FieldError(field, f"there are {len(values)} of them")
    try:
        return read_mailboxes(values[0])
    except MailboxError as error:
        raise _FieldError(field, str(error), error.status) from error


def _from_fields(values: Sequence[bytes]) -> tuple[tuple[Mailbox, ...], LocalName | None]:
    """Read the From fields, which must agree: their mailboxes, or the local name."""
    found = [_from_field(value) for value in values]
    if not found:
        return (), None
    if any(_identity(other) != _identity(found[0]) for other in found[1:]):
        raise _FieldError("From", f"there are {len(values)} of them")
    first = found[0]
    return ((), first) if isinstance(first, LocalName) else (first, None)


def _from_field(value: bytes) -> tuple[Mailbox, ...] | LocalName:
    try:
        return read_mailboxes(value)
    except MailboxError as error:
        reason, status = str(error), error.status
    try:
        local = read_local_name(value)
    except MailboxError as error:
        raise _FieldError("From", str(error)) from error
    if local is None:
        raise _FieldError("From", reason, status)
    return local


def _identity(found: tuple[Mailbox, ...] | LocalName) -> object:
    """The same for fields that name the same author."""
    return found.name if isinstance(found, LocalName) else tuple(mailbox.address.key for mailbox in found)


def read_local_name(value: bytes) -> LocalName | None:
    """Read a field without an address: `root`, `root (Cron Daemon)`, `Cron <root>`, `MAILER-DAEMON <>`, or nothing.

    Result: None for anything else. Raises MailboxError if some programs could find an address in it.
    """
    text = _FOLD.sub(_FOLD_MARK, value).strip(b" \t" + _FOLD_MARK)
    if len(value) > _LENGTH_LIMIT or _AT_SIGN.search(value):
        if _ONE_WORD.fullmatch(text):
            raise MailboxError(_ENCODED_ADDRESS)
        return None
    if not text:
        return LocalName()
    _check_text(text, value)
    _refuse_encoded_address(text)
    words: list[_Token] = []
    comments: list[bytes] = []
    inside: list[_Token] = []
    brackets = 0
    for token in _tokens(text):
        match token.kind:
            case _Kind.COMMENT:
                comments.append(_checked_comment(token.text))
            case _Kind.ATOM | _Kind.QUOTED if brackets < 2:
                (inside if brackets else words).append(token)
            case _Kind.SPECIAL if token.text == (b"<", b">", None)[brackets]:
                brackets += 1
            case _Kind.END if brackets != 1:
                break
            case _:
                return None
    if len(inside) > 1:
        return None
    user = inside or ([] if brackets or len(words) != 1 else words)
    name = user[0].text.decode("latin-1") if user else ""
    return LocalName(name.lower() if is_local_name(name) and "=?" not in name else None, _display_name(words, comments))


def _refuse_encoded_address(value: bytes) -> None:
    """Raise MailboxError for an address in an encoded word, where RFC 2047 section 5 forbids it."""
    if b"=?" not in value:
        return
    decoded = decode_words(value.replace(_FOLD_MARK, b"")) or ""
    if "=?" in decoded:
        raise MailboxError("it has an encoded word that cannot be decoded")
    if not _DECODED_ADDRESS.isdisjoint(decoded):
        raise MailboxError(_ENCODED_ADDRESS)


def _topmost(values: Sequence[bytes]) -> tuple[Mailbox, ...]:
    """Read the topmost field, which is the newest resender (RFC 5322 section 3.6.6)."""
    try:
        return read_mailboxes(values[0]) if values else ()
    except MailboxError:
        return ()


# A From field that HeaderSection does not see, because a line above it is not a field.
_FROM_BELOW: Final = re.compile(rb"(?:\A|[\r\n])[\x00-\x09\x0b\x0c\x0e-\x20]*+from[\x00-\x20]*+:", re.IGNORECASE)

# The same for every field that names a sender, also behind what a program may not show: a byte order mark, a no-break
# or zero-width space (in UTF-8, and in Latin-1).
_INVISIBLE: Final = (
    rb"(?:[\x00-\x09\x0b\x0c\x0e-\x20\xa0]|\xef\xbb\xbf|\xc2\xa0"
    rb"|\xe2\x80[\x8b-\x8f\xaf]|\xe2\x81\xa0|\xfe\xff|\xff\xfe)"
)
_SENDER_BELOW: Final = re.compile(
    rb"(?:\A|[\r\n])(?>" + _INVISIBLE + rb"*)((?:resent-)?(?:from|sender))(?>(?:[\r\n]|" + _INVISIBLE + rb")*):",
    re.IGNORECASE,
)

_AT_SIGN: Final = re.compile(rb"@|\xef\xbc\xa0|\xef\xb9\xab")  # also the wide and the small one (Unicode, UTF-8)
_ENCODED_ADDRESS: Final = "the address is inside an encoded word, where RFC 2047 does not allow one"
_ONE_WORD: Final = re.compile(rb"=\?[^?]*+\?[BbQq]\?[^?]*+\?=")  # one encoded word, with or without blanks in it
_DECODED_ADDRESS: Final = frozenset("@\uff20\ufe6b<>")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_FOLD_MARK: Final = b"\r"  # replaces a fold, and counts as a blank
_BLANK_LINE: Final = re.compile(rb"\r\n[ \t]*+\r\n[ \t]*+[^ \t\r\n]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_ATEXT: Final = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_WORDS: Final = rb"[ \t\r." + _ATEXT + rb"\x80-\xff]"
_BARE: Final = rb"[." + _ATEXT + rb"]++@[A-Za-z0-9._\-\x80-\xff]++"
# The form of nearly all From fields: an address, or a name (plain or one quoted string) and an address in brackets.
_COMMON_FORM: Final = re.compile(
    rb'(?P<name>"[^"\\\r]*+"[ \t\r]*+|' + _WORDS + rb"*+)<(?P<angle>" + _BARE + rb")>|(?P<bare>" + _BARE + rb")"
)
_QUOTED_LOCAL_PART: Final = re.compile(rb'"[ .' + _ATEXT + rb']++"')


def _check_text(text: bytes, value: bytes) -> None:
    if not text:
        raise MailboxError("it is empty")
    if _CONTROL.search(_FOLD.sub(b"", value)):
        raise MailboxError("it contains control characters")
    if _BLANK_LINE.search(value):
        raise MailboxError("it contains a blank line, at which some programs stop reading")


def _plain_name(name: bytes | None) -> str | None:
    return None if name is None else decode_words(name.replace(_FOLD_MARK, b"").strip(b" \t").strip(b'"'))


def _address(text: bytes) -> Address:
    """Parse an address. Raises MailboxError also if other programs could read a different one."""
    local_part, _, _ = text.rpartition(b"@")
    if b"=?" in local_part:
        raise MailboxError("it has an encoded word in the address, which some programs decode into another address")
    if local_part.startswith(b'"') and not _QUOTED_LOCAL_PART.fullmatch(local_part):
        raise MailboxError("the quoted part before the @ has punctuation, which some programs read as its end")
    try:
        return parse_address(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise MailboxError("the address has characters that are neither ASCII nor UTF-8") from None
    except NonAsciiLocalPart as error:
        raise MailboxError(str(error), NON_ASCII) from None
    except AddressError as error:
        raise MailboxError(str(error)) from None


class _Kind(Enum):
    ATOM = auto()
    QUOTED = auto()
    LITERAL = auto()
    COMMENT = auto()
    SPECIAL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: bytes
    spaced: bool  # preceded by a blank or a comment

    def is_special(self, special: bytes) -> bool:
        return self.kind is _Kind.SPECIAL and self.text == special


# Many programs leave punctuation in an encoded word that RFC 2047 section 5 requires to be encoded in a display name.
# Round brackets must be balanced, because some programs read them as a comment. An @ is never accepted.
_IN_WORD: Final = rb"[!#$%&'*+,\-./0-9:;=A-Z\[\]^_`a-z{|}~]*+"
_ENCODED: Final = (
    rb"=\?[A-Za-z0-9_*.+\-]++\?[BbQq]\?" + _IN_WORD + rb"(?>(?:\(" + _IN_WORD + rb"\)" + _IN_WORD + rb")*)\?="
)
_TOKEN: Final = re.compile(
    rb"(?P<ATOM>" + _ENCODED + rb"(?=[ \t\r<]|\Z)|[." + _ATEXT + rb"\x80-\xff]++)"
    rb'|(?P<QUOTED>"(?>(?:[^"\\]++|\\.)*)")'
    rb"|(?P<LITERAL>\[[^\[\]\\\x80-\xff]*+\])"
    rb"|(?P<SPECIAL>[<>@,:;])"
)
_BLANKS: Final = re.compile(rb"[ \t\r]*+")
_IN_COMMENT: Final = re.compile(rb"[^()\\]++|\\.|[()]")


def _tokens(text: bytes) -> Iterator[_Token]:
    position = 0
    while True:
        start = position
        blanks = _BLANKS.match(text, start)
        position = blanks.end() if blanks else start
        spaced = position > start
        if position == len(text):
            yield _Token(_Kind.END, b"", spaced)
            return
        if text.startswith(b"(", position):
            end = _end_of_comment(text, position)
            yield _Token(_Kind.COMMENT, text[position + 1 : end - 1], spaced)
            position = end
            continue
        token = _TOKEN.match(text, position)
        if token is None:
            raise MailboxError(_token_error(text, position))
        yield _Token(_Kind[str(token.lastgroup)], token.group(), spaced)
        position = token.end()


def _end_of_comment(text: bytes, position: int) -> int:
    depth = 0
    while piece := _IN_COMMENT.match(text, position):
        position = piece.end()
        if piece.group() == b"(":
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise MailboxError("it has too many nested comments")
        elif piece.group() == b")":
            depth -= 1
            if depth == 0:
                return position
    raise MailboxError("it has an unclosed comment")


def _token_error(text: bytes, position: int) -> str:
    match text[position : position + 1]:
        case b'"':
            return "it has an unclosed quotation mark"
        case b")":
            return "it has a closing bracket without a comment"
        case character:
            return f"it has a {character.decode('ascii', 'replace')} outside quotation marks"


class _MailboxListParser:
    """Parser of the tokens of one field, without backtracking."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def mailboxes(self) -> tuple[Mailbox, ...]:
        """mailbox *("," mailbox)"""
        found = [self._mailbox()]
        while self._peek().is_special(b","):
            self._advance()
            found.append(self._mailbox())
        if self._peek().kind is not _Kind.END:
            raise MailboxError("it has text after the address")
        return tuple(found)

    def _peek(self) -> _Token:
        return self._tokens[self._position]

    def _advance(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _mailbox(self) -> Mailbox:
        """[display-name] "<" addr-spec ">", or addr-spec; comments before, between and after."""
        comments: list[bytes] = []
        words: list[_Token] = []
        while self._peek().kind in (_Kind.ATOM, _Kind.QUOTED, _Kind.COMMENT):
            token = self._advance()
            if token.kind is _Kind.COMMENT:
                comments.append(_checked_comment(token.text))
            else:
                words.append(token)
        _check_hidden_address(words)
        following = self._peek()
        if following.is_special(b"<"):
            address = self._angle_addr()
        elif following.is_special(b"@"):
            address = self._addr_spec(words, adjacent=self._tokens[self._position - 1] in words[-1:])
            words = []
        else:
            raise MailboxError(self._missing_address_reason(words))
        while self._peek().kind is _Kind.COMMENT:
            comments.append(_checked_comment(self._advance().text))
        self._check_end_of_mailbox()
        return Mailbox(address, _display_name(words, comments))

    def _missing_address_reason(self, words: Sequence[_Token]) -> str:
        if self._peek().is_special(b":") or self._peek().is_special(b";"):
            return f"it has a group, or a {self._peek().text.decode()} outside quotation marks"
        if self._peek().kind is _Kind.LITERAL:
            return "it has a [ outside quotation marks"
        if self._peek().is_special(b",") and words:
            return "it has a comma outside quotation marks, or an address without @"
        if self._peek().kind is _Kind.END and words:
            return "it has no address with an @"
        return "an address is missing"

    def _addr_spec(self, words: Sequence[_Token], *, adjacent: bool) -> Address:
        at = self._advance()
        if len(words) != 1 or not adjacent or at.spaced:
            raise MailboxError("it has an @ outside quotation marks before the address, or a blank in the address")
        return _address(words[0].text + b"@" + self._domain())

    def _domain(self) -> bytes:
        token = self._advance()
        if token.kind not in (_Kind.ATOM, _Kind.LITERAL) or token.spaced:
            raise MailboxError("the text after an @ is not a domain")
        return token.text

    def _angle_addr(self) -> Address:
        """ "<" addr-spec ">", without a source route (RFC 5322 section 4.4, obs-route)."""
        self._advance()
        if self._peek().is_special(b"@"):
            raise MailboxError("it has a source route before the address, which some programs read as the address")
        local_part = self._advance()
        if local_part.is_special(b">"):
            raise MailboxError("the brackets are empty")
        if local_part.kind not in (_Kind.ATOM, _Kind.QUOTED):
            raise MailboxError("the text in the brackets is not an address")
        at = self._advance()
        if not at.is_special(b"@") or at.spaced:
            raise MailboxError("the text in the brackets is not an address")
        domain = self._domain()
        if not self._advance().is_special(b">"):
            raise MailboxError("it has text after the address, before the closing bracket")
        return _address(local_part.text + b"@" + domain)

    def _check_end_of_mailbox(self) -> None:
        if self._peek().is_special(b"<"):
            raise MailboxError("it has two addresses, or an @ outside quotation marks")
        if self._peek().kind is not _Kind.END and not self._peek().is_special(b","):
            raise MailboxError("it has text after the address")


def _checked_comment(comment: bytes) -> bytes:
    """Reject a comment that a program without support for comments could read as an address."""
    if re.search(rb"[@<>]", comment):
        raise MailboxError("it has a comment with an address")
    return comment


def _check_hidden_address(words: Sequence[_Token]) -> None:
    """Reject a quoted address if some programs end the quoted string, or the mailbox, before its end."""
    quoted = any(b"@" in word.text for word in words)
    if quoted and any(_FOLD_MARK in word.text for word in words):
        raise MailboxError("a line ends inside quotation marks, where some programs end the quoted string")
    if quoted and any(word.kind is _Kind.ATOM and re.search(rb"[,;]", word.text) for word in words):
        raise MailboxError("it has a comma or semicolon outside quotation marks")


def _display_name(words: Sequence[_Token], comments: Sequence[bytes]) -> str | None:
    """Decode the display name; without one, the comment in which older programs put it."""
    if not words:
        return decode_words(comments[-1].replace(_FOLD_MARK, b"")) if comments else None
    parts = [b" " * (word.spaced and index > 0) + _unquoted(word) for index, word in enumerate(words)]
    return decode_words(b"".join(parts))


def _unquoted(word: _Token) -> bytes:
    text = word.text.replace(_FOLD_MARK, b"")
    return re.sub(rb"\\(.)", rb"\1", text[1:-1]) if word.kind is _Kind.QUOTED else text
