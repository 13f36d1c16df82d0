"""Form and wording of the replies to clients."""

import pytest

from senderproxy.mail.reply import Reply
from senderproxy.wire import replies

NO_STATUS = {354}  # RFC 2034 section 4
CONSTANTS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


def test_every_constant_reply_has_an_enhanced_status_of_its_class() -> None:
    assert len(CONSTANTS) > 30
    for name, reply in CONSTANTS.items():
        if reply.code in NO_STATUS:
            assert reply.status is None, name
        else:
            assert reply.status is not None, name
            assert reply.status.klass == reply.code // 100, name


def test_every_constant_reply_fits_one_line_each_and_is_ascii() -> None:
    for name, reply in CONSTANTS.items():
        assert reply.render().count(b"\r\n") == len(reply.lines), name
        assert all(line.isascii() for line in reply.lines), name


@pytest.mark.parametrize(
    ("octets", "text"),
    [(150_000_000, "150 MB"), (25 * 2**20, "25 MiB"), (1000, "1 kB"), (2048, "2 KiB"), (1001, "1001 octets")],
)
def test_the_size_limit_is_printed_as_in_the_settings(octets: int, text: str) -> None:
    assert replies.too_large(octets).text == f"Message too large; limit is {text}"


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 minute"), (60, "1 minute"), (299, "5 minutes")])
def test_a_locked_login_names_the_time_in_minutes(seconds: float, text: str) -> None:
    assert replies.auth_locked(seconds).text == f"Too many failed logins; try again in {text}"
