"""One account, or one thing of another kind, in one record."""

import json
from dataclasses import replace

import pytest

from senderproxy.accounts.record import (
    GRANT_SCHEMA,
    SCHEMA,
    SRS_KEY,
    Grant,
    RecordError,
    StoredAccount,
    StoredRecord,
    UnknownRecord,
    decode,
    encode,
    upgrade,
)
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
KEY = StoredRecord("srs-key 2026", SRS_KEY, {"key": "geheim-base64", "made": "2026-03-01"})
# An account as the previous versions wrote it.
SCHEMA_1 = (
    b'{"address": "anna@firma.example", "carries": ["anna@firma.example", "@laden.example"], "connections": null,'
    b' "display_name": "Anna M\xc3\xbcller", "login": "anna@firma.example", "messages_per_hour": 100,'
    b' "provider": "ionos-de", "schema": 1, "secret": "geheim-\xc3\xbc\xe2\x82\xac"}'
)


def test_decode_returns_what_encode_wrote() -> None:
    assert decode("anna", encode(STORED)) == STORED
    assert decode(KEY.id, encode(KEY)) == KEY


def test_a_limit_of_recipients_is_a_field_of_its_own_and_other_records_stay_as_they_were() -> None:
    limited = replace(STORED, account=replace(STORED.account, recipients_per_hour=50))
    assert decode("anna", encode(limited)) == limited
    assert json.loads(encode(limited))["recipients_per_hour"] == 50
    assert b"recipients_per_hour" not in encode(STORED)


@pytest.mark.parametrize("rewrites", [True, False])
def test_a_fallback_is_a_field_of_its_own_and_other_records_stay_as_they_were(rewrites: bool) -> None:
    account = replace(STORED.account, fallback="bert", fallback_rewrites=rewrites)
    fields = json.loads(encode(replace(STORED, account=account)))
    assert decode("anna", encode(replace(STORED, account=account))) == replace(STORED, account=account)
    assert (fields["fallback"], fields.get("fallback_rewrites")) == ("bert", True if rewrites else None)
    assert b"fallback" not in encode(STORED)


@pytest.mark.parametrize(("key", "value"), [("fallback", 1), ("fallback", ""), ("fallback_rewrites", "yes")])
def test_a_damaged_fallback_makes_the_record_unusable(key: str, value: object) -> None:
    fields = json.loads(encode(replace(STORED, account=replace(STORED.account, fallback="bert"))))
    with pytest.raises(RecordError, match=key):
        decode("anna", json.dumps(fields | {key: value}).encode())


@pytest.mark.parametrize("secret", ["geheim-refresh", ""])
def test_an_account_with_a_grant_is_of_a_schema_that_earlier_versions_leave_alone(secret: str) -> None:
    granted = replace(STORED, secret=secret, grant=Grant("microsoft", "0a1b"))
    assert decode("anna", encode(granted)) == granted
    assert json.loads(encode(granted))["schema"] == GRANT_SCHEMA
    assert json.loads(encode(STORED))["schema"] == SCHEMA
    assert upgrade("anna", encode(granted)) is None


@pytest.mark.parametrize("grant", [None, "x", {}, {"application": "office"}, {"application": "", "id": "1"}])
def test_a_grant_of_another_form_is_not_usable(grant: object) -> None:
    entry = json.loads(encode(replace(STORED, grant=Grant("microsoft", "0a1b")))) | {"grant": grant}
    with pytest.raises(RecordError, match="is missing"):
        decode("anna", json.dumps(entry).encode())


def test_the_secret_has_no_repr() -> None:
    assert "geheim" not in repr(STORED) + repr(KEY)


def test_a_record_of_the_previous_schema_is_read_and_written_in_the_current_one() -> None:
    assert decode("anna", SCHEMA_1) == STORED
    assert upgrade("anna", SCHEMA_1) == encode(STORED)
    assert upgrade("anna", encode(STORED)) is None
    assert json.loads(encode(STORED))["kind"] == "account"


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"[]",
        b'{"schema": 1}',
        b'{"schema": 1, "kind": "dkim-key"}',  # schema 1 had accounts only
        b'{"schema": 3, "kind": "account"}',
        b'{"schema": 2, "kind": "later"}',
    ],
)
def test_a_record_that_cannot_be_used_is_not_rewritten(record: bytes) -> None:
    assert upgrade("x", record) is None


@pytest.mark.parametrize("schema", [2, 3])
def test_a_record_of_a_kind_that_this_version_does_not_know_is_named_and_no_error(schema: int) -> None:
    found = decode("sign here", json.dumps({"schema": schema, "kind": "later", "key": ["geheim-1"]}).encode())
    assert found == UnknownRecord("sign here", "later")
    assert found.describe() == "sign here is a record of a kind that this version does not know: later."


@pytest.mark.parametrize("kind", ["", 7, None, "a\x1b[2Jb"])
def test_an_invalid_kind_is_an_error(kind: object) -> None:
    with pytest.raises(RecordError, match="`kind`"):
        decode("x", json.dumps({"schema": 2, "kind": kind}).encode())


def test_a_damaged_record_of_another_kind_is_an_error_without_its_secret() -> None:
    with pytest.raises(RecordError) as caught:
        decode(KEY.id, json.dumps(json.loads(encode(KEY)) | {"made": 5}).encode())
    assert "The record srs-key 2026 cannot be used" in caught.value.message
    assert "geheim" not in str(caught.value) + caught.value.hint


def test_a_record_of_a_newer_schema_of_another_kind_is_refused() -> None:
    later = json.dumps(json.loads(encode(KEY)) | {"schema": SCHEMA + 1}).encode()
    with pytest.raises(RecordError, match="The record srs-key 2026 was written by a newer version"):
        decode(KEY.id, later)


def test_a_record_of_a_newer_version_is_refused() -> None:
    later = json.dumps(json.loads(encode(STORED)) | {"schema": GRANT_SCHEMA + 1}).encode()
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
