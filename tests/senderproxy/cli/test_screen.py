"""Output on terminals of 60 to 200 columns: tables, colours, progress, hostile text, numbers in both languages."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.update_translations import forms, read_catalogue
from senderproxy import __version__
from senderproxy.cli.screen import (
    columns_of,
    cut,
    display_width,
    hanging,
    printable,
    table_lines,
    wants_colour,
    wrapped,
)
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey, condition_entry
from senderproxy.translation import language, ngettext
from tests.senderproxy.cli.conftest import Office, service_status
from tests.senderproxy.cli.screens import SGR, left_on_screen, type_on_screen
from tests.senderproxy.cli.waiting import GONE, QUEUE, fill

WIDTHS = (60, 80, 120, 200)
SINCE = datetime(2026, 11, 29, 8, tzinfo=UTC)
LONG = "buchhaltung.und.personal@sehr-lange-firma-mit-vielen-namen.example"
STATUS = {
    "version": __version__,
    "listeners": [
        {"name": "main", "address": "127.0.0.1:2525", "connected": 3, "under_way": 1, "accepted": 1204, "deferred": 7}
        | {"refused": 2, "turned_away": 11, "evicted": 0, "faults": 0},
        {
            "name": "scanners-and-printers",
            "address": "192.168.100.100:2525",
            "connected": 0,
            "under_way": 0,
            "accepted": 9,
        }
        | {"deferred": 0, "refused": 0, "turned_away": 0, "evicted": 1, "faults": 1},
    ],
    "queue": {"problem": None, "refusing": None, "waiting": 2, "held": 1, "oldest": SINCE.isoformat(), "blocked": []},
    "refusals": [
        {"client": "192.168.1.7", "reverse_path": LONG, "reply": "550 5.7.1 no account " + "x" * 90, "count": 5}
    ],
    "unknown_records": [],
    "accounts": [
        {"account": name, "state": state, "delivered": 1234, "deferred": 0, "failed": 12, "sessions_busy": 1}
        | {"sessions_idle": 2, "messages_left": 1, "recipients_left": 380}
        for name, state in (("anna", "healthy"), ("buchhaltung-und-personal", "suspended"))
    ],
}
HOSTILE = "535 \x1b]0;title\x07\x1b[2J\r\u202eabc\u2066 漢字 e\u0301"


def condition(cause: str, severity: Severity = Severity.ERROR, hint: str = "Do it.") -> dict[str, object]:
    return condition_entry(Condition(ConditionKey.DISK_LOW, "", severity, SINCE, cause, hint))


@pytest.fixture
def filled(office: Office) -> Office:
    office.add("anna@firma.example", "--id", "anna", "--also", LONG, "--catch-all", "firma.example")
    office.add("bert@firma.example", "--id", "bert")
    office.add("post@laden.example", "--id", "buchhaltung-und-personal")
    fill(office.folder / "spool", *QUEUE, GONE)
    return office


# ---- width ----


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (("account", "list"), ["anna", "buchhaltung-und-personal", LONG]),
        (("queue",), ["anna", "bert", "Greylisted, please come again"]),
        (("queue", "list"), ["anna", "carl@kunde.example"]),
        (("track",), ["Greylisted", "carl@kunde.example"]),
        (("check", "--offline"), ["configuration", "vault"]),
    ],
)
def test_output_fits_the_terminal_and_loses_nothing(
    filled: Office, monkeypatch: pytest.MonkeyPatch, columns: int, words: tuple[str, ...], whole: list[str]
) -> None:
    _code, shown = type_on_screen(filled, monkeypatch, columns, *words)
    _fits(left_on_screen(shown), columns)
    for text in whole:
        assert _squeezed(text) in _squeezed(_unwrapped(left_on_screen(shown))), shown


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_status_fits_the_terminal(office: Office, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    conditions = [condition(f"ionos refuses the login of account {LONG}: 535 Authentication credentials invalid")]
    with service_status(office, **STATUS, conditions=conditions):
        code, shown = type_on_screen(office, monkeypatch, columns, "status")
    assert code == 1
    left = left_on_screen(shown)
    _fits(left, columns)
    for text in (
        "scanners-and-printers",
        "1204",
        "192.168.100.100:2525",
        "x" * 90,
        "Authentication credentials invalid",
    ):
        assert _squeezed(text) in _squeezed(_unwrapped(left)), left


def _fits(left: str, columns: int) -> None:
    wide = [line for line in left.split("\n") if display_width(line) > columns and "To fix: " not in line]
    assert wide == []
    assert left.strip()


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def _unwrapped(left: str) -> str:
    """The screen, and what is below each heading of a table: a wrapped cell is whole in one of both."""
    lines = left.split("\n")
    starts = {match.start() for line in lines for match in re.finditer(r"(?<=\s)\S|^\S", line)}
    ends = [*starts, 1000]
    return left + "\n".join(
        "".join(line[start:end] for line in lines) for start in starts for end in ends if start < end
    )


def test_in_a_pipe_nothing_is_wrapped_and_columns_is_a_wish(filled: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = filled.type("account", "list").out
    assert max(map(len, whole.splitlines())) > 100
    monkeypatch.setenv("COLUMNS", "60")
    _fits(filled.type("account", "list").out, 60)
    monkeypatch.setenv("COLUMNS", "nonsense")
    assert filled.type("account", "list").out == whole


def test_columns_comes_before_the_terminal(filled: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    _code, shown = type_on_screen(filled, monkeypatch, 200, "account", "list", COLUMNS="60")
    _fits(shown, 60)


@pytest.mark.parametrize(
    ("wish", "terminal", "expected"),
    [
        *(("", None, None), ("", 80, 80), ("100", 80, 100), ("0", 80, 80), ("-5", 80, 80), ("9" * 9, 80, 80)),
        *(("", 3, 40), ("99999", None, 1000), ("１２０", 80, 80)),
    ],
)
def test_columns_of_the_environment(wish: str, terminal: int | None, expected: int | None) -> None:
    assert columns_of({"COLUMNS": wish}, terminal) == expected


TEXTS = st.text(st.sampled_from("ab漢é\u0301 -@.,1"), max_size=60)


@given(
    st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.integers(0, 10**6).map(str)), min_size=1, max_size=5),
    st.integers(40, 200),
)
def test_any_table_fits_and_keeps_its_text(rows: list[tuple[str, str, str, str]], columns: int) -> None:
    lines = list(table_lines(("account", "address", "last reply", "count"), rows, columns))
    assert max(map(display_width, lines)) <= columns
    shown = sorted("".join(lines).replace(" ", ""))
    for row in rows:
        for cell in row:
            assert not set(cell.replace(" ", "")) - set(shown)
    assert sum(line.count("1") for line in lines) == sum(cell.count("1") for row in rows for cell in row)


@given(TEXTS, st.integers(2, 30))
def test_wrapped_text_fits_and_is_the_same_text(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(display_width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert display_width(cut(text, width)) <= width


def test_further_lines_are_indented() -> None:
    assert (
        hanging("ERROR     The disk of the spool is full.", 24, 10)
        == "ERROR     The disk of\n          the spool is\n          full."
    )
    assert hanging("ERROR     The disk of the spool is full.", None, 10) == "ERROR     The disk of the spool is full."


def test_a_table_with_too_many_columns_becomes_blocks() -> None:
    headings = [f"heading {number}" for number in range(9)]
    lines = list(table_lines(headings, [[f"text of cell {number}" for number in range(9)]] * 2, 60))
    assert lines[:2] == ["heading 0  text of cell 0", "heading 1  text of cell 1"]
    assert lines[9] == ""
    assert len(lines) == 19


# ---- hostile text ----


def test_a_reply_cannot_write_to_the_terminal(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = [{"account": "anna", "waiting": 1, "why": HOSTILE, "seconds": None}]
    queue = STATUS["queue"] | {"blocked": blocked}  # type: ignore[operator]
    refusals = [{"client": "c", "reverse_path": HOSTILE, "reply": HOSTILE, "count": 2}]
    with service_status(
        office, **STATUS | {"queue": queue, "refusals": refusals}, conditions=[condition(HOSTILE, hint=HOSTILE)]
    ):
        _code, shown = type_on_screen(office, monkeypatch, 200, "status")
        plain = office.type("status").out
    for text in (SGR.sub("", shown), plain):
        assert not set(text) & set("\x1b\x07\r\u202e\u2066")
        assert text.count("\\x1b]0;title\\x07") == 5
        assert "漢字 e\u0301" in text


def test_printable_escapes_what_moves_the_cursor() -> None:
    assert printable("a\tb\x9b1m\u2028\ud800") == "a\\tb\\x9b1m\\u2028\\ud800"
    assert printable("Müller 漢字") == "Müller 漢字"


# ---- colours ----


@pytest.mark.parametrize(
    ("environment", "terminal", "pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_the_environment_decides_on_colours(environment: Mapping[str, str], terminal: bool, pipe: bool) -> None:
    assert wants_colour({"TERM": "xterm"} | dict(environment), is_terminal=True) is terminal
    assert wants_colour({"TERM": "xterm"} | dict(environment), is_terminal=False) is pipe


def test_findings_are_coloured_by_their_level(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = [condition("bad."), condition("soon.", Severity.WARNING), condition("so.", Severity.INFO)]
    with service_status(office, **STATUS, conditions=conditions):
        _code, shown = type_on_screen(office, monkeypatch, 120, "status")
        plain = office.type("status").out
        _code, refused = type_on_screen(office, monkeypatch, 120, "status", NO_COLOR="1")
        monkeypatch.setenv("FORCE_COLOR", "1")
        forced = office.type("status").out
    assert "\x1b[31mERROR\x1b[0m     bad." in shown
    assert "\x1b[33mwarning\x1b[0m   soon." in shown
    assert "\ninfo      so." in shown
    assert "\x1b" not in plain + refused
    assert "\x1b[31mERROR\x1b[0m" in forced


def test_a_check_is_green_or_red(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    _code, shown = type_on_screen(office, monkeypatch, 120, "check", "--offline")
    assert "\x1b[32mok\x1b[0m" in shown
    assert "\x1b[1;31m" in shown
    assert "\x1b" not in office.type("check", "--offline").out


# ---- progress ----


def test_a_step_is_shown_on_one_line_and_gone_at_the_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("anna@firma.example", "--id", "anna")
    office.add("bert@firma.example", "--id", "bert")
    code, shown = type_on_screen(office, monkeypatch, 60, "account", "verify")
    assert code == 0
    assert "\rTrying login 1 of 2: anna@firma.example ...\x1b[K" in shown
    assert "\rTrying login 2 of 2: bert@firma.example ...\x1b[K" in shown
    left = left_on_screen(shown)
    assert "Trying" not in left
    assert [line.partition(":")[0] for line in left.splitlines() if line.startswith(("anna", "bert"))] == [
        "anna",
        "bert",
    ]


def test_a_long_step_is_cut_to_the_line(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add(LONG, "--id", "anna")
    _code, shown = type_on_screen(office, monkeypatch, 60, "account", "verify")
    steps = [part.partition("\x1b[K")[0] for part in shown.split("\r") if "Trying" in part]
    assert steps
    assert all(display_width(step) == 59 and step.endswith("…") for step in steps)


def test_a_simple_terminal_gets_lines_and_a_pipe_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("anna@firma.example", "--id", "anna")
    _code, shown = type_on_screen(office, monkeypatch, 80, "account", "verify", TERM="dumb")
    assert "Trying login 1 of 1: anna@firma.example ...\n" in shown
    assert "\x1b" not in shown
    assert "\r" not in shown
    ended = office.type("account", "verify")
    assert "Trying" not in ended.out + ended.err


def test_an_import_counts_its_logins(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    table = office.folder / "accounts.csv"
    table.write_text(
        "login;password;provider\nanna@firma.example;geheim-anna;ionos\nbert@firma.example;geheim-bert;ionos\n"
    )
    code, shown = type_on_screen(office, monkeypatch, 80, "account", "import", str(table), "--verify")
    assert code == 0
    assert "\rTrying login 2 of 2: bert@firma.example ...\x1b[K" in shown
    assert "Trying" not in left_on_screen(shown)


def test_a_new_key_of_the_vault_shows_its_step(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("anna@firma.example", "--id", "anna")
    code, shown = type_on_screen(office, monkeypatch, 80, "vault", "rekey")
    assert code == 0
    assert "\rSealing the vault under a new key ...\x1b[K" in shown
    assert "Sealing" not in left_on_screen(shown)


# ---- numbers ----


@pytest.mark.parametrize("code", ["en", "de"])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_text_with_a_number_has_the_form_for_it(code: str, count: int) -> None:
    plurals = [message for message in read_catalogue("de") if message.pluralizable]
    assert len(plurals) > 60
    for message in plurals:
        one, many = forms(message.id)
        german = [form or english for form, english in zip(forms(message.string), (one, many), strict=True)]
        expected = ([one, many] if code == "en" else german)[count != 1]
        with language(code):
            assert ngettext(one, many, count) == expected


@pytest.mark.parametrize(
    ("count", "english"),
    [
        (0, "The queue is empty."),
        (1, "Queue: 1 message waiting, 0 messages held; the oldest"),
        (2, "Queue: 2 messages waiting, 0 messages held; the oldest"),
        (5, "Queue: 5 messages waiting, 0 messages held; the oldest"),
    ],
)
def test_the_queue_of_the_status_is_counted(office: Office, count: int, english: str) -> None:
    queue = STATUS["queue"] | {"waiting": count, "held": 0}  # type: ignore[operator]
    with service_status(office, **STATUS | {"queue": queue}):
        assert english in office.type("status").out
