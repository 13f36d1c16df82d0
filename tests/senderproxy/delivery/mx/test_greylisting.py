"""Waits after greylisting: five minutes, the server's own, or what the domain took the last time."""

from datetime import timedelta

import pytest

from senderproxy.delivery.mx.greylisting import DEFAULT, DOMAINS, LONGEST, PENDING, SHORTEST, Greylisting
from senderproxy.delivery.mx.replies import asked_wait, goes_back, is_greylisting, is_of_server
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import reply

PAIR = ("anna@firma.example", "carl@kunde.example")
MINUTE = timedelta(minutes=1)


def test_the_first_wait_is_five_minutes_or_what_the_server_asks_for() -> None:
    known = Greylisting()
    assert known.deferred("kunde.example", PAIR, None, 0.0) == DEFAULT == 5 * MINUTE
    assert known.deferred("kunde.example", PAIR, 2 * MINUTE, 0.0) == 2 * MINUTE
    assert known.deferred("kunde.example", PAIR, timedelta(seconds=5), 0.0) == SHORTEST
    assert known.deferred("kunde.example", PAIR, timedelta(hours=5), 0.0) == LONGEST


def test_the_delay_of_a_domain_is_learned_and_the_shortest_counts() -> None:
    known = Greylisting()
    for number, took in enumerate([400.0, 90.0, 700.0]):
        pair = (f"a{number}", "b")
        known.deferred("kunde.example", pair, None, 1000.0)
        known.accepted("kunde.example", pair, 1000.0 + took)
    assert known.deferred("kunde.example", PAIR, None, 0.0) == timedelta(seconds=90)
    assert known.deferred("other.example", PAIR, None, 0.0) == DEFAULT


def test_a_learned_delay_that_is_too_short_is_forgotten() -> None:
    known = Greylisting()
    known.deferred("kunde.example", ("x", "y"), None, 0.0)
    known.accepted("kunde.example", ("x", "y"), 61.0)
    assert known.deferred("kunde.example", PAIR, None, 100.0) == timedelta(seconds=61)
    assert known.deferred("kunde.example", PAIR, None, 130.0) == timedelta(seconds=61)  # it was asked too early
    assert known.deferred("kunde.example", PAIR, None, 161.0) == DEFAULT


def test_a_message_that_was_not_deferred_teaches_nothing() -> None:
    known = Greylisting()
    known.accepted("kunde.example", PAIR, 50.0)
    assert known.deferred("kunde.example", PAIR, None, 50.0) == DEFAULT


def test_memory_is_bounded() -> None:
    known = Greylisting()
    for number in range(PENDING + 100):
        known.deferred("kunde.example", (f"{number}", "b"), None, 0.0)
    assert len(known._pending) == PENDING
    for number in range(DOMAINS + 100):
        known.deferred(f"{number}.example", PAIR, None, 0.0)
        known.accepted(f"{number}.example", PAIR, 100.0)
    assert len(known._learned) == DOMAINS


def deferred(text: str, status: str = "4.2.0", *, remote: str = "mx1.kunde.example") -> Deferred:
    return Deferred(reply(450, status, text), remote=remote)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("Greylisted, please try again in 300 seconds", 300),
        ("Greylisting in action, retry in 5 minutes", 300),
        ("Greylisted for 2 min.", 120),
        ("Try again after 90 sec", 90),
        ("Greylisted, see http://postgrey.schweikert.ch/help/kunde.example.html", None),
        ("wait for 9999 minutes", None),
        ("in 0 seconds", None),
        ("in " + "9" * 5000 + " seconds", None),
    ],
)
def test_the_wait_that_a_server_asks_for(text: str, wait: int | None) -> None:
    expected = None if wait is None else timedelta(seconds=wait)
    assert asked_wait(deferred(text), LONGEST) == expected


@pytest.mark.parametrize(
    ("outcome", "is_one"),
    [
        (deferred("Greylisted"), True),
        (deferred("gray-listed, come back"), True),
        (deferred("Please try again later", "4.7.1"), True),
        (deferred("Mailbox full", "4.2.2"), False),
        (deferred("Insufficient system storage", "4.3.1"), False),
        (deferred("Greylisted", remote=""), False),  # a reply of ours
        (Deferred(reply(451, "4.7.1", "lost"), maybe_taken=True, remote="x"), False),
        (Failed(reply(550, "5.7.1", "Greylisted"), remote="x"), False),
        (Delivered(reply(250, "2.0.0", "Greylisted")), False),
    ],
)
def test_which_deferrals_are_greylisting(outcome: Outcome, is_one: bool) -> None:
    assert is_greylisting(outcome) is is_one


@pytest.mark.parametrize(
    ("outcome", "is_one"),
    [
        (deferred("Insufficient system storage", "4.3.1"), True),
        (deferred("Timeout", "4.4.2"), True),
        (deferred("Greylisted", "4.3.0"), False),
        (deferred("Later", "4.7.1"), False),
        (deferred("The disk does not respond", "4.3.0", remote=""), False),
        (Deferred(reply(451, "4.3.0", "lost"), maybe_taken=True, remote="x"), False),
        (Failed(reply(550, "5.3.0", "no"), remote="x"), False),
        (Delivered(reply(250, "2.3.0", "ok")), False),
    ],
)
def test_which_deferrals_are_about_the_server(outcome: Outcome, is_one: bool) -> None:
    assert is_of_server(outcome) is is_one


def test_what_may_be_taken_never_goes_back() -> None:
    assert not goes_back(Delivered(reply(250, "2.7.0", "ok")))
    assert not goes_back(Deferred(reply(451, "4.7.1", "blocked"), maybe_taken=True))
