"""Header section: find and edit fields without a change to other bytes. PURE.

Guarantees: `HeaderSection(raw).raw == raw`. An edit changes its field and no other byte, so an existing DKIM signature
over other fields stays valid. An edit cannot add a second field, a line end or an octet outside ASCII.

Not here: the meaning of a field's value (mail.author).

RFC 5322 section 2.2.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from senderproxy.value_class import value_class

# A field name, blanks before the colon (some old programs), the value up to a line end that no blank follows.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:((?>(?:[^\r\n]*+\r\n(?=[ \t]))*)[^\r\n]*+)(?:\r\n|\Z)", re.MULTILINE)


_NAME: Final = re.compile(r"[!-9;-~]++")
# Lines after the first begin with a blank and are not empty (RFC 5322 sections 2.2 and 2.2.3).
_VALUE: Final = re.compile(rb"[\t -~]*+(?>(?:\r\n[\t ]++[!-~][\t -~]*+)*)")


class Field(NamedTuple):
    """One field: name and value as written (folded, without the last CRLF)."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one field.

    `index` counts the fields from the top, from 0: that field gets the value, or is removed if the value is None.
    Without an index a new field is added below the others. The value is ASCII, without the blank after the colon and
    the last line end; it may be folded. Raises ValueError otherwise.
    """

    name: str
    value: bytes | None
    index: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("invalid field name")
        if self.value is None and self.index is None:
            raise ValueError("an edit without a field and without a value")
        if self.value is not None and not _VALUE.fullmatch(self.value):
            raise ValueError(f"invalid value for the field {self.name}")

    def render(self) -> bytes:
        """The octets of the field; none if it is removed."""
        return b"" if self.value is None else self.name.encode("ascii") + b": " + self.value + b"\r\n"


@dataclass(frozen=True, slots=True)
class Cut:
    """A replacement of the octets from `start` to `end` of a header section; both may be the same place."""

    start: int
    end: int
    octets: bytes = b""


@value_class
class HeaderSection:
    """The bytes of a header section, not dot-stuffed, with its closing blank line if it had one."""

    raw: bytes
    # Parsed once, at first use: a dozen modules read the same header.
    _parsed: "_ParsedSection | None" = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> Iterator[Field]:
        """The fields from the top, up to the first line that is not a field."""
        return iter(self.split()[0])

    @property
    def rest(self) -> bytes:
        """The octets after the last field: a blank line, nothing, or lines that are not a field."""
        return self.split()[1]

    def split(self) -> tuple[Sequence[Field], bytes]:
        """The fields, and the octets after the last one."""
        parsed = self._parse()
        return parsed.fields, parsed.rest

    def indexes(self) -> Mapping[str, Sequence[int]]:
        """Indexes of the fields of each name, from 0; names in lower case."""
        return self._parse().indexes

    def _parse(self) -> "_ParsedSection":
        if self._parsed is None:
            fields: list[Field] = []
            indexes: dict[str, list[int]] = {}
            position = 0
            for match in self._matches():
                name = match[1].decode("ascii")
                indexes.setdefault(name.lower(), []).append(len(fields))
                fields.append(Field(name, match[2]))
                position = match.end()
            object.__setattr__(self, "_parsed", _ParsedSection(fields, self.raw[position:], indexes))
        assert self._parsed is not None
        return self._parsed

    def with_edits(self, edits: Iterable[Edit]) -> "HeaderSection":
        """A copy with these edits; indexes refer to the current fields.

        Raises IndexError for a missing field, ValueError for two edits of one field.
        """
        replaced: dict[int, Edit] = {}
        added: list[Edit] = []
        for edit in edits:
            if edit.index is None:
                added.append(edit)
            elif replaced.setdefault(edit.index, edit) is not edit:
                raise ValueError("two edits for one field")
        if not replaced and not added:
            return self
        pieces: list[bytes] = []
        position = 0
        for index, match in enumerate(self._matches()):
            found = replaced.pop(index, None)
            pieces.append(self.raw[position : match.end()] if found is None else found.render())
            position = match.end()
        if replaced:
            raise IndexError("no such field")
        if added and pieces and pieces[-1] and not pieces[-1].endswith(b"\r\n"):
            pieces.append(b"\r\n")
        pieces += [edit.render() for edit in added]
        if added and self.raw.startswith((b" ", b"\t"), position):
            pieces.append(b"\r\n")  # a header that begins with a continuation line: it must not continue our field
        return HeaderSection(b"".join(pieces) + self.raw[position:])

    def with_cut(self, cut: Cut) -> "HeaderSection":
        """A copy with these octets replaced."""
        return HeaderSection(self.raw[: cut.start] + cut.octets + self.raw[cut.end :])

    def _matches(self) -> Iterator[re.Match[bytes]]:
        position = 0
        for match in _FIELD.finditer(self.raw):
            if match.start() != position:
                return  # a line in between is not a field
            yield match
            position = match.end()

    def values(self, name: str) -> list[bytes]:
        """The values of all fields of this name, without regard to case."""
        parsed = self._parse()
        return [parsed.fields[index].value for index in parsed.indexes.get(name.lower(), ())]

    def with_first_field(self, name: str, value: str) -> "HeaderSection":
        """A copy with one more field on top. `value` is ASCII and may be folded (RFC 5322 section 2.2)."""
        return HeaderSection(f"{name}: {value}\r\n".encode("ascii") + self.raw)

    def dot_stuffed(self) -> bytes:
        """The octets for DATA: a line that starts with a dot gets a second dot (RFC 5321 section 4.5.2)."""
        stuffed = self.raw.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if stuffed.startswith(b".") else stuffed


class _ParsedSection(NamedTuple):
    """The parsed fields of a header section; never changed."""

    fields: Sequence[Field]
    rest: bytes
    indexes: Mapping[str, Sequence[int]]
