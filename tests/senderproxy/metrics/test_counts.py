"""Counts: what each call counts, under which labels, and how much of it there can be."""

from itertools import count
from typing import Any

import pytest

from senderproxy import log_events
from senderproxy.mail.address import parse_address
from senderproxy.mail.outcome import Deferred, Delivered
from senderproxy.mail.reply import reply
from senderproxy.metrics import series
from senderproxy.metrics.counts import MESSAGE_OUTCOMES, Counts, HistogramCounts, LabelNames, account_label
from senderproxy.metrics.series import ACCOUNTS_LIMIT, NAMES_LIMIT, SERIES, Series, SeriesKind
from senderproxy.relay.ports import NO_ACCOUNT, SpoolUpdate
from senderproxy.tracking.record import RecipientState, RecipientStatus
from tests.fakes.arrivals import arrival

KEY = b"k" * 32
CLIENT = parse_address("x@kunde.example")
OK, BUSY = Delivered(reply(250, "2.0.0", "OK")), Deferred(reply(451, "4.3.0", "busy"))


def counts() -> Counts:
    ticks = count(1_000_000)
    return Counts(
        LabelNames(ACCOUNTS_LIMIT, lambda one: account_label(one, KEY, addresses=False)), lambda: float(next(ticks))
    )


def values(found: Counts, kind: Series) -> dict[tuple[str, ...], Any]:
    return {sample.labels: sample.value for sample in found.samples() if sample.series is kind}


def state(status: RecipientStatus) -> RecipientState:
    return RecipientState(status, None, 1, reply(250, "2.0.0", "x"))


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (log_events.MESSAGE_DELIVERED, "delivered"),
        (log_events.MESSAGE_QUEUED, "queued"),
        (log_events.MESSAGE_KEPT_DURING_ATTEMPT, "queued"),
        (log_events.MESSAGE_TAKEN_OVER, "queued"),
        (log_events.REPORT_DELAYED, "queued"),
        (log_events.MESSAGE_DEFERRED, "deferred"),
        (log_events.MESSAGE_REFUSED, "refused"),
        (log_events.MESSAGE_DISCARDED, "discarded"),
    ],
)
def test_a_reply_to_a_client_is_counted_by_listener_account_and_outcome(kind, outcome: str) -> None:
    found = counts()
    found.answered("office", "anna", kind, 0.03)
    found.answered("office", "anna", kind, 300.0)
    found.answered("devices", NO_ACCOUNT, kind, 0.0)
    assert values(found, series.MESSAGES) == {("office", "anna", outcome): 2, ("devices", "none", outcome): 1}
    assert outcome in MESSAGE_OUTCOMES
    accept = values(found, series.ACCEPT_SECONDS)[("office",)]
    assert accept.total == pytest.approx(300.03)
    assert (accept.counts[3], accept.counts[-1], sum(accept.counts)) == (1, 1, 2)


def test_recipients_are_counted_by_the_state_that_was_written() -> None:
    found = counts()
    waits, refused = arrival("1"), arrival("2")
    found.stored([waits])
    found.noted(
        refused.__class__(
            refused.submission, "", "a@b", dict.fromkeys(refused.states, state(RecipientStatus.FAILED)), ()
        )
    )
    for status in (RecipientStatus.DELIVERED, RecipientStatus.WAITING, RecipientStatus.HELD):
        found.settled("anna", SpoolUpdate({CLIENT: state(status)}, []))
    found.settled("anna", SpoolUpdate({CLIENT: state(RecipientStatus.FAILED)}, [], [arrival("3")]))
    account = found.accounts.label(waits.account)
    recipients = len(waits.states)
    assert values(found, series.RECIPIENTS) == {
        (account, "queue", "queued"): 2 * recipients,  # the message and the report
        ("none", "direct", "failed"): recipients,
        ("anna", "queue", "delivered"): 1,
        ("anna", "queue", "held"): 1,
        ("anna", "queue", "failed"): 1,
    }


