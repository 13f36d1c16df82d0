"""The provider of the tests keeps its rules, so that a journey through it proves something."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.peers.bench import Bench
from tests.peers.letters import Letter
from tests.peers.mail_client import MailClient
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = Mailbox("anna@firma.test", "geheim-anna", aliases=("vertrieb@firma.test",))
BERT = Mailbox("bert@andere.test", "geheim-bert")


@contextmanager
def logged_in(provider: PostfixProvider, mailbox: Mailbox, *, implicit: bool = False) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context(cafile=str(provider.authority.ca_file))
    client: smtplib.SMTP
    if implicit:
        client = smtplib.SMTP_SSL("localhost", provider.tls_port, timeout=30, context=context)
    else:
        client = smtplib.SMTP("localhost", provider.starttls_port, timeout=30)
    with client:
        if not implicit:
            client.starttls(context=context)
        client.login(mailbox.login, mailbox.password)
        yield client


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit-tls"])
def test_a_login_may_send_as_itself_and_the_login_is_on_record(bench: Bench, *, implicit: bool) -> None:
    provider = bench.start(PostfixProvider([ANNA, BERT], Rule.ADDRESS))
    letter = Letter("anna@firma.test", ("a@kunde.test", "b@kunde.test"), "1@desk")
    with logged_in(provider, ANNA, implicit=implicit) as client:
        client.sendmail(letter.author, letter.recipients, letter.content, ["BODY=8BITMIME"])
    provider.wait_until(
        lambda: len(provider.received()[0:1]) == 1 and len(provider.received()[0].recipients) == 2, "both"
    )
    [arrived] = provider.received()
    assert arrived.login == "anna@firma.test"
    assert arrived.reverse_path == "anna@firma.test"
    assert sorted(arrived.recipients) == ["a@kunde.test", "b@kunde.test"]
    assert arrived.content == letter.content
    assert arrived.header("message-id") == "<1@desk>"


@pytest.mark.parametrize(
    ("rule", "reverse_path", "taken"),
    [
        (Rule.ADDRESS, "anna@firma.test", True),
        (Rule.ADDRESS, "vertrieb@firma.test", True),
        (Rule.ADDRESS, "einkauf@firma.test", False),
        (Rule.ADDRESS, "bert@andere.test", False),
        (Rule.ADDRESS, "", False),
        (Rule.DOMAIN, "anna@firma.test", True),
        (Rule.DOMAIN, "einkauf@firma.test", True),
        (Rule.DOMAIN, "bert@andere.test", False),
        (Rule.DOMAIN, "niemand@fremd.test", False),
        (Rule.DOMAIN, "", False),
    ],
)
def test_a_login_is_held_to_the_rule(bench: Bench, rule: Rule, reverse_path: str, *, taken: bool) -> None:
    provider = bench.start(PostfixProvider([ANNA, BERT], rule))
    with logged_in(provider, ANNA) as client:
        client.mail(reverse_path)
        code, text = client.rcpt("a@kunde.test")
    assert (code == 250) is taken, text
    if not taken:
        assert code in {550, 553}


def test_a_provider_may_refuse_at_mail_from_and_may_take_the_null_sender(bench: Bench) -> None:
    provider = bench.start(PostfixProvider([ANNA], Rule.DOMAIN, takes_null_sender=True, refuses_at_mail=True))
    with logged_in(provider, ANNA) as client:
        assert client.mail("bert@andere.test")[0] == 553
        assert client.mail("")[0] == 250
        assert client.rcpt("unknown-x@kunde.test")[0] == 550
        assert client.rcpt("busy-x@kunde.test")[0] == 450


def test_each_wrong_password_is_counted_until_it_is_changed(bench: Bench) -> None:
    provider = bench.start(PostfixProvider([ANNA], Rule.DOMAIN))
    wrong = Mailbox(ANNA.login, "geheim-verwechselt")
    with pytest.raises(smtplib.SMTPAuthenticationError), logged_in(provider, wrong):
        pass
    both_mechanisms = ["anna@firma.test", "anna@firma.test"]  # smtplib goes on to the next one
    provider.wait_until(lambda: provider.failed_logins() == both_mechanisms, "two refused attempts on record")
    provider.sasl.change_password(ANNA.login, "geheim-verwechselt")
    with logged_in(provider, wrong):
        pass
    assert provider.failed_logins() == both_mechanisms


def test_nobody_relays_without_a_login_or_logs_in_without_tls(bench: Bench) -> None:
    provider = bench.start(PostfixProvider([ANNA], Rule.DOMAIN))
    with MailClient("localhost", provider.starttls_port, timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=ssl.create_default_context(cafile=str(provider.authority.ca_file)))
        client.ehlo()
        client.mail("anna@firma.test")
        assert client.rcpt("a@kunde.test")[0] == 554
