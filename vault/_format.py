"""Parser and serializer of the file format in FORMAT.md: the plain header, and the layout inside the encrypted parts.

Guarantees: for every input that `read_sealed_vault` accepts, `SealedVault.render` returns the same bytes: each vault
has one encoding. Every other input raises Damaged or TooNew, never another exception.

Not here: keys, encryption, authentication (_seal), files (_file).
"""

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from vault._errors import Damage, Damaged, TooNew

VERSION: Final = 1  # of the file format (FORMAT.md); a reader refuses a higher one

# Limits that a reader enforces before it spends memory or time on the claims of a file.
MAX_FILE: Final = 64 * 1024 * 1024  # octets; the whole file is held in memory
MAX_HEADER: Final = 64 * 1024  # octets; room for MAX_STANZAS of the longest stanzas in use
MAX_STANZAS: Final = 32  # unlock methods of one vault
MAX_PASSPHRASES: Final = 8  # a wrong passphrase costs one key derivation for each
MAX_GENERATION: Final = 2**63 - 1  # fits a signed 64-bit integer
MAX_NAME: Final = 255  # octets of UTF-8; the length field has one octet
MAX_RECORD: Final = 1024 * 1024  # octets of one record

ID_BYTES: Final = 16  # octets, random
SALT_BYTES: Final = 32  # octets, as long as a SHA-256 output
KEY_BYTES: Final = 32  # octets, the ChaCha20-Poly1305 key size
TAG_BYTES: Final = 16  # octets, the Poly1305 tag
MAC_BYTES: Final = 32  # octets, HMAC-SHA-256
WRAPPED_BYTES: Final = KEY_BYTES + TAG_BYTES  # octets; the vault key, encrypted
PADDING_STEP: Final = 256  # octets; encrypted parts grow in these steps, so that a length reveals little

_MAGIC: Final = b"vault/v"
_VERSION_LINE: Final = re.compile(rb"vault/v([1-9][0-9]{0,8})\n")
_WHOLE_LINE: Final = re.compile(rb"whole (0|[1-9][0-9]{0,9}) ([A-Za-z0-9+/]{43}=)\n")
_OPENING_LINES: Final = 96  # octets, more than the two lines above can have
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LABEL: Final = re.compile(r"[A-Za-z0-9._@:+/-]{1,64}")
_KIND: Final = re.compile(r"[a-z0-9-]{1,32}")
_ARGUMENT: Final = re.compile(r"[!-~]{1,512}")


class UnlockKind(StrEnum):
    """Unlock methods of format version 1, by their names in the file."""

    ARGON2ID = "passphrase-argon2id"
    SCRYPT = "passphrase-scrypt"
    KEY_FILE = "key-file"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class Argon2idCost:
    """Cost of Argon2id (RFC 9106). The caps limit what a forged file can cost: 256 MiB, a few seconds."""

    passes: int
    kibibytes: int
    lanes: int

    def kind(self) -> UnlockKind:
        return UnlockKind.ARGON2ID

    def excess(self) -> str | None:
        """Name the parameter that is outside the caps, None if all are inside."""
        if not 1 <= self.passes <= 10:
            return f"{self.passes} passes of Argon2id"
        if not 1 <= self.lanes <= 16:
            return f"{self.lanes} lanes of Argon2id"
        if not 8 * self.lanes <= self.kibibytes <= 256 * 1024:
            return f"{self.kibibytes} KiB of memory for Argon2id"
        return None


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Cost of scrypt (RFC 7914), with N as its binary logarithm."""

    log2_n: int
    r: int
    p: int

    def kind(self) -> UnlockKind:
        return UnlockKind.SCRYPT

    def excess(self) -> str | None:
        """Name the parameter that is outside the caps, None if all are inside."""
        if not 1 <= self.log2_n <= 18:
            return f"2^{self.log2_n} rounds of scrypt"
        if self.r != 8 or not 1 <= self.p <= 4:
            return f"r={self.r}, p={self.p} for scrypt"
        return None


Cost: TypeAlias = Argon2idCost | ScryptCost


@dataclass(frozen=True, slots=True)
class PassphraseWrapping:
    """Data key wrapped by a key that is derived from a passphrase."""

    cost: Cost
    salt: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class KeyWrapping:
    """Data key wrapped by a random secret in a key file or in the system's keyring."""

    kind: UnlockKind
    salt: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class UnknownWrapping:
    """Data key wrapped by a method this version does not know. A writer copies it unchanged."""

    kind: str
    arguments: tuple[str, ...]
    wrapped: bytes


