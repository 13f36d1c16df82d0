"""Invariants for any message and any configuration: a sent message satisfies the provider's rule, or is refused.

A plan for a rewritten message changes nothing more, and no field that we write can inject another one.
"""

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from senderproxy.mail.address import NULL_PATH, Address, AddressPattern, ReversePath, parse_address, parse_pattern
from senderproxy.mail.author import AuthorFields, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.relay.fallback import decide_fallback
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.plan import LOOP_FIELD, Discard, RewriteContext, RewritePlan, apply_edits, plan_rewrite
from senderproxy.rewriting.received_field import add_received_field
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import NullPolicy, Provider, SenderRule
from senderproxy.routing.route import RoutingPolicy
from senderproxy.simulator.rules import OwnershipRule, SimulatedMailbox, may_send_as

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HOST = "proxy.firma.example"
KUNDE = parse_address("kunde@customer.example")

# Attempts to inject a header field, in each form of text that reaches us.
_HOSTILE = (
    "\r\nX-Own: yes",
    "a\nX-Own: yes",
    "\r\n\r\nX-Own: yes",
    "x\rX-Own: yes",
    '"\r\nX-Own: yes',
    "\0\x85\u2028X-Own:",
)
_TEXTS = st.one_of(
    st.text(max_size=40), st.sampled_from(_HOSTILE), st.sampled_from(["Anna", "Berg, Anna", "Müller", ""])
)

_OWN = ("anna@firma.example", "info@firma.example", "bert@firma.example", "post@laden.example")
_POOL = (*_OWN, "anna+x@firma.example", "info+y@laden.example", "root@srv.local", "alice@fern.example", "a@b.example")
_ADDRESSES = st.sampled_from(_POOL).map(parse_address)
_PATTERNS = st.sampled_from([*_OWN, "@firma.example", "@laden.example", "@fern.example"]).map(parse_pattern)


# ---- messages ----


def _as_word(text: str) -> bytes:
    return b"=?utf-8?b?" + b64encode(text.encode("utf-8", "replace")) + b"?="


def _on_lines(value: bytes) -> bytes:
    """As the listener delivers it: no bare CR or LF and no NUL; a continuation line begins with a blank."""
    return value.replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n ")


_PHRASES = st.one_of(
    _TEXTS.map(_as_word),
    _TEXTS.map(lambda text: b'"' + text.replace("\\", "").replace('"', "").encode("utf-8", "replace") + b'"'),
    st.sampled_from([b"", b"Anna Berg", b"=?utf-8?q?=0D=0AX-Own:_yes?="]),
)
_MAILBOXES = st.tuples(_PHRASES, _ADDRESSES).map(lambda m: m[0] + b" <" + str(m[1]).encode() + b">")
_LISTS = st.lists(_MAILBOXES, min_size=1, max_size=3).map(b", ".join)
_ANYTHING = st.one_of(_LISTS, st.binary(max_size=40), _TEXTS.map(lambda text: text.encode("utf-8", "replace")))
_FIELDS = st.one_of(
    st.tuples(st.sampled_from(["Sender", "Reply-To", "Resent-From", "X-Original-From", "To", "Cc", "Bcc"]), _ANYTHING),
    st.tuples(st.sampled_from(["Date", "Subject", "Message-ID", "Received", "X-Any", "DKIM-Signature"]), _ANYTHING),
    st.tuples(st.just("Auto-Submitted"), st.sampled_from([b"auto-replied", b"no", b""])),
)


@st.composite
def _headers(draw: st.DrawFn, accounts: list[Account]) -> HeaderSection:
    """Mostly with an author of the office; else with any author, or with an unreadable one."""
    own = st.sampled_from([account.address for account in accounts])
    by_own = st.tuples(_PHRASES, own).map(lambda m: m[0] + b" <" + str(m[1]).encode() + b">")
    author = draw(st.one_of(by_own, by_own, _MAILBOXES, _MAILBOXES, _LISTS, _ANYTHING, st.none()))
    return _header(author, draw(st.lists(_FIELDS, max_size=5)))


def _header(author: bytes | None, more: list[tuple[str, bytes]]) -> HeaderSection:
    fields = [("From", author)] if author is not None else []
    lines = (name.encode() + b": " + _on_lines(value) + b"\r\n" for name, value in (*fields, *more))
    return HeaderSection(b"".join(lines) + b"\r\n")


# ---- configurations ----


@st.composite
def _accounts(draw: st.DrawFn) -> list[Account]:
    taken: set[str] = set()
    accounts = []
    for number, own in enumerate(draw(st.lists(st.sampled_from(_OWN), min_size=1, max_size=3, unique=True))):
        wanted = [parse_pattern(own), *draw(st.lists(_PATTERNS, max_size=3))]
        carries = tuple(p for p in dict.fromkeys(wanted) if str(p) not in taken)
        taken |= {str(pattern) for pattern in carries}
        if parse_pattern(own) not in carries:
            continue
        name = draw(st.one_of(st.none(), _TEXTS))
        accounts.append(Account(f"a{number}", own, f"p{draw(st.integers(0, 1))}", parse_address(own), carries, name))
    return accounts


