"""The style of docstrings and names: noun phrases first, no metaphors."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for folder in ("senderproxy", "vault") for path in (ROOT / folder).rglob("*.py"))

_MOST_CLAUSES = 0.03  # of the first lines; httpcore and h11 have 3 and 4 %
_CLAUSE = re.compile(r"^(what|who|whom|whose|where|how|whether|why)\b", re.IGNORECASE)
_METAPHORS = frozenset(["tell", "told", "mend", "mended", "twin", "house", "guest", "inlet"])
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@cache
def _trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def _first_lines() -> Iterator[tuple[str, str]]:
    """The first line of each docstring, with its place."""
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                text := ast.get_docstring(node)
            ):
                yield f"{path}:{getattr(node, 'lineno', 1)}", text.partition("\n")[0]


def _identifiers() -> Iterator[tuple[str, str]]:
    """Each name that a module gives or uses, with its place."""
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            for name in _names(node):
                yield f"{path}:{getattr(node, 'lineno', 1)}", name


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            yield name
        case ast.keyword(arg=str(name)) | ast.MatchAs(name=str(name)):
            yield name
        case ast.alias(name=name, asname=other):
            yield from name.split(".")
            if other:
                yield other
        case _:
            return


def _metaphors(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)} & _METAPHORS


def test_a_docstring_begins_with_a_noun_phrase_or_a_verb() -> None:
    lines = list(_first_lines())
    clauses = [f"{place}: {line}" for place, line in lines if _CLAUSE.match(line)]
    assert len(clauses) <= len(lines) * _MOST_CLAUSES, "\n".join(clauses)


def test_no_name_is_a_metaphor() -> None:
    assert [f"{place}: {name}" for place, name in _identifiers() if _metaphors(name)] == []


def test_the_words_of_a_name_are_found_in_either_spelling() -> None:
    assert _metaphors("mend_for_reading") == {"mend"}
    assert _metaphors("_HouseGuest") == {"house", "guest"}
    assert _metaphors("TOLD") == {"told"}
    assert _metaphors("recommended_warehouse") == set()
