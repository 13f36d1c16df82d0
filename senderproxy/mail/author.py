"""read_authors: the mailboxes a header section names as its authors, or why nobody can say for sure.

Guarantees: a field that two readers could take for two different mailboxes is never read at all; time grows with the
length of the field and not faster; a display name is decoded for people and decides nothing.
The grammar is RFC 5322's without groups, and without what was only ever legal to read: comments and blanks inside an
address, quoted local parts with punctuation in them. Raw 8-bit display names are taken, for many programs send them.
Not here: what an address must look like (mail.address), which mailbox has an account (routing.route).
RFC 5322 sections 3.4, 3.6.2, 3.6.6 and 4.4, RFC 2047.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from senderproxy.mail.address import Address, AddressError, parse_address, parse_domain
from senderproxy.mail.display import decode_words
from senderproxy.mail.header import HeaderSection

_LENGTH_LIMIT: Final = 4096  # octets of one field's value; twenty authors with long names have room
_REPEATED: Final = 200  # octets of a value that is worth remembering
_DEPTH_LIMIT: Final = 8  # comments in comments


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address and the name people see beside it (decoded, for display only)."""

    address: Address
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class AuthorFields:
    """Who wrote it and who sent it. No From field at all: `from_` is empty."""

    from_: tuple[Mailbox, ...]
    sender: Mailbox | None = None
    resent_from: tuple[Mailbox, ...] = ()


@dataclass(frozen=True, slots=True)
class UnreadableAuthor:
    """Two readers could understand this field differently, or nobody can. Becomes 550 5.6.0."""

    field: str
    reason: str


def read_authors(header: HeaderSection) -> AuthorFields | UnreadableAuthor:
    """Who wrote the message, by its From, Sender and topmost Resent-From field.

    A Resent-From that cannot be read counts as none: there may be several, and it never says who wrote the message.
    """
    values = {name: header.values(name) for name in ("from", "sender", "resent-from")}
    rest = header.split()[1]
    if _FROM_BELOW.search(rest):
        return UnreadableAuthor(
            "From", "it stands below a line that is no header field, where some programs stop reading"
        )
    try:
        authors = _only("From", values["from"])
        sender = _only("Sender", [value for value in values["sender"] if value.strip()])
    except _FieldError as error:
        return UnreadableAuthor(error.field, error.reason)
    if len(sender) > 1:
        return UnreadableAuthor("Sender", "it names more than one mailbox")
    return AuthorFields(authors, sender[0] if sender else None, _topmost(values["resent-from"]))


def read_mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    """The mailboxes of one field's value, at least one. Raises MailboxError where they can be read in two ways."""
    return _read_again(value) if len(value) <= _REPEATED else _read(value)


def _read(value: bytes) -> tuple[Mailbox, ...]:
    if len(value) > _LENGTH_LIMIT:
        raise MailboxError(f"it is longer than {_LENGTH_LIMIT} characters")
    text = _FOLD.sub(_FOLDED, value).strip(b" \t" + _FOLDED)
    _refuse_unusual(text, value)
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        name, angle, bare = usual.group("name", "angle", "bare")
        return (Mailbox(_address(angle or bare), _plain_name(name)),)
    return _Reader(tuple(_tokens(text))).mailboxes()


# The same people write all day long, and one field is looked at by several rooms.
_read_again = lru_cache(maxsize=1024)(_read)


class MailboxError(ValueError):
    """Why a field cannot be read, in words for the person whose program wrote it."""


