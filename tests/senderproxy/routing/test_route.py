"""Choice of the account for a message. The table is the specification."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import parse_address
from senderproxy.mail.author import AuthorFields, UnreadableAuthor
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.route import (
    ORDERED_SOURCES,
    AddressSource,
    CandidateAddress,
    Refusal,
    Route,
    RoutingPolicy,
    candidate_addresses,
    choose_route,
    refuse_unreadable,
    route_by_account,
)
from tests.senderproxy.routing.office import HOSTER, OFFICE, PROVIDERS, authors, path

FROM, PATH, SENDER, RESENT = ORDERED_SOURCES
EXACT, UNTAGGED, DOMAIN, DEFAULT, NAMED = MatchTier
PLAIN = RoutingPolicy()
WITH_DEFAULT = RoutingPolicy(default_account="bert")
ENVELOPE_FIRST = RoutingPolicy(author_order=(PATH, FROM))
FROM_ONLY = RoutingPolicy(author_order=(FROM,))
SENDER_FIRST = RoutingPolicy(author_order=(SENDER, FROM, PATH))

# From | reverse-path | Sender | Resent-From | policy -> account, the matching candidate, its source, tier
CASES = [
    # one candidate, each tier
    ("anna@firma.example", "", "", "", PLAIN, "anna", "anna@firma.example", FROM, EXACT),
    ("ANNA@FIRMA.EXAMPLE", "", "", "", PLAIN, "anna", "ANNA@firma.example", FROM, EXACT),
    ("info@firma.example", "", "", "", PLAIN, "anna", "info@firma.example", FROM, EXACT),
    ("bert@firma.example", "", "", "", PLAIN, "bert", "bert@firma.example", FROM, EXACT),
    ("anna+shop@firma.example", "", "", "", PLAIN, "anna", "anna+shop@firma.example", FROM, UNTAGGED),
    ("Anna+a+b@firma.example", "", "", "", PLAIN, "anna", "Anna+a+b@firma.example", FROM, UNTAGGED),
    ("sales+eu@firma.example", "", "", "", PLAIN, "anna", "sales+eu@firma.example", FROM, EXACT),
    ("sales+us@firma.example", "", "", "", PLAIN, None, None, None, None),
    ("returns@laden.example", "", "", "", PLAIN, "shop", "returns@laden.example", FROM, DOMAIN),
    ("post@laden.example", "", "", "", PLAIN, "shop", "post@laden.example", FROM, EXACT),
    ("post+x@laden.example", "", "", "", PLAIN, "shop", "post+x@laden.example", FROM, UNTAGGED),
    ("x@sub.laden.example", "", "", "", PLAIN, None, None, None, None),
    ("wer@büro.example", "", "", "", PLAIN, "idn", "wer@xn--bro-hoa.example", FROM, DOMAIN),
    ("wer@XN--BRO-HOA.example", "", "", "", PLAIN, "idn", "wer@xn--bro-hoa.example", FROM, DOMAIN),
    ("wer@buero.example", "", "", "", PLAIN, None, None, None, None),
    ("dora@verein.example", "", "", "", PLAIN, "dora", "dora@verein.example", FROM, EXACT),
    # From and reverse-path
    ("anna@firma.example", "bert@firma.example", "", "", PLAIN, "anna", "anna@firma.example", FROM, EXACT),
    ("anna@firma.example", "bert@firma.example", "", "", ENVELOPE_FIRST, "bert", "bert@firma.example", PATH, EXACT),
    ("kunde@fremd.example", "bert@firma.example", "", "", PLAIN, "bert", "bert@firma.example", PATH, EXACT),
    ("anna@firma.example", "x@fremd.example", "", "", PLAIN, "anna", "anna@firma.example", FROM, EXACT),
    ("", "anna@firma.example", "", "", PLAIN, "anna", "anna@firma.example", PATH, EXACT),
    ("", "anna+b@firma.example", "", "", PLAIN, "anna", "anna+b@firma.example", PATH, UNTAGGED),
    # a higher tier for any candidate takes precedence over a lower one for all
    ("x@laden.example", "anna@firma.example", "", "", PLAIN, "anna", "anna@firma.example", PATH, EXACT),
    ("x@laden.example", "anna+t@firma.example", "", "", PLAIN, "anna", "anna+t@firma.example", PATH, UNTAGGED),
    ("anna+t@firma.example", "bert@firma.example", "", "", PLAIN, "bert", "bert@firma.example", PATH, EXACT),
    ("x@laden.example", "y@büro.example", "", "", PLAIN, "shop", "x@laden.example", FROM, DOMAIN),
    ("x@laden.example", "y@büro.example", "", "", ENVELOPE_FIRST, "idn", "y@xn--bro-hoa.example", PATH, DOMAIN),
    ("x@laden.example", "", "", "bert@firma.example", PLAIN, "bert", "bert@firma.example", RESENT, EXACT),
    # the null reverse-path of bounces, receipts and out-of-office replies
    ("bert@firma.example", "", "", "", ENVELOPE_FIRST, "bert", "bert@firma.example", FROM, EXACT),
    ("postmaster@laden.example", "", "", "", PLAIN, "shop", "postmaster@laden.example", FROM, DOMAIN),
    # Sender and Resent-From
    ("kunde@fremd.example", "", "anna@firma.example", "", PLAIN, "anna", "anna@firma.example", SENDER, EXACT),
    ("kunde@fremd.example", "", "anna@firma.example", "", FROM_ONLY, None, None, None, None),
    ("anna@firma.example", "", "bert@firma.example", "", PLAIN, "anna", "anna@firma.example", FROM, EXACT),
    ("anna@firma.example", "", "bert@firma.example", "", SENDER_FIRST, "bert", "bert@firma.example", SENDER, EXACT),
    ("k@fremd.example", "k@fremd.example", "", "anna@firma.example", PLAIN, "anna", "anna@firma.example", RESENT, EXACT),
    ("k@fremd.example", "", "", "a@fremd.example anna@firma.example", PLAIN, "anna", "anna@firma.example", RESENT, EXACT),
    ("k@fremd.example", "bert@firma.example", "anna@firma.example", "", PLAIN, "bert", "bert@firma.example", PATH, EXACT),
    # several mailboxes in From: the first that has an account, else Sender
    ("anna@firma.example bert@firma.example", "", "", "", PLAIN, "anna", "anna@firma.example", FROM, EXACT),
    ("bert@firma.example anna@firma.example", "", "", "", PLAIN, "bert", "bert@firma.example", FROM, EXACT),
    ("k@fremd.example bert@firma.example", "", "", "", PLAIN, "bert", "bert@firma.example", FROM, EXACT),
    ("x@laden.example bert@firma.example", "", "", "", PLAIN, "bert", "bert@firma.example", FROM, EXACT),
    ("k@fremd.example l@fremd.example", "bert@firma.example", "anna@firma.example", "", PLAIN, "anna", "anna@firma.example", SENDER, EXACT),
    ("k@fremd.example l@fremd.example", "bert@firma.example", "", "", PLAIN, "bert", "bert@firma.example", PATH, EXACT),
    ("k@fremd.example l@fremd.example", "", "anna@firma.example", "", FROM_ONLY, None, None, None, None),
    # the default account
    ("kunde@fremd.example", "", "", "", WITH_DEFAULT, "bert", "kunde@fremd.example", FROM, DEFAULT),
    ("kunde@fremd.example", "x@fremd.example", "", "", WITH_DEFAULT, "bert", "kunde@fremd.example", FROM, DEFAULT),
    ("", "x@fremd.example", "", "", WITH_DEFAULT, "bert", "x@fremd.example", PATH, DEFAULT),
    ("x@laden.example", "", "", "", WITH_DEFAULT, "shop", "x@laden.example", FROM, DOMAIN),
    ("anna@firma.example", "", "", "", WITH_DEFAULT, "anna", "anna@firma.example", FROM, EXACT),
    ("kunde@fremd.example", "", "", "", PLAIN, None, None, None, None),
    # no candidate
    ("", "", "", "", PLAIN, None, None, None, None),
    ("", "", "", "", WITH_DEFAULT, None, None, None, None),
    ("", "", "anna@firma.example", "", FROM_ONLY, None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("from_", "reverse", "sender", "resent", "policy", "account", "author", "source", "tier"), CASES
)
def test_the_message_leaves_on_this_account(
    from_: str,
    reverse: str,
    sender: str,
    resent: str,
    policy: RoutingPolicy,
    account: str | None,
    author: str | None,
    source: AddressSource | None,
    tier: MatchTier | None,
) -> None:
    route = choose_route(authors(from_, sender, resent), path(reverse), OFFICE, PROVIDERS, policy)
    if account is None:
        assert isinstance(route, Refusal)
        assert route.reply.code == 550
    else:
        assert isinstance(route, Route)
        assert (route.account.id, str(route.author), route.source, route.tier) == (account, author, source, tier)
        assert route.provider is PROVIDERS[route.account.provider]


def refusal(route: Route | Refusal) -> str:
    assert isinstance(route, Refusal)
    return str(route.reply)


@pytest.mark.parametrize(
    ("author", "hint"),
    [
        ("gast@firma.example", "senderproxy account add gast@firma.example"),
        ("ana@firma.example", "senderproxy account add ana@firma.example (nearest known: anna@firma.example)"),
        ("root@vm.local", "map root@vm.local to an own address under [senders.map] in the configuration"),
        ("root@vm", "map root@vm to an own address under [senders.map] in the configuration"),
        ("root@[192.168.1.7]", "map root@[192.168.1.7] to an own address under [senders.map] in the configuration"),
        ("www@vm.firma.example", "map www@vm.firma.example to an own address under [senders.map] in the configuration"),
        (
            "gast@fremd.example",
            (
                'set foreign_author = "rewrite" and foreign_account under [senders] for redirected mail,'
                " or map gast@fremd.example to an own address under [senders.map] in the configuration"
            ),
        ),
    ],
)
def test_the_hint_fits_the_kind_of_domain(author: str, hint: str) -> None:
    refused = choose_route(authors(author), path(""), OFFICE, PROVIDERS, PLAIN)
    assert isinstance(refused, Refusal)
    assert str(refused.reply) == f"550 5.7.1 No account here may send as {author}."
    assert refused.hint == hint
    assert refused.names_command is ("account add" in hint)
    assert refused.explained.reply.lines == (refused.reply.text, f"To fix: {hint}")
    assert refused.explained.unexplained_hint == ""


def test_without_any_account_the_hint_is_the_first_one() -> None:
    refused = choose_route(authors("anna@firma.example"), path(""), AccountDirectory([]), PROVIDERS, PLAIN)
    assert isinstance(refused, Refusal)
    assert refused.hint == "senderproxy account add anna@firma.example"


def test_a_sender_field_below_a_received_field_counts_only_beside_its_own_domain() -> None:
    def route_for(from_: str, reverse: str) -> Route | Refusal:
        who = replace(authors(from_, "anna@firma.example"), sender_is_recent=False)
        return choose_route(who, path(reverse), OFFICE, PROVIDERS, PLAIN)

    assert isinstance(route_for("k@fremd.example", "k@fremd.example"), Refusal)
    assert isinstance(route_for("k@fremd.example", ""), Refusal)
    for from_, reverse in (("team@firma.example", "k@fremd.example"), ("k@fremd.example", "team@firma.example")):
        route = route_for(from_, reverse)
        assert isinstance(route, Route)
        assert (route.account.id, route.source) == ("anna", SENDER)


def test_a_long_list_of_unknown_senders_is_cut_short() -> None:
    many = " ".join(f"gast{n}@fremd.example" for n in range(6))
    assert "send as gast0@fremd.example or gast1@fremd.example or gast2@fremd.example or 3 more." in refusal(
        choose_route(authors(many), path(""), OFFICE, PROVIDERS, PLAIN)
    )


def test_a_message_that_names_nobody_is_told_so() -> None:
    assert refusal(choose_route(authors(), path(""), OFFICE, PROVIDERS, PLAIN)) == (
        "550 5.6.0 This message names no author: there is no address in any of From, reverse-path, Sender, Resent-From."
    )


def test_an_author_that_can_be_read_in_two_ways_is_refused_with_the_reason() -> None:
    unreadable = UnreadableAuthor("From", "there are 2 of them")
    expected = "550 5.6.0 Cannot read the author from the From field: there are 2 of them"
    assert str(refuse_unreadable(unreadable).reply) == expected
    assert refusal(choose_route(unreadable, path("anna@firma.example"), OFFICE, PROVIDERS, WITH_DEFAULT)) == expected


def test_a_provider_that_is_not_configured_defers_and_names_the_nearest() -> None:
    assert refusal(choose_route(authors("lost@lost.example"), path(""), OFFICE, PROVIDERS, PLAIN)) == (
        "451 4.3.5 Account lost is at provider ionso-de, which the configuration does not know (nearest known: ionos-de)."
    )
    assert refusal(choose_route(authors("lost@lost.example"), path(""), OFFICE, {"hoster": HOSTER}, PLAIN)) == (
        "451 4.3.5 Account lost is at provider ionso-de, which the configuration does not know."
    )


def test_no_other_candidate_stands_in_for_one_whose_provider_is_unknown() -> None:
    route = choose_route(authors("lost@lost.example"), path("anna@firma.example"), OFFICE, PROVIDERS, PLAIN)
    assert refusal(route).startswith("451 4.3.5 Account lost")


def test_a_default_account_that_does_not_exist_defers() -> None:
    policy = RoutingPolicy(default_account="nobody")
    assert refusal(choose_route(authors("gast@fremd.example"), path(""), OFFICE, PROVIDERS, policy)) == (
        "451 4.3.5 The account nobody in routing.default_account does not exist."
    )


def test_each_address_is_a_candidate_once_where_it_stands_first() -> None:
    who = authors("anna@firma.example", "ANNA@firma.example", "bert@firma.example")
    assert list(candidate_addresses(who, path("Anna@Firma.example"), PLAIN)) == [
        CandidateAddress(parse_address("anna@firma.example"), FROM),
        CandidateAddress(parse_address("bert@firma.example"), RESENT),
    ]


_some = st.sampled_from(
    ["", "anna@firma.example", "bert@firma.example", "x@laden.example", "anna+t@firma.example", "k@fremd.example"]
)


@given(_some, _some, _some, _some, st.permutations(ORDERED_SOURCES), st.sampled_from([None, "bert"]))
def test_no_message_ever_leaves_on_an_account_that_none_of_its_addresses_leads_to(
    from_: str, reverse: str, sender: str, resent: str, order: list[AddressSource], default: str | None
) -> None:
    who: AuthorFields = authors(from_, sender, resent)
    policy = RoutingPolicy(tuple(order), default)
    route = choose_route(who, path(reverse), OFFICE, PROVIDERS, policy)
    found = {
        account.id
        for candidate in candidate_addresses(who, path(reverse), policy)
        for tier in (EXACT, UNTAGGED, DOMAIN)
        if (account := OFFICE.find(candidate.address, tier))
    }
    if isinstance(route, Refusal):
        assert not found
    elif route.tier is DEFAULT:
        assert (route.account.id, found) == (default, set())
    else:
        assert OFFICE.find(route.author, route.tier) is route.account
        higher = list(MatchTier)[: list(MatchTier).index(route.tier)]
        assert not any(
            OFFICE.find(candidate.address, tier)
            for candidate in candidate_addresses(who, path(reverse), policy)
            for tier in higher
        )


def test_a_setting_may_name_the_account_whoever_wrote_it() -> None:
    found = route_by_account(
        "bert", "senders.bounce_account", [CandidateAddress(parse_address("x@fremd.example"), FROM)], OFFICE, PROVIDERS
    )
    assert isinstance(found, Route)
    assert (found.account.id, str(found.author), found.tier) == ("bert", "x@fremd.example", NAMED)
    nobody = route_by_account("bert", "senders.bounce_account", [], OFFICE, PROVIDERS)
    assert isinstance(nobody, Route)
    assert nobody.author == nobody.account.address
    lost = route_by_account("nobody", "senders.bounce_account", [], OFFICE, PROVIDERS)
    assert refusal(lost).startswith("451 4.3.5 The account nobody in senders.bounce_account does not exist.")
