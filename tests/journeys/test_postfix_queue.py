"""What cannot go out at once, with real peers: an office with Postfix, a provider with Postfix and Dovecot."""

from itertools import cycle

import pytest

from tests.journeys.people import AUTHORS, DOMAINS, Office, office_under
from tests.journeys.queueing import SOON, copies, devices, wait_until_empty
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_in, letters_from
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.postfix import Delivery
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def start_relay(bench: Bench, provider: PostfixProvider, people: Office, more: str = SOON) -> Senderproxy:
    return bench.start(Senderproxy.in_front_of(provider, people.accounts, more_settings=more))


def reports(deliveries: list[Delivery]) -> list[Delivery]:
    return [delivery for delivery in deliveries if "multipart/report" in str(delivery.header("Content-Type"))]


def test_a_provider_that_greylists_refuses_some_and_goes_away_all_arrive_once_and_the_refused_are_reported(
    bench: Bench,
) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule, greylists=True))
    inside = bench.port()  # where the internal server is handed the reports
    relay = start_relay(bench, provider, people, f'{SOON}reports_to = "{LOOPBACK}:{inside}"\n')
    office = bench.start(_Inside(relay.port, DOMAINS, inside))
    kinds = cycle([("a{}",), ("b{}", "grey-b{}"), ("c{}", "unknown-c{}"), ("grey-d{}", "unknown-d{}"), ("e{}", "f{}")])
    letters = [
        Letter(
            AUTHORS[number % len(AUTHORS)],
            tuple(f"{name.format(number)}@kunde.test" for name in next(kinds)),
            f"{number}@desk.office.test",
        )
        for number in range(60)
    ]
    hand_in(office.port, letters[:30])
    provider.wait_until(lambda: len(provider.received()) >= 5, "the first letters")
    provider.stop()
    hand_in(office.port, letters[30:])
    office.finish_work()
    provider.start()

    def tried_again() -> bool:
        relay.resume_accounts()  # the stop may have cut off logins
        office.flush()
        return office.is_empty() and not relay.queue()["waiting"]

    office.wait_until(tried_again, "nothing waits", 400)
    wait_until_empty(relay)
    good = {
        (letter.message_id, recipient)
        for letter in letters
        for recipient in letter.recipients
        if not recipient.startswith("unknown-")
    }
    provider.wait_until(lambda: set(copies(provider.received())) >= good, "every copy at the provider")
    # A server that stops may have stored a message and not replied: it is sent again (RFC 5321, section 6.1).
    before_the_stop = {letter.message_id for letter in letters[:30]}
    arrived = copies(provider.received())
    assert set(arrived) == good
    assert {letter for (letter, _), count in arrived.items() if count > 1} <= before_the_stop
    bad = {recipient for letter in letters for recipient in letter.recipients if recipient.startswith("unknown-")}

    def told() -> set[str]:
        text = b" ".join(b" ".join(report.content.split()) for report in office.returned())
        return {recipient for recipient in bad if f"Final-Recipient: rfc822; {recipient}".encode() in text}

    office.wait_until(lambda: told() == bad, "a report on each refused recipient")
    assert provider.greylist is not None
    assert {recipient for _, recipient in good if recipient.startswith("grey-")} <= provider.greylist.put_off


class _Inside(PostfixOffice):
    """The internal server at a port that was chosen before it."""

    def __init__(self, relay_port: int, domains: tuple[str, ...], port: int) -> None:
        super().__init__(relay_port, domains)
        self._inside = port

    def listeners(self):
        return [*super().listeners(), (self._inside, {})]


def test_a_refused_recipient_of_two_is_reported_to_the_author_through_the_authors_own_account(bench: Bench) -> None:
    people = office_under(Rule.ADDRESS)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    relay = start_relay(bench, provider, people)
    office = bench.start(PostfixOffice(relay.port, DOMAINS))
    hand_in(office.port, [Letter("anna@firma.test", ("a@kunde.test", "unknown-x@kunde.test"), "1@desk.office.test")])
    office.wait_until_nothing_waits()
    provider.wait_until(lambda: reports(provider.received()), "the report")
    [report] = reports(provider.received())
    assert report.login == report.reverse_path == "anna@firma.test"  # a provider that takes no null reverse-path
    assert report.recipients == ["anna@firma.test"]
    assert report.header("Auto-Submitted") == "auto-replied"
    assert b"No such mailbox here" in b" ".join(report.content.split())
    assert copies(provider.received()) == {("1@desk.office.test", "a@kunde.test"): 1}
    assert office.returned() == []
    wait_until_empty(relay)


def test_a_scanner_that_tries_once_may_forget_its_mail_while_the_provider_is_away(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door = bench.port()
    relay = start_relay(bench, provider, people, devices(door))
    provider.stop()
    letters = letters_from(AUTHORS, 12)
    hand_in(door, letters)
    wait_until(lambda: relay.queue()["waiting"] == 12, "twelve wait", peer=relay)
    blocked = wait_until(lambda: relay.queue()["blocked"], "it is known that the provider is away", peer=relay)
    assert str(provider.starttls_port) in blocked[0]["why"]
    relay.kill()
    relay.start()
    wait_until(lambda: relay.queue()["waiting"] == 12, "twelve wait again", peer=relay)
    provider.start()
    wait_until_empty(relay)
    assert copies(provider.received()) == {(letter.message_id, letter.recipients[0]): 1 for letter in letters}


def test_with_one_connection_an_accounts_mail_arrives_in_the_order_of_its_submission(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door = bench.port()
    relay = start_relay(bench, provider, people, f"connections = 1\n{devices(door)}")
    provider.stop()
    letters = letters_from(["bert@firma.test"], 40)
    hand_in(door, letters[:20])
    provider.start()
    hand_in(door, letters[20:])
    wait_until_empty(relay)
    provider.wait_until(lambda: len(provider.received()) == 40, "every letter")
    order = provider.lines_written(r"cleanup\[\d+\]: \w+: message-id=<\d+@desk", 40)
    numbers = [int(line.partition("message-id=<")[2].partition("@")[0]) for line in order]
    assert numbers == list(range(40))
