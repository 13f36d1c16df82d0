"""Random commands and octets in random pieces: well-formed replies, no internals in them, and the listener goes on."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.config.model import ClientSettings
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.connections import ListenerTimeouts
from tests.fakes.recording_intake import RecordingIntake
from tests.fuzz.profile import fuzzed
from tests.senderproxy.listener.smtp_client import SmtpClient, lint, listening

TIMEOUTS = ListenerTimeouts(idle=60, before_mail=60, block=60, linger=0.05)
SCANNER = ClientSettings(user="a", password=hash_password("geheim-fuzz"))

LINES = st.sampled_from(
    [
        b"EHLO client\r\n",
        b"HELO client\r\n",
        b"EHLO \xfc\r\n",
        b"MAIL FROM:<anna@firma.example>\r\n",
        b"MAIL FROM:<>\r\n",
        b"MAIL FROM:<\r\n",
        b"MAIL FROM:<@relay.example:\r\n",
        b"MAIL FROM:<@\r\n",
        b'MAIL FROM:<"\r\n',
        b"MAIL FROM:<a@b.example> SIZE=\r\n",
        b"MAIL FROM:<a@[IPv6:::::]> BODY=8BITMIME AUTH=<>\r\n",
        b"RCPT TO:<bert@kunde.example>\r\n",
        b"RCPT TO:<\xff@kunde.example>\r\n",
        b"RCPT TO:<@,:x>\r\n",
        b"DATA\r\n",
        b"DATA\r\n",
        b"From: a@b.example\r\n\r\nbody\r\n.\r\n",
        b".\r\n",
        b"\n.\n",
        b"\r\n.\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY \0\r\n",
        b"HELP x\r\n",
        b"BDAT 5 LAST\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN " + b64encode(b"\0a\0b") + b"\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH \xff\r\n",
        b"YQ==\r\n",
        b"*\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n",
        b"QUIT\r\n",
    ]
) | st.binary(max_size=60)


def reply_lines(stream: bytes) -> list[list[bytes]]:
    replies: list[list[bytes]] = [[]]
    for line in stream.splitlines(keepends=True):
        replies[-1].append(line)
        if line[3:4] != b"-":
            replies.append([])
    assert replies.pop() == [], "incomplete reply"
    return replies


async def converse(listener: Any, pieces: list[bytes], wait: bool) -> None:
    """Send the pieces; every reply must be well-formed, and the connection must end by itself."""
    client = await SmtpClient.to(listener)
    received = await client.reader.readuntil(b"\r\n")
    try:
        for piece in pieces:
            await client.send(piece)
            if wait:
                await asyncio.sleep(0)
        client.writer.write_eof()
    except OSError:
        pass  # the listener has closed the connection
    try:
        while more := await client.reader.read(65536):
            received += more
    except ConnectionError:
        received = received[: received.rfind(b"\r\n") + 2]
    for lines in reply_lines(received):
        lint(lines)
    await client.close()


async def survive(pieces: list[bytes], wait: bool) -> None:
    async with asyncio.timeout(30):
        async with listening(RecordingIntake(), SCANNER, auth="optional", timeouts=TIMEOUTS) as listener:
            await converse(listener, pieces, wait)
            client = await SmtpClient.greeted(listener)
            assert (await client.mail()).code == 250
            assert listener.status()["faults"] == 0
            await client.close()


@fuzzed(60)
@given(st.lists(LINES, max_size=20), st.booleans())
def test_any_commands_in_any_order(pieces: list[bytes], wait: bool) -> None:
    asyncio.run(survive(pieces, wait))


@fuzzed(30)
@given(st.lists(st.binary(max_size=400), max_size=10))
def test_random_octets(pieces: list[bytes]) -> None:
    asyncio.run(survive(pieces, wait=True))


@pytest.mark.slow
@fuzzed(400)
@given(st.lists(LINES, max_size=40), st.booleans())
def test_many_commands_in_any_order(pieces: list[bytes], wait: bool) -> None:
    asyncio.run(survive([b"EHLO client\r\n", *pieces], wait))
