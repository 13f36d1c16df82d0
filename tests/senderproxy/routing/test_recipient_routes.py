"""The first route that matches a recipient decides, whatever the number of routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import AddressPattern, parse_address, parse_pattern
from senderproxy.routing.hops import InternalHop, MxHop, ProviderMxHop, SmarthostHop, lane_of
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.routing.recipient_routes import (
    EVERYONE,
    AccountVia,
    MxVia,
    ProviderMxVia,
    RecipientRoute,
    RecipientRoutes,
    ServerVia,
    hop_of,
)

RELAY = SmarthostHop("relay", Smarthost("relay.example", 25, Security.STARTTLS))
INTERNAL = InternalHop(Smarthost("192.168.1.20", 25, Security.NONE))


def pattern(text: str) -> AddressPattern:
    return EVERYONE if text == "*" else parse_pattern(text)


def routes(*lists: str) -> RecipientRoutes:
    """One route for each list of patterns, which are separated by blanks."""
    return RecipientRoutes(
        tuple(RecipientRoute(tuple(map(pattern, text.split())), AccountVia(str(n))) for n, text in enumerate(lists))
    )


@pytest.mark.parametrize(
    ("lists", "recipient", "found"),
    [
        ((), "a@kunde.example", None),
        (("@kunde.example",), "a@kunde.example", "0"),
        (("@kunde.example",), "a@KUNDE.example", "0"),
        (("@kunde.example",), "a@mail.kunde.example", None),  # a subdomain is another domain
        (("@kunde.example",), "a@kunde.example.org", None),
        (("@münchen.example",), "a@xn--mnchen-3ya.example", "0"),
        (("A@Kunde.example",), "a@kunde.example", "0"),
        (("a@kunde.example",), "a+tag@kunde.example", None),
        (("a@kunde.example",), "b@kunde.example", None),
        (("*",), "a@anywhere.example", "0"),
        (("*",), "a@[192.0.2.1]", "0"),
        (("a@kunde.example", "@kunde.example", "*"), "a@kunde.example", "0"),
        (("a@kunde.example", "@kunde.example", "*"), "b@kunde.example", "1"),
        (("a@kunde.example", "@kunde.example", "*"), "b@elsewhere.example", "2"),
        (("*", "a@kunde.example"), "a@kunde.example", "0"),  # the first, not the closest
        (("@kunde.example", "a@kunde.example"), "a@kunde.example", "0"),
        (("x@x.example @kunde.example", "*"), "b@kunde.example", "0"),
    ],
)
def test_the_first_match_decides(lists: tuple[str, ...], recipient: str, found: str | None) -> None:
    route = routes(*lists).find(parse_address(recipient))
    assert (None if route is None else str(route.via)) == (None if found is None else f"account {found}")


PATTERNS = st.sampled_from(
    ["a@kunde.example", "@kunde.example", "@partner.example", "b@partner.example", "*", "A@KUNDE.example"]
)
RECIPIENTS = st.sampled_from(
    ["a@kunde.example", "b@kunde.example", "b@partner.example", "c@elsewhere.example", "A@kunde.EXAMPLE"]
)


@given(st.lists(st.lists(PATTERNS, min_size=1, max_size=3), max_size=5), RECIPIENTS)
def test_the_index_finds_what_a_search_in_order_finds(lists: list[list[str]], recipient: str) -> None:
    address = parse_address(recipient)
    table = routes(*(" ".join(each) for each in lists))
    expected = next(
        (
            route
            for route in table.routes
            if any(each == EVERYONE or each.matches(address) for each in route.recipients)
        ),
        None,
    )
    assert table.find(address) == expected
    assert bool(table) is bool(lists)


def test_the_server_of_each_way() -> None:
    carl = parse_address("carl@Kunde.example")
    assert hop_of(ServerVia(RELAY), carl, "ionos") is RELAY
    assert hop_of(MxVia(), carl, "ionos") == MxHop("kunde.example")
    assert hop_of(ProviderMxVia(), carl, "ionos") == ProviderMxHop("kunde.example", "ionos")


def test_each_server_has_a_lane_of_its_own() -> None:
    assert lane_of(RELAY) == ("smarthost", "relay")
    assert lane_of(INTERNAL) == ("internal", "192.168.1.20:25")
    assert (
        lane_of(MxHop("kunde.example")) == lane_of(ProviderMxHop("kunde.example", "ionos")) == ("mx", "kunde.example")
    )
    assert [str(each) for each in (RELAY, INTERNAL, MxVia(), ProviderMxVia())] == [
        "smarthost relay",
        "internal 192.168.1.20:25",
        "mx",
        "provider-mx",
    ]


def test_routes_with_the_same_settings_are_equal() -> None:
    assert routes("@kunde.example") == routes("@kunde.example") != routes("*")
