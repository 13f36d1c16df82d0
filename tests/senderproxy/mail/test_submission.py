"""Submission: a copy with another message is the same in everything else."""

from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime

from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Client, Submission
from tests.senderproxy.delivery.messages import Blocks


def test_a_copy_with_another_message_keeps_every_other_field() -> None:
    anna = parse_address("anna@firma.example")
    first, second = (Message(HeaderSection(b"A: 1\r\n\r\n"), Blocks((b"x",))) for _ in range(2))
    received = datetime(2026, 1, 31, tzinfo=UTC)
    whole = Submission(
        "m1", "office", Client("192.168.1.20", "pc", "ESMTP"), Envelope(anna, (anna,)), first, received, "m0", "anna"
    )
    assert all(one.default is MISSING or getattr(whole, one.name) != one.default for one in fields(whole))
    assert whole.with_message(second) == replace(whole, message=second)
    assert whole.with_message(second).message is second
