"""Output, last reply and deadlines of one connection, on a transport in memory."""

import asyncio
from typing import Any

import pytest

from senderproxy.listener.client_stream import ClientStream, ClientTimeout
from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.wire import replies


class MemoryTransport(asyncio.Transport):
    """Records what is written and how the connection is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.calls: list[str] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def is_closing(self) -> bool:
        return "close" in self.calls

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


def opened(**timeouts: float) -> tuple[ClientStream, MemoryTransport]:
    limits = ListenerTimeouts(**{"idle": 30.0, "before_mail": 30.0, "block": 30.0, "linger": 30.0} | timeouts)
    stream, transport = ClientStream(asyncio.get_running_loop(), limits), MemoryTransport()
    stream.attach(transport)
    return stream, transport


async def until_called(transport: MemoryTransport, call: str) -> None:
    async with asyncio.timeout(30):
        while call not in transport.calls:
            await asyncio.sleep(0.005)


async def test_replies_leave_together_in_order() -> None:
    stream, transport = opened()
    for reply in (replies.SENDER_OK, replies.RECIPIENT_OK):
        stream.write(reply)
    assert transport.writes == []
    stream.flush()
    stream.flush()
    assert transport.writes == [b"250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n"]


async def test_a_wait_ends_at_its_deadline_though_octets_arrive() -> None:
    stream, _transport = opened()
    loop = asyncio.get_running_loop()
    stream.set_deadline(loop.time() + 0.1)

    async def wait() -> None:
        while True:
            await stream.more()

    async with asyncio.timeout(30):
        waiting = asyncio.ensure_future(wait())
        while not waiting.done():
            stream.input.feed(b"x")
            await asyncio.sleep(0.005)
    with pytest.raises(ClientTimeout):
        waiting.result()


async def test_an_earlier_deadline_replaces_a_later_one() -> None:
    stream, _transport = opened()
    loop = asyncio.get_running_loop()
    stream.set_deadline(loop.time() + 60)
    stream.set_deadline(loop.time() + 0.02)
    async with asyncio.timeout(30):
        with pytest.raises(ClientTimeout):
            await stream.more()


async def test_a_removed_deadline_does_not_end_a_wait() -> None:
    stream, _transport = opened()
    loop = asyncio.get_running_loop()
    stream.set_deadline(loop.time() + 0.01)
    stream.set_deadline(None)
    loop.call_later(0.05, stream.input.feed, b"x")
    await stream.more()
    assert stream.input.take() == b"x"


async def test_a_last_reply_is_sent_before_the_wait_for_the_client_to_close() -> None:
    stream, transport = opened()
    finishing = asyncio.ensure_future(stream.finish(replies.TOO_SLOW))
    await until_called(transport, "write_eof")
    assert transport.writes == [replies.TOO_SLOW.render()]
    assert not finishing.done(), "input is still read"
    stream.input.feed(b"QUIT\r\n")
    stream.input.end()
    async with asyncio.timeout(30):
        await finishing
    assert stream.input.size == 0


async def test_the_wait_after_a_last_reply_is_limited() -> None:
    stream, _transport = opened(linger=0.02)
    async with asyncio.timeout(30):
        await stream.finish(replies.TOO_SLOW)


async def test_a_client_that_does_not_read_its_last_replies_is_dropped() -> None:
    stream, transport = opened(idle=0.02)
    stream.write(replies.OK)
    stream.close()
    assert transport.writes == [replies.OK.render()]
    await until_called(transport, "abort")


async def test_no_timer_runs_after_the_connection_is_lost() -> None:
    stream, transport = opened(idle=0.02)
    stream.set_deadline(asyncio.get_running_loop().time() + 0.02)
    timer = stream._timer
    assert timer is not None
    stream.connection_lost()
    stream.close()
    assert timer.cancelled()
    assert transport.calls == []
