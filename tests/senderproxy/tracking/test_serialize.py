"""Records and events survive being plain values."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import Address, parse_address
from senderproxy.mail.reply import EnhancedStatus, Reply, reply
from senderproxy.tracking.record import Blocked, Event, EventKind, MessageRecord, Query, RecipientState, RecipientStatus
from senderproxy.tracking.serialize import (
    event_entry,
    query_entry,
    read_event,
    read_query,
    read_record,
    record_entry,
)

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
_moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
_text = st.text(max_size=30)
_replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.none() | st.builds(EnhancedStatus, st.integers(2, 5), st.integers(0, 999), st.integers(0, 999)),
    st.lists(_text, min_size=1, max_size=5).map(tuple),
)
_states = st.builds(
    RecipientState,
    status=st.sampled_from(RecipientStatus),
    due_in=st.none() | st.timedeltas(-timedelta(days=900), timedelta(days=900)),
    tries=st.integers(0, 100),
    reply=st.none() | _replies,
    why=_text,
    delay_reported=st.booleans(),
)
_addresses = st.sampled_from([parse_address(text) for text in ("a@x.example", '"b ; c"@y.example', "d@[192.0.2.1]")])
_records = st.builds(
    MessageRecord,
    id=_text,
    received_at=_moments,
    client=_text,
    listener=_text,
    reverse_path=_text,
    author=_text,
    account=_text,
    size=st.integers(0, 10**9),
    message_id=_text,
    report_on=st.none() | _text,
    recipients=st.dictionaries(_addresses, _states, max_size=3),
    as_of=_moments,
    leased=st.booleans(),
    blocked=st.none() | st.builds(Blocked, why=_text, until=st.none() | _moments),
    subject=_text,
)
_events = st.builds(
    Event,
    at=_moments,
    kind=st.sampled_from(EventKind),
    recipients=st.lists(_text, max_size=3).map(tuple),
    facts=st.dictionaries(_text, _text, max_size=3),
)


@given(_records)
def test_a_record_is_the_same_again(record: MessageRecord) -> None:
    assert read_record(json.loads(json.dumps(record_entry(record)))) == record


@given(_events)
def test_an_event_is_the_same_again(event: Event) -> None:
    assert read_event(json.loads(json.dumps(event_entry(event)))) == event


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(
            "Abc", "anna", "a@x.example", "@y.example", "0Lx", RecipientStatus.HELD, True, NOW - timedelta(days=1), NOW
        ),
        Query(unfinished=True),
        Query(subject="Angebot 4711"),
    ],
)
def test_a_question_is_the_same_again_and_says_only_what_is_asked(query: Query) -> None:
    entry = query_entry(query)
    assert None not in entry.values()
    assert read_query(json.loads(json.dumps(entry))) == query


def test_of_a_very_long_answer_the_end_is_kept_for_it_tells_the_cause() -> None:
    long = reply(550, None, *[f"line {number} " + "x" * 3000 for number in range(100)])
    state = RecipientState(RecipientStatus.FAILED, None, 1, long)
    record = MessageRecord("A", NOW, "", "", "", "", "", 1, "", None, {parse_address("a@x.example"): state}, NOW)
    kept = read_record(record_entry(record)).recipients[parse_address("a@x.example")].reply
    assert kept is not None
    assert len(kept.lines) == 5
    assert kept.text.startswith("line 99 ")
    assert len(json.dumps(record_entry(record))) < 3000
    said = Event(NOW, EventKind.ATTEMPTED, (), {"reply": str(long)})
    assert len(json.dumps(event_entry(said))) < 3000


def test_what_a_damaged_disk_made_of_an_address_is_shown_as_it_is() -> None:
    record = MessageRecord(
        "A", NOW, "", "", "", "", "", 1, "", None, {Address("ab", "x..y"): RecipientState(RecipientStatus.HELD)}, NOW
    )
    (address,) = read_record(record_entry(record)).recipients
    assert str(address) == "ab@x..y"
