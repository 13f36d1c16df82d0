"""docs/json.md: the fields of each `--json` output, compared with what the commands print."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from senderproxy.cli.main import VERBS, parser
from senderproxy.delivery.hops.courier import HopStatus
from senderproxy.delivery.resolver import ReusedAddresses
from senderproxy.relay.sender_rejected import StricterRule
from tests.senderproxy.cli.conftest import Office
from tests.senderproxy.cli.test_service import running
from tests.senderproxy.cli.waiting import GONE, QUEUE, fill

PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8")
OBJECTS = ("reasons", "facts")  # with keys that are data
LANE_FIELDS = ("lane", "blocked", "blocked.why", "blocked.until")  # of a route: see test_routes.py
# Fields that the commands below do not print: each has a test of its own, or a type that names its fields.
OTHERS = {
    "status": {
        *(f"reused_addresses[].{field.name}" for field in fields(ReusedAddresses)),
        *(f"servers[].{field.name}" for field in fields(HopStatus)),
        *(f"sender_rules[].{field.name}" for field in fields(StricterRule)),
        *(f"queue.blocked[].{name}" for name in ("account", "waiting", "why", "seconds")),
        *(f"refusals[].{name}" for name in ("client", "reverse_path", "reply", "count")),
        *(f"queue.instances[].{name}" for name in ("name", "this", "silent_seconds", "messages", "draining")),
        *(
            "queue.hint",
            *(f"sent_copies.accounts[].{name}" for name in ("account", "waiting", "kind", "why")),
            "queue.refusing.why",
            "queue.refusing.hint",
            "loop.longest_pass_seconds",
            "loop.blocks",
            "loop",
        ),
    },
    "explain": {
        *(f"changes[].{name}" for name in ("what", "old", "new", "reason")),
        *(f"ways[].{name}" for name in ("recipient", "way", "route", "reverse_path", "because[]")),
        *(f"loop_guard.limited[].{name}" for name in ("recipient", "refused", "deferred", "limit")),
        *(f"fallback.{name}" for name in ("account", "provider", "may_send", "reason", "sends_now", "reverse_path")),
        *(f"fallback.changes[].{name}" for name in ("what", "old", "new", "reason")),
    },
    "alert test": {
        *(f"alerts[].{name}" for name in ("time", "kind", "count", "ways[]")),
        *(f"alerts[].conditions[].{name}" for name in ("kind", "key", "subject")),
    },
    "account list": {"[].sent_copy.folder", "[].sent_copy.authors[]"},
    "account verify": {f"[].sent_copy.{name}" for name in ("works", "folder", "words")},
    "queue": {"[].blocked.why", "[].blocked.until"},
    "queue list": {"[].blocked.why", "[].blocked.until", *(f"[].recipients[].{name}" for name in LANE_FIELDS)},
}


def documented(command: str) -> set[str]:
    """The fields in the section whose heading names the command."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _line_end, text = section.partition("\n")
        if f"`senderproxy {command}`" in heading:
            rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
            return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    raise AssertionError(command)


def printed(value: Any, at: str = "") -> Iterator[str]:
    """The path of each field; an empty list or object is a field."""
    if at.rpartition(".")[2] in OBJECTS or not isinstance(value, dict | list):
        yield at
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from printed(part, f"{at}.{name}" if at else name)
    else:
        for part in value:
            yield from printed(part, f"{at}[]")
        if not value:
            yield f"{at}[]"


def compare(command: str, *outputs: Any) -> None:
    found = {path for output in outputs for path in printed(output)}
    known = documented(command)
    parts = {path for path in found if any(other.startswith((f"{path}.", f"{path[:-2]}[].")) for other in known)}
    assert found - known - parts == set(), "not documented"
    assert known - found - OTHERS.get(command, set()) == set(), "documented, and not printed"


@pytest.fixture
def office_with_mail(office: Office) -> Office:
    office.add("anna@firma.example", "--id", "anna")
    office.add("bert@firma.example", "--id", "bert")
    fill(office.folder / "spool", *QUEUE, GONE)
    return office


def test_each_output_has_the_documented_fields(office_with_mail: Office) -> None:
    office = office_with_mail
    compare("queue", office.type("queue", "--json").json)
    shown = office.type("queue", "show", "Mixed2345678", "--json").json
    header = {"header": shown.pop("header")}
    messages = office.type("track", "--json").json, office.type("queue", "list", "--json").json
    compare("queue list", [shown], header, *messages)
    changed = office.type("queue", "hold", "Old234567890", "Nothing23456", "--json").json
    section = next(part for part in PAGE.split("\n## ") if part.startswith("`senderproxy queue retry`"))
    assert set(printed(changed)) == set(re.findall(r"`([a-z]+\[\][.a-z]*)`", section))
    compare("vault status", office.type("vault", "status", "--json").json)
    compare("vault unlocks", office.type("vault", "unlocks", "--json").json)
    compare(
        "account list",
        office.type("account", "list", "--json").json,
        [office.type("account", "show", "anna", "--json").json],
    )
    compare("account list", office.type("account", "export", "--json").json)
    compare("account verify", office.type("account", "verify", "--json").json)
    server = ("--flow", "application", "--client-id", "c", "--token-url", "https://login.firma.example/token")
    office.type("oauth", "add", "office", *server, "--password-stdin", stdin="geheim-secret\n")
    shown = office.type("oauth", "show", "office", "--json").json
    compare("oauth list", office.type("oauth", "list", "--json").json, [shown])
    assert office.type("dkim", "setup", "firma.example").code == 0
    compare("dkim list", office.type("dkim", "list", "--json").json)
    table = office.folder / "table.csv"
    table.write_text("login,password,provider\ndora@firma.example,y,ionos\nnobody,y,ionos\n")
    compare("account import", office.type("account", "import", str(table), "--json", "--dry-run").json)
    compare("check", office.type("check", "--offline", "--json").json)
    words = ("setup", "--folder", str(office.folder / "new"), "--json", "--no-verify", "--password-stdin")
    answers = ("--provider", "gmx", "--mailbox", "anna@gmx.de")
    compare("setup", office.bare(*words, *answers, stdin="geheim-anna\n").json)


@pytest.mark.slow
def test_the_running_service_has_the_documented_fields(office_with_mail: Office) -> None:
    office = office_with_mail
    without_service = office.type("explain", "anna@firma.example", "--json").json
    office.write_config('[alerts]\nto = "it@dienst.example"')
    with running(office):
        tested = office.type("alert", "test", "--json").json
        compare("alert test", tested, office.type("alert", "list", "--json").json)
        compare("status", office.type("status", "--json").json)
        compare(
            "explain",
            without_service,
            office.type("explain", "anna@firma.example", "--to", "c@kunde.example", "--json").json,
            office.type("explain", "nobody@other.example", "--json").json,
        )
        compare("queue", office.type("queue", "--json").json)


def test_every_command_with_json_output_has_a_section() -> None:
    headings = " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    for command in _commands_with_json(parser(), []):
        verb, *action = command
        assert f"`senderproxy {verb}" in headings, command
        assert all(f"{word}`" in headings for word in action), command


def _commands_with_json(one: argparse.ArgumentParser, words: list[str]) -> Iterator[list[str]]:
    for verb in VERBS if not words else ():
        with pytest.raises(SystemExit):
            one.parse_args([verb, "--help"])  # loads its options
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from _commands_with_json(sub, [*words, name])
    if any("--json" in action.option_strings for action in one._actions):
        yield words
