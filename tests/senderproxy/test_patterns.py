"""Regular expressions avoid possessive groups, which Python 3.11.2 of Debian 12 matches wrongly (decisions/0005)."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_pattern_has_a_possessive_group() -> None:
    found: list[str] = []
    for source in [*(ROOT / "senderproxy").rglob("*.py"), *(ROOT / "vault").rglob("*.py")]:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else None
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if isinstance(text, str) and _POSSESSIVE_GROUP.search(text):
                found.append(f"{source.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert found == []
