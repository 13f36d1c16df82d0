"""Classes: one name for one thing in the whole program, and none that holds too much without a reason."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES_LIMIT = 300
ATTRIBUTES_LIMIT = 15
REASON = "One attribute for each "  # in the docstring of a class that is a table


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for package in ("senderproxy", "vault"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield f"{path.relative_to(ROOT)}:{node.name}", node


def attributes(node: ast.ClassDef) -> set[str]:
    """What its methods assign to `self`, and its annotated fields."""
    assigned = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    }
    return assigned | {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def test_each_name_of_a_class_means_one_thing() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for place, node in classes():
        places[node.name].append(place)
    assert [found for found in places.values() if len(found) > 1] == []


def test_no_class_holds_too_much_without_a_reason() -> None:
    too_much = [
        place
        for place, node in classes()
        if REASON not in (ast.get_docstring(node) or "")
        and ((node.end_lineno or 0) - node.lineno >= LINES_LIMIT or len(attributes(node)) > ATTRIBUTES_LIMIT)
    ]
    assert too_much == []
