"""`senderproxy footer try`: the message as it would leave."""

from email import message_from_bytes
from pathlib import Path

import pytest

from senderproxy.cli.main import main
from tests.senderproxy.footer.shapes import SHAPES

FOOTERS = '''
[[footers]]
senders = ["@firma.example"]
text = """
Firma GmbH · Köln
{name}
"""
'''
LETTER = b"From: Anna <anna@firma.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGuten Tag\r\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "senderproxy.toml"
    path.write_text(f'[vault]\nunlock = "passphrase"\n[[listeners]]\nname = "office"\n{FOOTERS}')
    return path


def test_the_message_is_on_standard_output_and_the_rest_beside(
    config: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    letter = tmp_path / "letter.eml"
    letter.write_bytes(LETTER.replace(b"\r\n", b"\n"))
    assert main(["--config", str(config), "footer", "try", str(letter)]) == 0
    out, err = capfdbinary.readouterr()
    payload = message_from_bytes(out).get_payload(decode=True)
    assert payload == "Guten Tag\r\n\r\nFirma GmbH · Köln\r\nAnna\r\n".encode()
    assert err.decode().splitlines() == ["author         Anna <anna@firma.example>", "footer         added"]


def test_a_second_try_names_the_reason_and_writes_the_message_as_it_is(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letter, once, twice = (tmp_path / name for name in ("letter.eml", "once.eml", "twice.eml"))
    letter.write_bytes(LETTER)
    assert main(["--config", str(config), "footer", "try", str(letter), "--output", str(once)]) == 0
    assert main(["--config", str(config), "footer", "try", str(once), "--output", str(twice)]) == 1
    assert twice.read_bytes() == once.read_bytes() != LETTER
    assert "footer         none, because the first line of the footer stands in it already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("letter", "words", "reason"),
    [
        (LETTER.replace(b"firma", b"laden"), (), "no footer has this author among its senders"),
        (b"To: x@kunde.example\r\n\r\nx\r\n", (), "it has no author in From, or one that cannot be read"),
        (LETTER, ("--null-reverse-path",), "it is a report or an automatic reply: its reverse-path is null"),
    ],
)
def test_each_reason_is_a_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], letter: bytes, words: tuple[str, ...], reason: str
) -> None:
    file, result = tmp_path / "letter.eml", tmp_path / "result.eml"
    file.write_bytes(letter)
    assert main(["--config", str(config), "footer", "try", str(file), "--output", str(result), *words]) == 1
    assert reason in capsys.readouterr().out.replace("\n               ", " ")
    assert result.read_bytes() == letter


def test_a_large_message_is_written_whole(config: Path, tmp_path: Path) -> None:
    shape = next(shape for shape in SHAPES if shape.name == "mixed with a PDF")
    attachment = b"QUJD" * 19 + b"\r\n"
    raw = shape.raw.replace(b"\r\n\r\nJVBERi", b"\r\n\r\n" + attachment * 100_000 + b"JVBERi", 1)
    file, result = tmp_path / "letter.eml", tmp_path / "result.eml"
    file.write_bytes(raw)
    assert main(["--config", str(config), "footer", "try", str(file), "--output", str(result)]) == 0
    whole = result.read_bytes()
    assert attachment * 100_000 in whole
    assert len(raw) < len(whole) < len(raw) + 200


def test_without_a_footer_in_the_configuration_the_command_says_so(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('[vault]\nunlock = "passphrase"\n')
    file = tmp_path / "letter.eml"
    file.write_bytes(LETTER)
    assert main(["--config", str(config), "footer", "try", str(file)]) == 64
    assert "No footer is configured." in capsys.readouterr().err
    assert main(["--config", str(config), "footer", "try", str(tmp_path / "missing.eml")]) == 66
    assert main(["--config", str(config), "footer", "try", str(file), "--listener", "devices"]) == 64
