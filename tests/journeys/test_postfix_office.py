"""An office with Postfix sends through senderproxy to a provider with Postfix and Dovecot."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.journeys.people import AUTHORS, DOMAINS, Office, office_under
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_in, letters_from
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.postfix import Delivery
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

COUNT = 200


def the_way(
    bench: Bench, people: Office, *, takes_null_sender: bool = False
) -> tuple[PostfixOffice, Senderproxy, PostfixProvider]:
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule, takes_null_sender=takes_null_sender))
    relay = bench.start(Senderproxy.in_front_of(provider, people.accounts, implicit_tls=people.rule is Rule.ADDRESS))
    office = bench.start(PostfixOffice(relay.port, DOMAINS))
    return office, relay, provider


def message_ids(deliveries: list[Delivery]) -> list[str]:
    return [str(delivery.header("Message-ID")).strip("<>") for delivery in deliveries]


@pytest.mark.parametrize("rule", list(Rule), ids=lambda rule: rule.value)
def test_two_hundred_letters_of_twenty_people_each_arrive_once_on_the_right_login(bench: Bench, rule: Rule) -> None:
    people = office_under(rule)
    office, _, provider = the_way(bench, people)
    letters = letters_from(AUTHORS, COUNT)
    hand_in(office.port, letters)
    office.wait_until_nothing_waits(400)
    provider.wait_until(lambda: len(provider.received()) >= COUNT, "every letter at the provider")
    received = provider.received()
    assert Counter(message_ids(received)) == Counter(letter.message_id for letter in letters)
    assert office.returned() == []
    by_id = {letter.message_id: letter for letter in letters}
    for delivery in received:
        letter = by_id[str(delivery.header("Message-ID")).strip("<>")]
        assert delivery.login == people.carried_by[letter.author]
        assert delivery.reverse_path == letter.author
        assert delivery.recipients == list(letter.recipients)
        # above it stand the Received fields of the office and of senderproxy, and nothing else was touched
        assert delivery.content.endswith(b"\r\n" + letter.content)
        assert delivery.content.count(b"\r\nReceived: ") + delivery.content.startswith(b"Received: ") == 2
    assert provider.failed_logins() == []
    # the office used one connection for many authors, and senderproxy one login for many messages
    office.wait_until(lambda: office.most_messages_over_one_connection() > 5, "many over one connection")  # in its log
    logins = len(provider.log_lines(r"smtpd\[\d+\]: connect from"))
    assert logins <= 2 * len(people.accounts) + 1, f"{logins} connections for {COUNT} messages"


def test_a_letter_to_several_people_goes_up_once_for_all_of_them(bench: Bench) -> None:
    office, _, provider = the_way(bench, office_under(Rule.ADDRESS))
    letter = Letter("anna@firma.test", tuple(f"rcpt{number}@kunde.test" for number in range(30)), "1@desk.office.test")
    hand_in(office.port, [letter])
    office.wait_until_nothing_waits()
    provider.wait_until(lambda: sum(len(mail.recipients) for mail in provider.received()) >= 30, "thirty copies")
    [delivery] = provider.received()
    assert sorted(delivery.recipients) == sorted(letter.recipients)


def test_a_strangers_letter_comes_back_and_says_how_to_add_the_account(bench: Bench) -> None:
    office, _, provider = the_way(bench, office_under(Rule.ADDRESS))
    hand_in(office.port, [Letter("unbekannt@firma.test", ("a@kunde.test",), "1@desk.office.test")])
    office.wait_until_nothing_waits()
    office.wait_until(office.returned, "the bounce")
    [bounce] = office.returned()
    assert bounce.recipients == ["unbekannt@firma.test"]
    words = b" ".join(bounce.content.split())
    assert b"unbekannt@firma.test" in words
    assert b"account add" in words
    assert provider.received() == []


def test_a_refused_recipient_comes_back_in_the_providers_own_words(bench: Bench) -> None:
    office, _, provider = the_way(bench, office_under(Rule.ADDRESS))
    hand_in(office.port, [Letter("anna@firma.test", ("unknown-x@kunde.test",), "1@desk.office.test")])
    office.wait_until_nothing_waits()
    office.wait_until(office.returned, "the bounce")
    [bounce] = office.returned()
    assert bounce.recipients == ["anna@firma.test"]
    assert b"No such mailbox here" in b" ".join(bounce.content.split())
    assert b"Status: 5.1.1" in bounce.content
    assert provider.received() == []


def test_a_busy_recipient_keeps_the_letter_in_the_offices_queue_with_the_reason(bench: Bench) -> None:
    office, _, provider = the_way(bench, office_under(Rule.ADDRESS))
    letter = Letter("anna@firma.test", ("busy-x@kunde.test",), "1@desk.office.test")
    hand_in(office.port, [letter])
    office.wait_until(lambda: [mail.queue for mail in office.waiting()] == ["deferred"], "deferred")
    [waiting] = office.waiting()
    assert "Mailbox busy, try again later" in waiting.reasons[0]
    # nobody else is held up by it
    hand_in(office.port, [Letter("anna@firma.test", ("a@kunde.test",), "2@desk.office.test")])
    provider.wait_until(lambda: message_ids(provider.received()) == ["2@desk.office.test"], "the other letter")
    assert office.returned() == []


def test_while_the_provider_is_down_the_offices_queue_says_so_and_later_all_goes_out_once(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    office, _, provider = the_way(bench, people)
    provider.stop()
    letters = letters_from(AUTHORS[:4], 8)
    hand_in(office.port, letters)
    office.wait_until(
        lambda: Counter(mail.queue for mail in office.waiting()) == {"deferred": len(letters)}, "all deferred"
    )
    for waiting in office.waiting():
        assert str(provider.starttls_port) in waiting.reasons[0]
    provider.start()
    office.flush()
    office.wait_until_nothing_waits()
    provider.wait_until(lambda: len(provider.received()) >= len(letters), "every letter")
    assert Counter(message_ids(provider.received())) == Counter(letter.message_id for letter in letters)
    assert office.returned() == []


def test_a_wrong_password_costs_one_failed_login_and_is_mended_without_a_restart(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    wrong = [replace(people.accounts[0], password="geheim-verwechselt"), *people.accounts[1:]]
    relay = bench.start(Senderproxy.in_front_of(provider, wrong))
    office = bench.start(PostfixOffice(relay.port, DOMAINS))
    account, other = people.accounts[:2]
    hand_in(office.port, letters_from([account.login], 5))
    office.wait_until(lambda: Counter(mail.queue for mail in office.waiting()) == {"deferred": 5}, "five deferred")
    for waiting in office.waiting():
        assert account.id in waiting.reasons[0]
        assert f"senderproxy account set-password {account.id}" in waiting.reasons[0]
    # the others are not held up
    hand_in(office.port, [Letter(other.login, ("a@kunde.test",), "other@desk.office.test")])
    provider.wait_until(lambda: message_ids(provider.received()) == ["other@desk.office.test"], "the other's letter")
    office.flush()
    office.lines_written("status=deferred", 10)  # and now each of them a second time
    office.finish_work()
    provider.wait_until(provider.failed_logins, "Dovecot has written of the refused login")
    assert provider.failed_logins() == [account.login]
    relay.set_password(account.id, account.password)
    office.flush()
    office.wait_until_nothing_waits()
    provider.wait_until(lambda: len(provider.received()) >= 6, "the five letters")
    assert {mail.login for mail in provider.received()} == {account.login, other.login}
    assert len(provider.received()) == 6
    assert provider.failed_logins() == [account.login]
    assert office.returned() == []


def test_an_out_of_office_note_goes_out_on_its_authors_login(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    office, _, provider = the_way(bench, people, takes_null_sender=True)
    hand_in(office.port, [Letter("bert@firma.test", ("a@kunde.test",), "ooo@desk.office.test", reverse_path="")])
    office.wait_until_nothing_waits()
    provider.wait_until(provider.received, "the note")
    [note] = provider.received()
    assert note.login == people.carried_by["bert@firma.test"]
    assert note.header("From") == "bert@firma.test"
    assert note.reverse_path == ""


def test_where_the_provider_refuses_notes_without_a_reverse_path_they_leave_with_an_own_one(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    office, _, provider = the_way(bench, people)
    hand_in(office.port, [Letter("bert@firma.test", ("a@kunde.test",), "ooo@desk.office.test", reverse_path="")])
    office.wait_until_nothing_waits()
    provider.wait_until(provider.received, "the note")
    [note] = provider.received()
    assert note.login == people.carried_by["bert@firma.test"]
    assert note.reverse_path == "bert@firma.test"
    assert note.header("From") == "bert@firma.test"
    assert note.header("Auto-Submitted") == "auto-replied"
    assert office.returned() == []


def test_an_account_counts_from_the_moment_it_is_added_and_until_it_is_removed(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    *known, late = people.accounts
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    relay = bench.start(Senderproxy.in_front_of(provider, known))
    office = bench.start(PostfixOffice(relay.port, DOMAINS))
    relay.add_account(late)
    hand_in(office.port, [Letter(late.login, ("a@kunde.test",), "1@desk.office.test")])
    office.wait_until_nothing_waits()
    provider.wait_until(provider.received, "the letter")
    assert [mail.login for mail in provider.received()] == [late.login]
    relay.command("account", "remove", late.id, "--yes")
    hand_in(office.port, [Letter(late.login, ("a@kunde.test",), "2@desk.office.test")])
    office.wait_until(office.returned, "the bounce")
    assert len(provider.received()) == 1


def test_mail_on_its_way_when_senderproxy_stops_is_neither_lost_nor_doubled(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    office, relay, provider = the_way(bench, people)
    letters = letters_from(AUTHORS, 60)
    hand_in(office.port, letters)
    provider.wait_until(lambda: len(provider.received()) >= 10, "the first letters")
    relay.restart()
    office.finish_work()
    office.flush()
    office.wait_until_nothing_waits(240)
    provider.wait_until(lambda: len(provider.received()) >= len(letters), "every letter")
    assert Counter(message_ids(provider.received())) == Counter(letter.message_id for letter in letters)


def test_a_power_cut_of_senderproxy_loses_nothing(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    office, relay, provider = the_way(bench, people)
    letters = letters_from(AUTHORS, 60)
    hand_in(office.port, letters)
    provider.wait_until(lambda: len(provider.received()) >= 10, "the first letters")
    relay.kill()
    office.finish_work()
    relay.start()
    office.flush()
    office.wait_until_nothing_waits(240)
    expected = {letter.message_id for letter in letters}
    provider.wait_until(lambda: set(message_ids(provider.received())) == expected, "every letter")
    # what the provider had taken a moment before, unheard by the office, may come twice (RFC 5321 section 6.1)
    assert len(provider.received()) <= len(letters) + office.connections
    assert office.returned() == []
