"""Every numeric constant has its unit and its reason in a comment."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "senderproxy").rglob("*.py"), *(ROOT / "vault").rglob("*.py")])


def uncommented(text: str) -> Iterator[tuple[int, str]]:
    """The numeric constants of a module without a comment on their line or just above, with their lines."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        value = _constant(node)
        if value is None or not _is_numeric(value):
            continue
        assert node.end_lineno is not None
        own = lines[node.lineno - 1 : node.end_lineno]
        above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
        if not any("  # " in line for line in own) and not above.startswith("# "):
            yield node.lineno, ast.unparse(node)


def _constant(node: ast.stmt) -> ast.expr | None:
    """The value of `NAME: Final = ...`, or of `NAME = ...` in capitals."""
    match node:
        case ast.AnnAssign(annotation=annotation, value=value) if "Final" in ast.unparse(annotation):
            return value
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
            return value
        case _:
            return None


def _is_numeric(value: ast.expr) -> bool:
    """A number, a timedelta, or arithmetic of numbers and other constants."""
    match value:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.Call(func=ast.Name(id="timedelta")):
            return True
        case ast.UnaryOp(operand=operand):
            return _is_numeric(operand)
        case ast.BinOp(left=left, right=right):
            return _is_operand(left) and _is_operand(right)
        case _:
            return False


def _is_operand(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) or _is_numeric(value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_numeric_constant_has_a_comment(path: Path) -> None:
    assert list(uncommented(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A: Final = 5\n", True),
        ("A = -5.0\n", True),
        ("A: Final = 4 * B\n", True),
        ("A: Final = timedelta(hours=1)\n", True),
        ("A: Final = (\n    5 * 60\n)\n", True),
        ("A: Final = 5  # seconds\n", False),
        ("# Seconds\nA: Final = 5\n", False),
        ("A: Final = True\n", False),
        ("A: Final = 'text' + B\n", False),
        ("a = 5\n", False),
    ],
)
def test_the_search_finds_numbers_and_arithmetic(text: str, found: bool) -> None:
    assert bool(list(uncommented(text))) is found