@st.composite
def _providers(draw: st.DrawFn, ids: list[str]) -> dict[str, Provider]:
    def one(name: str) -> Provider:
        policy = draw(st.sampled_from(NullPolicy))
        return Provider(
            name,
            (),
            sender_rule=draw(st.sampled_from(SenderRule)),
            from_rule=draw(st.sampled_from(SenderRule)),
            takes_null_reverse_path=draw(st.booleans()),
            null_policy=policy,
            null_account=draw(st.sampled_from(ids)) if policy is NullPolicy.ACCOUNT else None,
        )

    return {name: one(name) for name in ("p0", "p1")}


@st.composite
def _rules(draw: st.DrawFn, ids: list[str]) -> Rules:
    foreign = draw(st.sampled_from(ForeignAuthorPolicy))
    stands = draw(st.dictionaries(st.sampled_from(_POOL), _ADDRESSES, max_size=2))
    domains = draw(
        st.sampled_from(
            [
                {},
                {"srv.local": parse_pattern("@firma.example")},
                {"fern.example": AddressPattern("anna", "firma.example")},
            ]
        )
    )
    one = st.one_of(st.none(), st.sampled_from(ids))
    senders = AuthorPolicy(
        foreign=foreign,
        foreign_account=draw(st.sampled_from(ids)) if foreign is ForeignAuthorPolicy.ACCOUNT else None,
        bounce_account=draw(one),
        remove_bcc=draw(st.booleans()),
        mapped=AuthorMap({parse_address(text).key: address for text, address in stands.items()}, domains),
    )
    return Rules(HOST, draw(_providers(ids)), RoutingPolicy(default_account=draw(one)), senders)


_CLIENTS = st.builds(
    Client,
    host=st.sampled_from(["127.0.0.1", "fe80::1"]),
    name=_TEXTS,
    protocol=st.just("ESMTP"),
    senders=st.one_of(*[st.none()] * 4, st.lists(_PATTERNS, max_size=2).map(tuple)),
    forced_sender=st.one_of(*[st.none()] * 4, _ADDRESSES),
    lenient=st.booleans(),
)
_PATHS: st.SearchStrategy[ReversePath] = st.one_of(st.just(NULL_PATH), _ADDRESSES)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[MessageFacts, AccountDirectory, Rules]:
    accounts = draw(_accounts().filter(bool))
    facts = MessageFacts(
        draw(_headers(accounts)), Envelope(draw(_PATHS), (KUNDE,)), draw(_CLIENTS), "id", NOW, draw(st.booleans())
    )
    return facts, AccountDirectory(accounts), draw(_rules([account.id for account in accounts]))


# ---- what must hold ----

WRITTEN = {"from", "reply-to", "sender", "x-original-from", "date", "x-original-date", "message-id", "auto-submitted",
           "x-auto-response-suppress", LOOP_FIELD.lower()}  # fmt: skip
MANY = settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _provider_takes(account: Account, rule: SenderRule, address: Address) -> bool:
    """The simulator's evaluation of the rule, which is written independently."""
    aliases = tuple(str(pattern) for pattern in account.carries if pattern.local_part is not None)
    mailbox = SimulatedMailbox("geheim-x", address=str(account.address), aliases=aliases)
    return may_send_as(str(address), account.login, mailbox, OwnershipRule(rule.value))


@MANY
@given(_cases())
def test_a_sent_message_satisfies_the_providers_rule_or_is_not_sent(
    case: tuple[MessageFacts, AccountDirectory, Rules],
) -> None:
    facts, directory, rules = case
    decision = decide(facts, directory, rules)
    event(type(decision).__name__)
    if not isinstance(decision, Decision):
        _is_a_reply(decision.reply, 250 if isinstance(decision, Discard) else 400)
        return
    account, provider, plan = decision.route.account, decision.route.provider, decision.plan
    event(f"{len(plan.changes)} changes")
    path = plan.envelope.reverse_path
    if isinstance(path, Address):
        assert _provider_takes(account, provider.sender_rule, path)
    else:
        assert provider.takes_null_reverse_path
        assert not isinstance(facts.envelope.reverse_path, Address), "nothing loses its reverse-path"
    left = apply_edits(plan, facts.header)
    authors = read_authors(left)
    assert isinstance(authors, AuthorFields)
    assert authors.from_
    assert all(_provider_takes(account, provider.from_rule, mailbox.address) for mailbox in authors.from_)
    assert plan.envelope.recipients == facts.envelope.recipients


