"""The Postfix of the guide sends through senderproxy."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.journeys.people import AUTHORS, DOMAINS, office_under
from tests.peers.bench import Bench
from tests.peers.letters import hand_in, letters_from
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

PAGE = Path(__file__).parents[2] / "docs/guides/postfix.md"


class GuidedOffice(PostfixOffice):
    """An internal server with the lines of the guide in its main.cf."""

    def settings(self) -> Mapping[str, str]:
        """Its own domains, and the lines of the guide with the port of this test."""
        [lines] = re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        guide = dict(line.split(" = ") for line in lines.replace(":2525", f":{self.relay_port}").splitlines())
        own = ("virtual_mailbox_domains", "smtpd_relay_restrictions", "virtual_transport", "virtual_mailbox_maps")
        return {**{name: value for name, value in super().settings().items() if name in own}, **guide}


def test_postfix_with_the_lines_of_the_guide(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, Rule.ADDRESS))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts))
    office = bench.start(GuidedOffice(relay.port, DOMAINS))
    letters = letters_from(AUTHORS, 20)
    hand_in(office.port, letters)
    provider.wait_until(lambda: len(provider.received()) >= len(letters), "every letter at the provider", 60)
    assert sorted(each.reverse_path for each in provider.received()) == sorted(letter.author for letter in letters)
    assert office.settings()["relayhost"] == f"[127.0.0.1]:{relay.port}"
