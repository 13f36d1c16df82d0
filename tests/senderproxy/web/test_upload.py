"""The form with a dropped message: its fields, and of the message the header section only."""

import tracemalloc
from collections.abc import AsyncIterator

import pytest

from senderproxy.web.upload import HEADER_LIMIT, FormReader, InvalidForm

TYPE = "multipart/form-data; boundary=xyz"
HEADER = b"From: anna@firma.example\r\nSubject: Angebot\r\n\r\n"


def part(name: str, content: bytes, *, file: str = "") -> bytes:
    named = f'; filename="{file}"' if file else ""
    return f'--xyz\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(body: bytes, size: int = 65536) -> FormReader:
    reader = FormReader(TYPE)
    await reader.read(pieces(body, size))
    return reader


@pytest.mark.parametrize("size", [1, 2, 3, 7, 65536])
async def test_of_a_message_the_header_section_is_kept_however_it_is_cut(size: int) -> None:
    message = HEADER + b"From: other@firma.example\r\n\r\ntext" * 50
    body = part("address", b"bert@firma.example") + part("message", message, file="a.eml") + b"--xyz--\r\n"
    reader = await read(body, size)
    assert reader.fields == {"address": "bert@firma.example"}
    assert reader.has_file
    assert reader.header == HEADER


async def test_the_line_ends_of_unix_end_a_header_section_too() -> None:
    message = HEADER.replace(b"\r\n", b"\n") + b"text\n\nmore"
    reader = await read(part("message", message, file="a.eml") + b"--xyz--\r\n")
    assert reader.header == HEADER.replace(b"\r\n", b"\n")


async def test_an_empty_file_field_is_no_file() -> None:
    reader = await read(part("message", b"", file="x") + part("address", b"a@b.example") + b"--xyz--\r\n")
    assert not reader.has_file
    assert reader.fields["address"] == "a@b.example"


async def test_a_message_without_an_end_of_its_header_takes_bounded_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield part("message", b"", file="a.eml")[:-2]
        for _ in range(500):
            yield b"X-Field: 1\r\n" * 5000
        yield b"\r\n--xyz--\r\n"

    reader = FormReader(TYPE)
    tracemalloc.start()
    try:
        await reader.read(endless())
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reader.header) == HEADER_LIMIT
    assert len(reader._file) <= HEADER_LIMIT
    assert most < 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        part("address", b"x" * 2000) + b"--xyz--\r\n",
        b"".join(part(f"field{number}", b"x") for number in range(50)) + b"--xyz--\r\n",
        b"no boundary at all",
        b"--xyz\r\nContent-Disposition: " + b"x" * 100_000,
        b"--xyz\r\n" + b"A: b\r\n" * 100 + b"\r\n",
    ],
    ids=["long field", "many fields", "no boundary", "long header", "many header fields"],
)
async def test_a_hostile_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidForm):
        await read(body)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 5000]
)
def test_another_type_is_refused(kind: str) -> None:
    with pytest.raises(InvalidForm):
        FormReader(kind)
