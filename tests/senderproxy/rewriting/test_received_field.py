"""Received field of this relay, for any EHLO argument."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.rewriting.received_field import add_received_field, hop_count

NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
HEADER = HeaderSection(b"DKIM-Signature: v=1\r\nFrom: anna@firma.example\r\n\r\n")


def test_the_field_names_who_gave_it_to_whom_and_when() -> None:
    client = Client(host="192.168.1.5", name="exchange.firma.local", protocol="ESMTPS")
    stamped = add_received_field(HEADER, client, by="proxy.firma.example", message_id="abc", now=NOW)
    assert stamped.raw == (
        b"Received: from exchange.firma.local ([192.168.1.5])\r\n"
        b"\tby proxy.firma.example (senderproxy) with ESMTPS id abc;\r\n"
        b"\tSat, 31 Jan 2026 08:15:00 +0000\r\n" + HEADER.raw
    )


def test_an_ipv6_client_is_written_as_a_literal() -> None:
    stamped = add_received_field(HEADER, Client(host="::1", name="x", protocol="SMTP"), by="p", message_id="i", now=NOW)
    assert b"([IPv6:::1])" in stamped.raw


@given(st.text(max_size=400))
def test_no_greeting_adds_a_field_or_a_line_of_its_own(name: str) -> None:
    stamped = add_received_field(
        HEADER, Client(host="127.0.0.1", name=name, protocol="ESMTP"), by="p", message_id="i", now=NOW
    )
    assert len(list(stamped.fields())) == 3
    assert stamped.raw.isascii()
    assert stamped.raw.endswith(HEADER.raw)


def test_hops_are_counted_whatever_the_case_of_the_name() -> None:
    assert hop_count(HeaderSection(b"Received: a\r\nRECEIVED: b\r\n c\r\nFrom: x\r\n\r\n")) == 2
