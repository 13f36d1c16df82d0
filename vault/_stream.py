"""Sealed stream: any number of octets under a passphrase, written and read in chunks. STREAM.md specifies the format.

Guarantees: a reader gets the octets in the order in which they were written, or an error; the end of the stream is only
returned if the writer finished it. Memory use does not depend on the length.

Not here: the meaning of the octets, the file (the caller).
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import astuple
from typing import BinaryIO, Final

from vault import _format, _seal
from vault._errors import Damage, Damaged, TooNew, WrongKey
from vault._format import Cost
from vault._keys import Passphrase
from vault._seal import ChunkCipher

STREAM_VERSION: Final = 1  # of the stream format (STREAM.md); a reader refuses a higher one
CHUNK: Final = 64 * 1024  # octets of plaintext in each chunk but the last
_SEALED_CHUNK: Final = CHUNK + _format.TAG_BYTES  # octets of a full chunk in the file

_HEADER_LIMIT: Final = 1024  # octets; four lines of at most 160
_MAGIC: Final = b"vault-stream/v"
_VERSION_LINE: Final = re.compile(rb"vault-stream/v([1-9][0-9]{0,8})\n")
_DIGEST_LINE: Final = re.compile(rb"digest ([A-Za-z0-9+/]{43}=)\n")
_LINES: Final = re.compile(rb"vault-stream/v1\n([a-z0-9-]{1,32}) ([!-~]+(?: [!-~]+){0,15})\nmac ([A-Za-z0-9+/]{43}=)\n")
_HINT: Final = "Use another copy of it."


class StreamWriter:
    """A sealed stream in the making. Without `finish` no reader accepts it."""

    def __init__(self, out: BinaryIO, passphrase: Passphrase) -> None:
        """Write the header. `out`: buffered, opened for writing octets. Raises NoBackend, OSError."""
        cost, salt = _seal.usual_cost(), _seal.new_salt()
        words = " ".join([cost.kind(), *map(str, astuple(cost)), _format.to_base64(salt)])
        covered = b"".join([_version_line(), words.encode("ascii"), b"\n"])
        self._cipher = ChunkCipher(passphrase.derive_key(salt, cost), salt, covered)
        covered += f"mac {_format.to_base64(self._cipher.mac)}\n".encode("ascii")
        self._out = out
        self._out.write(covered + _digest_line(covered))
        self._pending = bytearray()
        self._number = 0

    def write(self, octets: bytes | memoryview) -> None:
        """Add octets. Raises OSError."""
        view = memoryview(octets)
        while view:
            if len(self._pending) == CHUNK:  # more follows, so it is not the last one
                self._seal_chunk(last=False)
            room = CHUNK - len(self._pending)
            self._pending += view[:room]
            view = view[room:]

    def finish(self) -> None:
        """Write the last chunk. Raises OSError."""
        self._seal_chunk(last=True)

    def _seal_chunk(self, *, last: bool) -> None:
        self._out.write(self._cipher.seal(self._number, bytes(self._pending), last=last))
        self._number += 1
        self._pending.clear()


class StreamReader:
    """The octets of a sealed stream. Each octet returned is authentic; the rest may still turn out to be damaged."""

    def __init__(self, source: BinaryIO, passphrase: Passphrase) -> None:
        """Read the header of a file opened for reading octets. Raises Damaged, TooNew, WrongKey, NoBackend, OSError."""
        cost, salt, covered, mac = _read_header(source)
        self._cipher = ChunkCipher(passphrase.derive_key(salt, cost), salt, covered)
        if not hmac.compare_digest(self._cipher.mac, mac):
            raise WrongKey("this passphrase does not open it", hint="Try again with the passphrase that sealed it.")
        self._chunks = self._open_chunks(source)
        self._pending = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return so many octets, fewer only at the end. Raises Damaged, OSError."""
        parts: list[bytes] = []
        while size:
            if not self._pending:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._pending = memoryview(chunk)
            part = bytes(self._pending[:size])
            self._pending = self._pending[len(part) :]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _open_chunks(self, source: BinaryIO) -> Iterator[bytes]:
        sealed, number = _read_full(source, _SEALED_CHUNK), 0
        while True:
            following = _read_full(source, _SEALED_CHUNK)
            chunk = self._cipher.open(number, sealed, last=not following)
            if chunk is None or (not chunk and number):
                raise self._chunk_error(number, sealed, is_last=not following)
            yield chunk
            if not following:
                return
            sealed, number = following, number + 1

    def _chunk_error(self, number: int, sealed: bytes, *, is_last: bool) -> Damaged:
        """The error for an invalid chunk: cut off behind it, continued behind it, or altered."""
        if self._cipher.open(number, sealed, last=not is_last) is None:
            return _damaged(f"chunk {number} of its content is incomplete or was altered", Damage.ALTERED)
        if is_last:
            return _damaged(f"truncated after chunk {number} of its content", Damage.TRUNCATED)
        return _damaged("extra bytes at its end", Damage.TRAILING)


def _version_line(version: int = STREAM_VERSION) -> bytes:
    return _MAGIC + str(version).encode("ascii") + b"\n"


def _digest_line(covered: bytes) -> bytes:
    """The last line of the header: separates accidental damage from a wrong passphrase."""
    return f"digest {_format.to_base64(hashlib.sha256(covered).digest())}\n".encode("ascii")


def _read_header(source: BinaryIO) -> tuple[Cost, bytes, bytes, bytes]:
    """Cost, salt, the octets covered by the MAC, and the MAC."""
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(b"digest "):
        line = source.readline(_HEADER_LIMIT)
        if not lines and line[: len(_MAGIC)] != _MAGIC[: len(line)]:
            raise _damaged("this is not a sealed file", Damage.MALFORMED)
        if not line.endswith(b"\n"):
            raise _damaged("truncated within its header", Damage.TRUNCATED)
        lines.append(line)
        if sum(map(len, lines)) > _HEADER_LIMIT:
            raise _damaged("its header has no end", Damage.MALFORMED)
    covered = b"".join(lines[:-1])
    version = _VERSION_LINE.match(covered)
    if version is None or not _DIGEST_LINE.fullmatch(lines[-1]):
        raise _damaged("its header cannot be read", Damage.MALFORMED)
    if lines[-1] != _digest_line(covered):
        raise _damaged("its header is not what was written", Damage.ALTERED)
    if int(version[1]) > STREAM_VERSION:
        raise TooNew(
            f"sealed in version {int(version[1])} of the format; this program supports version {STREAM_VERSION}",
            hint="Upgrade this program.",
        )
    fields = _LINES.fullmatch(covered)
    found = fields and _format.read_cost(fields[1].decode("ascii"), fields[2].decode("ascii").split(" "))
    if not fields or not found:
        raise _damaged("its header cannot be read", Damage.MALFORMED)
    mac = _format.from_base64(fields[3].decode("ascii"), "the header's MAC", _format.MAC_BYTES)
    return *found, covered[: fields.start(3) - len(b"mac ")], mac


def _read_full(source: BinaryIO, size: int) -> bytes:
    """So many octets, fewer only at the end of the file: an unbuffered source may return less at once."""
    parts: list[bytes] = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _damaged(what: str, damage: Damage) -> Damaged:
    return Damaged(what, damage=damage, hint=_HINT)
