"""Content of a backup: a manifest, then its parts, each with a version, entries and octets. PURE.

A frame is a length (four octets, big-endian), a kind (one octet) and its content. Manifest, parts, entries and ends are
JSON; octets follow the entry to which they belong. The manifest names the parts and their versions, so a reader knows
before it uses anything whether it can read all of them.
Guarantees: a reader returns what was written, in this order, or raises BackupInvalid or BackupTooNew; it needs memory
for one frame. An end has the numbers of entries and octets of its part.
Not here: the seal around it (accounts.sealed_file), the entries of each part (backup.create, backup.inventory).
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from senderproxy.backup.errors import BackupTooNew, invalid
from senderproxy.translation import _

FORMAT: Final = 1  # of the archive: frames and manifest
PARTS: Final[Mapping[str, int]] = MappingProxyType({"configuration": 1, "vault": 1, "queue": 1, "learned": 1})
"""The parts, each with the version that this program writes; it reads that one and all before it."""

OCTETS_LIMIT: Final = 64 * 1024  # octets of content in one frame
_JSON_LIMIT: Final = 16 * 2**20  # octets of JSON in one frame; an event with a long reply has some hundred KiB
_HEAD: Final = struct.Struct(">Ic")


class Kind(Enum):
    """The kinds of frames. The values are in the file: never changed."""

    MANIFEST = b"M"
    PART = b"P"
    ENTRY = b"E"
    OCTETS = b"O"
    PART_END = b"Z"
    END = b"F"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The first frame."""

    program: str  # version of the program that wrote it
    created_at: datetime  # aware, UTC
    host: str
    parts: tuple[tuple[str, int], ...]  # name and version, in the order of the file


@dataclass(frozen=True, slots=True)
class PartBegin:
    """The beginning of a part, with its facts."""

    name: str
    version: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a part: a kind, and its value in JSON."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Octets:
    """Octets of the last entry."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The end of a part, with the facts known at this point."""

    name: str
    entries: int
    octets: int
    facts: Mapping[str, Any]


Item: TypeAlias = Manifest | PartBegin | Entry | Octets | PartEnd


class ArchiveWriter:
    """The content of a backup in the making."""

    def __init__(self, write: Callable[[bytes], None], manifest: Manifest) -> None:
        self._write = write
        self._frame(
            Kind.MANIFEST,
            {
                "format": FORMAT,
                "program": manifest.program,
                "created_at": manifest.created_at.isoformat(),
                "host": manifest.host,
                "parts": [list(part) for part in manifest.parts],
            },
        )
        self._part = ""
        self._entries = self._octets = 0

    def begin(self, name: str, facts: Mapping[str, Any]) -> None:
        """Begin a part."""
        self._part, self._entries, self._octets = name, 0, 0
        self._frame(Kind.PART, {"name": name, "version": PARTS[name], "facts": dict(facts)})

    def entry(self, kind: str, value: object) -> None:
        """Add an entry."""
        self._entries += 1
        self._frame(Kind.ENTRY, [kind, value])

    def octets(self, octets: bytes) -> None:
        """Add octets to the last entry."""
        for start in range(0, len(octets), OCTETS_LIMIT):
            block = octets[start : start + OCTETS_LIMIT]
            self._octets += len(block)
            self._write(_HEAD.pack(len(block), Kind.OCTETS.value) + block)

    def end(self, facts: Mapping[str, Any]) -> None:
        """End the part."""
        counts = {"name": self._part, "entries": self._entries, "octets": self._octets}
        self._frame(Kind.PART_END, counts | {"facts": dict(facts)})

    def finish(self) -> None:
        """End the archive."""
        self._frame(Kind.END, {})

    def _frame(self, kind: Kind, value: object) -> None:
        # ASCII: a header may contain lone surrogates
        content = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        if len(content) > _JSON_LIMIT:
            raise invalid(_("one of its entries is too long"))
        self._write(_HEAD.pack(len(content), kind.value) + content)


