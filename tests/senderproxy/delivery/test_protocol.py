"""Replies come in the order of the commands, with any fragmentation; otherwise the session ends."""

import asyncio
import itertools
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from senderproxy.delivery.causes import Stage
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.protocol import LINE_LIMIT, LINES_LIMIT, InvalidReplyError, ReplyReader, UpstreamProtocol
from senderproxy.mail.reply import Reply, parse_reply
from senderproxy.routing.provider import Security, Smarthost

text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.encode)
codes = st.sampled_from([b"220", b"250", b"354", b"421", b"450", b"550"])


@st.composite
def said(draw: st.DrawFn) -> list[bytes]:
    """The lines of one reply."""
    code = draw(codes)
    *first, last = draw(st.lists(text, min_size=1, max_size=5))
    return [*(code + b"-" + line for line in first), code + b" " + last]


def in_pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def read(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """The replies before the end or the first junk; True where there was junk."""
    reader, replies = ReplyReader(), []
    try:
        for piece in pieces:
            for reply in reader.feed(piece):
                replies.append(reply)  # noqa: PERF402 -- what came before the junk counts
    except InvalidReplyError:
        return replies, True
    return replies, False


@given(st.lists(said(), max_size=6), st.lists(st.integers(0, 10_000), max_size=20))
def test_the_fragmentation_of_replies_makes_no_difference(dialogue: list[list[bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + b"\r\n" for lines in dialogue for line in lines)
    expected = [parse_reply(lines) for lines in dialogue]
    assert read(in_pieces(stream, cuts)) == (expected, False)
    assert read([bytes([octet]) for octet in stream]) == (expected, False)


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=20))
@example(b"250 ok\r\n\r\n", [])
@example(b"250-a\r\n550 b\r\n", [])
@example(b"250x\r\n", [])
def test_invalid_data_is_detected_with_any_fragmentation(stream: bytes, cuts: list[int]) -> None:
    assert read(in_pieces(stream, cuts)) == read([stream]) == read([bytes([octet]) for octet in stream])


@pytest.mark.parametrize(
    "stream",
    [
        b"hello there\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"999 ok\r\n",
        b"250x ok\r\n",
        b"250-one\r\n550 two\r\n",
        b"x" * LINE_LIMIT,
        b"250 " + b"x" * 1_000_000 + b"\r\n",
        b"250-more\r\n" * (LINES_LIMIT + 1),
    ],
)
def test_an_invalid_reply_is_detected_and_not_stored(stream: bytes) -> None:
    assert read([stream]) == ([], True)


def test_a_reply_before_invalid_data_still_counts() -> None:
    replies, junk = read([b"250 ok\r\n* BYE\r\n"])
    assert [reply.code for reply in replies] == [250]
    assert junk


def test_a_reply_of_a_hundred_lines_is_complete() -> None:
    stream = b"".join(b"250-%d\r\n" % number for number in range(LINES_LIMIT - 1)) + b"250 end\r\n"
    replies, junk = read([stream])
    assert not junk
    assert len(replies[0].lines) == LINES_LIMIT
    assert replies[0].text == "end"


def test_a_bare_line_feed_ends_a_reply_line_as_well() -> None:
    assert [reply.code for reply in read([b"250-a\n250 b\n"])[0]] == [250]


async def wired() -> tuple[UpstreamProtocol, socket.socket]:
    """A protocol on one end of a real connection, and the other end."""
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    assert isinstance(transport, asyncio.Transport)
    return UpstreamProtocol(transport, Smarthost("mx.example", 587, Security.NONE)), theirs


@pytest.mark.parametrize("cancellations", [0, 1, 2])
@pytest.mark.parametrize("before", [True, False], ids=["before it came", "as it came"])
async def test_the_reply_to_the_final_dot_survives_any_number_of_cancellations(
    cancellations: int, before: bool
) -> None:
    protocol, theirs = await wired()
    with theirs:
        answer = protocol.expect()
        waiting = asyncio.create_task(protocol.certain_reply(answer, 30.0, Stage.FINAL_DOT))
        await asyncio.sleep(0)
        for _ in range(cancellations):
            waiting.cancel()
            if before:
                await asyncio.sleep(0)
        protocol.data_received(b"250 2.0.0 taken\r\n")
        assert str(await waiting) == "250 2.0.0 taken"
        protocol.fail(SessionEnded(parse_reply([b"421 over"])))


async def test_the_end_of_the_session_ends_the_wait_after_a_cancellation() -> None:
    protocol, theirs = await wired()
    with theirs:
        waiting = asyncio.create_task(protocol.certain_reply(protocol.expect(), 30.0, Stage.FINAL_DOT))
        await asyncio.sleep(0)
        waiting.cancel()
        protocol.fail(SessionEnded(parse_reply([b"421 over"])))
        with pytest.raises(SessionEnded):
            await waiting


async def test_each_reply_has_its_own_timeout_with_one_timer() -> None:
    protocol, theirs = await wired()
    with theirs:
        (first,) = protocol.send("MAIL FROM:<>")
        asyncio.get_running_loop().call_soon(protocol.data_received, b"250 ok\r\n")
        await protocol.reply(first, 30.0, Stage.MAIL)
        (second,) = protocol.send("RCPT TO:<a@b.example>")
        with pytest.raises(SessionEnded) as lost:
            await protocol.reply(second, 0.02, Stage.RCPT)
        assert lost.value.reply.is_transient
        assert protocol.end is not None
