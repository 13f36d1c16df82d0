"""Reports read by other bounce parsers: flufl.bounce of Mailman and Sisimai of Perl."""

import email
import json
import shutil
import subprocess
from typing import Any

import pytest
from flufl.bounce import all_failures

from senderproxy.dsn.report_policy import ReportKind
from tests.senderproxy.dsn.cases import CASES, CORPUS

_OF_VERSION_5 = {"onhold": "undefined"}  # another word for the same; it also has numbers where version 4 has texts


def _sisimai(name: str) -> list[dict[str, Any]]:
    program = 'use Sisimai; print Sisimai->dump($ARGV[0], "delivered" => 1)'
    read = subprocess.run(
        ["perl", "-e", program, CORPUS / f"{name}.eml"], capture_output=True, text=True, check=True, timeout=300
    )
    found: list[dict[str, Any]] = json.loads(read.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_mailman_counts_the_failed_and_lets_the_delayed_wait(name: str) -> None:
    case = CASES[name]()
    recipients = {str(recipient.path).encode() for recipient in case.recipients}
    late, dead = all_failures(email.message_from_bytes(case.octets()))
    expected = (recipients, set()) if case.kind is ReportKind.DELAYED else (set(), recipients)
    assert (set(late), set(dead)) == expected


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("perl") is None, reason="no Perl on this machine")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("failed-unknown-user", [("carl@kunde.example", "userunknown", "failed", "5.1.1", "550")]),
        (
            "failed-three-causes-header-only",
            [
                ("carl@kunde.example", "mailboxfull", "failed", "5.2.2", "552"),
                ("dora@amt.example", "mesgtoobig", "failed", "5.3.4", "552"),
                ("emil@werk.example", "systemerror", "failed", "5.7.1", "554"),
            ],
        ),
        ("expired-unreachable", [("carl@kunde.example", "expired", "failed", "4.4.1", "451")]),
        ("expired-perhaps-taken", [("carl@kunde.example", "networkerror", "failed", "4.4.2", "451")]),
        (
            "delayed-greylisted",
            [
                ("carl@kunde.example", "expired", "delayed", "4.2.0", "450"),
                ("dora@amt.example", "expired", "delayed", "4.2.0", "450"),
            ],
        ),
        ("cancelled-never-tried", [("carl@kunde.example", "undefined", "failed", "5.0.0", "")]),
        ("failed-eight-bit-returned-whole", [("carl@kunde.example", "userunknown", "failed", "5.1.1", "550")]),
        ("failed-odd-header", [("carl@kunde.example", "userunknown", "failed", "5.1.1", "550")]),
    ],
)
def test_sisimai_finds_everybody_with_the_reason_and_the_codes(name: str, expected: list[tuple[str, ...]]) -> None:
    found = _sisimai(name)
    fields = ("recipient", "reason", "action", "deliverystatus", "replycode")
    read = [tuple(_OF_VERSION_5.get(str(entry[field]), str(entry[field])) for field in fields) for entry in found]
    assert read == expected
    assert {entry["addresser"] for entry in found} == {"anna@firma.example"}


def test_every_case_is_read_by_both() -> None:
    (marks,) = (
        m
        for m in vars(test_sisimai_finds_everybody_with_the_reason_and_the_codes)["pytestmark"]
        if m.name == "parametrize"
    )
    assert {name for name, _ in marks.args[1]} == set(CASES)
