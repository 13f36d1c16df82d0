"""Changes to a message that its provider requires, and unchanged messages."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import NULL_PATH, Address, parse_address, parse_pattern
from senderproxy.mail.author import AuthorFields, UnreadableAuthor, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.plan import (
    LOOP_FIELD,
    Discard,
    RewriteContext,
    RewritePlan,
    apply_edits,
    permits,
    plan_rewrite,
)
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import MatchTier
from senderproxy.routing.provider import NullPolicy, Provider, SenderRule
from senderproxy.routing.route import AddressSource, Refusal, Route

OWN = "anna@firma.example"
ALIAS = "info@firma.example"
COLLEAGUE = "bert@firma.example"
SECOND_DOMAIN = "anna@laden.example"
STRANGER = "alice@elsewhere.example"
ACCOUNT = Account(
    "anna", OWN, "p", parse_address(OWN), tuple(parse_pattern(text) for text in (OWN, ALIAS, "@laden.example")), "Firma"
)
REST = "Date: Tue, 24 Nov 2026 10:00:00 +0100\r\nMessage-ID: <a@b.example>\r\nTo: kunde@customer.example\r\n\r\n"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
REWRITE = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE)


def _header(author: str | None, more: str = "") -> HeaderSection:
    return HeaderSection(((f"From: {author}\r\n" if author else "") + more + REST).encode())


def _route(
    rule: SenderRule, from_rule: SenderRule | None = None, tier: MatchTier = MatchTier.EXACT, **more: object
) -> Route:
    provider = Provider("p", (), sender_rule=rule, from_rule=from_rule or rule, **more)  # type: ignore[arg-type]
    return Route(ACCOUNT, provider, parse_address(OWN), AddressSource.FROM, tier)


def _plan(
    route: Route,
    header: HeaderSection,
    path: str,
    policy: AuthorPolicy | None = None,
    bounces_to: Address | None = None,
) -> RewritePlan | Refusal | Discard:
    authors = read_authors(header)
    assert isinstance(authors, AuthorFields)
    envelope = Envelope(parse_address(path) if path else NULL_PATH, (parse_address("kunde@customer.example"),))
    terms = RewriteContext(policy or AuthorPolicy(), "proxy.firma.example", NOW, "<new@proxy>", bounces_to)
    return plan_rewrite(route, authors, envelope, EditedHeader(header), terms)


def _left(
    route: Route, header: HeaderSection, path: str, policy: AuthorPolicy | None = None
) -> tuple[str, HeaderSection]:
    """The reverse-path and the header to send."""
    plan = _plan(route, header, path, policy)
    assert isinstance(plan, RewritePlan), plan
    assert all(change.reason for change in plan.changes)
    return str(plan.envelope.reverse_path), apply_edits(plan, header)


@pytest.mark.parametrize(
    ("rule", "author", "path"),
    [
        (SenderRule.DOMAIN, OWN, OWN),
        (SenderRule.DOMAIN, ALIAS, ALIAS),
        (SenderRule.DOMAIN, COLLEAGUE, COLLEAGUE),
        (SenderRule.DOMAIN, "anna+shop@firma.example", "anna+shop@firma.example"),
        (SenderRule.ADDRESS, OWN, OWN),
        (SenderRule.ADDRESS, ALIAS, ALIAS),
        (SenderRule.ANY, STRANGER, STRANGER),
    ],
)
def test_what_the_provider_takes_leaves_byte_for_byte(rule: SenderRule, author: str, path: str) -> None:
    header = _header(author)
    plan = _plan(_route(rule), header, path)
    assert isinstance(plan, RewritePlan)
    assert plan.changes == ()
    assert plan.rounds == ()
    assert str(plan.envelope.reverse_path) == path
    assert apply_edits(plan, header) is header


@pytest.mark.parametrize(
    ("rule", "author", "path", "left"),
    [
        (SenderRule.DOMAIN, OWN, STRANGER, OWN),
        (SenderRule.ADDRESS, OWN, "bounce@elsewhere.example", OWN),
        (SenderRule.ADDRESS, OWN, "info+list@firma.example", ALIAS),
        (SenderRule.DOMAIN, OWN, SECOND_DOMAIN, OWN),
        (SenderRule.DOMAIN, OWN, "", OWN),
    ],
)
def test_a_reverse_path_the_provider_refuses_gives_way_to_an_own_one(
    rule: SenderRule, author: str, path: str, left: str
) -> None:
    assert _left(_route(rule), _header(author), path)[0] == left


@pytest.mark.parametrize(
    ("rule", "author", "from_", "reply_to"),
    [
        (SenderRule.ADDRESS, f"Anna Berg <{SECOND_DOMAIN}>", f"Anna Berg <{OWN}>", f"Anna Berg <{SECOND_DOMAIN}>"),
        (SenderRule.ADDRESS, "info+x@firma.example", f"info+x <{ALIAS}>", "info+x@firma.example"),
        (SenderRule.DOMAIN, "shop@laden.example", f"shop <{OWN}>", "shop@laden.example"),
    ],
)
def test_an_own_address_that_is_not_taken_answers_to_itself(
    rule: SenderRule, author: str, from_: str, reply_to: str
) -> None:
    _, header = _left(_route(rule), _header(author), OWN)
    assert header.values("From") == [f" {from_}".encode()]
    assert header.values("Reply-To") == [f" {reply_to}".encode()]


def test_a_reply_to_that_is_there_stays() -> None:
    _, header = _left(_route(SenderRule.ADDRESS), _header(SECOND_DOMAIN, "Reply-To: team@laden.example\r\n"), OWN)
    assert header.values("Reply-To") == [b" team@laden.example"]


def test_a_foreign_author_is_refused_with_what_would_let_them() -> None:
    refusal = _plan(_route(SenderRule.DOMAIN), _header(STRANGER), OWN)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.code == 550
    assert 'foreign_author = "rewrite"' in refusal.hint
    assert not refusal.names_command
    refusal = _plan(_route(SenderRule.ADDRESS), _header(COLLEAGUE), OWN)
    assert isinstance(refusal, Refusal)
    assert refusal.hint.endswith(f"senderproxy account edit anna --also {COLLEAGUE}")


def test_a_foreign_author_may_be_named_and_answered() -> None:
    _, header = _left(_route(SenderRule.DOMAIN), _header(f"Alice Example <{STRANGER}>"), STRANGER, REWRITE)
    assert header.values("From") == [f" Alice Example via Firma <{OWN}>".encode()]
    assert header.values("Reply-To") == [f" Alice Example <{STRANGER}>".encode()]
    assert header.values("X-Original-From") == [f" Alice Example <{STRANGER}>".encode()]


def test_a_provider_that_does_not_look_at_from_is_not_second_guessed() -> None:
    assert _left(_route(SenderRule.DOMAIN, SenderRule.ANY), _header(STRANGER), OWN) == (OWN, _header(STRANGER))


def test_a_note_without_a_reverse_path_leaves_marked_so_that_nobody_answers_it() -> None:
    path, header = _left(_route(SenderRule.DOMAIN), _header(OWN), "")
    assert path == OWN
    assert header.values("Auto-Submitted") == [b" auto-replied"]
    assert header.values("X-Auto-Response-Suppress") == [b" All"]
    assert header.values(LOOP_FIELD) == [b" proxy.firma.example"]
    assert _left(_route(SenderRule.DOMAIN, takes_null_reverse_path=True), _header(OWN), "") == ("", _header(OWN))


@pytest.mark.parametrize(
    ("author", "tier", "path"),
    [
        (COLLEAGUE, MatchTier.DOMAIN, COLLEAGUE),
        ("anna+x@firma.example", MatchTier.UNTAGGED, "anna+x@firma.example"),
        (COLLEAGUE, MatchTier.DEFAULT, COLLEAGUE),
        (SECOND_DOMAIN, MatchTier.DOMAIN, OWN),
        (STRANGER, MatchTier.DEFAULT, OWN),
        (COLLEAGUE, MatchTier.NAMED, OWN),
    ],
)
def test_a_null_reverse_path_becomes_the_authors_own_address_where_the_rule_permits_it(
    author: str, tier: MatchTier, path: str
) -> None:
    route = replace(_route(SenderRule.DOMAIN, SenderRule.ANY, tier), author=parse_address(author))
    plan = _plan(route, _header(author), "")
    assert isinstance(plan, RewritePlan)
    assert str(plan.envelope.reverse_path) == path


def test_what_says_already_that_it_is_automatic_keeps_its_words() -> None:
    said = _header(OWN, "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: DR, OOF\r\n")
    _, header = _left(_route(SenderRule.DOMAIN), said, "")
    assert header.values("Auto-Submitted") == [b" auto-generated"]
    assert header.values("X-Auto-Response-Suppress") == [b" DR, OOF"]


def test_bounces_of_bounces_go_to_the_bounce_account_where_the_rule_lets_them() -> None:
    wanted = parse_address("bounces@firma.example")
    for rule, left in ((SenderRule.DOMAIN, "bounces@firma.example"), (SenderRule.ADDRESS, OWN)):
        plan = _plan(_route(rule), _header(OWN), "", bounces_to=wanted)
        assert isinstance(plan, RewritePlan)
        assert str(plan.envelope.reverse_path) == left


def test_a_null_reverse_path_can_be_discarded_or_rejected() -> None:
    discarding = _plan(_route(SenderRule.DOMAIN, null_policy=NullPolicy.DISCARD), _header(OWN), "")
    assert isinstance(discarding, Discard)
    assert discarding.reply.code == 250
    refusal = _plan(_route(SenderRule.DOMAIN, null_policy=NullPolicy.REJECT), _header(OWN), "")
    assert isinstance(refusal, Refusal)
    assert 'on_null_reverse_path = "rewrite"' in refusal.hint


# ---- for any message and any configuration ----

_ADDRESSES = st.sampled_from(
    [OWN, ALIAS, COLLEAGUE, SECOND_DOMAIN, STRANGER, "anna+x@firma.example", "info+y@firma.example", "+@firma.example"]
)
_NAMES = st.sampled_from(
    ["", "Anna", '"Berg, Anna"', "=?utf-8?q?M=C3=BCller?=", "=?utf-8?b?DQpCY2M6IHhAeS56?=", "Müller"]
)
_MAILBOXES = st.tuples(_NAMES, _ADDRESSES).map(lambda m: f"{m[0]} <{m[1]}>" if m[0] else m[1])
_RULES = st.sampled_from(SenderRule)
_MORE = st.sampled_from(
    ["", "Reply-To: x@y.example\r\n", "Subject: Grüße\r\n", "Sender: bert@firma.example\r\n", "Cc:\r\n"]
)


@given(
    st.lists(_MAILBOXES, max_size=3),
    st.one_of(_ADDRESSES, st.just("")),
    _RULES,
    _RULES,
    st.sampled_from(NullPolicy),
    st.booleans(),
    st.sampled_from(ForeignAuthorPolicy),
    st.sampled_from([MatchTier.EXACT, MatchTier.DEFAULT, MatchTier.NAMED]),
    _MORE,
)
def test_what_leaves_satisfies_the_rules_and_needs_no_second_plan(
    from_: list[str],
    path: str,
    rule: SenderRule,
    from_rule: SenderRule,
    null_policy: NullPolicy,
    takes_null: bool,
    foreign: ForeignAuthorPolicy,
    tier: MatchTier,
    more: str,
) -> None:
    route = _route(rule, from_rule, tier, null_policy=null_policy, takes_null_reverse_path=takes_null)
    header = _header(", ".join(from_) or None, more)
    policy = AuthorPolicy(foreign=foreign)
    plan = _plan(route, header, path, policy)
    if not isinstance(plan, RewritePlan):
        return
    left, leaves_as = apply_edits(plan, header), plan.envelope.reverse_path
    if isinstance(leaves_as, Address):
        assert permits(route, rule, leaves_as)
    else:
        assert takes_null
    authors = read_authors(left)
    assert not isinstance(authors, UnreadableAuthor)
    assert authors.from_
    assert all(permits(route, from_rule, mailbox.address) for mailbox in authors.from_)
    assert left.raw.isascii() or more.isascii() is False or header.raw.isascii() is False
    again = _plan(route, left, str(leaves_as), policy)
    assert isinstance(again, RewritePlan)
    assert apply_edits(again, left) is left
    assert replace(again.envelope) == plan.envelope


@given(st.text(max_size=80), st.sampled_from([SECOND_DOMAIN, STRANGER]))
def test_no_display_name_brings_in_a_field(name: str, address: str) -> None:
    from base64 import b64encode

    word = f"=?utf-8?b?{b64encode(name.encode('utf-8', 'replace')).decode()}?="
    header = _header(f"{word} <{address}>")
    authors = read_authors(header)
    if isinstance(authors, UnreadableAuthor):
        return
    _, left = _left(_route(SenderRule.ADDRESS), header, OWN, REWRITE)
    known = {"from", "date", "message-id", "to", "reply-to", "x-original-from"}
    assert {field.name.lower() for field in left.fields()} <= known
    assert left.rest == b"\r\n"
    assert left.raw.isascii()
