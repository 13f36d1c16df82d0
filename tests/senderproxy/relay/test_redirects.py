"""Redirected mail: the mailbox that redirected it, its account, and the fields by which a stranger tries to choose one."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from senderproxy.mail.address import NULL_PATH, parse_address, parse_pattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.rewriting.plan import Discard, apply_edits
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import Refusal, RoutingPolicy
from tests.senderproxy.mail.test_author import NORMAL, REFUSED

ANNA, BERT, SHOP = "anna@firma.example", "bert@firma.example", "post@laden.example"
MALLORY = "mallory@fremd.example"


def _account(address: str, *more: str, provider: str = "domain") -> Account:
    carries = tuple(parse_pattern(text) for text in (address, *more))
    return Account(address.partition("@")[0], address, provider, parse_address(address), carries, "Firma")


DIRECTORY = AccountDirectory([_account(ANNA), _account(BERT), _account(SHOP, "@laden.example")])
PROVIDERS = {"domain": Provider("domain", (), sender_rule=SenderRule.DOMAIN, from_rule=SenderRule.DOMAIN)}
REWRITE = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE)
RULES = Rules("relay.firma.example", PROVIDERS, RoutingPolicy(), REWRITE)
WITH_ACCOUNT = replace(RULES, senders=replace(REWRITE, foreign_account="post"))
SERVER = Client("192.168.1.9", "mail.firma.example", "ESMTP")
RECEIVED = "Received: from mx.fremd.example by mail.firma.example; Sun, 29 Nov 2026 10:00:00 +0100\r\n"
REST = "Date: Sun, 29 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@fremd.example>\r\nTo: anna@firma.example\r\n\r\n"
FROM = f"From: Mallory <{MALLORY}>\r\n"


def _decide(
    header: str | bytes, path: str = MALLORY, *, rules: Rules = RULES, client: Client = SERVER
) -> Decision | Refusal | Discard:
    raw = header if isinstance(header, bytes) else header.encode()
    envelope = Envelope(parse_address(path) if path else NULL_PATH, (parse_address("privat@post.example"),))
    facts = MessageFacts(HeaderSection(raw), envelope, client, "id", datetime(2026, 11, 29, tzinfo=UTC))
    return decide(facts, DIRECTORY, rules)


def _sent(header: str, path: str = MALLORY, *, rules: Rules = RULES, client: Client = SERVER) -> tuple[str, str, str]:
    """The account, the reverse-path and the From field with which it leaves."""
    decision = _decide(header, path, rules=rules, client=client)
    assert isinstance(decision, Decision), decision
    left = apply_edits(decision.plan, HeaderSection(header.encode()))
    [from_] = left.values("From")
    return decision.route.account.id, str(decision.plan.envelope.reverse_path), from_.decode().strip()


# ---- the redirecting mailbox ----

VIA_ANNA = ("anna", ANNA, f"Mallory via Firma <{ANNA}>")


@pytest.mark.parametrize("field", ["Resent-From", "X-Sieve-Redirected-From", "Delivered-To", "DELIVERED-TO"])
@pytest.mark.parametrize("path", [MALLORY, ANNA, ""])
def test_a_field_above_the_topmost_received_field_names_the_mailbox(field: str, path: str) -> None:
    assert _sent(f"{field}: {ANNA}\r\n{RECEIVED}{FROM}{REST}", path) == VIA_ANNA


@pytest.mark.parametrize(
    ("top", "account", "path"),
    [
        ("Delivered-To: info@laden.example\r\n", "post", "info@laden.example"),
        ("Delivered-To: anna+x@firma.example\r\n", "anna", "anna+x@firma.example"),
        (f"X-Sieve-Redirected-From: {BERT}\r\nDelivered-To: {ANNA}\r\n", "bert", BERT),
        (f"Resent-From: Bert <{BERT}>\r\nX-Sieve-Redirected-From: {ANNA}\r\n", "bert", BERT),
        (f"Delivered-To: {BERT}\r\nDelivered-To: {ANNA}\r\n", "bert", BERT),
        (f"Resent-From: alice@fremd.example\r\nDelivered-To: {ANNA}\r\n", "anna", ANNA),
        (f"Resent-From: root\r\nDelivered-To: {ANNA}\r\n", "anna", ANNA),
        (f"X-Note: x\r\nDelivered-To: {ANNA}\r\n", "anna", ANNA),
        (f"Sender: {ANNA}\r\n", "anna", ANNA),
        ("Delivered-To: office@server.local\r\n", "anna", ANNA),
    ],
)
def test_the_reverse_path_is_the_redirecting_mailbox(top: str, account: str, path: str) -> None:
    mapped = AuthorMap({"office@server.local": parse_address(ANNA)}, {})
    rules = replace(RULES, senders=replace(REWRITE, mapped=mapped))
    assert _sent(f"{top}{RECEIVED}{FROM}{REST}", rules=rules)[:2] == (account, path)


def test_a_message_that_no_server_has_received_yet_is_the_clients_own() -> None:
    assert _sent(f"{FROM}Delivered-To: {ANNA}\r\n{REST}") == VIA_ANNA


def test_under_the_rule_address_the_reverse_path_is_an_address_of_the_account() -> None:
    strict = {"domain": replace(PROVIDERS["domain"], sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS)}
    sent = _sent(f"Delivered-To: info@laden.example\r\n{RECEIVED}{FROM}{REST}", rules=replace(RULES, providers=strict))
    assert sent == ("post", SHOP, f"Mallory via Firma <{SHOP}>")


def test_mail_that_names_no_mailbox_is_sent_by_the_foreign_account_or_refused() -> None:
    header = f"{RECEIVED}{FROM}{REST}"
    assert _sent(header, rules=WITH_ACCOUNT) == ("post", SHOP, f"Mallory via Firma <{SHOP}>")
    assert _sent(header, "", rules=WITH_ACCOUNT)[:2] == ("post", SHOP)
    refused = _decide(header)
    assert isinstance(refused, Refusal)
    assert "foreign_account under [senders]" in refused.reply.text
    default = replace(RULES, routing=RoutingPolicy(default_account="bert"))
    assert _sent(header, rules=default)[0] == "bert"
    assert _sent(header, rules=replace(default, senders=WITH_ACCOUNT.senders))[0] == "post"


def test_the_hint_names_only_what_is_missing() -> None:
    refused = _decide(f"{RECEIVED}{FROM}{REST}")
    assert isinstance(refused, Refusal)
    assert refused.hint.startswith("set foreign_account under [senders]")
    strict = _decide(f"{RECEIVED}{FROM}{REST}", rules=replace(RULES, senders=AuthorPolicy()))
    assert isinstance(strict, Refusal)
    assert strict.hint.startswith('set foreign_author = "rewrite" and foreign_account under [senders]')


def test_an_entry_for_a_bare_name_replaces_the_reverse_path_that_got_the_name_of_this_server() -> None:
    mapped = AuthorMap(names={"root": parse_address(ANNA)})
    rules = replace(RULES, senders=replace(REWRITE, mapped=mapped))
    header = f"From: root (Cron Daemon)\r\n{REST}"
    assert _sent(header, "root@relay.firma.example", rules=rules)[:2] == ("anna", ANNA)
    assert isinstance(_decide(f"From: {MALLORY}\r\n{REST}", "root@other.example", rules=rules), Refusal)


def test_the_foreign_account_is_for_foreign_domains_only() -> None:
    """A typing error in an own address, or a mailbox without an account, is no redirect."""
    for header in (f"From: ana@firma.example\r\n{REST}", f"Delivered-To: {BERT}\r\nFrom: ana@firma.example\r\n{REST}"):
        refused = _decide(header, "ana@firma.example", rules=WITH_ACCOUNT)
        assert isinstance(refused, Refusal)
        assert refused.hint.startswith("senderproxy account add ana@firma.example")


def test_a_bounce_that_is_redirected_is_sent_by_the_mailbox_and_not_by_the_bounce_account() -> None:
    rules = replace(RULES, senders=replace(REWRITE, bounce_account="post"))
    bounce = f"From: Mail Delivery System <MAILER-DAEMON@fremd.example>\r\n{REST}"
    assert _sent(f"X-Sieve-Redirected-From: {ANNA}\r\n{RECEIVED}{bounce}", "", rules=rules)[0] == "anna"
    assert _sent(f"{RECEIVED}{bounce}", "", rules=rules)[0] == "post"


def test_with_the_policy_reject_a_redirect_is_refused_with_the_setting() -> None:
    refused = _decide(f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}{REST}", rules=replace(RULES, senders=AuthorPolicy()))
    assert isinstance(refused, Refusal)
    assert 'foreign_author = "rewrite" under [senders]' in refused.reply.text


def test_a_forced_sender_is_never_replaced_by_the_mailbox_that_redirected() -> None:
    client = replace(SERVER, forced_sender=parse_address("scan@anderswo.example"))
    refused = _decide(f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}{REST}", client=client, rules=WITH_ACCOUNT)
    assert isinstance(refused, Refusal)


# ---- what leaves ----


def test_the_strangers_signature_and_sender_are_removed_and_recorded() -> None:
    signed = "DKIM-Signature: v=1; d=fremd.example;\r\n b=abc\r\nDomainKey-Signature: a=rsa-sha1\r\n"
    more = f"{signed}Sender: list@fremd.example\r\nList-Id: x\r\n"
    header = f"Delivered-To: {ANNA}\r\n{RECEIVED}{more}{more.partition('Sender')[0]}{FROM}{REST}"
    decision = _decide(header)
    assert isinstance(decision, Decision)
    left = apply_edits(decision.plan, HeaderSection(header.encode()))
    for name in ("DKIM-Signature", "DomainKey-Signature", "Sender"):
        assert left.values(name) == []
        [change] = [change for change in decision.plan.changes if change.what == name]
        assert change.new == ""
        assert change.reason
    assert left.values("Reply-To") == [f" Mallory <{MALLORY}>".encode()]
    assert left.values("X-Original-From") == [f" Mallory <{MALLORY}>".encode()]
    assert left.values("List-Id") == [b" x"]


def test_an_own_signature_of_an_unchanged_message_stays() -> None:
    header = f"{RECEIVED}DKIM-Signature: v=1; d=firma.example; b=abc\r\nFrom: {ANNA}\r\n{REST}"
    decision = _decide(header, ANNA)
    assert isinstance(decision, Decision)
    assert decision.plan.changes == ()


def test_a_provider_that_takes_any_sender_gets_the_message_as_it_is() -> None:
    anything = {"domain": replace(PROVIDERS["domain"], sender_rule=SenderRule.ANY, from_rule=SenderRule.ANY)}
    decision = _decide(f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}{REST}", rules=replace(RULES, providers=anything))
    assert isinstance(decision, Decision)
    assert (decision.route.account.id, decision.plan.changes) == ("anna", ())


# ---- strangers ----

FIELDS = ("Resent-From", "Resent-Sender", "X-Sieve-Redirected-From", "Delivered-To", "Sender", "X-Original-From")
_VALUES = [row[1] for row in NORMAL] + [row[1] for row in REFUSED]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("path", [MALLORY, ""])
def test_no_field_of_a_stranger_selects_an_account(field: str, path: str) -> None:
    """All forms of From that other tests read or refuse, about Bert, in the fields below our server's Received field."""
    values = {value.replace(b"a@b.example", BERT.encode()) for value in _VALUES} | {BERT.encode()}
    assert len(values) > 80
    for value in values:
        for name in (field, f"{field.lower()} "):
            spoofed = name.encode() + b": " + value + b"\r\n"
            for header in (
                RECEIVED.encode() + spoofed + FROM.encode() + REST.encode(),
                RECEIVED.encode() + FROM.encode() + spoofed + RECEIVED.encode() + spoofed + REST.encode(),
                RECEIVED.encode() + b" " + spoofed + spoofed + FROM.encode() + REST.encode(),
                RECEIVED.encode() + b"nonsense\r\n" + spoofed + FROM.encode() + REST.encode(),
                b"X-Spam: no\r\n"
                + RECEIVED.encode().replace(b"Received", b"RECEIVED")
                + spoofed
                + FROM.encode()
                + REST.encode(),
            ):
                decision = _decide(header, path)
                assert not isinstance(decision, Decision), header
                by_setting = _decide(header, path, rules=WITH_ACCOUNT)
                if isinstance(by_setting, Decision):
                    assert by_setting.route.account.id == "post", header


