"""Names in docstrings, comments and documentation pages: each module, symbol, path and link exists.

Names are looked up in the syntax trees of the sources; nothing is imported but the settings' model.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from senderproxy.config.model import Config
from senderproxy.routing.presets import PRESETS

ROOT = Path(__file__).parents[2]
SOURCES = ("senderproxy", "vault", "tests", "benchmarks", "docs")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in SOURCES for page in (ROOT / folder).rglob("*.md"))])
MODULES = sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))

_DOTTED = r"(?<![\w./@`-])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w/@-])"
_PATH = re.compile(r"(?<![\w/.~<-])(?:senderproxy|vault|tests|docs|benchmarks|systemd)/[\w./-]*[\w/]")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_QUOTED = re.compile(r"`+([^`\n]+)`+")
_NOT_HERE = re.compile(r"^Not here:.*?(?=\n\s*\n|\n[A-Z][\w ]+:|\n(?:RFC|CVE) |\Z)", re.MULTILINE | re.DOTALL)
# The last part of a file name is no attribute; these names are files of an installation or of the spool.
_SUFFIXES = frozenset((
    "bak", "com", "conf", "csv", "db", "eml", "id", "json", "key", "lock", "md", "mo", "po", "py", "seen", "service", "sock", "socket",
    "sql", "stdin", "svg", "toml", "txt", "vault",
))  # fmt: skip


@dataclass
class Scope:
    """The names that a module or a class defines."""

    names: dict[str, "Scope"] = field(default_factory=dict)
    bases: list[str] = field(default_factory=list)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _bound(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple):
        for each in target.elts:
            yield from _bound(each)
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        yield target.attr


def _fill(scope: Scope, body: list[ast.stmt]) -> None:
    for node in body:
        match node:
            case ast.ClassDef():
                inner = scope.names.setdefault(node.name, Scope(bases=[ast.unparse(base) for base in node.bases]))
                _fill(inner, node.body)
                for method in node.body:
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                        inner.names.update((name, Scope()) for name in _assigned_to_self(method))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope.names.setdefault(node.name, Scope())
            case ast.Assign(targets=targets):
                scope.names.update((name, Scope()) for target in targets for name in _bound(target))
            case ast.AnnAssign(target=target):
                scope.names.update((name, Scope()) for name in _bound(target))
            case ast.If() | ast.Try() | ast.With():
                _fill(scope, node.body)
            case _:
                pass


def _assigned_to_self(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for node in ast.walk(method):
        match node:
            case ast.Assign(targets=targets):
                yield from (name for target in targets if isinstance(target, ast.Attribute) for name in _bound(target))
            case ast.AnnAssign(target=ast.Attribute() as target):
                yield from _bound(target)
            case _:
                pass


@cache
def _trees() -> dict[str, ast.Module]:
    return {_dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


@cache
def _nodes(home: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_trees()[home]))


@cache
def _modules() -> dict[str, Scope]:
    """The names of each module by its dotted name; a package without an `__init__` is one too."""
    found: dict[str, Scope] = {}
    for name, tree in _trees().items():
        for end in range(1, name.count(".") + 2):
            found.setdefault(".".join(name.split(".")[:end]), Scope())
        _fill(found[name], tree.body)
    for name, tree in _trees().items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    source = found.get(node.module, Scope()).names.get(alias.name)
                    found[name].names.setdefault(alias.asname or alias.name, source or Scope())
    return found


@cache
def _settings() -> frozenset[str]:
    """Each `section.setting` of the configuration."""
    found = set()
    for section, info in Config.model_fields.items():
        for kind in re.findall(r"\w+Settings\b", str(info.annotation)):
            model = next((each for each in _models(BaseModel) if each.__name__ == kind), None)
            found |= {f"{section}.{setting}" for setting in model.model_fields} if model else set()
    return frozenset(found)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _models(each)


def _has(scope: Scope, rest: list[str], home: str) -> bool:
    if not rest:
        return True
    if rest[0] in scope.names:
        return _has(scope.names[rest[0]], rest[1:], home)
    for base in scope.bases:
        found = _modules()[home].names.get(base) if home in _modules() else None
        if found is None or _has(found, rest, home):  # None: a class of a library
            return True
    return False


def _exists(name: str) -> bool:
    """A module, or a name in one, by its whole dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        home = ".".join(parts[:end])
        if home in _modules():
            return _has(_modules()[home], parts[end:], home)
    return False


