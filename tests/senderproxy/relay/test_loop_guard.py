"""The limit of automatic responses."""

import json
from datetime import UTC, datetime

import pytest

from senderproxy.learned import Instant
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.header import HeaderSection
from senderproxy.relay.loop_guard import LoopGuard, is_automatic_response

ANNA, ALICE, CARL = (parse_address(f"{name}@firma.example") for name in ("anna", "alice", "carl"))


def test_one_more_than_the_limit_within_an_hour_is_refused() -> None:
    guard = LoopGuard()
    assert [guard.check(ANNA, [ALICE], 3, float(second)) is None for second in range(5)] == [True] * 3 + [False] * 2
    assert guard.check(ANNA, [CARL], 3, 5.0) is None, "another recipient is another matter"
    assert guard.check(CARL, [ALICE], 3, 5.0) is None, "another author, too"
    assert guard.check(ANNA, [ALICE], 3, 3601.5) is None


def test_the_refusal_has_the_number_and_the_setting() -> None:
    guard = LoopGuard()
    guard.check(ANNA, [ALICE], 1, 0.0)
    refusal = guard.check(ANNA, [CARL, ALICE], 1, 1.0)
    assert refusal is not None
    assert (refusal.code, str(refusal.status)) == (554, "5.4.6")
    assert "anna@firma.example has sent alice@firma.example 1 automatic messages" in refusal.lines[0]
    assert "automatic_per_hour" in refusal.text
    assert guard.check(ANNA, [CARL], 1, 2.0) is None, "what is refused does not count"


def test_a_message_that_was_not_sent_does_not_count() -> None:
    guard = LoopGuard()
    for second in range(5):
        assert guard.check(ANNA, [ALICE], 1, float(second)) is None
        guard.uncount(ANNA, [ALICE, CARL])
    assert guard.check(ANNA, [ALICE], 1, 6.0) is None
    assert guard.check(ANNA, [ALICE], 1, 7.0) is not None


def test_memory_is_bounded() -> None:
    guard = LoopGuard()
    for number in range(20_050):
        guard.check(ANNA, [parse_address(f"r{number}@x.example")], 1, float(number) / 1000)
    assert len(guard._sent) == 20_000


@pytest.mark.parametrize(
    ("path", "header", "automatic"),
    [
        (NULL_PATH, b"", True),
        (ANNA, b"", False),
        (ANNA, b"Auto-Submitted: auto-replied (vacation)\r\n", True),
        (ANNA, b"Auto-Submitted: no\r\n", False),
        (ANNA, b"Auto-Submitted: auto-generated\r\n", False),
    ],
)
def test_automatic_responses(path: object, header: bytes, automatic: bool) -> None:
    assert is_automatic_response(path, HeaderSection(header + b"\r\n")) is automatic  # type: ignore[arg-type]


def test_the_counts_outlive_a_restart() -> None:
    guard, subjects = LoopGuard(), list[str]()
    guard.changed = subjects.append
    author, recipient = parse_address("anna@firma.example"), parse_address("bert@elsewhere.example")
    for second in (0.0, 1000.0):
        assert guard.check(author, [recipient], 2, second) is None
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    after = LoopGuard()
    for subject in set(subjects):
        assert "anna" not in subject
        fact = guard.fact(subject, Instant(midnight, 1100.0))
        assert fact is not None
        assert after.restore(subject, json.loads(json.dumps(fact)), Instant(midnight, 5.0))  # 1100.0 on the other clock
    assert after.check(author, [recipient], 2, 5.0) is not None
    assert after.check(author, [recipient], 2, 2504.0) is not None
    assert after.check(author, [recipient], 2, 2506.0) is None  # the first one is an hour old
    assert not LoopGuard().restore("x", {"ages": []}, Instant(midnight, 5.0))


def test_pairs_that_are_over_are_reported_so_that_their_rows_are_deleted() -> None:
    guard, subjects = LoopGuard(), list[str]()
    author, recipient = parse_address("anna@firma.example"), parse_address("bert@elsewhere.example")
    guard.check(author, [recipient], 2, 0.0)
    guard.changed = subjects.append
    guard.expire(3600.0)
    (subject,) = subjects
    assert guard.fact(subject, Instant(datetime(2026, 1, 31, tzinfo=UTC), 3600.0)) is None
    guard.check(author, [recipient], 2, 4000.0)
    guard.uncount(author, [recipient])
    assert guard.fact(subject, Instant(datetime(2026, 1, 31, tzinfo=UTC), 4000.0)) is None
    assert len(subjects) == 3
