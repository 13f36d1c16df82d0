"""Messages that a real Postfix takes from programs and devices, on their way through senderproxy to a provider."""

import pytest

from tests.journeys.people import DOMAINS, office_under
from tests.peers.bench import Bench
from tests.peers.exim import Exim
from tests.peers.mail_client import MailClient
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, EXIM, POSTFIX
from tests.peers.process import LOOPBACK, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, EXIM, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = "anna@firma.test"
FIELDS = "From: Anna <anna@firma.test>\r\nTo: kunde@kunde.test\r\nDate: Sun, 29 Nov 2026 10:00:00 +0100\r\nMessage-ID: <{id}@x.test>\r\n"
LONG = "reply+" + "0a1b2c3d" * 9 + "@kunde.test"

# Local names in From and To are not among them: Postfix completes them with its own domain.
# id, recipient, parameters of MAIL, header section without Message-ID, pattern of a field that must arrive
MESSAGES = [
    ("umlaut", "kunde@kunde.test", ["SMTPUTF8", "BODY=8BITMIME"], FIELDS + "Subject: Prüfung\r\n", "Subject: =?utf-8?"),
    ("long", LONG, [], FIELDS + "Subject: x\r\n", "Subject: x"),
    ("dot", "kunde@kunde.test.", [], FIELDS + "Subject: x\r\n", "Subject: x"),
    ("twice", "kunde@kunde.test", [], FIELDS + "From: anna@firma.test\r\n", "From: Anna <anna@firma.test>"),
    ("sender", "kunde@kunde.test", [], FIELDS + "Sender: www-data\r\n", "From: Anna <anna@firma.test>"),
    ("date", "kunde@kunde.test", [], FIELDS.replace("+0100", "MEZ"), "Date: Sun, 29 Nov 2026 10:00:00 +0100"),
    ("text", "kunde@kunde.test", [], FIELDS + "Task scan is done\r\nSee it\r\n", "\r\n\r\nTask scan is done"),
]  # fmt: skip


def test_what_postfix_delivers_is_delivered_through_senderproxy(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts, implicit_tls=True))
    office = bench.start(PostfixOffice(relay.port, DOMAINS))
    with MailClient(LOOPBACK, office.port, local_hostname="desk.office.test", timeout=60) as client:
        for name, recipient, parameters, header, _ in MESSAGES:
            content = header.format(id=name) + "\r\nGuten Tag\r\n"
            refused = client.sendmail(ANNA, [recipient], content.encode(), parameters)
            assert not refused, (name, refused)
    office.wait_until_nothing_waits(60)
    provider.wait_until(lambda: len(provider.received()) >= len(MESSAGES), "every message at the provider")
    arrived = {
        str(mail.header("Message-ID")).partition("@")[0].strip("<"): mail.content for mail in provider.received()
    }
    assert office.returned() == []
    for name, _, _, _, expected in MESSAGES:
        assert expected.encode() in arrived[name], (name, arrived[name])


def test_what_exim_delivers_is_delivered_through_senderproxy(bench: Bench) -> None:
    """The same messages, without a dot behind the domain: Exim refuses that itself."""
    messages = [message for message in MESSAGES if message[0] != "dot"]
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts, implicit_tls=True))
    exim = bench.start(Exim(relay.port, DOMAINS))
    with MailClient(LOOPBACK, exim.port, local_hostname="desk.office.test", timeout=60) as client:
        client.ehlo()
        for name, recipient, parameters, header, _ in messages:
            content = header.format(id=name) + "\r\nGuten Tag\r\n"
            offered = [word for word in parameters if client.has_extn(word.partition("=")[2] or word)]
            refused = client.sendmail(ANNA, [recipient], content.encode(), offered)
            assert not refused, (name, refused)
    exim.send_queue()
    assert exim.queue() == []
    assert exim.returned() == []
    provider.wait_until(lambda: len(provider.received()) >= len(messages), "every message at the provider")
    arrived = {
        str(mail.header("Message-ID")).partition("@")[0].strip("<"): mail.content for mail in provider.received()
    }
    for name, _, _, _, expected in messages:
        assert expected.encode() in arrived[name], (name, arrived[name])
