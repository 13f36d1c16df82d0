"""A fallback account with two real providers: killed, with a wrong password, at its limit, with another sender rule."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from senderproxy.control.client import ask_status
from tests.journeys.queueing import copies, devices, wait_until_empty
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_over
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA: Final = "anna@firma.test"
RESERVE: Final = "reserve@firma.test"
KUNDE: Final = "karl@kunde.test"


def section(provider: PostfixProvider, port: int | None = None) -> str:
    return f"""
host = "localhost"
port = {port or provider.starttls_port}
security = "starttls"
ca_file = "{provider.authority.ca_file}"
sender_rule = "{provider.rule.value}"
from_rule = "{provider.rule.value}"
"""


@dataclass
class Place:
    """The relay between an office and two providers; anna is at the first, her fallback at the second."""

    first: PostfixProvider
    second: PostfixProvider
    relay: Senderproxy
    queue_port: int
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    def hand_in(self, port: int | None = None, body: str = "") -> tuple[int, str, str]:
        """Hand in a letter of anna's; the answer, and its Message-ID."""
        letter = Letter(ANNA, (KUNDE,), f"{next(self.numbers)}@desk.office.test")
        code, text = hand_over(port or self.relay.port, ANNA, KUNDE, letter.content + body.encode())
        return code, text, letter.message_id

    def edit(self, *words: str) -> str:
        return self.relay.command("account", "edit", ANNA, *words)

    def status(self, account: str = ANNA) -> dict[str, Any]:
        """The account in the service's status."""
        accounts = ask_status(self.relay.folder / "control")["accounts"]
        return next(one for one in accounts if one["account"] == account)

    def track(self, message_id: str, text: str = "(account") -> str:
        """The history of a message, once it has this text."""
        return self.relay.tracked("--id", f"<{message_id}>", text=text)


def place(bench: Bench, second_rule: Rule = Rule.DOMAIN, port: int | None = None, first: Any = None) -> Place:
    first = first or bench.start(PostfixProvider([Mailbox(ANNA, "geheim-anna")], Rule.DOMAIN))
    second = bench.start(PostfixProvider([Mailbox(RESERVE, "geheim-reserve")], second_rule))
    door = bench.port()
    accounts = [VaultAccount(ANNA, "geheim-anna"), VaultAccount(RESERVE, "geheim-reserve", provider="second")]
    more = f"[providers.second]\n{section(second)}\n{devices(door)}"
    relay = bench.start(Senderproxy(accounts, section(first, port), more_settings=more))
    relay.command("account", "edit", ANNA, "--fallback", RESERVE)
    return Place(first, second, relay, door)


def test_a_killed_provider_is_replaced_and_gets_its_mail_again_by_itself(bench: Bench) -> None:
    here = place(bench)
    assert here.hand_in()[0] == 250
    here.first.stop()
    code, _, message = here.hand_in()
    assert code == 250
    [delivery] = here.second.received()
    assert (delivery.login, delivery.reverse_path, delivery.header("From")) == (RESERVE, ANNA, ANNA)
    here.track(
        message,
        f"accepted by the provider (account {RESERVE}, the fallback of {ANNA}, whose provider cannot be reached:",
    )
    assert here.status()["sends_through"] == RESERVE
    conditions = ask_status(here.relay.folder / "control")["conditions"]
    assert [one for one in conditions if one["key"] != "loop_blocked" and one["severity"] != "info"] == []
    told = " ".join(here.relay.command("status", exit_code=None).split())
    assert f"Its mail is sent through account {RESERVE} meanwhile." in told
    assert here.hand_in(here.queue_port)[0] == 250
    wait_until_empty(here.relay)
    assert len(here.second.received()) == 2
    here.first.start()

    def is_back() -> bool:
        assert here.hand_in()[0] == 250
        return len(here.first.received()) >= 2

    wait_until(is_back, "the first provider has mail again", 90, peer=here.relay)
    before = len(here.second.received())
    assert here.hand_in()[0] == 250
    assert len(here.second.received()) == before
    assert here.status()["sends_through"] is None
    assert max((copies(here.first.received()) + copies(here.second.received())).values()) == 1