@pytest.mark.parametrize("field", ["Resent-From", "X-Sieve-Redirected-From", "Delivered-To", "Sender"])
def test_the_field_that_our_server_wrote_counts_beside_one_of_a_stranger(field: str) -> None:
    assert _sent(f"{field}: {ANNA}\r\n{RECEIVED}X-Sieve-Redirected-From: {BERT}\r\n{FROM}{REST}")[0] == "anna"


# ---- clients with limits ----

LIMITED = replace(SERVER, senders=(parse_pattern(ANNA), parse_pattern(SHOP)))


def test_a_limited_server_redirects_for_the_mailboxes_that_it_may_use() -> None:
    assert _sent(f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}{REST}", client=LIMITED) == VIA_ANNA
    assert _sent(f"X-Sieve-Redirected-From: {BERT}\r\nDelivered-To: {ANNA}\r\n{FROM}{REST}", client=LIMITED) == VIA_ANNA
    assert _sent(f"{RECEIVED}{FROM}{REST}", client=LIMITED, rules=WITH_ACCOUNT)[0] == "post"


@pytest.mark.parametrize(
    "header",
    [
        f"Delivered-To: {BERT}\r\n{RECEIVED}{FROM}",
        f"X-Sieve-Redirected-From: {BERT}\r\n{RECEIVED}{FROM}",
        f"Resent-From: {BERT}\r\n{RECEIVED}{FROM}",
        f"Sender: {BERT}\r\n{RECEIVED}{FROM}",
        f"Delivered-To: {ANNA}\r\nResent-Sender: {BERT}\r\n{RECEIVED}{FROM}",
        f"Delivered-To: {ANNA}\r\n{RECEIVED}From: {MALLORY}, {BERT}\r\n",
        f"Delivered-To: {ANNA}\r\n{RECEIVED}Sender: {BERT}\r\n{FROM}",
    ],
)
def test_a_limited_server_redirects_for_nobody_else(header: str) -> None:
    for path in (MALLORY, BERT, ""):
        refused = _decide(header + REST, path, client=LIMITED)
        assert isinstance(refused, Refusal), path


