"""`senderproxy queue` and `track`, with the service stopped and running."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.cli.errors import UsageError
from senderproxy.cli.times import typed_duration, typed_time
from senderproxy.relay.ports import NewJob
from senderproxy.simulator.faults import Fault, FaultStage, Silence
from senderproxy.tracking.record import Lane
from tests.senderproxy.cli.conftest import DEADLINE, Office
from tests.senderproxy.cli.test_service import running
from tests.senderproxy.cli.waiting import GONE, LATER, NO_DELAY_REPORTS, QUEUE, fill, many


@pytest.fixture
def stopped(office: Office) -> Office:
    """Three messages in the queue, one delivered, and no service."""
    office.write_config(NO_DELAY_REPORTS)
    office.add("anna@firma.example", "--id", "anna")
    office.add("bert@firma.example", "--id", "bert")
    fill(office.folder / "spool", *QUEUE, GONE)
    return office


# ---- output, service stopped ----


def test_the_totals_show_messages_ages_and_reasons_for_each_account(stopped: Office) -> None:
    ended = stopped.type("queue")
    assert ended.code == 0
    heading, anna, bert, *reasons = ended.out.splitlines()
    assert heading.split()[:5] == ["account", "waiting", "held", "size", "oldest"]
    assert anna.split()[:3] == ["anna", "2", "0"]
    assert re.search(r"\b3[0-9] h\b", anna)  # thirty when this module was imported
    assert bert.split()[:3] == ["bert", "0", "1"]
    assert "  2 recipients: Greylisted, please come again" in reasons
    assert "  1 recipient: ValueError, 3 times in a row" in reasons


def test_an_empty_queue_says_so(office: Office) -> None:
    fill(office.folder / "spool")
    assert office.type("queue").out == "The queue is empty.\n"
    assert office.type("queue", "list").out == "The queue is empty.\n"
    assert office.type("queue", "--json", "list").json == office.type("queue", "list", "--json").json == []
    assert office.type("queue", "--json").json == []


def test_a_request_creates_no_spool(office: Office) -> None:
    ended = office.type("queue")
    assert ended.code == 66
    assert "There is no spool at" in ended.err
    assert not (office.folder / "spool").exists()


def test_the_list_has_one_line_for_each_message_the_oldest_first(stopped: Office) -> None:
    ended = stopped.type("queue", "list")
    assert ended.code == 0
    _, *lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == ["Old234567890", "Mixed2345678", "Held23456789"]
    assert "waiting" in lines[0]
    assert "450 Greylisted, please come again" in lines[0]
    assert "dora@amt.example" in lines[1]
    assert "carl@kunde.example" not in lines[1]  # that one is through
    assert "held" in lines[2]
    assert "ValueError, 3 times in a row" in lines[2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--account", "bert"), ["Held23456789"]),
        (("--from", "ANNA@firma.example"), ["Old234567890", "Mixed2345678"]),
        (("--from", "@firma.example"), ["Old234567890", "Mixed2345678", "Held23456789"]),
        (("--to", "dora@amt.example"), ["Mixed2345678"]),
        (("--older-than", "1d"), ["Old234567890"]),
        (("--held",), ["Held23456789"]),
        (("--account", "anna", "--to", "@kunde.example"), ["Old234567890", "Mixed2345678"]),
        (("--from", "nobody@firma.example"), []),
    ],
)
def test_filters_of_the_list(stopped: Office, options: tuple[str, ...], expected: list[str]) -> None:
    ended = stopped.type("queue", "list", *options, "--json")
    assert ended.code == 0
    assert [entry["id"] for entry in ended.json] == expected


def test_show_prints_envelope_history_and_header(stopped: Office) -> None:
    shown = stopped.type("queue", "show", "Mixed2345678", "--json").json
    due_at = datetime.fromisoformat(shown["recipients"][1]["due_at"])
    assert timedelta(0) < due_at - datetime.now(UTC) < LATER
    ended = stopped.type("queue", "show", "Mixed2345678")
    assert ended.code == 0
    for words in (
        "message Mixed2345678: from anna@firma.example, to 2 recipients",
        "client         192.168.1.20 at listener office",
        "Message-ID     <Mixed2345678@firma.example>",
        "accepted from 192.168.1.20 at listener office, account anna",
        "accepted by the provider for carl@kunde.example (account anna): 250 2.0.0 OK: queued as 0Lx4711",
        "deferred by the provider for dora@amt.example (account anna): 450 4.2.0 Greylisted",
        "carl@kunde.example: delivered",
        f"dora@amt.example: waiting, 2 attempts, next attempt {due_at.astimezone():%Y-%m-%d %H:%M:%S}",
        "Subject: Angebot Mixed2345678",
    ):
        assert words in ended.out
    assert shown["header"].startswith("From: anna@firma.example\r\n")
    assert [event["what"] for event in shown["events"]] == ["accepted", "attempted", "attempted"]


def test_a_finished_message_is_shown_without_its_content(stopped: Office) -> None:
    assert "The content is deleted: no recipient is pending." in stopped.type("queue", "show", "Gone23456789").out


def test_an_unknown_message_is_1(stopped: Office) -> None:
    ended = stopped.type("queue", "show", "Nothing23456")
    assert (ended.code, ended.err.splitlines()[0]) == (1, "There is no message Nothing23456.")


# ---- changes, service stopped ----


def test_hold_and_release_by_id(stopped: Office) -> None:
    held = stopped.type("queue", "hold", "Old234567890", "Mixed2345678")
    assert (held.code, held.out) == (0, "2 messages are held.\n")
    shown = stopped.type("queue", "show", "Mixed2345678").out
    assert "held for dora@amt.example by" in shown
    assert "carl@kunde.example: delivered" in shown
    released = stopped.type("queue", "release", "--all", "--yes")
    assert (released.code, released.out) == (0, "3 messages are released and due now.\n")
    assert "next attempt now" in stopped.type("queue", "show", "Held23456789").out


def test_retry_makes_it_due_now(stopped: Office) -> None:
    ended = stopped.type("queue", "retry", "--to", "dora@amt.example")
    assert (ended.code, ended.out) == (0, "1 message is due now.\n")
    assert "next attempt now" in stopped.type("queue", "show", "Mixed2345678").out
    assert "next attempt now" not in stopped.type("queue", "show", "Old234567890").out


def test_a_reason_is_in_the_readers_language(stopped: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    ended = stopped.type("queue", "retry", "Held23456789", "Nothing23456")
    assert ended.err.splitlines() == [
        "Held23456789: sie ist angehalten; geben Sie sie zuerst frei.",
        "Nothing23456: diese Nachricht gibt es nicht.",
    ]


def test_each_message_that_cannot_be_changed_has_its_reason(stopped: Office) -> None:
    ended = stopped.type("queue", "retry", "Old234567890", "Held23456789", "Gone23456789", "Nothing23456")
    assert ended.code == 1
    assert ended.out == "1 message is due now.\n"
    assert ended.err.splitlines() == [
        "Held23456789: it is held; release it first.",
        "Gone23456789: no recipient is waiting or held.",
        "Nothing23456: no such message.",
    ]


def test_cancel_queues_a_report_to_the_author(stopped: Office) -> None:
    ended = stopped.type("queue", "cancel", "Old234567890")
    assert (ended.code, ended.out) == (0, "1 message is cancelled.\n")
    (report,) = [entry for entry in stopped.type("queue", "list", "--json").json if entry["report_on"]]
    assert report["report_on"] == "Old234567890"
    assert report["recipients"][0]["address"] == "anna@firma.example"
    header = stopped.type("queue", "show", report["id"]).out
    assert "Subject: Nicht gesendet / Not sent: Angebot Old234567890" in header
    story = stopped.type("track", "--id", "Old234567890").out
    assert "cancelled for carl@kunde.example by" in story
    assert f"cancellation report sent to anna@firma.example for carl@kunde.example ({report['id']})" in story


def test_cancel_without_a_report_is_recorded(stopped: Office) -> None:
    assert stopped.type("queue", "cancel", "Old234567890", "--no-report").code == 0
    assert [entry["id"] for entry in stopped.type("queue", "list", "--json").json] == ["Mixed2345678", "Held23456789"]
    assert "cancelled it without a report" in stopped.type("track", "--id", "Old234567890").out


def test_a_held_message_can_be_cancelled_too(stopped: Office) -> None:
    assert stopped.type("queue", "cancel", "Held23456789", "--no-report").code == 0
    assert [entry["id"] for entry in stopped.type("queue", "list", "--held", "--json").json] == []


def test_more_messages_than_fit_in_one_request_are_cancelled(office: Office) -> None:
    fill(office.folder / "spool", *many(230))
    ended = office.type("queue", "cancel", "--all", "--yes", "--no-report")
    assert (ended.code, ended.out) == (0, "230 messages are cancelled.\n")
    assert office.type("queue").out == "The queue is empty.\n"


def test_jobs_of_a_later_version_are_named(office: Office) -> None:
    job = NewJob("sent-copy", Lane.of_account("anna"), holds_content=True)
    fill(office.folder / "spool", replace(GONE, jobs=(job, job)))
    out = office.type("queue").out
    assert out.startswith("The queue is empty.\n2 jobs of kind sent-copy in lane account:anna, stored since ")
    assert out.endswith(" by a later version, wait for that version\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cancel", "--all"), "Use --yes."),
        (("cancel", "--to", "carl@kunde.example"), "Use --yes."),
        (("hold", "--all"), "Use --yes."),
        (("hold",), "--all"),
        (("hold", "Old234567890", "--all"), "exclude each other"),
        (("retry", "--older-than", "soon"), "not a duration"),
        (("retry", "--from", "anna"), "Invalid address"),
    ],
)
def test_an_ambiguous_command_changes_nothing(stopped: Office, words: tuple[str, ...], said: str) -> None:
    ended = stopped.type("queue", *words)
    assert ended.code == 64
    assert said in ended.err
    states = [entry["recipients"][-1]["fate"] for entry in stopped.type("queue", "list", "--json").json]
    assert states == ["waiting", "waiting", "held"]


def test_a_filter_without_a_match_is_not_an_error(stopped: Office) -> None:
    ended = stopped.type("queue", "cancel", "--from", "nobody@firma.example")
    assert (ended.code, ended.out) == (0, "No queued message matches.\n")


def test_changes_have_json_output(stopped: Office) -> None:
    ended = stopped.type("queue", "hold", "Old234567890", "Nothing23456", "--json")
    assert ended.code == 1
    assert ended.json == {
        "changed": ["Old234567890"],
        "left": [{"id": "Nothing23456", "why": "no such message"}],
    }


# ---- tracking ----


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["Gone23456789", "Held23456789", "Mixed2345678", "Old234567890"]),
        (("--id", "Mixed2345678"), ["Mixed2345678"]),
        (("--id", "<Mixed2345678@firma.example>"), ["Mixed2345678"]),
        (("--upstream-id", "0Lx4711"), ["Gone23456789", "Mixed2345678"]),
        (("--from", "bert@firma.example"), ["Held23456789"]),
        (("--to", "dora@amt.example"), ["Mixed2345678"]),
        (("--status", "held"), ["Held23456789"]),
        (("--account", "bert"), ["Held23456789"]),
        (("--since", "3h"), ["Gone23456789"]),
        (("--until", "1d"), ["Old234567890"]),
        (("--limit", "1"), ["Gone23456789"]),
    ],
)
def test_filters_of_track(stopped: Office, options: tuple[str, ...], expected: list[str]) -> None:
    ended = stopped.type("track", *options, "--json")
    assert ended.code == 0
    assert sorted(entry["id"] for entry in ended.json) == sorted(expected)


def test_a_search_by_subject_names_the_setting_that_it_needs(stopped: Office) -> None:
    ended = stopped.type("track", "--subject", "Angebot")
    assert ended.code == 1
    assert "keep_subjects = true" in ended.err
    assert stopped.type("track", "--id", "Old234567890", "--json").json[0]["subject"] is None


def test_a_message_is_found_and_shown_with_its_subject(office: Office) -> None:
    office.write_config("[spool]\nkeep_subjects = true\n")
    fill(office.folder / "spool", *QUEUE, GONE, keep_subjects=True)
    ended = office.type("track", "--subject", "held2345 angebot")
    assert ended.code == 0
    headline, *_ = " ".join(ended.out.split()).split(" accepted ")
    assert headline.startswith("message Held23456789: from bert@firma.example")
    assert "subject: Angebot Held23456789" in headline
    (entry,) = office.type("track", "--subject", "held23456789", "--json").json
    assert entry["subject"] == "Angebot Held23456789"
    assert "subject: Angebot Old234567890" in " ".join(office.type("queue", "show", "Old234567890").out.split())
    none = office.type("track", "--subject", "rechnung")
    assert (none.code, "keep_subjects" in none.err) == (1, False)


def test_the_history_is_printed_and_further_matches_are_mentioned(stopped: Office) -> None:
    ended = stopped.type("track", "--limit", "1", "--to", "dora@amt.example")
    headline, *lines = ended.out.rstrip().splitlines()
    assert headline.startswith("message Mixed2345678: from anna@firma.example, to 2 recipients")
    assert [line[23:].partition(":")[0].partition(" (")[0] for line in lines] == [
        "accepted from 192.168.1.20 at listener office, account anna",
        "accepted by the provider for carl@kunde.example",
        "deferred by the provider for dora@amt.example",
        "carl@kunde.example",
        "dora@amt.example",
    ]
    assert "more" not in ended.err
    more = stopped.type("track", "--limit", "1")
    assert "More messages match; shown is the newest 1." in more.err


def test_no_match_is_1(stopped: Office) -> None:
    ended = stopped.type("track", "--from", "nobody@firma.example")
    assert (ended.code, ended.err.splitlines()[0]) == (1, "No message found.")
    assert stopped.type("track", "--from", "nobody@firma.example", "--json").json == []


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--status", "lost"), ("--to", "dora")])
def test_an_invalid_filter_is_64(stopped: Office, options: tuple[str, ...]) -> None:
    assert stopped.type("track", *options).code == 64


# ---- service running ----


@pytest.fixture
def with_service(stopped: Office) -> Iterator[Office]:
    with running(stopped):
        yield stopped


def _until_empty(office: Office) -> None:
    """Poll the service until its queue is empty."""
    end = time.monotonic() + DEADLINE
    while office.type("queue", "--json").json:
        assert time.monotonic() < end, office.type("queue", "list").out
        time.sleep(0.02)  # its provider is a thread of this process


@pytest.mark.slow
def test_the_running_service_gives_the_same_answers(with_service: Office) -> None:
    assert [entry["id"] for entry in with_service.type("queue", "list", "--json").json] == [
        *("Old234567890", "Mixed2345678", "Held23456789"),
    ]
    assert with_service.type("queue").out.splitlines()[1].split()[:3] == ["anna", "2", "0"]
    assert "Subject: Angebot Mixed2345678" in with_service.type("queue", "show", "Mixed2345678").out
    assert with_service.type("queue", "show", "Nothing23456").code == 1
    assert [entry["id"] for entry in with_service.type("track", "--status", "held", "--json").json] == ["Held23456789"]
    held = with_service.type("queue", "hold", "Old234567890")
    assert (held.code, held.out) == (0, "1 message is held.\n")
    assert with_service.type("queue", "retry", "Old234567890").code == 1
    assert with_service.type("queue", "cancel", "--all").code == 64
    assert with_service.type("queue", "list", "--account", "ana").code == 64
    assert with_service.type("track", "--account", "bert", "--status", "delivered").code == 1


@pytest.mark.slow
def test_released_and_retried_messages_are_sent_at_once(with_service: Office) -> None:
    assert with_service.type("queue", "retry", "--account", "anna").out == "2 messages are due now.\n"
    assert with_service.type("queue", "release", "Held23456789").out == "1 message is released and due now.\n"
    _until_empty(with_service)
    assert sorted(str(entry.login) for entry in with_service.simulator.received) == [
        *("anna@firma.example", "anna@firma.example", "bert@firma.example"),
    ]
    assert "accepted by the provider" in with_service.type("track", "--id", "Held23456789").out


@pytest.mark.slow
def test_a_cancelled_message_is_reported_by_the_running_service(with_service: Office) -> None:
    rest = ("Mixed2345678", "Held23456789")
    assert with_service.type("queue", "cancel", *rest, "--no-report").out == "2 messages are cancelled.\n"
    assert with_service.type("queue", "cancel", "Old234567890").out == "1 message is cancelled.\n"
    _until_empty(with_service)
    (report,) = with_service.simulator.received
    assert report.login == "anna@firma.example"
    assert b"Subject: Nicht gesendet / Not sent: Angebot Old234567890" in report.content
    assert b"Action: failed" in report.content


@pytest.mark.slow
def test_messages_of_a_suspended_account_are_shown_as_blocked(stopped: Office) -> None:
    stopped.type("account", "set-password", "anna", "--password-stdin", "--no-verify", stdin="geheim-falsch\n")
    with running(stopped):
        assert stopped.type("queue", "retry", "Old234567890").code == 0
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            totals = stopped.type("queue").out
            # The account is suspended before the result of the attempt is stored.
            if "cannot send" in totals and "being tried" not in stopped.type("queue", "list").out:
                break
        because = r"451 4\.7\.8 .* refused the login of account anna .*: senderproxy account set-password anna"
        assert re.search(rf"^  cannot send until the cause is fixed: {because}$", totals, re.MULTILINE), totals
        assert totals.count("cannot send") == 1
        later = r"waiting, 2 attempts, next attempt when its account can send again; its account cannot send: "
        assert re.search(later + because, stopped.type("queue", "show", "Mixed2345678").out)
        _, old, _, held = stopped.type("queue", "list").out.splitlines()
        assert "when its account can send again" in old
        assert "when its account" not in held


@pytest.mark.slow
def test_a_message_in_an_attempt_is_shown_and_not_changed(stopped: Office) -> None:
    stopped.write_config(f"stop_seconds = 0\n{NO_DELAY_REPORTS}")
    stopped.simulator.script.add(Fault(FaultStage.MAIL, Silence()))
    with running(stopped):
        assert stopped.type("queue", "retry", "Old234567890").code == 0
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            (state,) = [e["leased"] for e in stopped.type("queue", "list", "--older-than", "1d", "--json").json]
            if state:
                break
        assert "being tried" in stopped.type("queue", "list", "--older-than", "1d").out
        for act in ("hold", "cancel"):
            ended = stopped.type("queue", act, "Old234567890")
            assert (ended.code, ended.out) == (1, "")
            assert ended.err == "Old234567890: an attempt is in progress; try again in a moment.\n"
        assert stopped.type("queue", "retry", "Old234567890").code == 0  # that is happening already
    # It was broken off, not lost: the next service has it.
    shown = stopped.type("queue", "show", "Old234567890").out
    assert "carl@kunde.example: waiting" in shown


# ---- times on the command line ----


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("2h", 7200), ("3 d", 259_200), ("1w", 604_800), ("90S", 90), ("5min", 300)]
)
def test_durations(text: str, seconds: int) -> None:
    assert typed_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 years", "-2h", "1e3h", "2h30m"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(UsageError):
        typed_duration(text)


def test_times_are_local() -> None:
    now = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    local = now.astimezone()
    assert typed_time("2h", now) == datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
    assert typed_time("2026-11-20", now) == datetime(2026, 11, 20).astimezone()
    assert typed_time("2026-11-20 08:15", now) == datetime(2026, 11, 20, 8, 15).astimezone()
    assert typed_time("8:15", now) == local.replace(hour=8, minute=15)
    assert typed_time("08:15:30", now) == local.replace(hour=8, minute=15, second=30)
    assert typed_time("2026-11-20T08:15:00+00:00", now) == datetime(2026, 11, 20, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "999999w"])
def test_invalid_times(text: str) -> None:
    with pytest.raises(UsageError):
        typed_time(text, datetime(2026, 11, 24, tzinfo=UTC))


# ---- an account that does not exist ----

UNKNOWN_ACCOUNT_SEARCHES = [
    ("queue", "list", "--account", "ana"),
    ("queue", "hold", "--account", "ana"),
    ("track", "--account", "ana"),
]


@pytest.mark.parametrize("words", UNKNOWN_ACCOUNT_SEARCHES)
def test_an_unknown_account_is_an_error_and_no_empty_result(stopped: Office, words: tuple[str, ...]) -> None:
    ended = stopped.type(*words)
    assert ended.code == 64
    assert "There is no account ana.\nTo fix: List the accounts: senderproxy account list" in ended.err
    stopped.add("ana@firma.example", "--id", "ana")
    assert stopped.type(*words).code in (0, 1)
    (stopped.folder / "vault.key").unlink()  # a vault that does not open proves nothing
    assert stopped.type(*words).code in (0, 1)


@pytest.mark.parametrize("words", [("queue", "list"), ("track", "--status", "waiting"), ("queue", "hold")])
def test_an_account_is_found_by_the_address_of_its_mailbox(stopped: Office, words: tuple[str, ...]) -> None:
    by_id = stopped.type(*words, "--account", "anna", "--json")
    if words == ("queue", "hold"):
        stopped.type("queue", "release", "--all", "--yes")
        stopped.type("queue", "hold", "Held23456789")
    by_address = stopped.type(*words, "--account", "anna@firma.example", "--json")
    assert (by_address.code, by_address.err) == (0, "")
    assert len(by_address.json) == len(by_id.json) > 0


def test_a_removed_account_with_messages_is_still_found(stopped: Office) -> None:
    assert stopped.type("account", "remove", "bert", "--yes").code == 0
    assert "Held23456789" in stopped.type("queue", "list", "--account", "bert").out
