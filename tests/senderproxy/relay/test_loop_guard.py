"""The limit of automatic responses."""

import json
from datetime import UTC, datetime

import pytest

from senderproxy.learned import Instant
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.header import HeaderSection
from senderproxy.relay.loop_guard import LoopGuard, is_automatic_response, is_report_or_journal

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
    limit = guard.check(ANNA, [CARL, ALICE], 1, 1.0)
    assert limit is not None
    assert (limit.reply.code, str(limit.reply.status), limit.wait) == (554, "5.4.6", None)
    assert "anna@firma.example has sent alice@firma.example 1 automatic messages" in limit.reply.lines[0]
    assert "automatic_per_hour" in limit.hint
    assert guard.check(ANNA, [CARL], 1, 2.0) is None, "what is refused does not count"


def test_a_report_above_the_limit_is_deferred_until_it_may_be_sent() -> None:
    guard = LoopGuard()
    for second in (0.0, 600.0):
        assert guard.check(ANNA, [ALICE], 2, second, can_wait=True) is None
    limit = guard.check(ANNA, [ALICE], 2, 900.0, can_wait=True)
    assert limit is not None
    assert (limit.reply.code, str(limit.reply.status), limit.wait) == (451, "4.4.6", 2700.0)
    assert "accepted again in 45 min" in limit.reply.text
    assert guard.check(ANNA, [ALICE], 2, 3600.5, can_wait=True) is None


def test_queued_reports_leave_at_the_rate_of_the_limit() -> None:
    guard = LoopGuard()
    for second in (0.0, 600.0):
        guard.check(ANNA, [ALICE], 2, second)
    waits = [guard.reserve(ANNA, [ALICE, CARL], 2, 900.0) for _ in range(5)]
    assert waits == [2700.0, 3300.0, 6300.0, 6900.0, 9900.0]
    assert guard.check(ANNA, [ALICE], 2, 7200.0) is not None, "the reserved ones count"


def test_a_reserved_time_is_at_most_a_day_ahead_and_memory_stays_bounded() -> None:
    guard = LoopGuard()
    guard.check(ANNA, [ALICE], 1, 0.0)
    waits = [guard.reserve(ANNA, [ALICE], 1, 1.0) for _ in range(100)]
    assert max(waits) == waits[-1] == 86_400.0
    assert sum(map(len, guard._sent.values())) <= 25


def test_the_pairs_above_the_limit_are_counted_for_an_hour() -> None:
    guard = LoopGuard()
    for second in range(4):
        guard.check(ANNA, [ALICE], 1, float(second))
        guard.check(ANNA, [CARL], 1, float(second), can_wait=True)
    guard.check(ANNA, [ALICE], 1, 5.0, can_wait=True)
    found = [(pair.author, pair.recipient, pair.refused, pair.deferred, pair.limit) for pair in guard.limited(6.0)]
    assert found == [(ANNA.key, ALICE.key, 3, 1, 1), (ANNA.key, CARL.key, 0, 3, 1)]
    assert [pair.recipient for pair in guard.limited(3604.0)] == [ALICE.key]
    assert guard.limited(3606.0) == []


def test_few_pairs_above_the_limit_are_in_memory() -> None:
    guard = LoopGuard()
    for number in range(250):
        for _ in range(2):
            guard.check(ANNA, [parse_address(f"r{number}@x.example")], 1, 1.0)
    assert len(guard.limited(2.0)) == 200


@pytest.mark.parametrize(
    ("header", "can_wait"),
    [
        (b"Content-Type: multipart/report; report-type=delivery-status\r\n", True),
        (b"Content-Type: Multipart/Report;\r\n report-type=disposition-notification\r\n", True),
        (b"X-MS-Journal-Report:\r\n", True),
        (b"Content-Type: multipart/mixed; boundary=x\r\n", False),
        (b"Auto-Submitted: auto-replied\r\n", False),
    ],
)
def test_reports_and_journals_can_wait(header: bytes, can_wait: bool) -> None:
    assert is_report_or_journal(HeaderSection(header + b"\r\n")) is can_wait


def test_a_message_that_was_not_sent_does_not_count() -> None:
    guard = LoopGuard()
    for second in range(5):
        assert guard.check(ANNA, [ALICE], 1, float(second)) is None
        guard.uncount(ANNA, [ALICE, CARL])
    assert guard.check(ANNA, [ALICE], 1, 6.0) is None
    assert guard.check(ANNA, [ALICE], 1, 7.0) is not None


def test_the_messages_of_the_last_hour_are_counted_for_a_question() -> None:
    guard = LoopGuard()
    for second in range(4):
        guard.check(ANNA, [ALICE], 3, float(second))
    assert guard.count(ANNA, ALICE, 10.0) == 3
    assert guard.count(ANNA, CARL, 10.0) == 0
    assert guard.count(ANNA, ALICE, 3601.5) == 1


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
    assert LoopGuard().restore("x", {"ages": [5.0]}, Instant(midnight, 5.0).before(3500.0))
    assert not LoopGuard().restore("x", {"ages": [5.0]}, Instant(midnight, 5.0).before(3600.0))


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


def test_reserved_times_outlive_a_restart_too() -> None:
    guard = LoopGuard()
    for _ in range(3):
        guard.reserve(ANNA, [ALICE], 1, 100.0)
    [subject] = guard._sent
    fact = guard.fact(subject, Instant(datetime(2026, 1, 31, tzinfo=UTC), 200.0))
    assert fact == {"ages": [100.0, -3500.0, -7100.0]}
    later = LoopGuard()
    assert later.restore(subject, fact, Instant(datetime(2026, 1, 31, tzinfo=UTC), 200.0))
    assert later.reserve(ANNA, [ALICE], 1, 200.0) == 10700.0
