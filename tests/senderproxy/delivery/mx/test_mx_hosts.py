"""The servers of a domain: order, limits, this machine, and the outcome where there are none."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery.mx.hosts import (
    ADDRESSES,
    EXCHANGERS,
    HOSTS,
    KEPT,
    DomainServers,
    MailHost,
    Ourselves,
    choose,
    exchangers_of,
    is_host_name,
    literal_servers,
    looked_up,
)
from senderproxy.dns_client.answers import Exchanger, ExchangerAnswer
from senderproxy.mail.outcome import Deferred, Failed

DOMAIN = "kunde.example"
ANYWHERE = Ourselves(public_only=False)
US = Ourselves(frozenset({"mail.firma.example"}), frozenset({ip_address("192.0.2.7")}), public_only=False)


def answer(*exchangers: tuple[int, str], exists: bool = True) -> ExchangerAnswer:
    return ExchangerAnswer(tuple(Exchanger(*one) for one in exchangers), exists, 300.0)


def servers(addresses: Mapping[str, tuple[str, ...]], *exchangers: tuple[int, str]) -> DomainServers:
    return DomainServers(tuple(Exchanger(*one) for one in exchangers), addresses)


def half() -> float:
    return 0.5


def names(chosen: object) -> list[str]:
    assert isinstance(chosen, tuple), chosen
    return [host.name for host in chosen]


# ---- what the MX records say ----


@pytest.mark.parametrize(
    ("found", "code", "status"),
    [
        (answer(exists=False), 550, "5.1.2"),
        (answer((0, ".")), 556, "5.1.10"),
        (answer((10, ".")), 556, "5.1.10"),
        (answer((10, "192.0.2.1")), 550, "5.4.4"),
        (answer((10, "a\r\nb.example"), (20, "-")), 550, "5.4.4"),
    ],
)
def test_a_definite_answer_without_a_server_is_final(found: ExchangerAnswer, code: int, status: str) -> None:
    outcome = exchangers_of(DOMAIN, found)
    assert isinstance(outcome, Failed)
    assert (outcome.reply.code, str(outcome.reply.status)) == (code, status)
    assert outcome.reply.render().count(b"\r\n") == 1


def test_a_domain_without_mx_is_its_own_server() -> None:
    found = exchangers_of(DOMAIN, answer())
    assert found == DomainServers((Exchanger(0, DOMAIN),), implicit=True)


def test_a_null_mx_beside_others_and_names_that_are_none_are_left_out() -> None:
    found = exchangers_of(DOMAIN, answer((0, "."), (5, "not a name"), (20, "b.example"), (10, "a_1.example")))
    assert isinstance(found, DomainServers)
    assert [one.host for one in found.exchangers] == ["a_1.example", "b.example"]


def test_a_flood_of_servers_and_addresses_is_cut_off() -> None:
    found = exchangers_of(DOMAIN, answer(*((number, f"mx{number}.example") for number in range(5000))))
    assert isinstance(found, DomainServers)
    assert len(found.exchangers) == KEPT
    assert looked_up(found.exchangers) == tuple(f"mx{number}.example" for number in range(EXCHANGERS))
    many = {host: tuple(f"203.0.113.{n}" for n in range(50)) for host in looked_up(found.exchangers)}
    chosen = choose(DOMAIN, DomainServers(found.exchangers, many), ANYWHERE, half)
    assert isinstance(chosen, tuple)
    assert len(chosen) == HOSTS
    assert {len(host.addresses) for host in chosen} == {ADDRESSES}


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("mx00.ionos.de", True),
        ("a_b.example", True),
        ("localhost", True),
        ("", False),
        ("a..b", False),
        ("-a.example", False),
        ("a" * 64, False),
        (".".join(["a" * 60] * 5), False),
        ("192.0.2.1", False),
        ("a b.example", False),
        ("ä.example", False),
        ("a.example\n", False),
    ],
)
def test_names_of_servers(name: str, good: bool) -> None:
    assert is_host_name(name) is good


@pytest.mark.parametrize(
    ("domain", "address"), [("[192.0.2.9]", "192.0.2.9"), ("[IPv6:2001:db8::9]", "2001:db8::9"), ("a.example", None)]
)
def test_an_address_literal_is_its_own_server(domain: str, address: str | None) -> None:
    found = literal_servers(domain)
    assert (found and found.addresses) == (address and {address: (address,)})


# ---- the choice ----

A, B, C = {"a.example": ("203.0.113.1",)}, {"b.example": ("203.0.113.2",)}, {"c.example": ("203.0.113.3",)}


def test_the_preferred_servers_come_first_and_equal_ones_in_a_random_order() -> None:
    known = servers(A | B | C, (20, "a.example"), (10, "b.example"), (10, "c.example"))

    def order(*chances: float) -> list[str]:
        left: Iterator[float] = iter(chances)
        return names(choose(DOMAIN, known, ANYWHERE, lambda: next(left)))

    assert order(0.0, 0.1, 0.9) == ["b.example", "c.example", "a.example"]
    assert order(0.0, 0.9, 0.1) == ["c.example", "b.example", "a.example"]


@pytest.mark.parametrize(
    ("ours", "left"),
    [
        ((5, "mail.firma.example"), None),
        ((10, "mail.firma.example"), None),  # as much as the preferred one
        ((20, "mail.firma.example"), ["a.example"]),
        ((30, "mail.firma.example"), ["a.example", "b.example"]),
        ((20, "alias.example"), ["a.example"]),  # another name of our address
        ((40, "strange.example"), ["a.example", "b.example", "c.example"]),
    ],
)
def test_this_machine_and_all_that_are_not_preferred_to_it_are_left_out(
    ours: tuple[int, str], left: list[str] | None
) -> None:
    known = servers(
        A | B | C | {"mail.firma.example": ("198.51.100.1",), "alias.example": ("203.0.113.99", "::ffff:192.0.2.7")},
        (10, "a.example"),
        (20, "b.example"),
        (30, "c.example"),
        ours,
    )
    chosen = choose(DOMAIN, known, US, half)
    if left is None:
        assert isinstance(chosen, Failed)
        assert str(chosen.reply.status) == "5.4.6"
    else:
        assert names(chosen) == left


def test_our_name_counts_although_its_address_cannot_be_looked_up() -> None:
    known = servers(B, (10, "mail.firma.example"), (20, "b.example"))
    assert isinstance(choose(DOMAIN, known, US, half), Failed)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.20", "169.254.1.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "fd00::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::"],
)  # fmt: skip
def test_a_strangers_domain_does_not_lead_into_the_internal_network(address: str) -> None:
    known = servers({"a.example": (address,), "b.example": ("8.8.8.8",)}, (10, "a.example"), (20, "b.example"))
    assert names(choose(DOMAIN, known, Ourselves(), half)) == ["b.example"]
    alone = choose(DOMAIN, servers({"a.example": (address,)}, (10, "a.example")), Ourselves(), half)
    assert isinstance(alone, Failed)
    assert str(alone.reply.status) == "5.4.4"


def test_only_addresses_of_the_versions_that_spf_names_are_used() -> None:
    known = servers({"a.example": ("2001:db8::1", "203.0.113.1", "2001:db8::2")}, (10, "a.example"))
    both = choose(DOMAIN, known, ANYWHERE, half)
    assert both == (MailHost("a.example", ("203.0.113.1", "2001:db8::1", "2001:db8::2")),)
    four = choose(DOMAIN, known, Ourselves(versions=frozenset({4}), public_only=False), half)
    assert four == (MailHost("a.example", ("203.0.113.1",)),)


@pytest.mark.parametrize(
    ("addresses", "implicit", "kind", "status"),
    [
        ({}, False, Deferred, "4.4.3"),
        ({"a.example": ()}, False, Deferred, "4.4.3"),  # the second one failed
        ({"a.example": (), "b.example": ()}, False, Failed, "5.4.4"),
        ({"a.example": (), "b.example": ()}, True, Failed, "5.1.2"),
    ],
)
def test_a_failed_look_up_is_never_final(
    addresses: Mapping[str, tuple[str, ...]], implicit: bool, kind: type, status: str
) -> None:
    known = DomainServers((Exchanger(1, "a.example"), Exchanger(2, "b.example")), addresses, implicit)
    outcome = choose(DOMAIN, known, ANYWHERE, half)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, tuple)
    assert str(outcome.reply.status) == status


# ---- properties ----

HOST_NAMES = st.sampled_from([f"mx{number}.example" for number in range(8)] + ["mail.firma.example", "."])
EXCHANGER_LISTS = st.lists(st.tuples(st.integers(0, 5), HOST_NAMES), max_size=14)
ADDRESS_TEXTS = st.sampled_from(
    ["192.0.2.7", "203.0.113.1", "203.0.113.2", "10.0.0.1", "127.0.0.1", "8.8.8.8", "2001:4860::1", "::1", "fd00::2"]
)
ADDRESS_MAPS = st.dictionaries(HOST_NAMES, st.lists(ADDRESS_TEXTS, max_size=9).map(tuple))


@given(EXCHANGER_LISTS, ADDRESS_MAPS, st.randoms(use_true_random=False), st.booleans())
def test_no_choice_breaks_the_rules(found, addresses, random, public_only) -> None:
    ourselves = Ourselves(US.names, US.addresses, frozenset({4, 6}), public_only)
    known = exchangers_of(DOMAIN, answer(*found))
    if not isinstance(known, DomainServers):
        assert found
        return
    known = DomainServers(known.exchangers, addresses, known.implicit)
    chosen = choose(DOMAIN, known, ourselves, random.random)
    if not isinstance(chosen, tuple):
        return
    assert 0 < len(chosen) <= HOSTS
    assert len({host.name for host in chosen}) == len(chosen)
    preference = {name: min(p for p, other in found if other == name) for _, name in found} or {DOMAIN: 0}
    order = [preference[host.name] for host in chosen]
    assert order == sorted(order)
    ours = [
        p for p, name in found
        if name in ourselves.names or "192.0.2.7" in addresses.get(name, ())
    ]  # fmt: skip
    assert not ours or max(order) < min(ours)
    for host in chosen:
        assert set(host.addresses) <= set(addresses[host.name])
        assert not public_only or all(ip_address(one).is_global for one in host.addresses)
