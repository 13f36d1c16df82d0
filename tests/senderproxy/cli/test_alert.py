"""`senderproxy alert`: what it prints of the service's answers, and its exit codes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from senderproxy.cli import alert
from senderproxy.cli.main import main
from senderproxy.control.protocol import Verb

CONFIG = """
[identity]
hostname = "mail.firma.example"
[vault]
unlock = "passphrase"
[service]
control_socket = "{folder}/control"
"""
Type = Callable[..., int]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[Verb, Any], Type]:
    """The answers of a service, to be set, and a function that runs a command."""
    given: dict[Verb, Any] = {}
    config = tmp_path / "senderproxy.toml"
    config.write_text(CONFIG.format(folder=tmp_path))

    def ask(path: Path, request: Mapping[str, Any], **_settings: object) -> Any:
        assert path == tmp_path / "control"
        return given[Verb(request["do"])]

    monkeypatch.setattr(alert, "ask", ask)
    return given, lambda *words: main(["--config", str(config), "alert", *words])


def test_a_test_names_each_way_and_fails_with_one_of_them(
    answers: tuple[dict[Verb, Any], Type], capsys: pytest.CaptureFixture[str]
) -> None:
    given, type_ = answers
    mail = {"way": "mail", "why": "", "hint": "", "sent": True}
    webhook = {"way": "webhook", "why": "404 Not Found.", "hint": "Check the URL.", "sent": False}
    given[Verb.ALERT_TEST] = {"ways": [mail]}
    assert type_("test") == 0
    assert capsys.readouterr().out == "mail: sent\n"
    given[Verb.ALERT_TEST] = {"ways": [mail, webhook]}
    assert type_("test") == 1
    assert capsys.readouterr().out == ("mail: sent\nwebhook: failed. 404 Not Found.\n  To fix: Check the URL.\n")
    assert type_("test", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"ways": [mail, webhook]}
    given[Verb.ALERT_TEST] = {"ways": [mail | {"why": "chef@x.example did not get it."}]}
    assert type_("test") == 1
    assert capsys.readouterr().out == "mail: sent in part. chef@x.example did not get it.\n"


@pytest.mark.parametrize("action", ["test", "list"])
def test_without_a_way_it_says_how_to_set_one(
    answers: tuple[dict[Verb, Any], Type], capsys: pytest.CaptureFixture[str], action: str
) -> None:
    given, type_ = answers
    given[Verb.ALERT_TEST] = {"ways": []}
    given[Verb.ALERTS] = {"ways": [], "open": 0, "alerts": []}
    assert type_(action) == 1
    printed = capsys.readouterr().err
    assert "No way of alerts is set." in printed
    assert 'To fix: Write to = "ADDRESS" under [alerts]' in printed


def test_the_list_has_the_newest_alert_first(
    answers: tuple[dict[Verb, Any], Type], capsys: pytest.CaptureFixture[str]
) -> None:
    given, type_ = answers
    full = {"kind": "begun", "key": "disk_full", "subject": ""}
    anna = {"kind": "begun", "key": "account_suspended", "subject": "anna"}
    given[Verb.ALERTS] = {
        "ok": True,
        "ways": [{"way": "mail", "problem": "No account can send now.", "hint": "Add one.", "since": None}],
        "open": 1,
        "alerts": [
            {"time": "2026-11-29T12:00:00+00:00", "kind": "begun", "conditions": [full], "count": 1, "ways": ["mail"]},
            {
                "time": "2026-11-29T13:00:00+00:00",
                "kind": "digest",
                "conditions": [anna, full],
                "count": 7,
                "ways": ["mail", "webhook"],
            },
            {"time": "2026-11-30T07:00:00+00:00", "kind": "weekly", "conditions": [], "count": 0, "ways": ["mail"]},
        ],
    }
    assert type_("list") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mail: failed. No account can send now.\n  To fix: Add one.\n")
    lines = printed.splitlines()[-3:]
    assert "weekly" in lines[0]
    assert "account_suspended anna and 6 more" in lines[1]
    assert "mail, webhook" in lines[1]
    assert "begun" in lines[2]
    assert "disk_full" in lines[2]
    assert type_("list", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"ways", "open", "alerts"}


def test_without_an_alert_the_list_says_so(
    answers: tuple[dict[Verb, Any], Type], capsys: pytest.CaptureFixture[str]
) -> None:
    given, type_ = answers
    given[Verb.ALERTS] = {
        "ways": [{"way": "mail", "problem": None, "hint": "", "since": None}],
        "open": 0,
        "alerts": [],
    }
    assert type_("list") == 0
    assert capsys.readouterr().out == "mail: no failure known\nNo alert was sent so far.\n"
