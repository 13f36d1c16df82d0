"""`check --probe` against a real provider: what it finds is what the provider was set up with, and nothing is sent."""

import re

import pytest

from tests.journeys.sender_cases import ACCOUNTS, MAILBOXES
from tests.peers.bench import Bench
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


@pytest.mark.parametrize(
    ("rule", "null_taken", "refuses_at_mail"),
    [
        (Rule.DOMAIN, False, False),
        (Rule.DOMAIN, True, True),
        (Rule.ADDRESS, True, False),
        (Rule.ADDRESS, False, True),
    ],
)
def test_what_is_found_is_what_the_provider_does(
    bench: Bench, rule: Rule, null_taken: bool, refuses_at_mail: bool
) -> None:
    provider = bench.start(
        PostfixProvider(MAILBOXES, rule, takes_null_sender=null_taken, refuses_at_mail=refuses_at_mail)
    )
    relay = bench.start(Senderproxy.in_front_of(provider, ACCOUNTS[:1]))
    right = relay.command("check", "--probe", "--yes")
    assert f'ok       sender_rule of hoster: "{rule.value}" is right' in right
    assert f"ok       takes_null_reverse_path of hoster: {str(null_taken).lower()} is right" in right
    assert "WRONG" not in right
    [other] = [each for each in Rule if each is not rule]
    section = f"""
host = "localhost"
port = {provider.starttls_port}
security = "starttls"
ca_file = "{provider.authority.ca_file}"
sender_rule = "{other.value}"
takes_null_reverse_path = {str(not null_taken).lower()}
"""
    relay.provide(section)
    mended = relay.command("check", "--probe", "--yes", exit_code=0 if rule is Rule.DOMAIN and null_taken else 1)
    assert f'it is "{rule.value}", and the configuration has "{other.value}"' in mended
    assert f'sender_rule = "{rule.value}"' in mended
    assert f"takes_null_reverse_path = {str(null_taken).lower()} in [providers.hoster]" in mended
    # of each probe one login, with which everything was asked; no DATA, and so no message
    provider.wait_until(lambda: len(provider.log_lines(" auth=1 .* quit=1 ")) >= 2, "both probes said good-bye")
    ended = provider.log_lines(r"disconnect from .* auth=1 .* quit=1 ")
    assert len(ended) == 2
    for line in ended:
        assert re.search(r" mail=(\d/)?4 rcpt=\S+ rset=4 quit=1 ", line), line
    assert provider.received() == []
