"""The cause of each known reply, and properties of every reply."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtplib import SMTPAuthenticationError, SMTPConnectResponseError
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery import classify, open_failures
from senderproxy.delivery.account_health import FailedLogin, Health, Healthy, LimitReached, Suspended, next_health
from senderproxy.delivery.causes import (
    CONSEQUENCES,
    FAILED_LOGINS,
    Cause,
    Circumstances,
    Effect,
    Stage,
    cause_of,
    effect_of,
    is_temporary,
)
from senderproxy.delivery.hints import Login, hint
from senderproxy.mail.outcome import Deferred, Failed
from senderproxy.mail.reply import Reply, parse_reply
from senderproxy.routing.provider import Security, Smarthost

CORPUS = Path(__file__).parents[2] / "corpus" / "replies.csv"
STAGES = {
    "greeting": Stage.GREETING,
    "ehlo": Stage.EHLO,
    "auth": Stage.AUTH,
    "mail": Stage.MAIL,
    "rcpt": Stage.RCPT,
    "data": Stage.DATA,
    "dot": Stage.FINAL_DOT,
}
OPENING = (Stage.GREETING, Stage.EHLO, Stage.AUTH)
LOGIN = Login("anna", "anna@firma.example", "hoster", "smtp.hoster.example", ("PLAIN", "LOGIN"))
SMARTHOST = Smarthost("smtp.hoster.example", 465, Security.IMPLICIT_TLS)
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


class Row(NamedTuple):
    stage: str  # "-reused": on a session that carried another message; "-later": after an accepted recipient
    reply: str  # lines separated by " / "
    reply_class: str  # for the client
    effect: str
    cause: str
    hint: str  # part of it; "To fix": the relay's sentence about the sender
    source: str  # "constructed": another wording, language or status for a reply with a source

    @property
    def circumstances(self) -> Circumstances:
        stage, _, flag = self.stage.partition("-")
        return Circumstances(
            STAGES[stage],
            reused=flag == "reused",
            recipient_accepted=flag == "later",
            ours=("anna@firma.example",),
            theirs=("kunde@customer.example",),
        )

    @property
    def parsed(self) -> Reply:
        return parse_reply([line.encode() for line in self.reply.split(" / ")])


def rows() -> Iterator[Row]:
    with CORPUS.open(encoding="utf-8", newline="") as file:
        for values in list(csv.reader(file))[1:]:
            yield Row(*values)


ROWS = list(rows())


def test_the_corpus_has_replies_of_known_sources() -> None:
    assert sum(row.source.startswith("https://") for row in ROWS) >= 150
    assert all(row.source == "constructed" or row.source.startswith("https://") for row in ROWS)
    assert {row.cause for row in ROWS} == {cause.value for cause in Cause} - {"login-cut", "password-retry", "token"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.stage} {row.reply[:60]}")
def test_a_known_reply_has_its_cause_effect_and_hint(row: Row) -> None:
    reply = row.parsed
    cause = cause_of(reply, row.circumstances)
    assert (cause.value, effect_of(cause, reply).value) == (row.cause, row.effect)
    if row.hint != "To fix":
        assert row.hint in hint(cause, LOGIN)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.circumstances.stage not in OPENING],
    ids=lambda row: f"{row.stage} {row.reply[:60]}",
)
def test_a_reply_in_a_transaction_has_its_class_for_the_client(row: Row) -> None:
    result = classify.outcome(row.parsed, row.circumstances, "smtp.hoster.example")
    assert isinstance(result, Failed if row.reply_class == "5" else Deferred)
    assert str(result.reply.code)[0] == row.reply_class
    assert isinstance(result, Deferred) or (result.refused_sender is not None) == (row.hint == "To fix")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.circumstances.stage in OPENING], ids=lambda row: f"{row.stage} {row.reply[:60]}"
)
def test_a_reply_before_a_transaction_is_a_deferral(row: Row) -> None:
    said, stage = row.parsed, row.circumstances.stage
    kind = SMTPAuthenticationError if stage is Stage.AUTH else SMTPConnectResponseError
    status = f"{said.status} " if said.status else ""
    result = open_failures.failure_of(
        kind(said.code, "\n".join(status + line for line in said.lines)), SMARTHOST, stage
    )
    assert result.reply.code == 451
    assert result.upstream_reply == said
    assert result.cause is not None
    assert result.cause.value == row.cause
    assert (result.kind is open_failures.FailureKind.LOGIN) == (result.cause in FAILED_LOGINS)


# ---- properties ----


def lines() -> st.SearchStrategy[str]:
    """Words of the corpus, in any order, at any stage, with any code and status."""
    words = sorted({word for row in ROWS for word in row.reply.split()})
    return st.lists(st.sampled_from(words), max_size=12).map(" ".join)


REPLIES: st.SearchStrategy[Any] = st.builds(
    lambda code, status, texts: parse_reply([f"{code} {status}{text}".encode() for text in texts]),
    st.integers(400, 599),
    st.sampled_from(["", "4.7.0 ", "4.2.2 ", "5.7.8 ", "5.7.139 ", "5.7.9 ", "5.5.4 ", "4.4.2 ", "5.2.252 ", "5.7.1 "]),
    st.lists(lines(), min_size=1, max_size=3),
)


def after(reply: Reply, cause: Cause, times: int, *, proven: bool) -> Health:
    health: Health = Healthy()
    for number in range(times):
        failed = cause in FAILED_LOGINS
        event = FailedLogin(cause, reply, "v1", proven=proven) if failed else LimitReached(reply, "v1", cause)
        health = next_health(health, event, now=NOW, monotonic=number * 10_000.0)
    return health


@given(reply=REPLIES, stage=st.sampled_from(list(STAGES.values())), reused=st.booleans(), proven=st.booleans())
def test_no_reply_is_temporary_and_suspends_the_account_for_good(
    reply: Reply, stage: Stage, reused: bool, proven: bool
) -> None:
    cause = cause_of(reply, Circumstances(stage, reused=reused, ours=("anna@firma.example",)))
    assert effect_of(cause, reply) is not Effect.SUSPEND or not is_temporary(reply)
    if is_temporary(reply) and CONSEQUENCES[cause].effect is not Effect.NONE:
        assert not isinstance(after(reply, cause, 10, proven=proven), Suspended)
    if stage is not Stage.AUTH:
        assert cause not in FAILED_LOGINS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.stage} {row.reply[:60]}")
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_no_known_reply_at_any_stage_is_temporary_and_suspends_for_good(row: Row, stage: Stage) -> None:
    reply = row.parsed
    cause = cause_of(reply, Circumstances(stage, ours=("anna@firma.example",)))
    if is_temporary(reply) and CONSEQUENCES[cause].effect is not Effect.NONE:
        assert not isinstance(after(reply, cause, 10, proven=False), Suspended)


@given(reply=REPLIES, stage=st.sampled_from([Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.FINAL_DOT]))
def test_a_temporary_reply_is_never_a_bounce_and_a_reply_about_us_never_is(reply: Reply, stage: Stage) -> None:
    circumstances = Circumstances(stage)
    result = classify.outcome(reply, circumstances, "smtp.hoster.example")
    assert reply.is_permanent or isinstance(result, Deferred)
    if CONSEQUENCES[cause_of(reply, circumstances)].is_ours:
        assert isinstance(result, Deferred)


@given(reply=REPLIES)
def test_the_first_recipient_of_a_transaction_is_never_over_the_limit(reply: Reply) -> None:
    assert cause_of(reply, Circumstances(Stage.RCPT)) is not Cause.RECIPIENT_COUNT


@given(reply=REPLIES, stage=st.sampled_from([Stage.MAIL]))
def test_a_permanent_refusal_of_mail_from_is_about_us_the_size_or_the_sender(reply: Reply, stage: Stage) -> None:
    result = classify.outcome(reply, Circumstances(stage), "smtp.hoster.example")
    if isinstance(result, Failed):
        assert result.refused_sender is not None or cause_of(reply, Circumstances(stage)) is Cause.SIZE


def test_each_cause_has_a_consequence() -> None:
    assert set(CONSEQUENCES) == set(Cause)
