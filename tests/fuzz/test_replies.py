"""Any octets of an upstream: replies do not depend on the pieces, and a reply is well-formed wherever it is sent on."""

from hypothesis import example, given
from hypothesis import strategies as st

from senderproxy.delivery.protocol import InvalidReplyError, ReplyReader
from senderproxy.mail.reply import REPLY_LINE_LIMIT, Reply, parse_reply
from senderproxy.spool.sqlite.upstream_id import upstream_id
from tests.fuzz.octets import cut
from tests.fuzz.profile import fuzzed

_PIECES = st.sampled_from(
    [b"250 ok\r\n", b"250-ok\r\n", b"250\r\n", b"550-5.7.1 first\n", b"550 5.7.1 last\r\n", b"5", b"50 ", b"-", b"\r", b"\n", b"\r\n",
     b"999 x\r\n", b"250-", b"354 go\r\n", b"\xff", b"\0", b"2.0.0 queued as ABC", b"x" * 700, b"\xc2\xb2\xc2\xb2\xc2\xb2 x\r\n"]
)  # fmt: skip
_STREAMS = st.lists(_PIECES | st.binary(max_size=12), max_size=14).map(b"".join)


def collect(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """The replies, and True if the stream is invalid after them."""
    reader, replies = ReplyReader(), list[Reply]()
    try:
        for piece in pieces:
            for reply in reader.feed(piece):
                replies.append(reply)
    except InvalidReplyError:
        return replies, True
    return replies, False


@fuzzed(300)
@given(_STREAMS, st.lists(st.integers(0, 3000), max_size=8))
@example(b"250-" + b"x" * 2043 + b"\r\n250 y\r\n", [2047])
@example(b"250-x\r\n" * 99 + b"250 y\r\n", [3])
def test_replies_do_not_depend_on_the_pieces_of_the_stream(stream: bytes, places: list[int]) -> None:
    whole = collect([stream])
    assert collect(cut(stream, places)) == whole
    assert collect([stream[at : at + 1] for at in range(len(stream))]) == whole


@fuzzed(300)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"250 ", b"550-5.1.1 x", b"550 5.1.1", b""]), max_size=5))
def test_a_reply_that_was_read_is_well_formed_when_it_is_sent_on(lines: list[bytes]) -> None:
    try:
        reply = parse_reply(lines)
    except ValueError:
        return
    assert reply.status is None or reply.status.klass == reply.code // 100
    upstream_id(reply)
    sent = reply.with_default_status(0, 0).render()
    assert sent.endswith(b"\r\n")
    parts = sent[:-2].split(b"\r\n")
    assert all(part[:4] == b"%d-" % reply.code for part in parts[:-1])
    assert parts[-1][:3] == b"%d" % reply.code
    assert parts[-1][3:4] in (b"", b" ")
    assert all(part.isascii() and part.decode().isprintable() and len(part) <= REPLY_LINE_LIMIT - 2 for part in parts)
    assert collect([sent])[0][0].code == reply.code
