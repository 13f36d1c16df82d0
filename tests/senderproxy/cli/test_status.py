"""`senderproxy status`: the conditions first, also where the configuration file is broken."""

import json
from datetime import UTC, datetime

import pytest

from senderproxy import __version__
from senderproxy.build import build_id
from senderproxy.delivery.account_state import AccountStatus
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey, condition_entry
from senderproxy.tracking.timeline import format_time
from tests.senderproxy.cli.conftest import Office, service_status

SINCE = datetime(2026, 11, 29, 8, tzinfo=UTC)
WHEN = format_time(SINCE, None)
FACTS = {
    "version": __version__,
    "listeners": [],
    "queue": {"problem": None, "refusing": None, "waiting": 0, "held": 0, "oldest": None, "late": False, "blocked": []},
    "refusals": [],
    "unknown_records": [],
    "accounts": [],
}


def condition(key: ConditionKey, severity: Severity, cause: str, hint: str = "Do it.") -> dict[str, object]:
    return condition_entry(Condition(key, "", severity, SINCE, cause, hint))


def test_the_conditions_come_first_each_with_its_remedy(office: Office) -> None:
    conditions = [
        condition(ConditionKey.SPOOL_FILE_LOST, Severity.CRITICAL, "spool.db was deleted.", "Do not stop."),
        condition(ConditionKey.DISK_LOW, Severity.WARNING, "150 MiB are free \x1b[31m."),
    ]
    with service_status(office, **FACTS, conditions=conditions):
        ended = office.type("status")
    assert ended.code == 1
    assert ended.out.split("\n\n")[1] == (
        f"CRITICAL  spool.db was deleted. (since {WHEN})\n"
        "          To fix: Do not stop.\n"
        f"warning   150 MiB are free \\x1b[31m. (since {WHEN})\n"
        "          To fix: Do it."
    )


@pytest.mark.parametrize(("severity", "code"), [(Severity.INFO, 0), (Severity.WARNING, 1), (Severity.ERROR, 1)])
def test_the_exit_code_is_1_if_a_condition_affects_mail(office: Office, severity: Severity, code: int) -> None:
    with service_status(office, **FACTS, conditions=[condition(ConditionKey.CLOCK_STEPPED, severity, "It was set.")]):
        assert office.type("status").code == code


def test_equal_refusals_are_shown_with_their_number(office: Office) -> None:
    refusals = [
        {"client": "192.168.1.7", "reverse_path": "a@b.example", "reply": "550 5.7.1 no account", "count": 1460},
        {"client": "192.168.1.8", "reverse_path": "", "reply": "550 5.7.1 no account", "count": 1},
    ]
    with service_status(office, **FACTS | {"refusals": refusals}):
        out = office.type("status").out
    assert (
        "Refused within the last hour:\n  1460 messages of 192.168.1.7 from <a@b.example>: 550 5.7.1 no account" in out
    )
    assert "192.168.1.8" not in out


@pytest.mark.parametrize("broken", ["[listeners\n", "[spool]\nhistory_days = []\n"])
def test_a_service_is_asked_also_if_the_file_is_broken(office: Office, broken: str) -> None:
    office.config.write_text(office.config.read_text() + broken)
    other = condition(ConditionKey.DISK_LOW, Severity.WARNING, "150 MiB are free.")
    with service_status(office, **FACTS, conditions=[other]):
        ended = office.type("status")
    assert ended.code == 1
    first = ended.out.split("\n\n")[1].splitlines()[0]
    assert first.startswith("ERROR     The configuration file is refused, the old configuration is in force: The conf")
    assert "150 MiB are free." in ended.out
    assert office.type("status").code == 78  # none runs


def test_a_refusal_that_the_service_knows_is_shown_once(office: Office) -> None:
    office.config.write_text("[")
    known = condition(ConditionKey.CONFIGURATION_REFUSED, Severity.ERROR, "The old configuration is in force.")
    with service_status(office, **FACTS, conditions=[known]):
        office.write_config()
        broken = office.config.read_text() + "x"
        office.config.write_text(broken)
        assert office.type("status").out.count("old configuration is in force") == 1


def test_a_blocked_account_with_a_condition_is_not_listed_again(office: Office) -> None:
    blocked = [
        {"account": f"konto{number}", "waiting": 1, "why": "451 refused", "seconds": None if number else 60}
        for number in range(9)
    ]
    entry = condition(ConditionKey.NO_SESSION, Severity.ERROR, "There is no session. 7 messages wait.")
    entry["affected"] = {"kind": "accounts", "count": 2, "names": ["konto1", "konto2"]}
    queue = FACTS["queue"] | {  # type: ignore[operator]
        "waiting": 9, "oldest": SINCE.isoformat(), "blocked": blocked, "blocked_count": 11,
    }  # fmt: skip
    with service_status(office, **FACTS | {"queue": queue}, conditions=[entry]):
        out = office.type("status").out
    assert "konto0 is blocked for 60 s (1 message): 451 refused" in out
    assert "konto1" not in out
    assert "konto7" not in out
    assert "4 more accounts are blocked." in out


def account(name: str, *, state: str = "healthy", delivered: int = 0) -> dict[str, object]:
    return AccountStatus(name, name, state, state, None, delivered=delivered).entry()


def test_of_many_accounts_those_come_first_that_cannot_send_then_those_with_most_recipients(office: Office) -> None:
    accounts = [account(f"konto{number:04}") for number in range(2000)]
    accounts[1500] = account("konto1500", state="paused")
    accounts[1600] = account("konto1600", delivered=7)
    accounts[1700] = account("konto1700", delivered=9)
    with service_status(office, **FACTS | {"accounts": accounts}):
        short, whole, as_json = office.type("status"), office.type("status", "--all"), office.type("status", "--json")
    shown = [line.split()[0] for line in short.out.splitlines() if line.startswith("konto")]
    assert shown[:4] == ["konto1500", "konto1700", "konto1600", "konto0000"]
    assert len(shown) == 40
    assert "1960 more accounts: senderproxy status --all\n" in short.out
    assert sum(line.startswith("konto") for line in whole.out.splitlines()) == 2000
    assert "more accounts" not in whole.out
    assert len(json.loads(as_json.out)["accounts"]) == 2000


def test_forty_accounts_are_all_shown_in_the_order_of_their_ids(office: Office) -> None:
    accounts = [account(f"konto{number:04}", delivered=number) for number in range(40)]
    with service_status(office, **FACTS | {"accounts": accounts}):
        out = office.type("status").out
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("konto")]
    assert shown == [str(entry["account"]) for entry in accounts]


@pytest.mark.parametrize(
    ("running", "text"),
    [
        ({"version": "0.0.9"}, "The service runs version 0.0.9, and version"),
        ({"build": "0123456789ab"}, "The service runs another build of version"),
        ({"build": build_id()}, ""),
        ({}, ""),
    ],
)
def test_a_service_that_runs_another_program_is_named_with_the_command(
    office: Office, running: dict[str, str], text: str
) -> None:
    with service_status(office, **FACTS | running):
        ended, check = office.type("status"), office.type("check", "--offline")
    assert ended.code == 0, "mail passes"
    for out in (ended.out, check.out):
        assert text in out
        assert ("systemctl restart senderproxy" in out) is bool(text)
