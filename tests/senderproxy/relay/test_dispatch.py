"""Whether an account's next message may be sent now, and when to look again, decided from values alone."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.relay.dispatch import LaneQueue, LaneQueues
from senderproxy.tracking.record import Lane

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
MONOTONIC = 1000.0  # seconds
SECOND = timedelta(seconds=1)
ANNA, BERT = parse_address("anna@kunde.example"), parse_address("bert@kunde.example")
OKAY, BUSY, REFUSED, LOGIN = (
    reply(250, "2.0.0", "OK"),
    reply(450, "4.2.1", "Mailbox busy"),
    reply(550, "5.1.1", "Unknown user"),
    reply(454, "4.7.0", "Password refused"),
)


def lane(account: str) -> Lane:
    return Lane.of_account(account)


# ---- slots ----


@pytest.mark.parametrize(
    ("connections", "running", "failures", "free"),
    [
        (0, 0, 0, 0),  # the account cannot send
        (None, 0, 0, 1),  # no such account: one attempt, to find out
        (None, 1, 0, 0),
        (2, 0, 0, 4),  # one leased beyond each session
        (2, 3, 0, 1),
        (2, 4, 0, 0),
        (10, 0, 0, 14),  # four leased beyond the sessions at most
        (10, 13, 0, 1),
        (10, 15, 0, 0),
        (10, 0, 1, 1),  # after a failure one at a time
        (10, 1, 1, 0),
    ],
)
def test_slots(connections: int | None, running: int, failures: int, free: int) -> None:
    queue = LaneQueue(lane("anna"), running=running, failures=failures)
    assert queue.free_slots(connections) == free


# ---- due times ----


def test_the_earliest_reported_due_time_counts() -> None:
    queue = LaneQueue(lane("anna"))
    assert not queue.is_due(MONOTONIC)
    for seconds in (30, 10, 20):
        queue.note_due(MONOTONIC + seconds)
    assert queue.due_at == MONOTONIC + 10
    assert not queue.is_due(MONOTONIC + 9)
    assert queue.is_due(MONOTONIC + 10)
    assert queue.changes == 3


@pytest.mark.parametrize(
    ("queue", "burst_until", "seconds"),
    [
        (LaneQueue(lane("a")), 0.0, math.inf),  # nothing waits
        (LaneQueue(lane("a"), MONOTONIC), 0.0, 0.0),
        (LaneQueue(lane("a"), MONOTONIC - 60), 0.0, 0.0),
        (LaneQueue(lane("a"), MONOTONIC + 60), 0.0, 60.0),
        (LaneQueue(lane("a"), MONOTONIC, blocked_until=MONOTONIC + 90), 0.0, 90.0),
        (LaneQueue(lane("a"), MONOTONIC + 60, blocked_until=MONOTONIC + 30), 0.0, 60.0),
        (LaneQueue(lane("a"), MONOTONIC, blocked_until=math.inf), 0.0, math.inf),  # until the account is repaired
        (LaneQueue(lane("a"), MONOTONIC), MONOTONIC + 0.05, 0.05),
        (LaneQueue(lane("a"), MONOTONIC, claiming=True), 0.0, math.inf),
        (
            LaneQueue(lane("a"), MONOTONIC, running=1),
            0.0,
            math.inf,
        ),  # the end of the attempt calls for the next message
        (LaneQueue(lane("a"), MONOTONIC + 60, running=1), 0.0, 60.0),
    ],
)
def test_when_to_look_again(queue: LaneQueue, burst_until: float, seconds: float) -> None:
    assert queue.seconds_until_ready(MONOTONIC, burst_until) == pytest.approx(seconds)


def test_the_earliest_of_all_accounts_sets_the_timer() -> None:
    queues = LaneQueues()
    assert queues.seconds_until_ready(MONOTONIC, 0.0) == math.inf
    queues.get(lane("anna")).note_due(MONOTONIC + 60)
    queues.get(lane("bert")).note_due(MONOTONIC + 20)
    assert queues.seconds_until_ready(MONOTONIC, 0.0) == 20.0


# ---- what the outcomes say about the account ----


@pytest.mark.parametrize(
    ("outcomes", "before", "after", "reason"),
    [
        ([Delivered(OKAY)], 3, 0, None),
        ([Failed(REFUSED)], 3, 0, None),
        ([Deferred(BUSY)], 3, 3, None),  # of the recipient: says nothing about the account
        ([Deferred(LOGIN, of_account=True)], 3, 4, LOGIN),
        ([Delivered(OKAY), Deferred(LOGIN, of_account=True)], 3, 0, None),
        ([Deferred(BUSY), Deferred(LOGIN, of_account=True)], 0, 1, LOGIN),
    ],
)
def test_failures_of_the_account_are_counted(outcomes: list[Outcome], before: int, after: int, reason: object) -> None:
    queue = LaneQueue(lane("anna"), failures=before)
    assert queue.record_outcomes(dict(zip((ANNA, BERT), outcomes, strict=False)), MONOTONIC) == reason
    assert queue.failures == after


def test_attempts_that_end_after_the_account_was_blocked_are_not_counted_again() -> None:
    queue = LaneQueue(lane("anna"))
    queue.block(LOGIN, MONOTONIC + 60)
    assert queue.record_outcomes({ANNA: Deferred(LOGIN, of_account=True)}, MONOTONIC) is None
    assert queue.failures == 0


def test_an_unblocked_account_is_due_at_once_and_has_no_failures() -> None:
    queue = LaneQueue(lane("anna"), MONOTONIC + 3600, failures=4)
    queue.block(LOGIN, math.inf)
    queue.unblock(MONOTONIC)
    assert (queue.due_at, queue.failures, queue.blocked_by) == (MONOTONIC, 0, None)
    assert not queue.is_blocked(MONOTONIC)


# ---- all accounts ----


def test_blocked_accounts_are_listed_with_reason_and_end() -> None:
    queues = LaneQueues()
    queues.get(lane("anna")).block(LOGIN, math.inf)
    queues.get(lane("bert")).block(BUSY, MONOTONIC + 60)
    queues.get(lane("carl")).blocked_until = MONOTONIC + 5  # the spool cannot be read
    queues.get(lane("dora")).block(BUSY, MONOTONIC - 1)  # over
    blocked = queues.blocked(NOW, MONOTONIC)
    assert {account: (entry.why, entry.until) for account, entry in blocked.items()} == {
        lane("anna"): (str(LOGIN), None),
        lane("bert"): (str(BUSY), NOW + 60 * SECOND),
        lane("carl"): ("the queue cannot be read", NOW + 5 * SECOND),
    }


def test_the_account_served_last_is_the_last_in_order() -> None:
    queues = LaneQueues()
    for account in ("anna", "bert", "carl"):
        queues.get(lane(account))
    for queue in queues:
        if queue.account != "carl":
            queues.serve_last(queue)
    assert [queue.account for queue in queues] == ["carl", "anna", "bert"]


def test_queues_without_messages_are_dropped_and_those_with_failures_stay() -> None:
    queues = LaneQueues()
    queues.get(lane("waits")).note_due(MONOTONIC)
    queues.get(lane("runs")).running = 1
    queues.get(lane("claims")).claiming = True
    queues.get(lane("fails")).failures = 1
    queues.get(lane("idle"))
    assert queues.are_active()
    queues.drop_idle()
    assert [queue.account for queue in queues] == ["waits", "runs", "claims", "fails"]
    assert queues.find(lane("idle")) is None


def test_an_account_that_only_failed_is_not_active() -> None:
    queues = LaneQueues()
    queues.get(lane("fails")).failures = 1
    assert not queues.are_active()
