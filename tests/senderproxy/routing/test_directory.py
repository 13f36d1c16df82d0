"""Accounts by address, and similar addresses of an unknown one."""

import time

import pytest

from senderproxy.mail.address import parse_address
from senderproxy.routing.directory import AccountDirectory, DirectoryError, MatchTier
from tests.senderproxy.routing.office import ANNA, BERT, IDN, OFFICE, SHOP, account


@pytest.mark.parametrize(
    ("address", "tier", "found"),
    [
        ("anna@firma.example", MatchTier.EXACT, ANNA),
        ("ANNA@Firma.Example", MatchTier.EXACT, ANNA),
        ("bert@firma.example", MatchTier.EXACT, BERT),
        ('"anna"@firma.example', MatchTier.EXACT, ANNA),
        ("info@firma.example", MatchTier.EXACT, ANNA),
        ("sales+eu@firma.example", MatchTier.EXACT, ANNA),
        ("sales@firma.example", MatchTier.EXACT, None),
        ("anna+x@firma.example", MatchTier.EXACT, None),
        ("anna+x@firma.example", MatchTier.UNTAGGED, ANNA),
        ("Anna+X+Y@firma.example", MatchTier.UNTAGGED, ANNA),
        ("anna@firma.example", MatchTier.UNTAGGED, None),
        ("+x@firma.example", MatchTier.UNTAGGED, None),
        ("whoever@laden.example", MatchTier.DOMAIN, SHOP),
        ("whoever@LADEN.example", MatchTier.DOMAIN, SHOP),
        ("whoever@sub.laden.example", MatchTier.DOMAIN, None),
        ("whoever@firma.example", MatchTier.DOMAIN, None),
        ("whoever@xn--bro-hoa.example", MatchTier.DOMAIN, IDN),
        ("whoever@büro.example", MatchTier.DOMAIN, IDN),
        ("whoever@laden.example", MatchTier.DEFAULT, None),
    ],
)
def test_an_address_is_found_in_its_tier(address: str, tier: MatchTier, found: object) -> None:
    assert OFFICE.find(parse_address(address), tier) is found


def test_every_tier_has_words_for_people() -> None:
    assert [tier.description for tier in MatchTier] == [
        "the address itself",
        "the address without its +tag",
        "the whole domain",
        "the default account",
        "the account configured for such mail",
    ]


def test_accounts_are_found_by_what_people_call_them() -> None:
    assert OFFICE.by_id("anna") is ANNA
    assert OFFICE.by_id("Anna") is None
    assert OFFICE.accounts[0] is ANNA


def test_its_own_address_is_carried_even_when_it_is_not_listed() -> None:
    bare = account("carl", "carl@firma.example")
    unlisted = type(bare)(bare.id, bare.login, bare.provider, bare.address, ())
    assert AccountDirectory([unlisted]).find(bare.address, MatchTier.EXACT) is unlisted


def test_two_accounts_for_one_address_are_refused_by_both_names() -> None:
    with pytest.raises(DirectoryError) as refused:
        AccountDirectory([account("anna", "anna@x.example"), account("bert", "bert@x.example", "ANNA@x.example", "@y.example"),
                          account("carl", "carl@x.example", "@Y.example")])  # fmt: skip
    assert refused.value.message == (
        "Accounts anna and bert both have ANNA@x.example. Accounts bert and carl both have @y.example."
    )
    assert refused.value.hint == "Remove it from one of them: senderproxy account edit bert --not ANNA@x.example"


def test_two_accounts_of_one_name_are_refused() -> None:
    with pytest.raises(DirectoryError, match=r"Two accounts are called anna\."):
        AccountDirectory([account("anna", "anna@x.example"), account("anna", "bert@x.example")])


def test_the_same_pattern_twice_in_one_account_is_no_contradiction() -> None:
    AccountDirectory([account("anna", "anna@x.example", "Anna@x.example", "@x.example", "*@x.example")])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ana@firma.example", "anna@firma.example"),
        ("anna@frima.example", "anna@firma.example"),
        ("bert@firma.exmaple", "bert@firma.example"),
        ("shop@ladne.example", "@laden.example"),
    ],
)
def test_a_slip_of_the_finger_is_recognised(typed: str, meant: str) -> None:
    assert meant in OFFICE.similar_entries(parse_address(typed))


def test_nothing_is_near_to_somebody_else() -> None:
    assert OFFICE.similar_entries(parse_address("president@government.example.org")) == []
    assert len(OFFICE.similar_entries(parse_address("anna@firma.exampel"), 1)) == 1


def test_ten_thousand_accounts_are_no_burden() -> None:
    many = [account(f"a{n}", f"user{n}@firma{n % 100}.example") for n in range(10_000)]
    directory = AccountDirectory(many)
    wanted = parse_address("user9999@firma99.example")
    began = time.process_time()
    for _ in range(1000):
        assert directory.find(wanted, MatchTier.EXACT) is many[-1]
    looked_up = time.process_time()
    assert directory.similar_entries(parse_address("usr5@firma5.example"))
    assert looked_up - began < 0.5
    assert time.process_time() - looked_up < 0.5
