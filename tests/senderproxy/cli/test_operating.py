"""docs/operating.md: each heading below Fix is a sentence of the program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def _sentences() -> Iterator[str]:
    """Every text in the sources; a value that is filled in reads as a blank between two halves."""
    for path in (PROJECT / "senderproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)


@pytest.fixture(scope="module")
def said() -> str:
    return "\n".join(_sentences())


def _headings() -> list[str]:
    text = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.+)`$", text.partition("## Fix\n")[2], re.MULTILINE)


@pytest.mark.parametrize("heading", _headings())
def test_every_heading_matches_a_sentence_of_the_program(said: str, heading: str) -> None:
    # A gap is what was filled in; braces are those of templates.
    pattern = r"[^\n]*?".join(re.escape(part) for part in heading.split("…"))
    assert re.search(pattern, said)


def test_every_heading_of_the_third_level_is_tested() -> None:
    text = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert len(_headings()) == len(re.findall(r"^### ", text, re.MULTILINE)) > 30
