import pytest

from senderproxy.mail.reply import parse_reply, reply
from senderproxy.spool.sqlite.upstream_id import upstream_id


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"250 Requested mail action okay, completed: id=1MxDp3-1a2B3c00Xy-00abcd", "1MxDp3-1a2B3c00Xy-00abcd"),
        (b"250 OK id=1wDq2H-0000000AbC-0x3Y", "1wDq2H-0000000AbC-0x3Y"),
        (b"250 2.0.0 Ok: queued as 4Qx7bT2xyzz1q", "4Qx7bT2xyzz1q"),
        (b"250 2.0.0 OK, queued as A1B2C3D4E5", "A1B2C3D4E5"),
        (b"250 2.6.0 <x@y.example> [InternalId=123456, Hostname=X.PROD.OUTLOOK.COM] Queued mail for delivery", "x@y.example"),
        (b"250 2.0.0 OK  1706689200 ffacd0b85a97d-33aeb4d3f1bsi123456f8f.12 - gsmtp", "ffacd0b85a97d-33aeb4d3f1bsi123456f8f.12"),
        (b"250 Ok 0102018c1a2b3c4d-aaaabbbb-cccc-dddd-eeee-ffff00001111-000000", "0102018c1a2b3c4d-aaaabbbb-cccc-dddd-eeee-ffff00001111-000000"),
        (b"250 2.0.0 40V8F0aB012345 Message accepted for delivery", "40V8F0aB012345"),
        (b"250 2.0.0 taken (senderproxy id: w7Kq2mZ4ab9)", "w7Kq2mZ4ab9"),
        (b"250 2.0.0 message accepted, id 1abc-23def", "1abc-23def"),
        (b"250 2.0.0 Ok", None),
        (b"250 2.0.0 Requested mail action okay, completed", None),
        (b"250 Message received", None),
        (b"250 Thank you", None),
        (b"550 5.7.1 queued as 4Qx7bT2xyzz1q", None),
        (b"451 4.3.0 id=1wDq2H-0000000AbC-0x3Y", None),
    ],
)  # fmt: skip
def test_the_id_in_a_reply_is_found_where_servers_put_it(line: bytes, expected: str | None) -> None:
    assert upstream_id(parse_reply([line])) == expected


def test_the_last_line_that_names_one_counts() -> None:
    lines = (b"250-2.0.0 id=first-0001", b"250-2.0.0 id=second-0002.", b"250 2.0.0 goodbye")
    assert upstream_id(parse_reply(lines)) == "second-0002"


def test_an_endless_id_is_cut_off() -> None:
    assert upstream_id(reply(250, "2.0.0", "queued as " + "a" * 5000)) == "a" * 200