Wrapping: TypeAlias = PassphraseWrapping | KeyWrapping | UnknownWrapping


@dataclass(frozen=True, slots=True)
class Stanza:
    """One unlock method of the vault and its label."""

    label: str
    wrapping: Wrapping

    def first_line(self) -> str:
        """The first line without its line end: everything but the wrapped key."""
        match self.wrapping:
            case PassphraseWrapping(cost, salt, _):
                words: Sequence[object] = (cost.kind(), self.label, *astuple(cost), to_base64(salt))
            case KeyWrapping(kind, salt, _):
                words = (kind, self.label, to_base64(salt))
            case UnknownWrapping(kind, arguments, _):
                words = (kind, self.label, *arguments)
        return " ".join(["->", *map(str, words)])

    def render(self) -> str:
        return f"{self.first_line()}\n{to_base64(self.wrapping.wrapped)}\n"


@dataclass(frozen=True, slots=True)
class Header:
    """The unencrypted part of the file."""

    vault_id: bytes
    generation: int
    salt: bytes
    stanzas: tuple[Stanza, ...]

    def render(self) -> bytes:
        """The bytes that the header MAC covers, without the version line."""
        lines = [
            f"id {to_base64(self.vault_id)}\n",
            f"generation {self.generation}\n",
            f"salt {to_base64(self.salt)}\n",
            *(stanza.render() for stanza in self.stanzas),
            "---",
        ]
        return "".join(lines).encode("ascii")


@dataclass(frozen=True, slots=True)
class SealedVault:
    """A parsed vault, still encrypted."""

    header: Header
    mac: bytes
    index: bytes
    frames: bytes

    def render(self) -> bytes:
        mac = to_base64(self.mac).encode("ascii")
        head = self.header.render() + b" " + mac + b"\n"
        rest = head + struct.pack(">I", len(self.index)) + self.index + self.frames
        return version_line() + _whole_line(VERSION, rest) + rest


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """Name of a record and length of its encrypted frame."""

    name: str
    frame_length: int


def version_line(version: int = VERSION) -> bytes:
    return _MAGIC + str(version).encode("ascii") + b"\n"


def _whole_line(version: int, rest: bytes) -> bytes:
    """Length and digest of the rest: separates accidental damage from a wrong key, no protection against forgery."""
    digest = hashlib.sha256(version_line(version) + rest).digest()
    return f"whole {len(rest)} {to_base64(digest)}\n".encode("ascii")


# ---- reading ----


def read_sealed_vault(content: bytes) -> SealedVault:
    """Parse a file. Accepts only what `SealedVault.render` writes; raises Damaged or TooNew otherwise."""
    rest = _checked_rest(content)
    end = rest.find(b"\n--- ", 0, MAX_HEADER)
    line_end = rest.find(b"\n", end + 1, MAX_HEADER)
    if end < 0 or line_end < 0:
        raise _malformed("the header has no end")
    header = _read_header(_ascii(rest[:end]).split("\n"))
    mac = from_base64(_ascii(rest[end + 5 : line_end]), "the header's MAC", MAC_BYTES)
    index, frames = _split_body(rest[line_end + 1 :])
    sealed = SealedVault(header, mac, index, frames)
    if sealed.render() != content:
        raise _malformed("it is not in the canonical encoding")
    return sealed


def _checked_rest(content: bytes) -> bytes:
    """Check the first two lines, which are the same in all format versions. Return the bytes after them."""
    if len(content) > MAX_FILE:
        raise _malformed(f"it is larger than {MAX_FILE // 2**20} MiB")
    opening = content[:_OPENING_LINES]
    version = _VERSION_LINE.match(opening)
    whole = version and _WHOLE_LINE.match(opening, version.end())
    if not version or not whole:
        raise _opening_error(opening)
    rest = content[whole.end() :]
    promised = int(whole[1])
    if len(rest) < promised:
        raise Damaged(f"truncated: bytes missing at its end: {promised - len(rest)}", damage=Damage.TRUNCATED)
    if len(rest) > promised:
        raise Damaged(f"extra bytes at its end: {len(rest) - promised}", damage=Damage.TRAILING)
    number = int(version[1])
    if _whole_line(number, rest) != whole[0]:
        raise Damaged("its content is not what was written", damage=Damage.ALTERED)
    if number > VERSION:
        raise TooNew(
            f"written in version {number} of the vault format; this program supports version {VERSION}",
            hint="Upgrade this program. To keep this version, restore a backup that it wrote itself.",
        )
    return rest


