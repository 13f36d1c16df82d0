"""Footers through the service itself and a provider with Postfix: all shapes of messages, a reload, a large attachment."""

import asyncio
import re

import pytest

from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.test_large import peak
from tests.peers.bench import Bench
from tests.peers.letters import hand_over
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.postfix import Delivery
from tests.peers.process import LOOPBACK, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.senderproxy.footer.reading import LATIN, assert_footers
from tests.senderproxy.footer.shapes import SHAPES, Shape, attached, letter, multi, text

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = "anna@firma.example"
FOOTERS = f'[[footers]]\nsenders = ["@firma.example"]\ntext = """\n{LATIN.text}\n"""\n'
ROOM = 16 * 1024  # kB that the peak may rise; the message is 25 MB


def the_way(bench: Bench) -> tuple[Senderproxy, PostfixProvider, int]:
    """The service, the provider, and the port of a listener that queues."""
    provider = bench.start(PostfixProvider([Mailbox(ANNA, "geheim-anna")], Rule.ADDRESS))
    devices = bench.port()
    more = f'[[listeners]]\nname = "devices"\naddress = "{LOOPBACK}:{devices}"\nmode = "queue"\n{FOOTERS}'
    relay = bench.start(Senderproxy.in_front_of(provider, [VaultAccount(ANNA, "geheim-anna")], more_settings=more))
    return relay, provider, devices


def named(shape: Shape, number: int) -> bytes:
    """The message with a number of its own, ending in a line end as SMTP requires."""
    raw = re.sub(rb"<1@firma.example>", b"<%d@firma.example>" % number, shape.raw, count=1)
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def without_received(content: bytes) -> bytes:
    """The message as it left, without the fields that the way has put on top."""
    return re.sub(rb"\A(?:Received: .*\r\n(?:[ \t].*\r\n)*)+", b"", content)


def arrived(provider: PostfixProvider, message_id: str) -> Delivery:
    def find() -> list[Delivery]:
        return [each for each in provider.received() if each.header("Message-ID") == message_id]

    provider.wait_until(lambda: bool(find()), f"the message {message_id}", 120)
    [found] = find()
    return found


def test_each_shape_arrives_with_its_footer_or_octet_by_octet(bench: Bench) -> None:
    relay, provider, devices = the_way(bench)
    # Postfix itself changes long lines, and refuses nothing here.
    shapes = [shape for shape in SHAPES if max(map(len, shape.raw.split(b"\r\n"))) <= 998 and len(shape.raw) < 100_000]
    assert len(shapes) > 120
    for number, shape in enumerate(shapes):
        code, answer = hand_over(devices if number % 5 else relay.port, ANNA, "kunde@kunde.test", named(shape, number))
        assert code == 250, (shape.name, answer)
    for number, shape in enumerate(shapes):
        raw, result = named(shape, number), without_received(arrived(provider, f"<{number}@firma.example>").content)
        if isinstance(shape.expected, str):
            assert result == raw, shape.name
        else:
            assert_footers(raw, result, LATIN, shape.expected)
    added = sum(isinstance(shape.expected, int) for shape in shapes)
    words = ("--to", "kunde@kunde.test", "--limit", "1000")
    relay.tracked(*words, text="with its footer", count=added)
    history = relay.tracked(*words, text="without its footer: ", count=len(shapes) - added)
    assert history.count("with its footer") == added
    assert history.count("without its footer: ") == len(shapes) - added
    assert "without its footer: it is signed" in history


def test_a_reload_changes_the_footer_and_a_reply_with_it_gets_no_second_one(bench: Bench) -> None:
    relay, provider, _ = the_way(bench)
    first = letter(text("Guten Tag\r\n"))
    assert hand_over(relay.port, ANNA, "kunde@kunde.test", first)[0] == 250
    quoted = b"".join(b"> " + line + b"\r\n" for line in text_of(arrived(provider, "<1@firma.example>")).split(b"\r\n"))
    reply = letter(text("Danke\r\n" + quoted.decode())).replace(b"<1@", b"<2@")
    assert hand_over(relay.port, ANNA, "kunde@kunde.test", reply)[0] == 250
    assert without_received(arrived(provider, "<2@firma.example>").content) == reply
    relay.configure('[[footers]]\nsenders = ["anna@firma.example"]\ntext = "Neue Firma KG"\n')
    assert hand_over(relay.port, ANNA, "kunde@kunde.test", reply.replace(b"<2@", b"<3@"))[0] == 250
    assert text_of(arrived(provider, "<3@firma.example>")).endswith(b"\r\n\r\nNeue Firma KG")


async def test_25_mb_of_attachments_get_their_footer_in_flat_memory() -> None:
    settings = SimulatorSettings(mailboxes={ANNA: SimulatedMailbox("geheim-anna")}, size_limit=100_000_000)
    async with Simulator(settings) as simulator:
        section = f"""
host = "127.0.0.1"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "domain"
{FOOTERS}"""
        relay = Senderproxy([VaultAccount(ANNA, "geheim-anna")], section)
        await asyncio.to_thread(relay.__enter__)
        try:
            small, large = (letter(multi("mixed", text(), attached(b"\0\xff1" * count))) for count in (10, 6_000_000))
            for raw, room in ((small, None), (large, ROOM)):
                before = peak(relay.pid)
                code, answer = await asyncio.to_thread(hand_over, relay.port, ANNA, "kunde@kunde.test", raw)
                assert code == 250, answer
                assert room is None or peak(relay.pid) - before < room
                assert_footers(raw, without_received(simulator.received[-1].content), LATIN, 1)
        finally:
            await asyncio.to_thread(relay.__exit__, None, None, None)


def text_of(delivery: Delivery) -> bytes:
    return without_received(delivery.content).partition(b"\r\n\r\n")[2].rstrip(b"\r\n")
