"""Secrets on standard input: the line alone, in its encoding, whichever program wrote the file."""

import io
import sys

import pytest

from senderproxy.cli.errors import UsageError
from senderproxy.cli.terminal import ask_new_secret, ask_secret
from tests.senderproxy.cli.conftest import Office

SECRET = "geheim-anna"
ADD = ("account", "add", "anna@firma.example", "--provider", "ionos", "--password-stdin")


@pytest.mark.parametrize(
    "octets",
    [
        f"{SECRET}\n".encode(),
        SECRET.encode(),
        f"{SECRET}\r\n".encode(),
        f"{SECRET}\r".encode(),
        f"\ufeff{SECRET}\r\n".encode(),
        f"\ufeff{SECRET}".encode(),
        f"\ufeff{SECRET}\r\n".encode("utf-16-le"),
        f"\ufeff{SECRET}\n".encode("utf-16-be"),
        f"\ufeff{SECRET}".encode("utf-16-le"),
        f"{SECRET}\r\n\x1a".encode(),
        f"{SECRET}\nnext line\n".encode(),
    ],
    ids=[
        "LF",
        "no line end",
        "CRLF",
        "CR",
        "Notepad, UTF-8 with a mark",
        "mark without a line end",
        "PowerShell, UTF-16",
        "UTF-16 the other way",
        "UTF-16 without a line end",
        "end mark of DOS",
        "a second line",
    ],
)
def test_neither_mark_nor_line_end_reaches_the_login(office: Office, octets: bytes) -> None:
    ended = office.type(*ADD, stdin=octets)
    assert ended.code == 0, ended.err
    assert (len(office.simulator.logins()), office.simulator.failed_logins()) == (1, 0)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        ("geheim-müller\n".encode("cp1252"), "it is not UTF-8"),
        ("geheim-müller\n".encode("cp850"), "it is not UTF-8"),
        (f"{SECRET}\n".encode("utf-16-le"), "control character"),
        (f"\ufeff{SECRET}".encode("utf-16-le")[:-1], "it is not UTF-16-LE"),
        (f"{SECRET}\rmore\n".encode(), "control character"),
        (b"\xef\xbb\xbf\r\n", "it is empty"),
        (b"\xff\xfe", "it is empty"),
        (b"", "it is empty"),
        (b"x" * 70_000, "it is too long"),
    ],
)
def test_what_is_no_secret_is_refused_before_any_login(office: Office, octets: bytes, words: str) -> None:
    ended = office.type(*ADD, stdin=octets)
    assert ended.code == 64
    assert words in ended.err
    assert office.simulator.logins() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_every_line_of_a_file_keeps_its_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = "\ufeffgrün\r\n\u0a0a\u010a\u0d0d and\u0a00\u000d\nlast"
    type_octets(monkeypatch, written.encode(encoding))
    read = [ask_new_secret("Password", from_stdin=True) for _line in range(3)]
    assert read == ["grün", "\u0a0a\u010a\u0d0d and\u0a00", "last"]
    with pytest.raises(UsageError, match="it is empty"):
        ask_new_secret("Password", from_stdin=True)


def test_another_standard_input_begins_as_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    type_octets(monkeypatch, "\ufeffgrün\n".encode("utf-16-le"))
    assert ask_secret("Password", from_stdin=True) == "grün"
    type_octets(monkeypatch, "grün\n".encode())
    assert ask_secret("Password", from_stdin=True) == "grün"


def test_the_locale_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    type_octets(monkeypatch, "grün\n".encode(), locale="iso-8859-1")
    assert ask_secret("Password", from_stdin=True) == "grün"


def test_no_more_than_the_line_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = type_octets(monkeypatch, "\ufeffone\r\ntwo\r\n".encode("utf-16-le"))
    assert ask_secret("Password", from_stdin=True) == "one"
    assert rest.read() == "two\r\n".encode("utf-16-le")


def type_octets(monkeypatch: pytest.MonkeyPatch, octets: bytes, locale: str = "utf-8") -> io.BytesIO:
    """Replace standard input; return it."""
    stream = io.BytesIO(octets)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream, encoding=locale))
    return stream
