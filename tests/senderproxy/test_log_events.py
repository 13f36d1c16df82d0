"""Every log line is on the list of events with its fields; every event on the list is logged somewhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate_log_events import render_log_events
from senderproxy import log_events
from senderproxy.log_events import EVENTS, LogEvent

ROOT = Path(__file__).parents[2]
NAMES = {name: value for name, value in vars(log_events).items() if isinstance(value, LogEvent)}
OTHER_ARGUMENTS = {"fault"}


def logging_modules() -> Iterator[str]:
    """All modules that may call `senderproxy.log.event`. The syntax trees of all would take seconds of each test process."""
    for path in sorted((ROOT / "senderproxy").rglob("*.py")):
        if "event(" in path.read_text():
            yield str(path.relative_to(ROOT))


def calls(module: str) -> Iterator[ast.Call]:
    """All calls of `senderproxy.log.event` in a module."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "event":
            yield node


def mentioned() -> set[str]:
    """All names of events in the code."""
    return {
        node.attr
        for path in (ROOT / "senderproxy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log_events"
    }


@pytest.mark.parametrize("module", list(logging_modules()))
def test_a_call_names_a_listed_event_and_its_fields(module: str) -> None:
    for call in calls(module):
        kind = call.args[1]
        if not (isinstance(kind, ast.Attribute) and isinstance(kind.value, ast.Name) and kind.value.id == "log_events"):
            continue  # chosen above the call; tests/conftest.py checks its fields when it is logged
        listed = NAMES[kind.attr]
        given = {keyword.arg for keyword in call.keywords if keyword.arg is not None} - OTHER_ARGUMENTS
        assert given <= set(listed.fields), f"{module}:{call.lineno}"


def test_calls_are_found() -> None:
    assert sum(1 for module in logging_modules() for _ in calls(module)) > 100


def test_every_listed_event_is_used_and_every_used_one_is_listed() -> None:
    assert mentioned() & set(NAMES) == set(NAMES)
    assert {name for name in mentioned() if name.isupper()} <= {*NAMES, "EVENTS"}


def test_no_module_logs_without_an_event() -> None:
    """The methods of `logging` would write a line without a key."""
    methods = {"debug", "info", "warning", "error", "critical", "exception", "log"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "senderproxy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"_log", "logging", "logger"}
    ]
    assert found == []


def test_keys_are_unique_and_named_like_their_constants() -> None:
    assert {name: value.key.upper() for name, value in NAMES.items()} == {name: name for name in NAMES}
    assert len({event.sentence for event in EVENTS}) == len(EVENTS)


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/log-events.md").read_text() == render_log_events(), "type: make docs"
