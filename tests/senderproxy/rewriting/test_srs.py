"""Signed addresses: the forms of the Sender Rewriting Scheme, forgery, expiry and lifetime."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import Address, parse_address
from senderproxy.rewriting.srs import (
    LIFETIME,
    InvalidSrs,
    SigningKeys,
    is_own_sub_address,
    is_srs,
    make_srs,
    make_sub_address,
    undo_srs,
)

KEYS = SigningKeys((b"k" * 32,))
OTHER = SigningKeys((b"o" * 32,))
NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)
ALICE = parse_address("alice@fremd.example")
OWN = "firma.example"


def _made(address: Address, keys: SigningKeys = KEYS, now: datetime = NOW, domain: str = OWN) -> Address:
    made = make_srs(address, domain, keys, now)
    assert made is not None
    return made


def test_the_first_redirect_names_hash_day_domain_and_local_part() -> None:
    made = _made(ALICE)
    assert made.domain == OWN
    name, signature, stamp, domain, local_part = made.local_part.split("=")
    assert (name, len(signature), len(stamp), domain, local_part) == ("SRS0", 6, 2, "fremd.example", "alice")
    assert is_srs(made)
    assert parse_address(str(made)) == made
    assert undo_srs(made, KEYS, NOW) == ALICE


@pytest.mark.parametrize(
    "text",
    [
        "alice@fremd.example",
        "alice+tag=x@fremd.example",
        "a=b=c@fremd.example",
        '"alice x"@fremd.example',
        "Alice@xn--bro-hoa.example",
        "bounce-7-x=y.example@listen.example",
        "prvs=1234567890=alice@fremd.example",
        "x@[192.0.2.7]",
        "-@a.example",
        "srs@a.example",
        "SRS2=x@a.example",
        "SRS0@a.example",
    ],
)
def test_any_address_is_undone_to_itself(text: str) -> None:
    address = parse_address(text)
    assert not is_srs(address)
    assert undo_srs(_made(address), KEYS, NOW) == address
    assert undo_srs(parse_address(str(_made(address)).lower()), KEYS, NOW).__str__().lower() == text.lower()


@pytest.mark.parametrize("separator", ["=", "+", "-"])
def test_an_srs_address_of_another_host_becomes_srs1_and_the_bounce_goes_back_to_that_host(separator: str) -> None:
    first = Address(f"SRS0{separator}opaque=AB=quelle.example=alice", "erste.example")
    second = _made(first)
    assert second.local_part.startswith("SRS1=")
    assert second.local_part.endswith(f"=erste.example={separator}opaque=AB=quelle.example=alice")
    assert undo_srs(second, KEYS, NOW) == first
    third = _made(second, OTHER, domain="dritte.example")
    assert third.local_part.split("=", 2)[2] == second.local_part.split("=", 2)[2], "the first host stays"
    assert undo_srs(third, OTHER, NOW) == first


def test_an_address_of_another_key_or_a_changed_one_is_forged() -> None:
    for made in (_made(ALICE), _made(_made(ALICE, domain="erste.example"))):
        assert undo_srs(made, OTHER, NOW) is InvalidSrs.FORGED
        for place in range(5, len(made.local_part)):
            for character in "xyA7=":
                changed = made.local_part[:place] + character + made.local_part[place + 1 :]
                if changed.lower() != made.local_part.lower():
                    assert isinstance(undo_srs(Address(changed, OWN), KEYS, NOW), InvalidSrs), changed


@pytest.mark.parametrize(
    "local_part",
    [
        "SRS0=",
        "SRS0=x",
        "SRS0=a=b=c",
        "SRS1=a=b",
        "SRS0==",
        "SRS1====",
        "SRS0=\u00e4=AA=x.example=y",
        "alice",
        "SRS3=a=b=c=d",
    ],
)
def test_a_malformed_or_forged_address_is_not_undone(local_part: str) -> None:
    assert isinstance(undo_srs(Address(local_part, OWN), KEYS, NOW), InvalidSrs)


def test_an_address_expires_after_its_lifetime_and_not_before() -> None:
    made = _made(ALICE)
    for days, result in ((0, ALICE), (-1, ALICE), (LIFETIME.days, ALICE), (LIFETIME.days + 1, InvalidSrs.EXPIRED)):
        assert undo_srs(made, KEYS, NOW + timedelta(days=days)) == result
    for days in (-2, 200, 1000):
        assert undo_srs(made, KEYS, NOW + timedelta(days=days)) is InvalidSrs.EXPIRED


def test_the_previous_key_verifies_and_the_newest_signs() -> None:
    both = SigningKeys((b"n" * 32, b"k" * 32))
    assert undo_srs(_made(ALICE), both, NOW) == ALICE
    assert undo_srs(_made(ALICE, both), KEYS, NOW) is InvalidSrs.FORGED


def test_an_address_that_would_be_too_long_is_not_made() -> None:
    assert make_srs(Address("a" * 40, "fremd.example"), OWN, KEYS, NOW) is None
    assert make_srs(Address("SRS1=a=b", "erste.example"), OWN, KEYS, NOW) is None
    assert make_sub_address(Address("a" * 60, OWN), KEYS, NOW) is None


def test_keys_are_not_shown() -> None:
    assert "kkk" not in repr(KEYS)


@given(st.text(max_size=80), st.text(max_size=30))
def test_no_text_is_undone_by_accident(local_part: str, domain: str) -> None:
    for name in ("SRS0=", "SRS1=", ""):
        assert isinstance(undo_srs(Address(name + local_part, domain), KEYS, NOW), InvalidSrs)
        assert not is_own_sub_address(Address(local_part + "+auto-" + domain, domain), KEYS, NOW)


def test_a_sub_address_is_recognised_within_its_lifetime() -> None:
    anna = parse_address("anna@firma.example")
    made = make_sub_address(anna, KEYS, NOW)
    assert made is not None
    assert made.without_tag == anna
    assert parse_address(str(made)) == made
    assert is_own_sub_address(made, KEYS, NOW)
    assert is_own_sub_address(parse_address(str(made).lower()), KEYS, NOW)
    assert not is_own_sub_address(made, KEYS, NOW + LIFETIME + timedelta(days=1))
    assert not is_own_sub_address(made, OTHER, NOW)
    assert not is_own_sub_address(Address(made.local_part.replace("anna", "bert"), OWN), KEYS, NOW)
    assert not is_own_sub_address(anna, KEYS, NOW)
