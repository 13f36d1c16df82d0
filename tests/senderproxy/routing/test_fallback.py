"""How much of an account's mail its fallback may send."""

import pytest

from senderproxy.routing.fallback import Fallback, Share, permitted_share
from senderproxy.routing.provider import Provider, SenderRule
from tests.senderproxy.routing.office import account

RESERVE = account("reserve", "reserve@firma.example")


@pytest.mark.parametrize(
    ("addresses", "rule", "rewrites", "share"),
    [
        ("anna@firma.example", SenderRule.ANY, False, Share.ALL),
        ("anna@firma.example", SenderRule.DOMAIN, False, Share.ALL),
        ("anna@firma.example", SenderRule.ADDRESS, False, Share.NONE),
        ("anna@firma.example", SenderRule.ADDRESS, True, Share.ALL),
        ("anna@firma.example post@laden.example", SenderRule.DOMAIN, False, Share.SOME),
        ("anna@firma.example post@laden.example", SenderRule.DOMAIN, True, Share.ALL),
        ("anna@firma.example @laden.example", SenderRule.DOMAIN, False, Share.SOME),
        ("anna@firma.example @laden.example", SenderRule.ANY, False, Share.ALL),
        ("anna@laden.example @laden.example", SenderRule.DOMAIN, False, Share.NONE),
    ],
)
def test_share_of_the_mail_that_a_fallback_may_send(
    addresses: str, rule: SenderRule, rewrites: bool, share: Share
) -> None:
    provider = Provider("second", (), sender_rule=rule, from_rule=rule)
    assert permitted_share(account("anna", *addresses.split()), Fallback("anna", RESERVE, provider, rewrites)) is share
