"""Routes with real peers: smarthosts that are dead, slow, refuse everyone, or know us by a certificate, and a provider."""

from collections import Counter

import pytest

from tests.journeys.people import AUTHORS, office_under
from tests.journeys.queueing import copies, devices, wait_until_empty, wait_until_waiting
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_in
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.postfix import Postfix
from tests.peers.process import wait_until, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy
from tests.peers.smarthost import PostfixSmarthost

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

AUTHOR = AUTHORS[0]
SLOW = 3  # seconds
GOOD = ("plain", "certificates", "slow")


class Peers:
    """The provider, the smarthosts, and senderproxy between them and the office."""

    def __init__(self, bench: Bench) -> None:
        people = office_under(Rule.ADDRESS)
        self.provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
        self.hosts = {
            "plain": bench.start(PostfixSmarthost("plain")),
            "certificates": bench.start(PostfixSmarthost("certificates", by_certificate=True)),
            "slow": bench.start(PostfixSmarthost("slow", seconds=SLOW)),
            "refusing": bench.start(PostfixSmarthost("refusing", refuses="550 5.1.1 No such mailbox here")),
            "dead": bench.start(PostfixSmarthost("dead")),
        }
        self.hosts["dead"].stop()
        self.device_port = bench.port()
        self.relay = bench.start(
            Senderproxy.in_front_of(self.provider, people.accounts, more_settings=self.settings(*self.hosts))
        )

    def settings(self, *routed: str) -> str:
        """Routes of `NAME.test` by these smarthosts."""
        routes = "".join(f'[[routes]]\nrecipients = ["@{name}.test"]\nvia = "smarthost {name}"\n' for name in routed)
        sections = "".join(host.section(certificate=name == "certificates") for name, host in self.hosts.items())
        return f"{routes}{sections}{devices(self.device_port)}"

    def received(self) -> Counter[tuple[str, str, str]]:
        """(peer, letter, recipient) of each copy, without reports."""
        peers: dict[str, Postfix] = {"provider": self.provider, **self.hosts}
        return Counter(
            (name, *copy)
            for name, peer in peers.items()
            for copy, count in copies(peer.received()).items()  # type: ignore[attr-defined]
            for _ in range(count)
        )

    def logins(self) -> set[str | None]:
        """The login of each letter at the provider."""
        return {delivery.login for delivery in self.provider.received()}

    def reports(self) -> list[bytes]:
        """The reports that the author gets through the provider."""
        return [d.content for d in self.provider.received() if "multipart/report" in str(d.header("Content-Type"))]


def letter_to(number: int, *names: str) -> Letter:
    recipients = tuple(f"r{number}@{name}.test" for name in names)
    return Letter(AUTHOR, recipients, f"{number}@desk.office.test")


ALL = ("kunde", *GOOD, "refusing", "dead")


@pytest.mark.parametrize("mode", ["pass-through", "queue"])
def test_each_recipient_goes_its_own_way_once_whatever_the_others_do(bench: Bench, mode: str) -> None:
    peers = Peers(bench)
    port = peers.relay.port if mode == "pass-through" else peers.device_port
    letters = [letter_to(number, *ALL) for number in range(3)]
    hand_in(port, letters)

    def expected(*names: str) -> Counter[tuple[str, str, str]]:
        where = {"kunde": "provider"}
        return Counter(
            (where.get(name, name), letter.message_id, f"r{number}@{name}.test")
            for number, letter in enumerate(letters)
            for name in names
        )

    wait_until(lambda: peers.received() >= expected("kunde", *GOOD), "the good ones", 240, peer=peers.relay)
    wait_until(lambda: len(peers.reports()) == len(letters), "a report on each letter", 240, peer=peers.relay)
    assert peers.received() == expected("kunde", *GOOD)
    assert peers.logins() == {AUTHOR}
    for number in range(len(letters)):
        told = next(report for report in peers.reports() if f"r{number}@refusing.test".encode() in report)
        assert b"550" in told
        assert f"Final-Recipient: rfc822; r{number}@dead.test".encode() not in told
    wait_until_waiting(peers.relay, len(letters))  # those of the dead one, and nothing else
    status = peers.relay.command("status", exit_code=1)
    assert "No mail can be handed to smarthost dead" in status
    listed = peers.relay.command("queue", "list")
    assert "smarthost dead" in listed
    peers.relay.kill()
    peers.relay.start()
    peers.hosts["dead"].start()
    wait_until_empty(peers.relay)
    wait_until(lambda: peers.received() >= expected("dead"), "the late ones", peer=peers.relay)
    assert peers.received() == expected("kunde", *GOOD, "dead")
    assert peers.logins() == {AUTHOR}


def test_a_slow_smarthost_holds_up_no_other_mail(bench: Bench) -> None:
    peers = Peers(bench)
    slow = peers.hosts["slow"]
    hand_in(peers.device_port, [letter_to(number, "slow") for number in range(20)])
    slow.lines_written("client=")  # it has the first one
    with slow.frozen():  # however long the others take
        hand_in(peers.device_port, [letter_to(number, "kunde") for number in range(100, 120)])
        peers.provider.wait_until(lambda: len(peers.provider.received()) == 20, "the others")
        assert len(slow.mailbox()) < 20
    wait_until_empty(peers.relay)
    assert len(slow.received()) == 20


def test_without_its_certificate_the_mail_waits_and_leaves_with_it(bench: Bench) -> None:
    peers = Peers(bench)
    right = peers.settings("certificates")
    peers.relay.configure(right.replace("certificate = ", "# certificate = ").replace("key = ", "# key = "))
    hand_in(peers.device_port, [letter_to(1, "certificates", "kunde")])
    peers.provider.wait_until(lambda: len(peers.provider.received()) == 1, "the other recipient")
    wait_until(lambda: "Relay access denied" in peers.relay.log(), "it is refused", peer=peers.relay)
    assert not peers.hosts["certificates"].received()
    peers.relay.configure(right)
    wait_until_empty(peers.relay)
    (delivery,) = peers.hosts["certificates"].received()
    assert delivery.recipients == ["r1@certificates.test"]
    assert delivery.reverse_path == AUTHOR


def test_waiting_mail_leaves_by_the_account_when_its_smarthost_is_gone_from_the_configuration(bench: Bench) -> None:
    peers = Peers(bench)
    letters = [letter_to(number, "dead") for number in range(5)]
    hand_in(peers.device_port, letters)
    peers.relay.wait_for_log("no session at a server without a login")
    peers.relay.configure(devices(peers.device_port))
    wait_until_empty(peers.relay)
    arrived = copies(peers.provider.received())
    assert arrived == Counter((letter.message_id, letter.recipients[0]) for letter in letters)
    assert peers.logins() == {AUTHOR}
