"""The state machine of a usual transaction: what it does with replies that come in another way."""

import asyncio

import pytest

from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.delivery.session import Completed, EhloExtensions, Interrupted, Session, SessionTimeouts
from senderproxy.mail.reply import Reply
from tests.senderproxy.delivery.messages import make_message, to
from tests.senderproxy.straight.office import SMARTHOST
from tests.senderproxy.straight.virtual_loop import run_virtually
from tests.senderproxy.straight.wires import MemoryTransport

RECIPIENTS = ("carl@elsewhere.example", "dora@elsewhere.example")


class Upstream:
    """A session in memory, with a transaction that has begun."""

    def __init__(self, *, pipelining: bool = False) -> None:
        self.sent: list[bytes | None] = []
        self.ended: list[Reply | None] = []
        self.transport = MemoryTransport(0.001, self.sent.append, ("192.0.2.1", 465))
        protocol = UpstreamProtocol(self.transport, SMARTHOST)
        extensions = EhloExtensions(pipelining, eight_bit=True, size=True, size_limit=None)
        self.session = Session(protocol, SMARTHOST, extensions, SessionTimeouts(), "PLAIN")
        self.envelope, self.message = to(*RECIPIENTS), make_message()
        transaction = self.session.begin(self.envelope, self.message, self.ended.append)
        assert transaction is not None
        self.transaction = transaction
        transaction.start()

    async def say(self, *octets: bytes) -> None:
        for piece in octets:
            self.transport.feed(piece)
            await asyncio.sleep(0.01)

    async def go_on(self) -> Completed | Interrupted:
        return await self.session.transact(self.envelope, self.message, warm=True, begun=self.transaction)


def test_a_reply_that_nothing_asked_for_is_not_taken_for_that_to_the_next_command() -> None:
    async def run() -> None:
        upstream = Upstream()
        await upstream.say(b"250 ok\r\n250 and one more\r\n")
        assert upstream.ended == [None]
        assert upstream.sent[1:] == [None], "RCPT was not sent, and the connection is closed"
        result = await upstream.go_on()
        assert isinstance(result, Interrupted)
        assert not result.dot_written

    run_virtually(run())


@pytest.mark.parametrize("pipelining", [False, True])
def test_all_replies_that_accept_end_it_with_the_last(pipelining: bool) -> None:
    async def run() -> None:
        upstream = Upstream(pipelining=pipelining)
        await upstream.say(
            b"250 ok\r\n", b"250 ok\r\n", b"250-first\r\n2", b"50 ok\r\n", b"354 go\r\n", b"250 taken\r\n"
        )
        [reply] = upstream.ended
        assert reply is not None
        assert reply.text == "taken"
        assert len(upstream.sent) == (2 if pipelining else 5)

    run_virtually(run())


@pytest.mark.parametrize("pipelining", [False, True])
def test_a_refused_recipient_is_left_to_the_session_which_sends_nothing_twice(pipelining: bool) -> None:
    async def run() -> None:
        upstream = Upstream(pipelining=pipelining)
        await upstream.say(b"250 ok\r\n", b"550 5.1.1 unknown\r\n")
        assert upstream.ended == [None]
        going_on = asyncio.create_task(upstream.go_on())
        await upstream.say(b"250 ok\r\n", b"354 go\r\n", b"250 taken\r\n")
        result = await going_on
        assert isinstance(result, Completed)
        assert [type(outcome).__name__ for outcome in result.outcomes.values()] == ["Failed", "Delivered"]
        commands = b"".join(octets or b"" for octets in upstream.sent)
        assert commands.count(b"MAIL FROM") == 1
        assert commands.count(b"RCPT TO") == 2
        assert commands.count(b"DATA\r\n") == 1
        assert upstream.session.usable

    run_virtually(run())


def test_after_the_dot_the_session_waits_for_the_rest_of_the_time_and_calls_the_end_unknown() -> None:
    async def run() -> None:
        upstream = Upstream()
        await upstream.say(b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
        assert upstream.transaction.dot_written
        await asyncio.sleep(500)
        upstream.transaction.stop()
        begun = asyncio.get_running_loop().time()
        result = await upstream.go_on()
        assert isinstance(result, Interrupted)
        assert result.dot_written
        assert asyncio.get_running_loop().time() - begun == pytest.approx(40, abs=0.1)
        assert "within 540 s" in result.reply.text

    run_virtually(run())
