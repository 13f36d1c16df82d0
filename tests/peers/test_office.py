"""The offices of the tests behave as an office's server does, so that a journey that starts there proves something."""

from pathlib import Path

import pytest

from tests.peers.bench import Bench
from tests.peers.clients import ClientLogin, msmtp, swaks
from tests.peers.exim import Exim
from tests.peers.letters import Letter, hand_in, letters_from
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, EXIM, POSTFIX
from tests.peers.process import reserved_ports, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule

reason = why_not_here(POSTFIX, DOVECOT, EXIM, "swaks", "msmtp", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = Mailbox("anna@firma.test", "geheim-anna")
BERT = Mailbox("bert@andere.test", "geheim-bert")


def test_an_office_with_one_login_for_all_gets_the_others_mail_back(bench: Bench) -> None:
    provider = bench.start(PostfixProvider([ANNA, BERT], Rule.DOMAIN))
    office = bench.start(
        PostfixOffice(
            provider.starttls_port,
            ["firma.test", "andere.test"],
            one_login_for_all=ANNA,
            ca_file=provider.authority.ca_file,
        )
    )
    hand_in(office.port, letters_from([ANNA.login, BERT.login], 6))
    office.wait_until_nothing_waits()
    provider.wait_until(lambda: len(provider.received()) == 3, "three letters at the provider")
    assert {mail.login for mail in provider.received()} == {ANNA.login}
    office.wait_until(lambda: len(office.returned()) == 3, "three bounces")
    assert {bounce.recipients[0] for bounce in office.returned()} == {BERT.login}
    words = b" ".join(office.returned()[0].content.split())
    assert b"Sender address rejected: not owned by user anna@firma.test" in words


def test_many_messages_share_a_connection(bench: Bench) -> None:
    inner = bench.start(PostfixOffice(1, ["kunde.test"]))
    office = bench.start(PostfixOffice(inner.port, ["firma.test"]))
    hand_in(office.port, letters_from([ANNA.login], 20))
    inner.wait_until(lambda: len(inner.mailbox()) == 20, "twenty letters")
    office.wait_until(lambda: office.most_messages_over_one_connection() > 1, "several over one connection")


def test_what_cannot_be_sent_waits_with_its_reason_and_goes_when_pushed(bench: Bench) -> None:
    inner = bench.start(PostfixOffice(1, ["kunde.test"]))
    office = bench.start(PostfixOffice(inner.port, ["firma.test"]))
    inner.stop()
    hand_in(office.port, [Letter(ANNA.login, ("a@kunde.test",), "1@desk")])
    office.wait_until(lambda: [mail.queue for mail in office.waiting()] == ["deferred"], "deferred")
    [waiting] = office.waiting()
    assert waiting.reverse_path == ANNA.login
    assert waiting.recipients == ("a@kunde.test",)
    assert "Connection refused" in waiting.reasons[0]
    inner.start()
    office.flush()
    office.wait_until_nothing_waits()
    inner.wait_until(lambda: len(inner.mailbox()) == 1, "the letter")


def test_two_offices_live_side_by_side(bench: Bench) -> None:
    offices = [bench.start(PostfixOffice(1, [f"firma{number}.test"])) for number in range(3)]
    for number, office in enumerate(offices):
        hand_in(office.port, [Letter(ANNA.login, (f"a@firma{number}.test",), f"{number}@desk")])
    for number, office in enumerate(offices):
        office.wait_until(office.mailbox, "its own letter")
        assert office.mailbox()[0].header("Message-ID") == f"<{number}@desk>"


def test_exim_sends_its_queue_over_one_connection_and_returns_what_is_refused(bench: Bench) -> None:
    with reserved_ports(1) as [nobody]:
        sink = bench.start(PostfixOffice(nobody, ["kunde.test"]))
        exim = bench.start(Exim(sink.port, ["firma.test"]))
        letters = letters_from([ANNA.login], 5)
        hand_in(exim.port, letters)
        assert len([line for line in exim.queue() if "<anna@firma.test>" in line]) == 5
        exim.send_queue()
        assert exim.queue() == []
    sink.wait_until(lambda: len(sink.mailbox()) == 5, "five letters")
    assert {mail.header("Message-ID") for mail in sink.mailbox()} == {f"<{letter.message_id}>" for letter in letters}
    # an asterisk behind the address: the message went over an open connection
    assert len(exim.log_lines(r"=> .* H=127\.0\.0\.1 \[127\.0\.0\.1\]\*")) == 4


def test_exim_brings_bounces_home(bench: Bench) -> None:
    provider = bench.start(PostfixProvider([ANNA], Rule.DOMAIN))  # refuses whoever has not logged in
    exim = bench.start(Exim(provider.starttls_port, ["firma.test"]))
    hand_in(exim.port, [Letter(ANNA.login, ("a@kunde.test",), "1@desk")])
    exim.send_queue()
    exim.send_queue()  # the bounce itself
    [bounce] = exim.returned()
    assert b"554 5.7.1 <a@kunde.test>: Recipient address rejected" in b" ".join(bounce.split())


def test_swaks_and_msmtp_tell_what_they_were_answered(bench: Bench, tmp_path: Path) -> None:
    provider = bench.start(PostfixProvider([ANNA], Rule.DOMAIN))
    login = ClientLogin(ANNA.login, ANNA.password)
    letter = Letter(ANNA.login, ("a@kunde.test", "b@kunde.test"), "1@desk")
    tls = ["--tls-verify", "--tls-ca-path", str(provider.authority.ca_file), "--tls", "--auth", "PLAIN"]
    for client in ("swaks", "msmtp"):
        for reverse_path, taken in ((ANNA.login, True), (BERT.login, False)):
            if client == "swaks":
                sent = swaks(
                    tmp_path,
                    provider.starttls_port,
                    reverse_path=reverse_path,
                    recipients=letter.recipients,
                    content=letter.content,
                    options=tls,
                    login=login,
                )
            else:
                sent = msmtp(
                    tmp_path,
                    provider.starttls_port,
                    reverse_path=reverse_path,
                    recipients=letter.recipients,
                    content=letter.content,
                    ca_file=provider.authority.ca_file,
                    login=login,
                )
            assert (sent.exit_code == 0) is taken, sent.transcript
            assert ("not owned by user" in sent.transcript) is not taken, sent.transcript
            assert ANNA.password not in sent.transcript
    provider.wait_until(
        lambda: sum(len(mail.recipients) for mail in provider.received()) == 4, "two letters to two people"
    )
    for mail in provider.received():
        assert mail.content == letter.content
