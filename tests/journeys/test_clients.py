"""The same story with other programs in the office: swaks, msmtp, and Exim as the internal server."""

from collections import Counter
from pathlib import Path

import pytest

from tests.journeys.people import AUTHORS, DOMAINS, office_under
from tests.peers.bench import Bench
from tests.peers.clients import Sent, msmtp, swaks
from tests.peers.exim import Exim
from tests.peers.letters import Letter, hand_in, letters_from
from tests.peers.packages import DOVECOT, EXIM, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, EXIM, "swaks", "msmtp", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def send(client: str, folder: Path, port: int, letter: Letter) -> Sent:
    if client == "msmtp":
        return msmtp(folder, port, reverse_path=letter.author, recipients=letter.recipients, content=letter.content)
    options = ["--pipeline"] if client == "swaks-pipelining" else []
    return swaks(
        folder,
        port,
        reverse_path=letter.author,
        recipients=letter.recipients,
        content=letter.content,
        options=options,
    )


@pytest.mark.parametrize("client", ["swaks", "swaks-pipelining", "msmtp"])
@pytest.mark.parametrize("rule", list(Rule), ids=lambda rule: rule.value)
def test_each_letter_arrives_once_on_the_right_login(bench: Bench, tmp_path: Path, client: str, rule: Rule) -> None:
    people = office_under(rule)
    provider = bench.start(PostfixProvider(people.mailboxes, rule))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts))
    letters = letters_from(AUTHORS[:5], 10)
    for letter in letters:
        sent = send(client, tmp_path, relay.port, letter)
        assert sent.exit_code == 0, sent.transcript
    # the client was told 250, so the provider has it: only its own delivery to the mailbox is waited for
    provider.wait_until(lambda: len(provider.received()) >= len(letters), "every letter")
    received = {str(delivery.header("Message-ID")).strip("<>"): delivery for delivery in provider.received()}
    assert len(provider.received()) == len(letters)
    for letter in letters:
        delivery = received[letter.message_id]
        assert delivery.login == people.carried_by[letter.author]
        assert delivery.reverse_path == letter.author
        assert delivery.recipients == list(letter.recipients)
        assert delivery.content.endswith(b"\r\n" + letter.content)
    assert provider.failed_logins() == []


@pytest.mark.parametrize("client", ["swaks", "swaks-pipelining", "msmtp"])
def test_the_client_is_told_why_a_letter_was_not_taken(bench: Bench, tmp_path: Path, client: str) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, Rule.ADDRESS))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts))
    stranger = send(client, tmp_path, relay.port, Letter("fremd@firma.test", ("a@kunde.test",), "1@desk"))
    assert stranger.exit_code != 0
    assert "fremd@firma.test" in stranger.transcript
    unknown = send(client, tmp_path, relay.port, Letter("anna@firma.test", ("unknown-x@kunde.test",), "2@desk"))
    assert unknown.exit_code != 0
    assert "No such mailbox here" in unknown.transcript
    assert provider.received() == []


@pytest.mark.parametrize("rule", list(Rule), ids=lambda rule: rule.value)
def test_exims_queue_goes_out_over_one_connection_each_letter_on_the_right_login(bench: Bench, rule: Rule) -> None:
    people = office_under(rule)
    provider = bench.start(PostfixProvider(people.mailboxes, rule))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts))
    exim = bench.start(Exim(relay.port, DOMAINS))
    letters = letters_from(AUTHORS, 40)
    hand_in(exim.port, letters)
    exim.send_queue()
    assert exim.queue() == []
    provider.wait_until(lambda: len(provider.received()) >= len(letters), "every letter")
    received = provider.received()
    found = [str(delivery.header("Message-ID")).strip("<>") for delivery in received]
    assert Counter(found) == Counter(letter.message_id for letter in letters)
    by_id = {letter.message_id: letter for letter in letters}
    for message_id, delivery in zip(found, received, strict=True):
        assert delivery.login == people.carried_by[by_id[message_id].author]
        assert delivery.content.endswith(b"\r\n" + by_id[message_id].content)
    # `=>` lines carry an asterisk behind the address where the message went over an open connection
    assert len(exim.log_lines(r"=> .* H=127\.0\.0\.1 \[127\.0\.0\.1\]\*")) > len(letters) // 2


def test_exim_keeps_what_is_deferred_and_brings_home_what_is_refused(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, Rule.ADDRESS))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts))
    exim = bench.start(Exim(relay.port, DOMAINS))
    hand_in(
        exim.port,
        [
            Letter("anna@firma.test", ("busy-x@kunde.test",), "1@desk.office.test"),
            Letter("anna@firma.test", ("unknown-x@kunde.test",), "2@desk.office.test"),
        ],
    )
    exim.send_queue()
    exim.send_queue()  # the bounce itself
    [bounce] = exim.returned()
    assert b"No such mailbox here" in b" ".join(bounce.split())
    assert any("busy-x@kunde.test" in line for line in exim.queue())
    assert exim.log_lines("== busy-x@kunde.test .*Mailbox busy, try again later")
