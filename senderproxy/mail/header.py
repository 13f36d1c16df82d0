"""A header section: find fields, add one on top, leave every other byte as it was.

Promises: `HeaderSection(raw).raw == raw`, and an addition changes no byte of what was there (a DKIM signature made
before us survives).
Leaves to others: what a field's value means (mail.author).
RFC 5322 section 2.2.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A field name, blanks some old programs put before the colon, the value up to the first line end that no blank follows.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:((?>(?:[^\r\n]*+\r\n(?=[ \t]))*)[^\r\n]*+)(?:\r\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name as written, its value as written (folded, without the last CRLF)."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class HeaderSection:
    """The bytes of a header section, not stuffed, with the blank line that closes it where there was one."""

    raw: bytes

    def fields(self) -> Iterator[Field]:
        """The fields from the top. Stops at the first line that is none: what follows is not ours to interpret."""
        return iter(self.split()[0])

    @property
    def rest(self) -> bytes:
        """What follows the last field: a blank line, nothing, or lines that are no fields."""
        return self.split()[1]

    def split(self) -> tuple[list[Field], bytes]:
        """The fields, and what follows the last of them."""
        fields: list[Field] = []
        position = 0
        while match := _FIELD.match(self.raw, position):
            fields.append(Field(match.group(1).decode("ascii"), match.group(2)))
            position = match.end()
        return fields, self.raw[position:]

    def values(self, name: str) -> list[bytes]:
        """The values of all fields of this name, whatever its case."""
        wanted = name.lower()
        return [field.value for field in self.fields() if field.name.lower() == wanted]

    def with_field_on_top(self, name: str, value: str) -> "HeaderSection":
        """The same section below one more field; `value` may be folded (CRLF and a blank). ASCII, RFC 5322 2.2."""
        return HeaderSection(f"{name}: {value}\r\n".encode("ascii") + self.raw)

    def stuffed(self) -> bytes:
        """The section as it travels after 354: a line that starts with a dot gets one more (RFC 5321 section 4.5.2)."""
        stuffed = self.raw.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if stuffed.startswith(b".") else stuffed
