"""Automatic mail comes to rest, whoever answers whom: two offices behind a service each, and servers without sense."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations_with_replacement
from typing import Final

import pytest

from senderproxy.mail.author import AuthorFields, read_authors
from senderproxy.mail.header import HeaderSection
from senderproxy.simulator.faults import Fault, FaultStage, ReplyWith
from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.test_senders import provider_section
from tests.peers.letters import hand_over
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.senderproxy.cli.conftest import beside

pytestmark = pytest.mark.slow

PER_HOUR: Final = 3
ENOUGH: Final = 200  # whoever gets here goes on for ever

FIRMA, LADEN = "anna@firma.test", "bert@laden.test"
SECRETS: Final = {FIRMA: "geheim-anna", LADEN: "geheim-bert"}


def _letter(author: str, to: str, subject: str, *more: str) -> bytes:
    lines = [
        f"From: {author}",
        f"To: {to}",
        f"Subject: {subject}",
        "Date: Tue, 24 Nov 2026 10:00:00 +0100",
        "Message-ID: <1@srv.local>",
    ]
    return "\r\n".join([*lines, *more, "", "Guten Tag", ""]).encode("ascii")


@dataclass(frozen=True)
class Sent:
    """A message that an internal server hands to its senderproxy."""

    path: str
    to: str
    content: bytes


# What an internal server does with a message that comes in from outside; None: it rests.
Answers = Callable[[ReceivedMessage, str], Sent | None]


def _author(message: ReceivedMessage) -> str:
    authors = read_authors(HeaderSection(message.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"))
    assert isinstance(authors, AuthorFields)
    return str(authors.from_[0].address)


def out_of_office(message: ReceivedMessage, own: str) -> Sent:
    """As Exchange writes one, but to everything, and to whoever can be answered in any way."""
    to = message.reverse_path or _author(message)
    return Sent("", to, _letter(own, to, "Automatische Antwort", "X-Auto-Response-Suppress: All"))


def vacation(message: ReceivedMessage, own: str) -> Sent:
    """As hMailServer writes one: with its own address as the reverse-path."""
    to = message.reverse_path or _author(message)
    return Sent(own, to, _letter(own, to, "Urlaub", "Auto-Submitted: auto-replied"))


def bounce(message: ReceivedMessage, own: str) -> Sent:
    """A server that knows nobody, and tells so even to those who only told it something."""
    to = message.reverse_path or _author(message)
    return Sent("", to, _letter(f"postmaster@{own.partition('@')[2]}", to, "Unzustellbar"))


def sensible(message: ReceivedMessage, own: str) -> Sent | None:
    """RFC 3834: what is automatic is not answered."""
    header = message.content.partition(b"\r\n\r\n")[0].lower()
    if not message.reverse_path or b"auto-submitted: auto" in header:
        return None
    return out_of_office(message, own)


@dataclass
class Internet:
    """Two offices and a provider for both; what arrives for an office goes to its internal server at once."""

    simulator: Simulator
    ports: dict[str, int]
    answers: dict[str, Answers]
    handed_in: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    def run(self, first: Sent) -> None:
        """From one message until nothing moves any more."""
        waiting = deque([(FIRMA, first)])
        while waiting:
            office, sent = waiting.popleft()
            assert sum(self.handed_in.values()) < ENOUGH, f"it does not come to rest: {self.handed_in}"
            self.handed_in[office] += 1
            before = len(self.simulator.received)
            code, text = hand_over(self.ports[office], sent.path, sent.to, sent.content)
            if code != 250:
                self.refused.append(f"{code} {text}")
                continue
            for message in self.simulator.received[before:]:
                waiting += self._delivered(message)

    def _delivered(self, message: ReceivedMessage) -> Iterator[tuple[str, Sent]]:
        for recipient in message.recipients:
            for office, answers in self.answers.items():
                if recipient.partition("@")[2] == office.partition("@")[2]:
                    reply = answers(message, office)
                    if reply is not None:
                        yield office, reply


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Simulator, dict[str, Senderproxy]]]:
    with ExitStack() as things:
        boxes = {login: SimulatedMailbox(secret) for login, secret in SECRETS.items()}
        simulator = things.enter_context(beside(partial(Simulator, SimulatorSettings(mailboxes=boxes))))
        relays = {}
        for login, secret in SECRETS.items():
            domain = login.partition("@")[2]
            account = VaultAccount(login, secret, (f"@{domain}",))
            relays[login] = things.enter_context(
                Senderproxy([account], provider_section(simulator), more_settings=_settings(login))
            )
        yield simulator, relays


def _settings(login: str) -> str:
    return f'[senders]\nautomatic_per_hour = {PER_HOUR}\nbounce_account = "{login}"\n'


@pytest.fixture
def between(house: tuple[Simulator, dict[str, Senderproxy]]) -> Callable[[Answers, Answers], Internet]:
    """Both services without a count of automatic mail, and internal servers that answer as is said."""
    simulator, relays = house

    def made(firma: Answers, laden: Answers) -> Internet:
        for relay in relays.values():
            relay.restart_without_memory()
        return Internet(simulator, {login: relay.port for login, relay in relays.items()}, {FIRMA: firma, LADEN: laden})

    return made


ORDINARY: Final = Sent(FIRMA, LADEN, _letter(FIRMA, LADEN, "Angebot"))


@pytest.mark.parametrize(
    ("first", "second"),
    list(combinations_with_replacement([out_of_office, vacation, bounce], 2)),
    ids=lambda how: how.__name__,
)
def test_two_offices_that_answer_everything_come_to_rest(
    between: Callable[[Answers, Answers], Internet], first: Answers, second: Answers
) -> None:
    internet = between(first, second)
    internet.run(ORDINARY)
    # the letter, what each may tell the other within an hour, and the one that was one too many
    assert sum(internet.handed_in.values()) == 1 + 2 * PER_HOUR + 1
    [refusal] = internet.refused
    assert refusal.startswith("554 5.4.6 Mail loop: ")
    assert "automatic_per_hour" in refusal


def test_servers_with_sense_stop_at_the_first_answer(between: Callable[[Answers, Answers], Internet]) -> None:
    """The rewritten note is marked: nobody can see its null reverse-path any more."""
    internet = between(sensible, sensible)
    internet.run(ORDINARY)
    assert internet.handed_in == {FIRMA: 1, LADEN: 1}
    assert internet.refused == []


def test_a_rewritten_bounce_to_an_address_that_bounces_comes_to_rest(
    between: Callable[[Answers, Answers], Internet],
) -> None:
    """The bounce gets a reverse-path, so the far server bounces it in turn, and our own bounces that."""
    internet = between(bounce, bounce)
    internet.run(Sent("", "nobody@laden.test", _letter("postmaster@firma.test", "nobody@laden.test", "Unzustellbar")))
    assert sum(internet.handed_in.values()) <= 2 * PER_HOUR + 2
    assert len(internet.refused) == 1
    assert {message.reverse_path for message in internet.simulator.received[-2 * PER_HOUR :]} == {FIRMA, LADEN}


def test_a_rewritten_note_that_comes_back_as_it_is_goes_no_second_time(
    between: Callable[[Answers, Answers], Internet],
) -> None:
    """A forward without sense: it sends on what it gets, to where it came from, through the service it came from."""

    def back(message: ReceivedMessage, own: str) -> Sent:
        return Sent("", LADEN, message.content)

    internet = between(back, sensible)
    internet.run(Sent("", FIRMA, _letter(FIRMA, FIRMA, "Gelesen")))
    assert internet.handed_in == {FIRMA: 2}
    [refusal] = internet.refused
    assert refusal.startswith("554 5.4.6 Mail loop: this automatic message was already sent by this server")


def test_a_note_that_has_to_be_handed_in_again_and_again_is_no_loop(
    between: Callable[[Answers, Answers], Internet],
) -> None:
    """A greylist, an afternoon without a network: the internal server's tries are one message."""
    internet = between(sensible, sensible)
    grey = server_reply(450, "4.2.0 Greylisted, try again later")
    internet.simulator.script.add(Fault(FaultStage.RCPT, ReplyWith(grey), times=2 * PER_HOUR))
    note = _letter(FIRMA, "karl@kunde.test", "Automatische Antwort")
    tries = [hand_over(internet.ports[FIRMA], "", "karl@kunde.test", note)[0] for _ in range(2 * PER_HOUR + 1)]
    assert tries == [450] * 2 * PER_HOUR + [250]


