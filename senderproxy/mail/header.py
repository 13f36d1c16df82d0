"""A header section: find fields, edit the named ones, leave every other byte as it was.

Guarantees: `HeaderSection(raw).raw == raw`; an edit changes the field it names and no other byte (a DKIM signature made
before us over other fields survives). No edit can bring in a second field, a line end or an octet outside ASCII.
Not here: what a field's value means (mail.author).
RFC 5322 section 2.2.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

# A field name, blanks some old programs put before the colon, the value up to the first line end that no blank follows.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:((?>(?:[^\r\n]*+\r\n(?=[ \t]))*)[^\r\n]*+)(?:\r\n|\Z)", re.MULTILINE)


_NAME: Final = re.compile(r"[!-9;-~]++")
# One line or several, each of which begins with a blank and has something in it (RFC 5322 sections 2.2 and 2.2.3).
_VALUE: Final = re.compile(rb"[\t -~]*+(?>(?:\r\n[\t ]++[!-~][\t -~]*+)*)")


class Field(NamedTuple):
    """One field: its name as written, its value as written (folded, without the last CRLF)."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one field.

    `index` counts the section's fields from the top, from 0: that field gets the value, or goes where the value is
    None. Without an index the field is new and comes below the others. The value is ASCII, without the blank after the
    colon and the last line end; it may be folded. Raises ValueError for anything else.
    """

    name: str
    value: bytes | None
    index: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("no field name")
        if self.value is None and self.index is None:
            raise ValueError("an edit without a field and without a value")
        if self.value is not None and not _VALUE.fullmatch(self.value):
            raise ValueError(f"no value for one {self.name} field")

    def render(self) -> bytes:
        """The field as it stands in the section; nothing where it goes."""
        return b"" if self.value is None else self.name.encode("ascii") + b": " + self.value + b"\r\n"


@dataclass(frozen=True, slots=True)
class HeaderSection:
    """The bytes of a header section, not stuffed, with the blank line that closes it where there was one."""

    raw: bytes
    # Read once, when first asked for: a dozen rooms look into the same header.
    _read: "_Reading | None" = field(default=None, init=False, repr=False, compare=False)

    def fields(self) -> Iterator[Field]:
        """The fields from the top. Stops at the first line that is none: what follows is not ours to interpret."""
        return iter(self.split()[0])

    @property
    def rest(self) -> bytes:
        """What follows the last field: a blank line, nothing, or lines that are no fields."""
        return self.split()[1]

    def split(self) -> tuple[Sequence[Field], bytes]:
        """The fields, and what follows the last of them."""
        reading = self._reading()
        return reading.fields, reading.rest

    def indexes(self) -> Mapping[str, Sequence[int]]:
        """Where the fields of each name stand, counted from 0; the names in lower case."""
        return self._reading().places

    def _reading(self) -> "_Reading":
        if self._read is None:
            fields: list[Field] = []
            places: dict[str, list[int]] = {}
            position = 0
            for match in self._matches():
                name = match[1].decode("ascii")
                places.setdefault(name.lower(), []).append(len(fields))
                fields.append(Field(name, match[2]))
                position = match.end()
            object.__setattr__(self, "_read", _Reading(fields, self.raw[position:], places))
        assert self._read is not None
        return self._read

    def with_edits(self, edits: Iterable[Edit]) -> "HeaderSection":
        """The same section with these edits; all indexes count the fields as they are now.

        Raises IndexError for a field that is not there, ValueError where one field is to be edited twice.
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
        return HeaderSection(b"".join(pieces) + self.raw[position:])

    def _matches(self) -> Iterator[re.Match[bytes]]:
        position = 0
        for match in _FIELD.finditer(self.raw):
            if match.start() != position:
                return  # a line in between is no field
            yield match
            position = match.end()

    def values(self, name: str) -> list[bytes]:
        """The values of all fields of this name, whatever its case."""
        reading = self._reading()
        return [reading.fields[place].value for place in reading.places.get(name.lower(), ())]

    def with_first_field(self, name: str, value: str) -> "HeaderSection":
        """The same section below one more field; `value` may be folded (CRLF and a blank). ASCII, RFC 5322 2.2."""
        return HeaderSection(f"{name}: {value}\r\n".encode("ascii") + self.raw)

    def dot_stuffed(self) -> bytes:
        """The section as it travels after 354: a line that starts with a dot gets one more (RFC 5321 section 4.5.2)."""
        stuffed = self.raw.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if stuffed.startswith(b".") else stuffed


class _Reading(NamedTuple):
    """What a header section says; nobody changes it."""

    fields: Sequence[Field]
    rest: bytes
    places: Mapping[str, Sequence[int]]