def _roots(home: str) -> list[str]:
    """The packages to which a name in this module may be relative, the nearest first."""
    parts = home.split(".")
    return [*(".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)), "senderproxy"]


@cache
def _heads() -> frozenset[str]:
    """The first parts of names that are ours: packages and modules below senderproxy, and the top packages."""
    inner = {name.split(".")[1] for name in _modules() if name.startswith("senderproxy.")}
    return frozenset({*SOURCES, *inner})


@cache
def _classes() -> dict[str, list[tuple[str, Scope]]]:
    """The classes below senderproxy and vault by their names, each with its module."""
    found: dict[str, list[tuple[str, Scope]]] = {}
    for module, tree in _trees().items():
        if module.startswith(("senderproxy", "vault")):
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append((module, _modules()[module].names[node.name]))
    return found


def _is_ours(name: str, home: str) -> bool:
    head = name.split(".", 1)[0]
    siblings = any(f"{root}.{head}" in _modules() for root in _roots(home)[:-1] if root != "senderproxy")
    return head in _heads() or (siblings and head != "typing")


def _unknown(text: str, home: str) -> Iterator[str]:
    """The dotted names in a text that are ours by their first part, and do not exist."""
    for match in re.finditer(_DOTTED, text):
        name = match[0]
        head, *rest = name.split(".")
        if head in _classes():
            if not any(_has(scope, rest, module) for module, scope in _classes()[head]):
                yield name
            continue
        if rest[-1] in _SUFFIXES or name in _settings() or name in PRESETS or not _is_ours(name, home):
            continue
        if not any(_exists(f"{root}.{name}") for root in _roots(home)) and not _exists(name):
            yield name


def _missing(text: str) -> Iterator[str]:
    """The paths in a text that do not exist; `docs/decisions/0071` is short for the one page with that number."""
    for match in _PATH.finditer(text):
        path = match[0].rstrip(".")
        if not (ROOT / path).exists() and not list((ROOT / path).parent.glob(f"{Path(path).name}-*.md")):
            yield path


def _gone(text: str) -> Iterator[str]:
    """The names of classes, quoted like `StillClock`, that no source uses."""
    yield from (name for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w*)`", text) if name not in _identifiers())


@cache
def _identifiers() -> frozenset[str]:
    found = set()
    for home in _trees():
        for node in _nodes(home):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case _:
                    pass
    return frozenset(found)


def _docstrings(home: str) -> Iterator[str]:
    for node in _nodes(home):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield re.sub(r"^ {4}.*$", "", ast.get_docstring(node) or "", flags=re.MULTILINE)  # without its examples


def _comments(source: str) -> Iterator[str]:
    if re.search(rf"#.*{_PATH.pattern}", source):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.string


@pytest.mark.parametrize("path", MODULES, ids=_dotted)
def test_each_name_in_a_docstring_exists(path: Path) -> None:
    home = _dotted(path)
    for text in _docstrings(home):
        assert list(_unknown(text, home)) == [], text
        assert list(_missing(text)) == [], text
        assert list(_gone(text)) == [], text
    for comment in _comments(path.read_text(encoding="utf-8")):
        assert list(_missing(comment)) == [], comment


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_name_on_a_page_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    quoted = " ".join(match[1] for match in _QUOTED.finditer(text) if re.fullmatch(_DOTTED, match[1].rstrip("()")))
    assert list(_unknown(quoted, "senderproxy")) == []
    assert list(_missing(re.sub(r"```.*?```", "", text, flags=re.DOTALL))) == []
    links = [match[1] for match in _LINK.finditer(text)]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_each_pointer_to_another_module_exists() -> None:
    """In `Not here:` a dotted name, or a single word in parentheses, is one of ours or a module of Python."""
    for home, tree in _trees().items():
        for paragraph in _NOT_HERE.findall(ast.get_docstring(tree) or ""):
            dotted = re.findall(r"[(,;] ?([a-z_]\w*(?:\.[A-Za-z_]\w*)+)(?=[,;)])", paragraph)
            for name in [*dotted, *re.findall(r"\(([a-z_]\w*)\)", paragraph)]:
                if name.rpartition(".")[2] not in _SUFFIXES and name not in sys.stdlib_module_names:
                    assert any(_exists(f"{root}.{name}") for root in _roots(home)) or _exists(name), f"{home}: {name}"


@pytest.mark.parametrize(
    "name", ["relay.decide.no_such_name", "relay.decission", "mail.address.Address.no_such_name", "Address.gone"]
)
def test_a_name_that_is_gone_is_found(name: str) -> None:
    assert list(_unknown(f"See {name}.", "senderproxy.relay.ports")) == [name]
    assert list(_gone("a `StillClock`, unlike a `StandingClock`")) == ["StandingClock"]
    assert list(_missing("see docs/no-such-page.md and tests/docs/test_names.py")) == ["docs/no-such-page.md"]