# ---- redirects ----

DRITTE: Final = "carl@dritte.test"


def _redirected_to(to: str) -> Answers:
    """A Sieve rule that redirects whatever comes, as Pigeonhole does without a server between it and senderproxy."""

    def redirect(message: ReceivedMessage, own: str) -> Sent:
        return Sent(message.reverse_path, to, f"X-Sieve-Redirected-From: {own}\r\n".encode() + message.content)

    return redirect


def test_three_offices_that_redirect_to_each_other_come_to_rest() -> None:
    """No automatic reply and no bounce is among these: each office sees the message leave three times, and no more."""
    rounds = {FIRMA: LADEN, LADEN: DRITTE, DRITTE: FIRMA}
    with ExitStack() as things:
        boxes = {login: SimulatedMailbox(f"geheim-{number}") for number, login in enumerate(rounds)}
        simulator = things.enter_context(beside(partial(Simulator, SimulatorSettings(mailboxes=boxes))))
        ports = {}
        for number, login in enumerate(rounds):
            domain = login.partition("@")[2]
            relay = Senderproxy(
                [VaultAccount(login, f"geheim-{number}", (f"@{domain}",))],
                provider_section(simulator),
                more_settings='[senders]\nforeign_author = "rewrite"\n',
                hostname=f"relay.{domain}",
            )
            ports[login] = things.enter_context(relay).port
        internet = Internet(simulator, ports, {own: _redirected_to(to) for own, to in rounds.items()})
        internet.run(
            Sent(
                "alice@fern.test",
                LADEN,
                f"Delivered-To: {FIRMA}\r\n".encode() + _letter("alice@fern.test", FIRMA, "Hallo"),
            )
        )
        assert internet.handed_in == {FIRMA: 4, LADEN: 3, DRITTE: 3}
        [refusal] = internet.refused
        assert refusal.startswith("554 5.4.6 Mail loop: this server has sent this message 3 times")
        assert "senderproxy track" not in refusal, "its reverse-path is that of the third office"
