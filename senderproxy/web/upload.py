"""Form with a file: its fields, and of the file its header section only.

Guarantees: nothing is written to a disk. Of the file at most HEADER_LIMIT octets are kept, up to the first empty line;
the rest is read and forgotten. Fields, their number and their sizes are bounded.
RFC 7578.
"""

from collections.abc import AsyncIterator
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

HEADER_LIMIT: Final = 32_000  # octets; the service takes no more
_FIELD: Final = 1000  # octets of a field
_FIELDS: Final = 10  # fields of the form; it has two
_BLANK_LINES: Final = (b"\r\n\r\n", b"\n\n")


class InvalidForm(ValueError):
    """The body is not a form with a file."""


class FormReader:
    """Takes the body of a request in pieces."""

    def __init__(self, content_type: str) -> None:
        """Raises InvalidForm."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidForm("not multipart/form-data")
        self.fields: dict[str, str] = {}
        self.has_file = False
        self._file = bytearray()
        self._is_complete = False  # the header section
        self._name = b""
        self._value = bytearray()
        self._field = bytearray()
        self._is_file = False
        self._parts = 0
        self._part_name = ""
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                },
            )
        except (FormParserError, ValueError) as error:
            raise InvalidForm(str(error)) from error

    @property
    def header(self) -> bytes:
        """The header section of the file, as far as it was read."""
        content = bytes(self._file)
        ends = [at + len(blank) for blank in _BLANK_LINES if (at := content.find(blank)) >= 0]
        return content[: min(ends, default=HEADER_LIMIT)][:HEADER_LIMIT]

    async def read(self, body: AsyncIterator[bytes]) -> None:
        """Read the whole body. Raises InvalidForm."""
        try:
            async for piece in body:
                self._parser.write(piece)
            self._parser.finalize()
        except FormParserError as error:
            raise InvalidForm(str(error)) from error

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _FIELDS:
            raise FormParserError("too many fields")
        self._part_name, self._is_file = "", False
        self._field.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _kind, options = parse_options_header(bytes(self._value))
            self._part_name = options.get(b"name", b"").decode("utf-8", "replace")[:_FIELD]
            self._is_file = b"filename" in options
        self._name = b""
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            if len(self._field) + end - start > _FIELD:
                raise FormParserError("a field is too long")
            self._field += data[start:end]
            return
        self.has_file = self.has_file or end > start
        if not self._is_complete and len(self._file) < HEADER_LIMIT:
            searched = max(0, len(self._file) - 3)
            self._file += data[start : min(end, start + HEADER_LIMIT - len(self._file))]
            self._is_complete = any(self._file.find(blank, searched) >= 0 for blank in _BLANK_LINES)

    def _end(self) -> None:
        if not self._is_file and self._part_name:
            self.fields[self._part_name] = self._field.decode("utf-8", "replace")
