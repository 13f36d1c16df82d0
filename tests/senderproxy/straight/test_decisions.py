"""Remembered decisions: none is ever used for a message that could have another one."""

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest

from senderproxy.mail.address import Address, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.rewriting.plan import RewritePlan
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.provider import Provider, Security, SenderRule, Smarthost
from senderproxy.routing.route import AddressSource, RoutingPolicy
from senderproxy.straight.decisions import RememberedDecisions, for_message, usual_decision
from senderproxy.straight.usual_header import author_lines
from tests.senderproxy.delivery.office import MemoryAccounts

SMARTHOST = Smarthost("smtp.provider.example", 465, Security.IMPLICIT_TLS, None)
CLIENT = Client("192.168.1.20", "pc", "ESMTP")
ANNA = parse_address("anna@firma.example")
KUNDE = parse_address("kunde@kunde.example")


def office(**more: object) -> tuple[MemoryAccounts, Rules]:
    """Anna and Bert, at a provider that takes any sender."""
    accounts = MemoryAccounts()
    for name in ("anna", "bert"):
        accounts.add(name, f"{name}@firma.example", "geheim-x")
    provider = Provider("simulator", (SMARTHOST,), sender_rule=SenderRule.ANY, from_rule=SenderRule.ANY)
    return accounts, Rules("relay.firma.example", {"simulator": provider}, RoutingPolicy(), **more)  # type: ignore[arg-type]


def remembered(
    accounts: MemoryAccounts,
    rules: Rules,
    author: str = "anna@firma.example",
    path: Address = ANNA,
    more: str = "",
    client: Client = CLIENT,
) -> Decision | None:
    """The decision that would be remembered for a message."""
    raw = f"From: {author}\r\n{more}Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@x>\r\n\r\n".encode()
    found = author_lines(raw, 100)
    assert found is not None
    facts = MessageFacts(HeaderSection(raw), Envelope(path, (KUNDE,)), client, "m1", datetime(2026, 1, 31, tzinfo=UTC))
    return usual_decision(decide(facts, accounts.directory(), rules), (*found, path))


def test_for_another_message_a_decision_changes_in_its_envelope_only() -> None:
    # A field that is added here is to be kept by for_message, or to be refused by usual_decision.
    assert [one.name for one in fields(Decision)] == [
        "route", "plan", "report_to", "is_internal", "undone", "ways", "hop", "is_copied",
    ]  # fmt: skip
    assert [one.name for one in fields(RewritePlan)] == ["envelope", "rounds", "changes", "content_changes", "cuts"]
    decision = remembered(*office())
    assert decision is not None
    other = Envelope(ANNA, (KUNDE, parse_address("chef@kunde.example")), eight_bit=True)
    for each in (decision, replace(decision, is_internal=not decision.is_internal)):
        assert for_message(each, other) == replace(each, plan=replace(each.plan, envelope=other))


def test_the_account_of_the_one_author_is_remembered() -> None:
    decision = remembered(*office())
    assert decision is not None
    assert decision.route.account.id == "anna"


@pytest.mark.parametrize(
    ("author", "path"),
    [
        ("fremd@elsewhere.example", ANNA),  # a redirect, by the reverse-path
        ("fremd@elsewhere.example", parse_address("fremd@elsewhere.example")),
        ("anna@firma.example, bert@firma.example", ANNA),
        ("nobody@elsewhere.example", parse_address("bert@firma.example")),
    ],
)
def test_a_message_that_another_address_brings_to_an_account_is_not(author: str, path: Address) -> None:
    """At a provider that takes any sender it leaves unchanged, and yet not by the account of its author."""
    policies = (ForeignAuthorPolicy.REJECT, None), (ForeignAuthorPolicy.REWRITE, "bert")
    for policy, account in policies:
        accounts, rules = office(senders=AuthorPolicy(policy, account))
        assert remembered(accounts, replace(rules, routing=RoutingPolicy(default_account="anna")), author, path) is None


def test_an_order_that_asks_another_field_first_is_not_remembered() -> None:
    accounts, rules = office()
    order = (AddressSource.SENDER, AddressSource.FROM, AddressSource.REVERSE_PATH)
    rules = replace(rules, routing=RoutingPolicy(order))
    assert remembered(accounts, rules, more="Sender: bert@firma.example\r\n") is None
    assert remembered(accounts, rules) is not None


def test_mapped_authors_changed_messages_and_refusals_are_not_remembered() -> None:
    accounts, rules = office()
    bert = parse_address("bert@firma.example")
    assert remembered(accounts, replace(rules, senders=AuthorPolicy(mapped=AuthorMap({ANNA.key: bert})))) is None
    assert remembered(accounts, rules, client=replace(CLIENT, senders=())) is None
    own = Provider("simulator", (SMARTHOST,), sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS)
    assert remembered(accounts, replace(rules, providers={"simulator": own}), path=bert) is None


def test_accounts_with_a_fallback_are_not_remembered() -> None:
    accounts, rules = office()
    accounts.accounts["anna"] = replace(accounts.accounts["anna"], fallback="bert")
    assert remembered(accounts, rules) is None


def test_each_client_has_its_own_decisions_and_a_change_ends_all() -> None:
    accounts, rules = office()
    decision = remembered(accounts, rules)
    memory = RememberedDecisions()
    key = (b" anna@firma.example", b"", ANNA)
    mine = memory.of(CLIENT)
    mine.use(accounts.directory(), rules)
    mine.remember(key, decision)
    assert memory.of(replace(CLIENT)) is mine
    for other in (
        replace(CLIENT, user="bert"), replace(CLIENT, host="192.168.1.21"), replace(CLIENT, name="other"),
        replace(CLIENT, senders=()), replace(CLIENT, protocol="ESMTPS"),
    ):  # fmt: skip
        assert key not in memory.of(other).found
    mine.use(accounts.directory(), rules)
    assert mine.found[key] is decision
    mine.use(accounts.directory(), replace(rules))
    assert key not in mine.found
    mine.remember(key, decision)
    accounts.remove("bert")
    mine.use(accounts.directory(), rules)
    assert key not in mine.found


def test_memory_is_bounded() -> None:
    memory = RememberedDecisions()
    for number in range(2_000):
        decisions = memory.of(replace(CLIENT, name=f"pc{number}"))
    for number in range(2_000):
        decisions.remember((b"%d" % number, b"", ANNA), None)
    assert len(memory._clients) <= 500
    assert len(decisions.found) <= 50


def test_a_remembered_decision_gets_the_envelope_of_the_message() -> None:
    decision = remembered(*office())
    assert decision is not None
    other = Envelope(ANNA, (parse_address("chef@kunde.example"),), eight_bit=True)
    assert for_message(decision, other).plan.envelope == other
