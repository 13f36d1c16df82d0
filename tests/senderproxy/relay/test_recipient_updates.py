"""The reply to the client, and the states of the recipients, after an attempt."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import Address
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, RefusedSenderField
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.relay.recipient_updates import (
    OnDeferral,
    client_reply,
    initial_states,
    not_queued_reply,
    pass_through_states,
    queued_reply,
    update_recipients,
)
from senderproxy.retry import RetryPolicy
from senderproxy.tracking.record import RecipientStatus

ANNA = Address("anna", "kunde.example")
BERT = Address("bert", "kunde.example")
CARL = Address("carl", "kunde.example")
OKAY = reply(250, None, "Requested mail action okay, completed: id=0Lh7M3-1csvNv3Q9v-00oUqv")
UNKNOWN = parse_reply([b"550-Requested action not taken: mailbox unavailable", b"550 Unknown User"])
LIMIT = parse_reply([b"450-Requested mail action not taken: mailbox unavailable", b"450 Mail send limit exceeded."])
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
DEFER, QUEUE = OnDeferral.DEFER, OnDeferral.QUEUE


# ---- for the client ----


def test_all_accepted_is_250_with_the_upstreams_text_and_our_id() -> None:
    result = client_reply({ANNA: Delivered(OKAY), BERT: Delivered(OKAY)}, "abc", DEFER)
    assert result is not None
    assert result.code == 250
    assert "id=0Lh7M3" in result.text
    assert "abc" in result.text


@pytest.mark.parametrize("on_deferral", OnDeferral)
def test_all_refused_has_the_last_line_and_an_enhanced_status(on_deferral: OnDeferral) -> None:
    result = client_reply({ANNA: Failed(UNKNOWN)}, "abc", on_deferral)
    assert result is not None
    assert result.render() == b"550 5.0.0 Unknown User\r\n"


def test_the_reply_about_a_rejected_sender_has_all_lines() -> None:
    result = client_reply({ANNA: Failed(UNKNOWN, RefusedSenderField.FROM)}, "abc", DEFER)
    assert result is not None
    assert result.lines == UNKNOWN.lines


def test_all_deferred_has_the_upstreams_code_if_the_client_retries() -> None:
    result = client_reply({ANNA: Deferred(LIMIT), BERT: Deferred(LIMIT)}, "abc", DEFER)
    assert result is not None
    assert result.render() == b"450 4.0.0 Mail send limit exceeded.\r\n"


def test_all_deferred_is_queued_if_the_listener_is_set_so() -> None:
    assert client_reply({ANNA: Deferred(LIMIT), BERT: Deferred(LIMIT)}, "abc", QUEUE) is None


@pytest.mark.parametrize(
    "outcomes",
    [
        {ANNA: Delivered(OKAY), BERT: Failed(UNKNOWN)},
        {ANNA: Delivered(OKAY), BERT: Deferred(LIMIT)},
        {ANNA: Failed(UNKNOWN), BERT: Deferred(LIMIT)},
        {ANNA: Delivered(OKAY), BERT: Failed(UNKNOWN), CARL: Deferred(LIMIT)},
    ],
)
def test_a_mixed_outcome_must_be_queued(outcomes: dict[Address, Outcome]) -> None:
    assert client_reply(outcomes, "abc", DEFER) is None


def test_the_reply_to_a_mixed_outcome_counts_the_recipients() -> None:
    outcomes: dict[Address, Outcome] = {ANNA: Delivered(OKAY), BERT: Failed(UNKNOWN), CARL: Deferred(LIMIT)}
    assert queued_reply(outcomes, "abc", is_reported=True).render() == (
        b"250 2.0.0 Recipients: 1 accepted, 1 queued for retry, 1 refused and reported to the author (senderproxy abc)\r\n"
    )


def test_recipients_refused_for_different_reasons_are_named() -> None:
    result = client_reply({ANNA: Failed(UNKNOWN), BERT: Failed(reply(550, "5.2.2", "full"))}, "abc", DEFER)
    assert result is not None
    assert result.code == 550
    assert result.lines[:2] == ("anna@kunde.example: 550 Unknown User", "bert@kunde.example: 550 full")


def test_the_reply_names_five_of_a_hundred_refused_recipients() -> None:
    outcomes: dict[Address, Outcome] = {
        Address(f"nobody{n}", "kunde.example"): Failed(reply(550, "5.1.1", f"no such user {n}")) for n in range(100)
    }
    result = client_reply(outcomes, "abc", DEFER)
    assert result is not None
    assert len(result.lines) == 7
    assert "95 more" in result.lines[5]


@pytest.mark.parametrize("missed", [Failed(UNKNOWN), Deferred(LIMIT)])
def test_a_partial_delivery_that_cannot_be_queued_names_the_recipients_not_reached(missed: Outcome) -> None:
    result = not_queued_reply({ANNA: Delivered(OKAY), BERT: missed, CARL: Delivered(OKAY)})
    assert (result.code, str(result.status)) == (554, "5.0.0")
    assert result.lines[0].startswith("bert@kunde.example: ")
    assert "sent to 2 of 3 recipients; send it again to the others only" in result.text


def test_no_delivery_that_cannot_be_queued_leaves_the_message_with_the_client() -> None:
    result = not_queued_reply({ANNA: Deferred(LIMIT)})
    assert result.code == 450
    mixed = not_queued_reply({ANNA: Deferred(LIMIT), BERT: Failed(UNKNOWN)})
    assert mixed.code == 550
    assert not any("anna@" in line for line in mixed.lines)


REPLIES = st.builds(
    lambda code, text: Reply(code, None, (text,)), st.sampled_from([421, 450, 451, 550, 554]), st.text(max_size=60)
)


def _outcome(said: Reply) -> Outcome:
    return Deferred(said) if said.is_transient else Failed(said)


OUTCOMES = st.lists(st.one_of(REPLIES.map(_outcome), st.just(Delivered(OKAY))), min_size=1, max_size=8)


@given(OUTCOMES, st.sampled_from(OnDeferral))
def test_the_reply_is_2xx_only_if_every_recipient_was_accepted(outcomes: list[Outcome], on: OnDeferral) -> None:
    by_path = {Address(f"r{n}", "x.example"): outcome for n, outcome in enumerate(outcomes)}
    result = client_reply(by_path, "abc", on)
    if result is None:
        result = not_queued_reply(by_path)
    taken = [isinstance(outcome, Delivered) for outcome in outcomes]
    assert result.is_positive == all(taken)
    assert not (any(taken) and result.is_transient), "the client would send again to those who have it"
    assert result.status is not None
    assert result.status.klass == result.code // 100


# ---- for the spool ----


def _judge(outcome: Outcome, tries: int = 0, *, over: bool = False):
    due = {path: replace(state, tries=tries) for path, state in initial_states((ANNA,)).items()}
    return update_recipients(due, {ANNA: outcome}, RetryPolicy(), chance=0.5, over=over)


def test_an_accepted_recipient_is_delivered() -> None:
    judgement = _judge(Delivered(OKAY))
    assert judgement.states[ANNA].status is RecipientStatus.DELIVERED
    assert judgement.states[ANNA].reply == OKAY
    assert not judgement.failed


def test_a_refused_recipient_is_failed_and_reported() -> None:
    judgement = _judge(Failed(UNKNOWN))
    assert judgement.states[ANNA].status is RecipientStatus.FAILED
    assert judgement.failed == [ANNA]


@pytest.mark.parametrize(("tries", "minutes"), [(0, 1), (1, 2), (4, 16), (9, 30)])
def test_a_deferred_recipient_waits_longer_after_each_attempt(tries: int, minutes: int) -> None:
    state = _judge(Deferred(LIMIT), tries).states[ANNA]
    assert (state.status, state.tries) == (RecipientStatus.WAITING, tries + 1)
    assert state.due_in == timedelta(minutes=minutes)
    assert state.reply == LIMIT


def test_no_attempt_is_made_before_the_wait_that_the_outcome_asks_for() -> None:
    asked = Deferred(reply(450, "4.2.0", "Greylisted"), retry_after=timedelta(minutes=5))
    waits = [_judge(asked, tries).states[ANNA].due_in for tries in range(6)]
    assert waits[:3] == [timedelta(minutes=5) * 1.05] * 3
    assert waits[4:] == [timedelta(minutes=16), timedelta(minutes=30)]


def test_a_deferral_of_the_account_keeps_the_due_time() -> None:
    state = _judge(Deferred(LIMIT, of_account=True), 3).states[ANNA]
    assert (state.status, state.tries, state.due_in, state.reply) == (RecipientStatus.WAITING, 3, None, LIMIT)


@pytest.mark.parametrize("of_account", [False, True])
def test_a_deferral_after_the_retry_time_expires_and_is_reported(of_account: bool) -> None:
    judgement = _judge(Deferred(LIMIT, of_account=of_account), 40, over=True)
    assert judgement.states[ANNA].status is RecipientStatus.EXPIRED
    assert judgement.expired == [ANNA]


@given(OUTCOMES, st.booleans())
def test_no_recipient_is_lost_between_outcome_and_state(outcomes: list[Outcome], over: bool) -> None:
    by_path = {Address(f"r{n}", "x.example"): outcome for n, outcome in enumerate(outcomes)}
    judgement = update_recipients(initial_states(list(by_path)), by_path, RetryPolicy(), chance=0.0, over=over)
    assert set(judgement.states) == set(by_path)
    for path, state in judgement.states.items():
        result = path in judgement.failed or path in judgement.expired
        assert result == (state.status in (RecipientStatus.FAILED, RecipientStatus.EXPIRED))
        outcome = by_path[path]
        waits_again = isinstance(outcome, Deferred) and not outcome.of_account and not over
        assert (state.due_in is not None) == waits_again
    assert all(state.status.is_final for state in pass_through_states(by_path).values())
