"""The record of a key of our own, and what several looks at it mean."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.own_key import (
    KeyLook,
    KeyRecord,
    look_at_key,
    record_strings,
    record_text,
    words_of_look,
)
from senderproxy.domain_records.own_key_history import LATE, OwnKeyHistory, choose_key
from senderproxy.learned import Instant
from tests.senderproxy.domain_records.keys import KEY, rsa_key

PUBLIC = base64.b64decode(KEY)
NAME, DOMAIN = "sp1._domainkey.firma.example", "firma.example"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RIGHT, GONE = KeyLook(KeyRecord.RIGHT, "v=DKIM1"), KeyLook(KeyRecord.NONE)


def look(*texts: str, name: str = NAME) -> KeyRecord:
    def query(asked: str, kind: str) -> list[str]:
        return list(texts) if (asked, kind) == (name.lower(), "TXT") else []

    return look_at_key(Lookups(query), NAME, DOMAIN, PUBLIC).problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"v=DKIM1; k=rsa; p={KEY}", KeyRecord.RIGHT),
        (f"p={KEY}", KeyRecord.RIGHT),
        (f"v=DKIM1;p={KEY[:100]} {KEY[100:]};t=s;s=email;h=sha256", KeyRecord.RIGHT),
        (f"v=DKIM1; k=rsa; p={rsa_key(2040)}", KeyRecord.OTHER_KEY),
        (f"v=DKIM1; k=rsa; p={KEY[:237]}", KeyRecord.CUT_OFF),
        (f"v=DKIM1; k=rsa; p={KEY[:-4]}", KeyRecord.CUT_OFF),
        ("v=DKIM1; k=rsa; p=", KeyRecord.REVOKED),
        (f"v=DKIM1; k=ed25519; p={KEY}", KeyRecord.INVALID),
        (f"k=rsa; v=DKIM1; p={KEY}", KeyRecord.INVALID),
        (f"v=DKIM1; h=sha1; p={KEY}", KeyRecord.INVALID),
        (f"v=DKIM1; s=other; p={KEY}", KeyRecord.INVALID),
        (f"v=DKIM1; k=rsa p={KEY}", KeyRecord.INVALID),
        (f'"v=DKIM1; k=rsa; p={KEY}"', KeyRecord.QUOTED),
        ("v=spf1 p= -all", KeyRecord.NONE),
    ],
)
def test_a_record(text: str, problem: KeyRecord) -> None:
    assert look(text) is problem


def test_records_at_other_names_and_several_at_one() -> None:
    assert look() is KeyRecord.NONE
    assert look(record_text(PUBLIC), "v=spf1 -all") is KeyRecord.RIGHT
    assert look(record_text(PUBLIC), f"p={KEY}") is KeyRecord.SEVERAL
    assert look(record_text(PUBLIC), name=f"{NAME}.{DOMAIN}") is KeyRecord.DOUBLED_NAME
    assert look("p=abcd", name=f"{NAME}.{DOMAIN}") is KeyRecord.NONE


def test_the_text_of_a_record() -> None:
    assert "".join(record_strings(PUBLIC)) == record_text(PUBLIC)
    assert max(map(len, record_strings(PUBLIC))) <= 255
    for problem in KeyRecord:
        words = words_of_look(KeyLook(problem, "v=DKIM1"), NAME, DOMAIN)
        assert "{" not in words
        assert words[0].islower() or words.startswith(NAME)


def test_a_key_signs_from_the_first_right_look_and_does_not_stop() -> None:
    history = OwnKeyHistory()
    assert history.note(GONE, NOW)
    assert not history.may_sign
    assert not history.note(GONE, NOW + MINUTE)
    assert history.note(RIGHT, NOW + 2 * MINUTE)
    assert (history.may_sign, history.is_right) == (True, True)
    assert history.note(GONE, NOW + HOUR)
    assert (history.may_sign, history.is_right) == (True, True)  # one look may be wrong
    assert history.trouble_since(NOW + HOUR) is None
    assert history.note(KeyLook(KeyRecord.OTHER_KEY, "x"), NOW + 2 * HOUR)
    assert (history.may_sign, history.is_right) == (True, False)
    assert history.trouble_since(NOW + 2 * HOUR) == NOW + HOUR
    assert history.note(RIGHT, NOW + 3 * HOUR)
    assert (history.is_right, history.trouble_since(NOW + 3 * HOUR)) == (True, None)


def test_a_record_that_never_came_is_a_trouble_after_a_day() -> None:
    history = OwnKeyHistory()
    for hours in range(24):
        history.note(GONE, NOW + hours * HOUR)
        assert history.trouble_since(NOW + hours * HOUR) is None
    history.note(GONE, NOW + LATE)
    assert history.trouble_since(NOW + LATE) == NOW


def test_looks_become_rarer() -> None:
    history, intervals = OwnKeyHistory(), []
    for number in range(250):
        intervals.append(history.interval())
        history.note(GONE, NOW + number * MINUTE)
    assert intervals[0] == 60
    assert intervals == sorted(intervals)
    assert set(intervals) == {60, 600, 3600}
    history.note(RIGHT, NOW)
    assert history.interval() == 86400
    history.note(GONE, NOW)
    assert history.interval() == 3600


def test_a_history_survives_a_restart() -> None:
    history = OwnKeyHistory()
    history.note(RIGHT, NOW)
    history.note(KeyLook(KeyRecord.SEVERAL, "a | b"), NOW + HOUR)
    history.note(KeyLook(KeyRecord.SEVERAL, "a | b"), NOW + 2 * HOUR)
    at = Instant(NOW + 2 * HOUR, 100.0)
    assert OwnKeyHistory.read(history.fact(at), at) == history
    empty = OwnKeyHistory.read({**history.fact(at), "problem": None, "right_age": None, "since_age": None}, at)
    assert not empty.may_sign
    for damaged in ({}, {**history.fact(at), "problem": "x"}, {**history.fact(at), "right_age": "x"}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            OwnKeyHistory.read(damaged, at)


class _Key:
    """A key whose record was never right (n), is right (r) or was right (w)."""

    def __init__(self, state: str) -> None:
        self.history = OwnKeyHistory()
        if state in "rw":
            self.history.note(RIGHT, NOW)
        if state == "w":
            self.history.note(GONE, NOW + HOUR)
            self.history.note(GONE, NOW + 2 * HOUR)


@pytest.mark.parametrize(
    ("states", "chosen"),
    [("n", None), ("r", 0), ("w", 0), ("rn", 0), ("rr", 1), ("wr", 1), ("rw", 0), ("ww", 1), ("wn", 0), ("", None)],
)
def test_the_key_that_signs(states: str, chosen: int | None) -> None:
    """The states of the keys, from the oldest to the newest."""
    keys = [_Key(state) for state in states]
    assert choose_key(keys) is (None if chosen is None else keys[chosen])