def test_an_attempt_is_counted_with_its_time_and_its_session_and_a_success_with_the_time_of_day() -> None:
    found = counts()
    found.attempted("anna", "ionos", {CLIENT: BUSY}, 0.2, is_reused=False)
    assert values(found, series.ACCOUNT_LAST_SUCCESS) == {}
    found.attempted("anna", "ionos", {CLIENT: OK}, 0.2, is_reused=True)
    found.attempted("bert", "gmx", None, 61.0, is_reused=True)
    assert values(found, series.ACCOUNT_LAST_SUCCESS) == {("anna",): 1_000_000.0}
    assert values(found, series.UPSTREAM_REUSED) == {("anna",): 1, ("bert",): 1}
    upstream = values(found, series.UPSTREAM_SECONDS)
    assert {labels: sum(value.counts) for labels, value in upstream.items()} == {("ionos",): 2, ("gmx",): 1}


def test_a_value_at_a_limit_of_a_bucket_belongs_to_it() -> None:
    kind = Series("x", SeriesKind.HISTOGRAM, "x", (), (0.1, 1.0))
    found = HistogramCounts(kind)
    for value in (0.0, 0.1, 0.10001, 1.0, 1.1):
        found.observe(value)
    assert found.value().counts == (2, 2, 1)
    assert found.value().total == pytest.approx(2.30001)


# ---- labels ----


def test_an_id_with_an_address_appears_only_if_it_is_wanted() -> None:
    hidden = account_label("anna@firma.example", KEY, addresses=False)
    assert hidden.startswith("account-")
    assert len(hidden) == 16
    assert hidden == account_label("anna@firma.example", KEY, addresses=False)
    assert hidden != account_label("anna@firma.example", b"o" * 32, addresses=False)
    assert hidden != account_label("bert@firma.example", KEY, addresses=False)
    assert account_label("anna@firma.example", KEY, addresses=True) == "anna@firma.example"
    assert account_label("konto1", KEY, addresses=False) == "konto1"
    assert account_label("", KEY, addresses=False) == "none"
    assert account_label("@internal", KEY, addresses=False) == "internal"


def test_names_beyond_the_limit_are_other_together_and_the_first_stay() -> None:
    found = counts()
    for number in range(ACCOUNTS_LIMIT + 50):
        found.answered(f"listener{number}", f"konto{number}", log_events.MESSAGE_REFUSED, 0.1)
        found.attempted(f"konto{number}", f"provider{number}", {CLIENT: OK}, 0.1, is_reused=True)
        found.settled(f"konto{number}", SpoolUpdate({CLIENT: state(RecipientStatus.DELIVERED)}, []))
    messages = values(found, series.MESSAGES)
    assert len({account for _listener, account, _outcome in messages}) == ACCOUNTS_LIMIT + 1
    assert len({listener for listener, _account, _outcome in messages}) == NAMES_LIMIT + 1
    assert messages["other", "other", "refused"] == 50
    assert messages["listener0", "konto0", "refused"] == 1
    for kind, limit in (
        (series.RECIPIENTS, ACCOUNTS_LIMIT),
        (series.UPSTREAM_REUSED, ACCOUNTS_LIMIT),
        (series.ACCOUNT_LAST_SUCCESS, ACCOUNTS_LIMIT),
        (series.ACCEPT_SECONDS, NAMES_LIMIT),
        (series.UPSTREAM_SECONDS, NAMES_LIMIT),
    ):
        assert len(values(found, kind)) == limit + 1, kind.name
    assert len(found.accounts.known()) == ACCOUNTS_LIMIT


# ---- the list ----


def test_names_and_units_of_series_are_as_prometheus_wants_them() -> None:
    assert len({one.name for one in SERIES}) == len(SERIES)
    for one in SERIES:
        assert one.name.startswith(("senderproxy_", "process_")), one.name
        assert one.name.endswith("_total") is (one.kind is SeriesKind.COUNTER), one.name
        assert bool(one.buckets) is (one.kind is SeriesKind.HISTOGRAM), one.name
        assert list(one.buckets) == sorted(set(one.buckets)), one.name
        assert one.text.endswith("."), one.name