class _FieldError(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def _only(field: str, values: Sequence[bytes]) -> tuple[Mailbox, ...]:
    """The mailboxes of the one field; none where there is no field."""
    if not values:
        return ()
    if len(values) > 1:
        raise _FieldError(field, f"there are {len(values)} of them")
    try:
        return read_mailboxes(values[0])
    except MailboxError as error:
        raise _FieldError(field, str(error)) from error


def _topmost(values: Sequence[bytes]) -> tuple[Mailbox, ...]:
    """Who sent it on last (RFC 5322 section 3.6.6: newer resent fields stand above older ones)."""
    try:
        return read_mailboxes(values[0]) if values else ()
    except MailboxError:
        return ()


# A From field that HeaderSection has not read, because a line above it is no field.
_FROM_BELOW: Final = re.compile(rb"(?:\A|[\r\n])[\x00-\x09\x0b\x0c\x0e-\x20]*+from[\x00-\x20]*+:", re.IGNORECASE)

_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_FOLDED: Final = b"\r"  # stands where a line ended, and counts as a blank
_BLANK_LINE: Final = re.compile(rb"\r\n[ \t]*+\r\n[ \t]*+[^ \t\r\n]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_ATEXT: Final = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_WORDS: Final = rb"[ \t\r." + _ATEXT + rb"\x80-\xff]"
_BARE: Final = rb"[." + _ATEXT + rb"]++@[A-Za-z0-9._\-\x80-\xff]++"
# Nearly every From field there is: an address, or a name (plain, or quoted as a whole) and an address in brackets.
_USUAL: Final = re.compile(
    rb'(?P<name>"[^"\\\r]*+"[ \t\r]*+|' + _WORDS + rb"*+)<(?P<angle>" + _BARE + rb")>|(?P<bare>" + _BARE + rb")"
)
_QUOTED_LOCAL_PART: Final = re.compile(rb'"[ .' + _ATEXT + rb']++"')


def _refuse_unusual(text: bytes, value: bytes) -> None:
    if not text:
        raise MailboxError("it is empty")
    if _CONTROL.search(_FOLD.sub(b"", value)):
        raise MailboxError("it contains control characters")
    if _BLANK_LINE.search(value):
        raise MailboxError("it contains a blank line, at which some programs stop reading")


def _plain_name(name: bytes | None) -> str | None:
    return None if name is None else decode_words(name.replace(_FOLDED, b"").strip(b" \t").strip(b'"'))


def _address(text: bytes) -> Address:
    """The address, as mail.address reads it, unless other programs could read another one."""
    local_part, _, _ = text.rpartition(b"@")
    if b"=?" in local_part:
        raise MailboxError("there is an encoded word in the address, which some programs decode into another address")
    if local_part.startswith(b'"') and not _QUOTED_LOCAL_PART.fullmatch(local_part):
        raise MailboxError("the quoted part before the @ has punctuation in it, which some programs read as its end")
    try:
        return parse_address(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise MailboxError("the address has characters that are neither ASCII nor UTF-8") from None
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
    spaced: bool  # a blank or a comment before it

    def says(self, special: bytes) -> bool:
        return self.kind is _Kind.SPECIAL and self.text == special


# Many programs leave punctuation in an encoded word that RFC 2047 section 5 wants encoded in a display name. Round
# brackets must come in pairs, because some programs take them for a comment; an @ is never let through.
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
            raise MailboxError(_what_is_wrong_at(text, position))
        yield _Token(_Kind[str(token.lastgroup)], token.group(), spaced)
        position = token.end()


def _end_of_comment(text: bytes, position: int) -> int:
    depth = 0
    while piece := _IN_COMMENT.match(text, position):
        position = piece.end()
        if piece.group() == b"(":
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise MailboxError("its comments are nested too deeply")
        elif piece.group() == b")":
            depth -= 1
            if depth == 0:
                return position
    raise MailboxError("a comment in it is never closed")


def _what_is_wrong_at(text: bytes, position: int) -> str:
    match text[position : position + 1]:
        case b'"':
            return "a quotation mark in it is never closed"
        case b")":
            return "a comment in it is closed that was never opened"
        case character:
            return f"there is a {character.decode('ascii', 'replace')} outside quotation marks"


class _Reader:
    """Walks over the tokens of one field, once, without ever turning back."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def mailboxes(self) -> tuple[Mailbox, ...]:
        """mailbox *("," mailbox)"""
        found = [self._mailbox()]
        while self._next().says(b","):
            self._take()
            found.append(self._mailbox())
        if self._next().kind is not _Kind.END:
            raise MailboxError("something stands behind the address")
        return tuple(found)

    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _mailbox(self) -> Mailbox:
        """[display-name] "<" addr-spec ">", or addr-spec; comments before, between and behind."""
        comments: list[bytes] = []
        words: list[_Token] = []
        while self._next().kind in (_Kind.ATOM, _Kind.QUOTED, _Kind.COMMENT):
            token = self._take()
            if token.kind is _Kind.COMMENT:
                comments.append(_harmless(token.text))
            else:
                words.append(token)
        _refuse_hidden_address(words)
        ending = self._next()
        if ending.says(b"<"):
            address = self._in_brackets()
        elif ending.says(b"@"):
            address = self._bare(words, glued=self._tokens[self._position - 1] in words[-1:])
            words = []
        else:
            raise MailboxError(self._why_no_address(words))
        while self._next().kind is _Kind.COMMENT:
            comments.append(_harmless(self._take().text))
        self._refuse_a_second_address()
        return Mailbox(address, _name(words, comments))

    def _why_no_address(self, words: Sequence[_Token]) -> str:
        if self._next().says(b":") or self._next().says(b";"):
            return f"it names a group, or there is a {self._next().text.decode()} outside quotation marks"
        if self._next().kind is _Kind.LITERAL:
            return "there is a [ outside quotation marks"
        if self._next().says(b",") and words:
            return "there is a comma outside quotation marks, or an address without @"
        if self._next().kind is _Kind.END and words:
            return "there is no address with an @ in it"
        return "an address is missing in it"

    def _bare(self, words: Sequence[_Token], *, glued: bool) -> Address:
        at = self._take()
        if len(words) != 1 or not glued or at.spaced:
            raise MailboxError("there is an @ outside quotation marks before the address, or a gap in the address")
        return _address(words[0].text + b"@" + self._domain())

    def _domain(self) -> bytes:
        token = self._take()
        if token.kind not in (_Kind.ATOM, _Kind.LITERAL) or token.spaced:
            raise MailboxError("what stands behind an @ is no domain")
        return token.text

    def _in_brackets(self) -> Address:
        """ "<" [obs-route] addr-spec ">" """
        self._take()
        if self._next().says(b"@"):
            self._pass_over_route()
        local_part = self._take()
        if local_part.says(b">"):
            raise MailboxError("the brackets are empty")
        if local_part.kind not in (_Kind.ATOM, _Kind.QUOTED):
            raise MailboxError("what stands in the brackets is no address")
        at = self._take()
        if not at.says(b"@") or at.spaced:
            raise MailboxError("what stands in the brackets is no address")
        domain = self._domain()
        if not self._take().says(b">"):
            raise MailboxError("something stands behind the address, before its bracket is closed")
        return _address(local_part.text + b"@" + domain)

    def _pass_over_route(self) -> None:
        """Where the message was to go through, which means nothing any more (RFC 5322 section 4.4, obs-route)."""
        while True:
            if not self._take().says(b"@"):
                raise MailboxError("the route before the address is no route")
            try:
                parse_domain(self._domain().decode("ascii"))
            except (AddressError, UnicodeDecodeError):
                raise MailboxError("the route before the address is no route") from None
            mark = self._take()
            if mark.says(b":"):
                return
            if not mark.says(b","):
                raise MailboxError("the route before the address is no route")

    def _refuse_a_second_address(self) -> None:
        if self._next().says(b"<"):
            raise MailboxError("there are two addresses in it, or an @ outside quotation marks")
        if self._next().kind is not _Kind.END and not self._next().says(b","):
            raise MailboxError("something stands behind the address")


def _harmless(comment: bytes) -> bytes:
    """A comment in which nobody could see an address who does not know what a comment is."""
    if re.search(rb"[@<>]", comment):
        raise MailboxError("there is a comment with an address in it")
    return comment


def _refuse_hidden_address(words: Sequence[_Token]) -> None:
    """A quoted address is harmless, unless some programs end the quotation, or the mailbox, before we do."""
    quoted = any(b"@" in word.text for word in words)
    if quoted and any(_FOLDED in word.text for word in words):
        raise MailboxError("a line ends inside quotation marks, and some programs end the quotation there")
    if quoted and any(word.kind is _Kind.ATOM and re.search(rb"[,;]", word.text) for word in words):
        raise MailboxError("there is a comma or semicolon outside quotation marks")


def _name(words: Sequence[_Token], comments: Sequence[bytes]) -> str | None:
    """The display name; where there is none, the comment in which older programs put it."""
    if not words:
        return decode_words(comments[-1].replace(_FOLDED, b"")) if comments else None
    parts = [b" " * (word.spaced and index > 0) + _unquoted(word) for index, word in enumerate(words)]
    return decode_words(b"".join(parts))


def _unquoted(word: _Token) -> bytes:
    text = word.text.replace(_FOLDED, b"")
    return re.sub(rb"\\(.)", rb"\1", text[1:-1]) if word.kind is _Kind.QUOTED else text