def test_a_wrong_password_costs_one_login_and_no_mail_waits(bench: Bench) -> None:
    here = place(bench)
    here.relay.command(
        "account", "set-password", ANNA, "--password-stdin", "--no-verify", standard_input="geheim-falsch\n"
    )
    for port in (None, here.queue_port, None, here.queue_port):
        assert here.hand_in(port)[0] == 250
    wait_until_empty(here.relay)
    assert len(here.second.received()) == 4
    wait_until(here.first.failed_logins, "Dovecot has logged it", peer=here.first)
    assert here.first.failed_logins() == [ANNA]
    status = here.status()
    assert (status["state"], status["sends_through"]) == ("suspended", RESERVE)
    told = here.relay.command("status", exit_code=1)
    assert f"Its mail is sent through account {RESERVE} meanwhile." in " ".join(told.split())
    explained = " ".join(here.relay.command("explain", ANNA).split())
    assert f"{RESERVE}, logs in as {RESERVE}; it sends the message now" in explained
    here.relay.command("account", "set-password", ANNA, "--password-stdin", standard_input="geheim-anna\n")
    assert here.hand_in()[0] == 250
    assert here.hand_in(here.queue_port)[0] == 250
    wait_until_empty(here.relay)
    assert (len(here.first.received()), len(here.second.received())) == (2, 4)


def test_a_used_up_hour_goes_on_through_the_fallback(bench: Bench) -> None:
    here = place(bench)
    here.edit("--messages-per-hour", "2")
    messages = [here.hand_in(port) for port in (None, None, None, here.queue_port)]
    assert [code for code, _, _ in messages] == [250] * 4
    wait_until_empty(here.relay)
    assert (len(here.first.received()), len(here.second.received())) == (2, 2)
    here.track(
        messages[2][2],
        f"the fallback of {ANNA}, which has reached its limit: 451 4.7.1 Account {ANNA} has reached its limit of 2",
    )
    assert here.relay.queue()["blocked"] == []


def test_a_stricter_sender_rule_is_asked_for_before_the_sender_is_replaced(bench: Bench) -> None:
    here = place(bench, Rule.ADDRESS)
    here.first.stop()
    code, text, _ = here.hand_in()
    assert code == 451
    assert "refused the connection" in text
    assert here.hand_in(here.queue_port)[0] == 250
    assert here.second.received() == []
    assert here.status()["sends_through"] is None
    assert "is sent through" not in here.relay.command("status", exit_code=1)
    assert "waits all the same" in here.edit("--display-name", "Anna")
    assert "may not send this message" in here.relay.command("explain", ANNA)
    here.edit("--fallback-rewrites")
    code, _, _ = here.hand_in()
    assert code == 250
    wait_until_empty(here.relay)  # the queued one, too
    for delivery in here.second.received():
        assert delivery.reverse_path == RESERVE
        assert delivery.header("From") == f"anna <{RESERVE}>"
        assert delivery.header("Reply-To") == ANNA
    assert len(here.second.received()) == 2
    here.relay.tracked(text=f"the sender replaced by {RESERVE}")


def test_after_a_reply_that_was_lost_the_fallback_sends_other_mail_and_not_this(bench: Bench) -> None:
    first = bench.start(PostfixProvider([Mailbox(ANNA, "geheim-anna")], Rule.DOMAIN))
    with Swallower(bench.port(), first.starttls_port) as line:
        here = place(bench, port=line.port, first=first)
        code, _, lost = here.hand_in(here.queue_port, "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 2000)
        assert code == 250
        wait_until(lambda: len(first.received()) == 1, "the first provider has it", peer=here.relay)
        first.stop()
        line.cut()
        wait_until(lambda: "may have accepted it nevertheless" in here.track(lost), "the outcome", 120, peer=here.relay)
        codes = [here.hand_in(port) for port in (None, here.queue_port)]
        assert [code for code, _, _ in codes] == [250, 250]
        wait_until(lambda: len(here.second.received()) == 2, "the others", 120, peer=here.relay)
        attempts = here.track(lost).count("(account")
        wait_until(
            lambda: here.track(lost).count("(account") >= attempts + 2, "it is tried again", 120, peer=here.relay
        )
        assert {one for one, _ in copies(here.second.received())} == {message for _, _, message in codes}
        assert copies(first.received()) == {(lost, KUNDE): 1}
        assert here.relay.queue()["waiting"] == 1


class Swallower:
    """A line to a provider that loses its replies, once a client has sent more than 60,000 octets on a connection."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self._to = to
        self._listener = socket.create_server((LOOPBACK, port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._sent: dict[int, int] = {}

    def __enter__(self) -> "Swallower":
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(20)  # before the cut, so that no connection comes after it
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(20)
        for one in self._open:
            one.close()

    def cut(self) -> None:
        """End all connections."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self._to))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            number = len(self._open)
            for source, to, counts in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass_on, args=(source, to, number, counts))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, to: socket.socket, number: int, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                if counts:
                    self._sent[number] = self._sent.get(number, 0) + len(octets)
                elif self._sent.get(number, 0) > 60_000:
                    continue
                to.sendall(octets)
        if counts or self._sent.get(number, 0) <= 60_000:
            with contextlib.suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)