def read_archive(read: Callable[[int], bytes]) -> Iterator[Item]:
    """The items of an archive. `read(n)` returns n octets, fewer only at the end.

    Raises BackupInvalid, or BackupTooNew before the first part.
    """
    manifest = _read_manifest(*_read_frame(read))
    yield manifest
    for name, version in manifest.parts:
        kind, content = _read_frame(read)
        part = _object(content) if kind is Kind.PART else {}
        if part.get("name") != name or part.get("version") != version or not isinstance(part.get("facts"), dict):
            raise invalid(_("the part {name} is missing").format(name=name))
        yield PartBegin(name, version, part["facts"])
        yield from _read_part(read, name)
    if _read_frame(read)[0] is not Kind.END or read(1):
        raise invalid(_("it does not end behind its parts"))


def _read_part(read: Callable[[int], bytes], name: str) -> Iterator[Item]:
    entries = octets = 0
    while True:
        kind, content = _read_frame(read)
        match kind:
            case Kind.ENTRY:
                entries += 1
                yield _read_entry(content)
            case Kind.OCTETS if entries:
                octets += len(content)
                yield Octets(content)
            case Kind.PART_END:
                end = _object(content)
                facts = end.get("facts")
                if (end.get("name"), end.get("entries"), end.get("octets")) != (name, entries, octets):
                    raise invalid(_("the part {name} is not complete").format(name=name))
                if not isinstance(facts, dict):
                    raise invalid(_("the part {name} has no facts").format(name=name))
                yield PartEnd(name, entries, octets, facts)
                return
            case _:
                raise invalid(_("the part {name} has no end").format(name=name))


def _read_manifest(kind: Kind, content: bytes) -> Manifest:
    if kind is not Kind.MANIFEST:
        raise invalid(_("it has no manifest"))
    entry = _object(content)
    if isinstance(number := entry.get("format"), int) and number > FORMAT:
        raise _too_new(str(entry.get("program", "?")), _("format {version}").format(version=number))
    try:
        parts = tuple((str(name), int(version)) for name, version in entry["parts"])
        manifest = Manifest(
            str(entry["program"]), datetime.fromisoformat(entry["created_at"]), str(entry["host"]), parts
        )
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(_("its manifest cannot be read")) from error
    if number != FORMAT or manifest.created_at.tzinfo is None or len({name for name, _v in parts}) < len(parts):
        raise invalid(_("its manifest cannot be read"))
    for name, version in parts:
        if version > PARTS.get(name, 0):
            what = _("its part {name} has version {version}").format(name=name, version=version)
            raise _too_new(manifest.program, what)
        if version < 1:
            raise invalid(_("its manifest cannot be read"))
    return manifest


def _too_new(program: str, what: str) -> BackupTooNew:
    return BackupTooNew(
        _("The backup was written by a later version of senderproxy, {program} ({what}).").format(
            program=program, what=what
        ),
        hint=_("Install that version, then restore."),
    )


def _read_entry(content: bytes) -> Entry:
    match _json(content):
        case [str(kind), value]:
            return Entry(kind, value)
        case _:
            raise invalid(_("an entry cannot be read"))


def _read_frame(read: Callable[[int], bytes]) -> tuple[Kind, bytes]:
    head = read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise invalid(_("it has no end"))
    length, letter = _HEAD.unpack(head)
    try:
        kind = Kind(letter)
    except ValueError:
        raise invalid(_("a frame is of an unknown kind")) from None
    if length > (OCTETS_LIMIT if kind is Kind.OCTETS else _JSON_LIMIT):
        raise invalid(_("a frame is too long"))
    content = read(length)
    if len(content) < length:
        raise invalid(_("it has no end"))
    return kind, content


def _object(content: bytes) -> dict[str, Any]:
    value = _json(content)
    if not isinstance(value, dict):
        raise invalid(_("a frame cannot be read"))
    return value


def _json(content: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise invalid(_("a frame is not JSON")) from error