def test_a_limited_client_sends_no_foreign_address_as_it_is() -> None:
    for rule, other in ((SenderRule.ANY, SenderRule.DOMAIN), (SenderRule.DOMAIN, SenderRule.ANY)):
        providers = {"domain": replace(PROVIDERS["domain"], sender_rule=rule, from_rule=other)}
        refused = _decide(
            f"Delivered-To: {ANNA}\r\n{FROM}{REST}", client=LIMITED, rules=replace(RULES, providers=providers)
        )
        assert isinstance(refused, Refusal)
        assert f"may not send as {MALLORY}" in refused.reply.lines[0]


# ---- the words of a refusal ----


@pytest.mark.parametrize("path", [MALLORY, "x@y.fremd.example"])
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (f"{RECEIVED}{FROM}", SERVER),
        ("From: ana@firma.example\r\n", SERVER),
        (f"From: {BERT}\r\n", replace(SERVER, senders=(parse_pattern(ANNA),))),
        (f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}", SERVER),
        (f"From: {MALLORY}, ana@firma.example\r\n", SERVER),
    ],
)
def test_a_stranger_reads_no_command_of_ours_and_the_operator_gets_the_hint(
    header: str, client: Client, path: str
) -> None:
    refused = _decide(header + REST, path, client=client, rules=replace(RULES, senders=AuthorPolicy()))
    assert isinstance(refused, Refusal)
    assert "senderproxy " not in " ".join(refused.reply.lines)
    assert refused.hint
    local = _decide(header + REST, "root@vm.local", client=client, rules=replace(RULES, senders=AuthorPolicy()))
    assert isinstance(local, Refusal)
    assert local.unexplained_hint == ""
