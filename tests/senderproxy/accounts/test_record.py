"""One account in one record."""

import json

import pytest

from senderproxy.accounts.record import SCHEMA, RecordError, StoredAccount, decode, encode
from senderproxy.mail.address import parse_address, parse_pattern
from senderproxy.routing.account import Account

STORED = StoredAccount(
    Account(
        "anna",
        "anna@firma.example",
        "ionos-de",
        parse_address("anna@firma.example"),
        (parse_pattern("anna@firma.example"), parse_pattern("@laden.example")),
        "Anna Müller",
        messages_per_hour=100,
    ),
    "geheim-ü€",
)


def test_decode_returns_what_encode_wrote() -> None:
    assert decode("anna", encode(STORED)) == STORED


def test_the_secret_has_no_repr() -> None:
    assert "geheim" not in repr(STORED)


def test_a_record_of_a_newer_version_is_refused() -> None:
    later = json.dumps(json.loads(encode(STORED)) | {"schema": SCHEMA + 1}).encode()
    with pytest.raises(RecordError, match="newer version"):
        decode("anna", later)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"login": ""}, "`login` is missing"),
        ({"secret": None}, "`secret` is missing"),
        ({"address": "anna"}, "anna has no @"),
        ({"carries": "anna"}, "`carries`"),
        ({"carries": ["@"]}, "domain"),
        ({"messages_per_hour": 0}, "`messages_per_hour`"),
        ({"connections": True}, "`connections`"),
        ({"schema": "1"}, "unknown format"),
    ],
)
def test_a_damaged_record_is_refused_without_the_secret_in_the_error(change: dict[str, object], words: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode("anna", json.dumps(json.loads(encode(STORED)) | change).encode())
    assert words in caught.value.message
    assert "geheim" not in str(caught.value) + caught.value.hint


def test_invalid_data_is_refused_without_a_quotation() -> None:
    with pytest.raises(RecordError) as caught:
        decode("anna", b"geheim-junk {")
    assert caught.value.__cause__ is None
    assert "geheim" not in str(caught.value)
