"""The ways of recipients in the decision: the author and the client decide first, and each way has its own changes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import Footer, FooterTable
from senderproxy.mail.address import NULL_PATH, Address, parse_address, parse_pattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.relay.ways import AccountWay, HopWay, NoWay
from senderproxy.rewriting.plan import Discard, apply_edits
from senderproxy.rewriting.srs import SigningKeys, make_srs
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.hops import InternalHop, SmarthostHop
from senderproxy.routing.provider import NullPolicy, Provider, Security, SenderRule, Smarthost
from senderproxy.routing.recipient_routes import (
    EVERYONE,
    AccountVia,
    MxVia,
    ProviderMxVia,
    RecipientRoute,
    RecipientRoutes,
    ServerVia,
    Via,
)
from senderproxy.routing.route import Refusal, RoutingPolicy

KUNDE, CHEF, FRIEND = map(parse_address, ("kunde@kunde.example", "chef@kunde.example", "freund@elsewhere.example"))
RELAY = ServerVia(SmarthostHop("relay", Smarthost("relay.example", 25, Security.STARTTLS)))
INTERNAL = ServerVia(InternalHop(Smarthost("192.168.1.20", 25, Security.NONE)))
NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)
KEYS = SigningKeys((b"k" * 32,))


def account(name: str, *carries: str, provider: str = "strict") -> Account:
    address = f"{name}@firma.example"
    return Account(name, address, provider, parse_address(address), tuple(map(parse_pattern, (address, *carries))))


DIRECTORY = AccountDirectory(
    [account("anna", "@zweig.example"), account("bert"), account("open", provider="any"), account("gone", provider="?")]
)
PROVIDERS = {
    "strict": Provider("strict", (), sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS),
    "any": Provider("any", (), sender_rule=SenderRule.ANY, from_rule=SenderRule.ANY, takes_null_reverse_path=True),
}
FOREIGN = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE, foreign_account="anna")
RULES = Rules("proxy.firma.example", PROVIDERS, RoutingPolicy())


def routes(*entries: tuple[str, Via]) -> RecipientRoutes:
    patterns = [(EVERYONE if text == "*" else parse_pattern(text), via) for text, via in entries]
    return RecipientRoutes(
        tuple(RecipientRoute((pattern,), via, f"routes[{n}]") for n, (pattern, via) in enumerate(patterns))
    )


def decided(
    *entries: tuple[str, Via],
    by: str = "anna@firma.example",
    path: str | None = None,
    recipients: tuple[Address, ...] = (KUNDE, CHEF, FRIEND),
    rules: Rules = RULES,
    senders: tuple[str, ...] | None = None,
    **facts: Any,
) -> Decision | Refusal | Discard:
    allowed = None if senders is None else tuple(map(parse_pattern, senders))
    client = Client("192.168.1.9", "pc", "ESMTP", senders=allowed)
    path = by if path is None else path
    envelope = Envelope(parse_address(path) if path else NULL_PATH, recipients)
    header = HeaderSection(
        f"From: Name <{by}>\r\nTo: <kunde@kunde.example>\r\nDate: Sun, 29 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n".encode()
    )
    message = MessageFacts(header, envelope, client, "id", NOW, **facts)
    return decide(message, DIRECTORY, replace(rules, recipient_routes=routes(*entries)))


def ways(*entries: tuple[str, Via], **more: Any) -> dict[str, str]:
    decision = decided(*entries, **more)
    assert isinstance(decision, Decision), decision
    return {} if decision.ways is None else {str(path): str(way) for path, way in decision.ways.items()}


def sent(decision: Decision | Refusal | Discard, path: Address) -> tuple[str, str]:
    """The reverse-path and the From field of the message for a recipient."""
    assert isinstance(decision, Decision), decision
    way = decision.way_of(path)
    plan = decision.plan if way is None else None if isinstance(way, NoWay) else way.plan
    assert plan is not None, way
    header = HeaderSection(
        f"From: Name <{AUTHOR}>\r\nTo: <kunde@kunde.example>\r\nDate: Sun, 29 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n".encode()
    )
    (author,) = apply_edits(plan, header).values("From")
    return str(plan.envelope.reverse_path), author.decode().strip()


AUTHOR = "anna@firma.example"


def test_without_a_matching_route_there_are_no_ways() -> None:
    assert ways() == {}
    assert ways(("@other.example", RELAY)) == {}


def test_each_recipient_has_the_way_of_its_first_route() -> None:
    found = ways(("chef@kunde.example", INTERNAL), ("@kunde.example", AccountVia("bert")), ("*", RELAY))
    assert found == {
        "kunde@kunde.example": "account bert",
        "chef@kunde.example": "internal 192.168.1.20:25",
        "freund@elsewhere.example": "smarthost relay",
    }


def test_a_route_to_the_authors_account_is_no_other_way() -> None:
    assert ways(("*", AccountVia("anna"))) == {}


def test_mx_ways_are_of_the_recipients_domain_and_the_authors_provider() -> None:
    found = ways(("@kunde.example", MxVia()), ("*", ProviderMxVia()))
    assert set(found.values()) == {"mx kunde.example", "provider-mx elsewhere.example"}


def test_reports_of_ours_take_no_route() -> None:
    decision = decided(("*", RELAY), path="", carrier="anna")
    assert isinstance(decision, Decision)
    assert decision.ways is None


# ---- the author and the client first ----


@pytest.mark.parametrize("via", [RELAY, INTERNAL, AccountVia("bert"), AccountVia("open"), MxVia()])
def test_who_has_no_account_is_refused_whatever_the_route(via: Via) -> None:
    assert isinstance(decided(("*", via), by="nobody@fremd.example"), Refusal)
    assert isinstance(decided(("*", via), by="anna@firma.example", senders=("bert@firma.example",)), Refusal)


def test_a_discarded_or_refused_bounce_takes_no_route() -> None:
    for policy, kind in ((NullPolicy.DISCARD, Discard), (NullPolicy.REJECT, Refusal)):
        providers = PROVIDERS | {"strict": replace(PROVIDERS["strict"], null_policy=policy)}
        assert isinstance(decided(("*", RELAY), path="", rules=replace(RULES, providers=providers)), kind)


def test_a_restricted_client_needs_the_account_of_the_route_too() -> None:
    own = ("anna@firma.example",)
    refusal = decided(("*", AccountVia("bert")), senders=own)
    assert isinstance(refusal, Refusal)
    assert "may not send as bert@firma.example" in refusal.reply.lines[0]
    assert ways(("*", AccountVia("bert")), senders=(*own, "bert@firma.example")) != {}
    assert ways(("@kunde.example", AccountVia("bert")), senders=own) == dict.fromkeys(
        ("kunde@kunde.example", "chef@kunde.example"), "refused"
    )
    assert set(ways(("*", RELAY), senders=own).values()) == {"smarthost relay"}


def test_a_missing_account_or_provider_of_a_route_is_a_deferral() -> None:
    for name in ("nobody", "gone"):
        refusal = decided(("*", AccountVia(name)))
        assert isinstance(refusal, Refusal)
        assert refusal.reply.is_transient
        decision = decided(("@kunde.example", AccountVia(name)))
        assert isinstance(decision, Decision)
        way = decision.way_of(KUNDE)
        assert isinstance(way, NoWay)
        assert way.refusal.reply.is_transient
        assert decision.way_of(FRIEND) is None


ADDRESSES = st.sampled_from(
    [
        "anna@firma.example",
        "bert@firma.example",
        "x@zweig.example",
        "nobody@fremd.example",
        "other@firma.example",
        "open@firma.example",
    ]
)
VIAS = st.sampled_from(
    [RELAY, INTERNAL, MxVia(), ProviderMxVia(), *(AccountVia(n) for n in ("anna", "bert", "open", "gone", "nobody"))]
)
ROUTES = st.lists(
    st.tuples(st.sampled_from(["*", "@kunde.example", "chef@kunde.example", "@elsewhere.example"]), VIAS), max_size=4
)
POLICIES = st.sampled_from(
    [
        AuthorPolicy(),
        FOREIGN,
        AuthorPolicy(bounce_account="bert"),
        AuthorPolicy(foreign=ForeignAuthorPolicy.ACCOUNT, foreign_account="open"),
    ]
)
SENDERS = st.one_of(st.none(), st.lists(ADDRESSES, max_size=3).map(tuple))


@given(
    ROUTES, ADDRESSES, st.one_of(ADDRESSES, st.just("")), POLICIES, SENDERS, st.sampled_from(NullPolicy), st.booleans()
)
def test_no_route_lets_out_what_would_be_refused_without_it(
    entries: list[tuple[str, Via]],
    by: str,
    path: str,
    policy: AuthorPolicy,
    senders: tuple[str, ...] | None,
    null_policy: NullPolicy,
    default: bool,
) -> None:
    strict = replace(PROVIDERS["strict"], null_policy=null_policy, null_account="open")
    routing = RoutingPolicy(default_account="bert" if default else None)
    rules = replace(RULES, providers=PROVIDERS | {"strict": strict}, senders=policy, routing=routing)
    before = decided(by=by, path=path, rules=rules, senders=senders)
    after = decided(*entries, by=by, path=path, rules=rules, senders=senders)
    if not isinstance(before, Decision):
        assert after == before
        return
    if isinstance(after, Refusal):  # the routes of all recipients refuse it
        return
    assert isinstance(after, Decision)
    assert (after.route, after.plan, after.report_to) == (before.route, before.plan, before.report_to)
    for recipient in (KUNDE, CHEF, FRIEND):
        way = after.way_of(recipient)
        if isinstance(way, AccountWay) and senders is not None:
            assert way.route.account.address in {parse_address(text) for text in senders}
        if isinstance(way, HopWay) and not isinstance(way.hop, InternalHop) and before.route.provider.name == "strict":
            reverse_path = way.plan.envelope.reverse_path
            assert not isinstance(reverse_path, Address) or DIRECTORY.has_domain(reverse_path.domain)


# ---- the addresses on each way ----


@pytest.mark.parametrize("via", [RELAY, INTERNAL, MxVia(), ProviderMxVia()])
def test_without_a_login_own_addresses_and_the_null_path_stay(via: Via) -> None:
    decision = decided(("@kunde.example", via), path="")
    assert sent(decision, KUNDE) == ("", "Name <anna@firma.example>")
    assert sent(decision, FRIEND) == ("anna@firma.example", "Name <anna@firma.example>")
    decision = decided(("@kunde.example", via), path="x@zweig.example")
    assert sent(decision, KUNDE)[0] == "x@zweig.example"
    assert sent(decision, FRIEND)[0] == "anna@firma.example"


def test_an_alias_that_the_provider_would_rewrite_stays_on_a_way_without_a_login() -> None:
    rules = replace(RULES, routing=RoutingPolicy(default_account="anna"), senders=FOREIGN)
    decision = decided(("@kunde.example", RELAY), by="other@firma.example", rules=rules)
    assert isinstance(decision, Decision)
    way = decision.way_of(KUNDE)
    assert isinstance(way, HopWay)
    assert not way.plan.changes
    assert decision.plan.changes


@pytest.mark.parametrize(
    ("via", "path"), [(RELAY, "anna@firma.example"), (MxVia(), "anna@firma.example"), (INTERNAL, "fremd@fremd.example")]
)
def test_a_foreign_author_leaves_as_ours_except_to_the_internal_server(via: Via, path: str) -> None:
    rules = replace(RULES, senders=FOREIGN)
    decision = decided(("*", via), by="fremd@fremd.example", rules=rules)
    assert isinstance(decision, Decision)
    way = decision.way_of(KUNDE)
    assert isinstance(way, HopWay)
    assert str(way.plan.envelope.reverse_path) == path
    assert bool(way.plan.rounds) is (via is not INTERNAL)


def test_another_account_sends_as_its_provider_requires() -> None:
    assert sent(decided(("@kunde.example", AccountVia("bert"))), KUNDE) == (
        "bert@firma.example",
        "Name <bert@firma.example>",
    )
    assert sent(decided(("@kunde.example", AccountVia("open"))), KUNDE) == (
        "anna@firma.example",
        "Name <anna@firma.example>",
    )


def test_an_srs_address_is_routed_by_the_address_for_which_it_stands() -> None:
    signed = make_srs(FRIEND, "firma.example", KEYS, NOW)
    assert signed is not None
    rules = replace(RULES, senders=replace(AuthorPolicy(), srs=True))
    decision = decided(("@elsewhere.example", RELAY), path="", recipients=(signed,), rules=rules, keys=KEYS)
    assert isinstance(decision, Decision), decision
    assert decision.undone == {signed: FRIEND}
    assert str(decision.way_of(signed)) == "smarthost relay"
    assert decided(("@firma.example", RELAY), path="", recipients=(signed,), rules=rules, keys=KEYS).ways is None  # type: ignore[union-attr]


def test_every_way_has_the_footer() -> None:
    footer = Footer((parse_pattern("@firma.example"),), "Firma GmbH")
    rules = replace(RULES, footers=FooterTable([footer]))
    decision = decided(("kunde@kunde.example", RELAY), ("chef@kunde.example", AccountVia("bert")), rules=rules)
    assert isinstance(decision, Decision)
    ways = [way for path in (KUNDE, CHEF) if isinstance(way := decision.way_of(path), HopWay | AccountWay)]
    assert len(ways) == 2
    for plan in (decision.plan, *(way.plan for way in ways)):
        assert isinstance(plan.content_changes[0], AddFooter)
