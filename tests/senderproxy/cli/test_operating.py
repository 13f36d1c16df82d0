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


# ---- findings of `check` ----

CHECKS = sorted((PROJECT / "senderproxy" / "cli").glob("check*.py"))
HARMLESS = {"Level.OK", "Level.UNKNOWN", "_level(answer)"}  # the last one is one of the first two
# Messages that others write, each with headings of its own: errors, conditions, problems of the configuration.
WRITTEN_ELSEWHERE = {
    "error.message",
    "message",
    "reason",
    "describe(result)",
    "found.words",
    "words_of_look(look, key.name, key.domain)",
    "record.describe()",
    "printable(f'{one.cause} ({since})')",
}


def _failing_findings() -> Iterator[tuple[str, ast.Call, ast.FunctionDef]]:
    """Each finding that may be an advice or wrong, with its place and its function."""
    for path in CHECKS:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "Finding"
                    and ast.unparse(node.args[0]) not in HARMLESS
                ):
                    yield f"{path.name}:{node.lineno}", node, function


def _templates(message: ast.expr, function: ast.FunctionDef) -> list[str]:
    """The texts of a message: literals in it, and those that were last assigned to its variables."""
    names = {node.id for node in ast.walk(message) if isinstance(node, ast.Name)}
    assigned = {
        node.targets[0].id: node.value
        for node in sorted(
            (node for node in ast.walk(function) if isinstance(node, ast.Assign) and node.lineno < message.lineno),
            key=lambda node: node.lineno,
        )
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in names and _is_marked(node.value)
    }
    texts = [_literals(part) for part in (message, *assigned.values())]
    return [text for found in texts for text in found if " " in text.strip()]


def _is_marked(value: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id in ("_", "ngettext") for node in ast.walk(value))


def _literals(value: ast.expr) -> list[str]:
    return [node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize(
    ("node", "function"),
    [pytest.param(node, function, id=place) for place, node, function in _failing_findings()],
)
def test_each_failing_finding_has_a_hint_and_a_heading(node: ast.Call, function: ast.FunctionDef) -> None:
    assert len(node.args) == 4
    if ast.unparse(node.args[2]) in WRITTEN_ELSEWHERE:
        return
    texts = _templates(node.args[2], function)
    assert texts, ast.unparse(node)
    headings = ["[^\n]*?".join(re.escape(part) for part in heading.split("…")) for heading in _headings()]
    missing = [text for text in texts if not any(re.search(heading, text) for heading in headings)]
    assert missing == []