def _opening_error(opening: bytes) -> Damaged:
    """Return the error for a file without valid first lines: truncated, or not a vault."""
    if not opening:
        return Damaged("truncated: it is empty", damage=Damage.TRUNCATED)
    if opening[: len(_MAGIC)] != _MAGIC[: len(opening)]:
        return _malformed("this is not a vault")
    if len(opening) < _OPENING_LINES and opening.count(b"\n") < 2:
        return Damaged("truncated within its first two lines", damage=Damage.TRUNCATED)
    return _malformed("its first two lines cannot be read")


def _read_header(lines: list[str]) -> Header:
    if len(lines) < 5 or len(lines) % 2 == 0:
        raise _malformed("the header lacks lines")
    stanzas = tuple(_read_stanza(head, wrapped) for head, wrapped in zip(lines[3::2], lines[4::2], strict=True))
    if problem := stanzas_problem(stanzas):
        raise _malformed(problem)
    generation = _number(_field(lines[1], "generation"))
    if not 1 <= generation <= MAX_GENERATION:
        raise _malformed("the generation is out of range")
    return Header(
        vault_id=from_base64(_field(lines[0], "id"), "the vault's id", ID_BYTES),
        generation=generation,
        salt=from_base64(_field(lines[2], "salt"), "the salt", SALT_BYTES),
        stanzas=stanzas,
    )


def stanzas_problem(stanzas: Sequence[Stanza]) -> str | None:
    """Return the reason why one vault cannot have these stanzas together, None if it can."""
    if len({stanza.label for stanza in stanzas}) < len(stanzas):
        return "two unlock methods have the same label"
    if len(stanzas) > MAX_STANZAS:
        return f"more than {MAX_STANZAS} unlock methods"
    if sum(isinstance(stanza.wrapping, PassphraseWrapping) for stanza in stanzas) > MAX_PASSPHRASES:
        return f"more than {MAX_PASSPHRASES} passphrases"
    return None


def _field(line: str, name: str) -> str:
    if not line.startswith(f"{name} "):
        raise _malformed(f"the header's {name} is not where it should be")
    return line[len(name) + 1 :]


def _read_stanza(head: str, wrapped_line: str) -> Stanza:
    arrow, kind, label, *arguments = head.split(" ") if head.count(" ") >= 2 else ("", "", "")
    if arrow != "->" or not _KIND.fullmatch(kind) or not _LABEL.fullmatch(label):
        raise _malformed("an unlock method cannot be read")
    wrapped = from_base64(wrapped_line, "a wrapped key")
    wrapping = _read_wrapping(kind, arguments, wrapped)
    if not isinstance(wrapping, UnknownWrapping) and len(wrapped) != WRAPPED_BYTES:
        raise _malformed(f"the wrapped key of {label!r} has the wrong length")
    return Stanza(label, wrapping)


def _read_wrapping(kind: str, arguments: list[str], wrapped: bytes) -> Wrapping:
    if (found := read_cost(kind, arguments)) is not None:
        return PassphraseWrapping(*found, wrapped)
    match kind, arguments:
        case ((UnlockKind.KEY_FILE | UnlockKind.KEYRING), [salt]):
            return KeyWrapping(UnlockKind(kind), _salt(salt), wrapped)
        case ((UnlockKind.ARGON2ID | UnlockKind.SCRYPT | UnlockKind.KEY_FILE | UnlockKind.KEYRING), _):
            raise _malformed(f"a {kind} has too many or too few arguments")
        case _:
            return _unknown_wrapping(kind, arguments, wrapped)


def read_cost(kind: str, arguments: list[str]) -> tuple[Cost, bytes] | None:
    """The cost and the salt of a passphrase; None if the words are of another kind. Raises Damaged."""
    match kind, arguments:
        case UnlockKind.ARGON2ID, [passes, kibibytes, lanes, salt]:
            argon2id = Argon2idCost(_number(passes), _number(kibibytes), _number(lanes))
            return _checked_cost(argon2id), _salt(salt)
        case UnlockKind.SCRYPT, [log2_n, r, p, salt]:
            scrypt = ScryptCost(_number(log2_n), _number(r), _number(p))
            return _checked_cost(scrypt), _salt(salt)
        case _:
            return None


def _unknown_wrapping(kind: str, arguments: list[str], wrapped: bytes) -> UnknownWrapping:
    if len(arguments) > 16 or not all(_ARGUMENT.fullmatch(argument) for argument in arguments):
        raise _malformed("an unlock method cannot be read")
    return UnknownWrapping(kind, tuple(arguments), wrapped)


def _checked_cost(cost: Cost) -> Cost:
    if excess := cost.excess():
        raise _malformed(f"it asks for {excess}, which is outside the permitted range")
    return cost