@MANY
@given(_cases())
def test_a_plan_for_a_rewritten_message_changes_nothing(case: tuple[MessageFacts, AccountDirectory, Rules]) -> None:
    facts, directory, rules = case
    decision = decide(facts, directory, rules)
    if not isinstance(decision, Decision):
        return
    left = apply_edits(decision.plan, facts.header)
    authors = read_authors(left)
    assert isinstance(authors, AuthorFields)
    bounces = directory.by_id(rules.senders.bounce_account or "")
    terms = RewriteContext(rules.senders, HOST, NOW, "<id@x>", bounces.address if bounces else None)
    again = plan_rewrite(decision.route, authors, decision.plan.envelope, EditedHeader(left), terms)
    assert isinstance(again, RewritePlan)
    assert again.changes == ()
    assert apply_edits(again, left) is left
    assert again.envelope == decision.plan.envelope


@MANY
@given(_cases())
def test_no_field_is_injected_by_a_field_that_we_write(case: tuple[MessageFacts, AccountDirectory, Rules]) -> None:
    facts, directory, rules = case
    decision = decide(facts, directory, rules)
    if not isinstance(decision, Decision):
        return
    came, rest = facts.header.split()
    left, left_rest = apply_edits(decision.plan, facts.header).split()
    assert left_rest == rest, "what is no field is not touched"
    known = {field.name.lower() for field in came}
    new = [field for field in left if field.name.lower() not in known]
    assert {field.name.lower() for field in new} <= WRITTEN
    assert len({field.name for field in new}) == len(new), "each once"
    untouched = {(field.name, field.value) for field in came}
    for field in left:
        if (field.name, field.value) not in untouched:
            assert field.value.isascii()
            assert b"\r" not in field.value.replace(b"\r\n ", b"").replace(b"\r\n\t", b"")
    header = HeaderSection(b"".join(f"{field.name}:".encode() + field.value + b"\r\n" for field in left) + rest)
    stamped = add_received_field(header, facts.client, by=HOST, message_id="id", now=NOW).split()[0]
    assert [field.name for field in stamped] == ["Received", *(field.name for field in left)]


@MANY
@given(_cases(), st.booleans())
def test_a_fallback_lets_no_address_out_that_is_refused_without_it(
    case: tuple[MessageFacts, AccountDirectory, Rules], rewrites: bool
) -> None:
    """Each account has the next one as its fallback, which no vault permits: no decision depends on that."""
    facts, plain, rules = case
    ids = [account.id for account in plain.accounts]
    directory = AccountDirectory(
        replace(account, fallback=ids[(number + 1) % len(ids)], fallback_rewrites=rewrites)
        for number, account in enumerate(plain.accounts)
    )
    alone = decide(facts, plain, rules)
    for account_id in ids:
        other = decide_fallback(facts, directory, rules, account_id)
        event(type(other).__name__)
        if not isinstance(other, Decision):
            continue
        assert isinstance(alone, Decision), "refused without a fallback"
        assert alone.route.account.id == account_id, "another account's message"
        account, provider = other.route.account, other.route.provider
        named = directory.by_id(account_id)
        assert named is not None
        assert account.id == named.fallback
        before, after = apply_edits(alone.plan, facts.header), apply_edits(other.plan, facts.header)
        path, authors = other.plan.envelope.reverse_path, read_authors(after)
        assert isinstance(authors, AuthorFields)
        same = path == alone.plan.envelope.reverse_path and after.values("From") == before.values("From")
        event("same senders" if same else "other senders")
        if not same:
            assert rewrites
            assert facts.client.may_use(account.address), "its client may not use the fallback's address"
        assert isinstance(path, Address) or provider.takes_null_reverse_path
        assert not isinstance(path, Address) or _provider_takes(account, provider.sender_rule, path)
        assert all(_provider_takes(account, provider.from_rule, one.address) for one in authors.from_)
        assert other.plan.envelope.recipients == alone.plan.envelope.recipients


@given(_CLIENTS, _cases())
def test_a_reply_is_one_reply_on_the_wire(client: Client, case: tuple[MessageFacts, AccountDirectory, Rules]) -> None:
    facts, directory, rules = case
    decision = decide(replace(facts, client=client), directory, rules)
    if not isinstance(decision, Decision):
        _is_a_reply(decision.reply, decision.reply.code)


def _is_a_reply(reply: Reply, least: int) -> None:
    lines = reply.render().split(b"\r\n")
    assert lines.pop() == b""
    assert reply.code >= least
    assert reply.lines
    assert all(line[:3] == str(reply.code).encode() and line[3:4] in b"- " and len(line) <= 510 for line in lines)
    assert all(line.isascii() and line.decode().isprintable() for line in lines)
