"""What is changed so that the provider takes a message, and what is left alone."""

import pytest

from senderproxy.mail.address import NULL_PATH, parse_address, parse_pattern
from senderproxy.mail.author import Authors, Mailbox
from senderproxy.mail.envelope import Envelope
from senderproxy.rewriting.plan import RewritePlan, plan_rewrite
from senderproxy.routing.account import Account
from senderproxy.routing.directory import Tier
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import Refusal, Route, Source

OWN = "anna@firma.example"
ALIAS = "info@firma.example"
SECOND_DOMAIN = "anna@laden.example"
STRANGER = "alice@elsewhere.example"
ACCOUNT = Account(
    "anna", OWN, "p", parse_address(OWN), tuple(parse_pattern(text) for text in (OWN, ALIAS, "@laden.example"))
)


def _plan(
    rule: SenderRule, author: str | None, path: str, *, holds_from: bool = True, tier: Tier = Tier.EXACT
) -> RewritePlan | Refusal:
    provider = Provider("p", (), sender_rule=rule, holds_from=holds_from)
    authors = Authors((Mailbox(parse_address(author), None),) if author else (), None, ())
    reverse_path = parse_address(path) if path else NULL_PATH
    route = Route(ACCOUNT, provider, parse_address(author or OWN), Source.FROM, tier)
    return plan_rewrite(route, authors, Envelope(reverse_path, (parse_address("kunde@customer.example"),)))


@pytest.mark.parametrize(
    ("rule", "author", "path", "leaves", "doubts"),
    [
        (SenderRule.DOMAIN, OWN, OWN, OWN, 0),
        (SenderRule.DOMAIN, ALIAS, ALIAS, ALIAS, 0),
        (SenderRule.DOMAIN, "anna+shop@firma.example", OWN, OWN, 0),
        (SenderRule.DOMAIN, OWN, STRANGER, OWN, 0),
        (SenderRule.DOMAIN, SECOND_DOMAIN, SECOND_DOMAIN, SECOND_DOMAIN, 2),
        (SenderRule.ADDRESS, OWN, OWN, OWN, 0),
        (SenderRule.ADDRESS, ALIAS, ALIAS, ALIAS, 0),
        (SenderRule.ADDRESS, OWN, "bounce@elsewhere.example", OWN, 0),
        (SenderRule.ADDRESS, SECOND_DOMAIN, SECOND_DOMAIN, SECOND_DOMAIN, 2),
        (SenderRule.ANY, OWN, STRANGER, STRANGER, 0),
        (SenderRule.ANY, STRANGER, STRANGER, STRANGER, 0),
        (SenderRule.DOMAIN, OWN, "", "", 1),
        (SenderRule.DOMAIN, None, OWN, OWN, 0),
    ],
)
def test_the_reverse_path_that_leaves(
    rule: SenderRule, author: str | None, path: str, leaves: str, doubts: int
) -> None:
    plan = _plan(rule, author, path)
    assert isinstance(plan, RewritePlan)
    assert str(plan.envelope.reverse_path) == leaves
    assert len(plan.changes) == (path != leaves)
    assert len(plan.doubts) == doubts


def test_every_change_says_why() -> None:
    plan = _plan(SenderRule.DOMAIN, OWN, STRANGER)
    assert isinstance(plan, RewritePlan)
    assert plan.changes[0].old == STRANGER
    assert "takes senders of the domain firma.example only" in plan.changes[0].reason


def test_an_author_who_is_not_of_this_office_is_refused_with_the_command_that_would_let_them() -> None:
    refusal = _plan(SenderRule.DOMAIN, STRANGER, OWN, tier=Tier.DEFAULT)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.code == 550
    assert f"account edit anna --also {STRANGER}" in refusal.reply.text


def test_a_provider_that_does_not_look_at_from_is_not_second_guessed() -> None:
    assert isinstance(_plan(SenderRule.DOMAIN, STRANGER, OWN, holds_from=False, tier=Tier.DEFAULT), RewritePlan)