def _salt(text: str) -> bytes:
    return from_base64(text, "a salt", SALT_BYTES)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _malformed("a number is not written as a plain decimal")
    return int(text)


def _split_body(body: bytes) -> tuple[bytes, bytes]:
    if len(body) < 4:
        raise _malformed("the body is too short")
    (length,) = struct.unpack_from(">I", body)
    if not _is_frame_length(length) or length > len(body) - 4:
        raise _malformed("the length of the index is invalid")
    return body[4 : 4 + length], body[4 + length :]


def _is_frame_length(length: int) -> bool:
    return length > TAG_BYTES and (length - TAG_BYTES) % PADDING_STEP == 0


def split_frames(entries: Sequence[IndexEntry], frames: bytes) -> list[bytes]:
    """Split the body into the frames that the (authenticated) index lists."""
    if sum(entry.frame_length for entry in entries) != len(frames):
        raise _malformed("the records are not as long as the index says")
    cut, start = [], 0
    for entry in entries:
        cut.append(frames[start : start + entry.frame_length])
        start += entry.frame_length
    return cut


# ---- plaintext of records and index ----


def pack_record(body: bytes) -> bytes:
    """Encode a record: length, body, zeros up to the next padding step."""
    return _padded(struct.pack(">I", len(body)) + body)


def unpack_record(plain: bytes) -> bytes:
    (length,) = struct.unpack_from(">I", plain) if len(plain) >= 4 else (-1,)
    body = plain[4 : 4 + length]
    if not 0 <= length <= MAX_RECORD or pack_record(body) != plain:
        raise _malformed("the layout of a record is invalid")
    return body


def pack_index(entries: Iterable[IndexEntry]) -> bytes:
    """Encode the index: count, each name with the length of its frame, zeros up to the next padding step."""
    parts = []
    for entry in entries:
        name = entry.name.encode("utf-8")
        parts.append(struct.pack(">B", len(name)) + name + struct.pack(">I", entry.frame_length))
    return _padded(struct.pack(">I", len(parts)) + b"".join(parts))


def unpack_index(plain: bytes) -> list[IndexEntry]:
    """Decode the index. Its names are in strictly ascending byte order, so none can occur twice."""
    entries: list[IndexEntry] = []
    try:
        (count,) = struct.unpack_from(">I", plain)
        at = 4
        for _ in range(count):
            length = plain[at]
            name = plain[at + 1 : at + 1 + length].decode("utf-8")
            (frame_length,) = struct.unpack_from(">I", plain, at + 1 + length)
            entries.append(IndexEntry(name, frame_length))
            at += 5 + length
    except (struct.error, IndexError, UnicodeDecodeError):
        raise _malformed("the index cannot be read") from None
    names = [entry.name for entry in entries]
    if any(name_problem(name) for name in names) or not all(_is_frame_length(e.frame_length) for e in entries):
        raise _malformed("the index has an invalid name or frame length")
    if len(set(names)) < len(names):
        raise _malformed("two records have the same name")
    if names != sorted_names(names) or pack_index(entries) != plain:
        raise _malformed("the index is not in the canonical encoding")
    return entries


def sorted_names(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.encode("utf-8"))


def name_problem(name: str) -> str | None:
    """Return the reason why this is not a valid record name, None if it is."""
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "a record's name must be encodable as UTF-8"
    if not 1 <= length <= MAX_NAME:
        return f"a record's name is 1 to {MAX_NAME} bytes long, not {length}"
    if any(character < " " or character == "\x7f" for character in name):
        return "a record's name must not contain control characters"
    return None


def is_valid_label(label: str) -> bool:
    """True if this is a valid label."""
    return _LABEL.fullmatch(label) is not None


def _padded(plain: bytes) -> bytes:
    return plain + bytes(-len(plain) % PADDING_STEP)


# ---- base64 and errors ----


def to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def from_base64(text: str, what: str, length: int | None = None) -> bytes:
    """Decode canonical base64 with padding (RFC 4648 section 4). Raises Damaged, which names `what`."""
    try:
        value = binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except (binascii.Error, UnicodeEncodeError):
        raise _malformed(f"{what} is not base64") from None
    if to_base64(value) != text:
        raise _malformed(f"{what} is not in canonical base64")
    if not value or (length is not None and len(value) != length):
        raise _malformed(f"{what} has the wrong length")
    return value


def _ascii(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("the header is not plain ASCII") from None


def _malformed(what: str) -> Damaged:
    return Damaged(what, damage=Damage.MALFORMED)
