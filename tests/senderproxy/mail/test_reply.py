"""Replies: parsed from any server, rendered for any client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.reply import REPLY_LINE_LIMIT, EnhancedStatus, Reply, parse_reply, reply


def test_the_last_line_tells_the_cause() -> None:
    said = parse_reply([b"550-Requested action not taken: mailbox unavailable", b"550 Sender address is not allowed."])
    assert said.text == "Sender address is not allowed."
    assert said.lines == ("Requested action not taken: mailbox unavailable", "Sender address is not allowed.")
    assert said.is_permanent
    assert said.status is None
    assert str(said) == "550 Requested action not taken: mailbox unavailable / Sender address is not allowed."


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        (b"250 2.0.0 Ok: queued as 4F1", EnhancedStatus(2, 0, 0), "Ok: queued as 4F1"),
        (b"550 5.7.60 SMTP; Client does not", EnhancedStatus(5, 7, 60), "SMTP; Client does not"),
        (b"550 5.1.1", EnhancedStatus(5, 1, 1), ""),
        (b"250 4.7.0 of another class", None, "4.7.0 of another class"),
        (b"250 10.0.0.1 is your address", None, "10.0.0.1 is your address"),
        (b"250 2.0.0", EnhancedStatus(2, 0, 0), ""),
        (b"250", None, ""),
        (b"354 go on", None, "go on"),
        (b"250 Gr\xc3\xbc\xc3\x9fe", None, "Gruesse"),
        (b"250 Gr\xfc\xdfe", None, "Gr??e"),
        (b"550 a\x1b[2Jb\x00", None, "a?[2Jb?"),
    ],
)
def test_a_line_is_read_into_its_pockets(line: bytes, status: EnhancedStatus | None, text: str) -> None:
    said = parse_reply([line])
    assert (said.status, said.text) == (status, text)


@pytest.mark.parametrize("lines", [[], [b"hello"], [b"250-a", b"550 b"], [b""], [b"150 x"], [b"999 x"], [b"2x0 y"]])
def test_what_is_no_reply_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(ValueError):
        parse_reply(lines)


def test_a_talkative_server_does_not_fill_our_memory() -> None:
    said = parse_reply([b"250-" + b"x" * 100_000] * 500 + [b"250 end"])
    assert len(said.lines) == 100
    assert max(len(line) for line in said.lines) <= 2000
    assert said.text == "end"


def test_a_status_of_ours_stands_in_where_the_server_gave_none() -> None:
    assert reply(550, None, "no").with_default_status(1, 0).status == EnhancedStatus(5, 1, 0)
    assert reply(550, "4.1.1", "odd").with_default_status(1, 0).status == EnhancedStatus(5, 1, 0)
    assert reply(550, "5.7.1", "no").with_default_status(1, 0).status == EnhancedStatus(5, 7, 1)
    assert reply(354, None, "go on").with_default_status(0, 0).status is None


@pytest.mark.parametrize(
    ("said", "wire"),
    [
        (reply(250, "2.0.0", "fine"), b"250 2.0.0 fine\r\n"),
        (reply(550, "5.7.1", "one", "two"), b"550-5.7.1 one\r\n550 5.7.1 two\r\n"),
        (reply(354, None, "go on"), b"354 go on\r\n"),
        (Reply(250, None, ()), b"250\r\n"),
        (reply(250, "2.0.0", "a\r\nRSET"), b"250 2.0.0 a  RSET\r\n"),
        (reply(550, "5.0.0", "für „Änna“ – groß"), b'550 5.0.0 fuer "Aenna" - gross\r\n'),
        (reply(550, "5.0.0", "日本"), b"550 5.0.0 ??\r\n"),
    ],
)
def test_a_reply_is_written_as_clients_expect_it(said: Reply, wire: bytes) -> None:
    assert said.render() == wire


_texts = st.lists(st.text(max_size=1200), max_size=4).map(tuple)


@given(st.sampled_from([250, 354, 451, 550]), st.sampled_from([None, EnhancedStatus(5, 7, 1)]), _texts)
def test_whatever_the_words_it_is_one_well_formed_reply(
    code: int, status: EnhancedStatus | None, lines: tuple[str, ...]
) -> None:
    wire = Reply(code, status, lines).render()
    assert wire.endswith(b"\r\n")
    parts = wire[:-2].split(b"\r\n")
    number = str(code).encode()
    assert all(part.startswith(number + b"-") for part in parts[:-1])
    assert parts[-1] == number or parts[-1].startswith(number + b" ")
    for part in parts:
        assert len(part) + 2 <= REPLY_LINE_LIMIT
        assert all(32 <= octet < 127 for octet in part)
    assert parse_reply(parts).code == code


@given(
    st.lists(
        st.binary(max_size=60).map(lambda text: b"550-" + text.replace(b"\r", b"").replace(b"\n", b"")), min_size=1
    )
)
def test_whatever_a_server_says_has_no_controls_left(lines: list[bytes]) -> None:
    said = parse_reply(lines)
    assert all(line.isprintable() and line.isascii() for line in said.lines)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Requested action not taken: mailbox unavailable", "Sender address is not allowed."], "Sender address is not allowed."),
        (
            ["Transaction failed", "Reject due to policy restrictions.", "For explanation visit https://x.example/c?1"],
            "Reject due to policy restrictions.",
        ),
        (
            ["5.4.5 Daily user sending limit exceeded. For more information on Gmail", "5.4.5 sending limits go to",
             "5.4.5  https://support.example/a/1 q1-2 - gsmtp"],
            "Daily user sending limit exceeded. For more information on Gmail",
        ),
        (
            ["5.7.8 Username and Password not accepted. For more information, go to", "5.7.8  https://x.example/?p=1 - gsmtp"],
            "Username and Password not accepted. For more information, go to",
        ),
        (["Please turn on SMTP Authentication.", "host [192.0.2.1] is not", "permitted to relay."], "Please turn on SMTP Authentication."),
        (["host [192.0.2.1] is not", "permitted to relay.", "Good bye"], "host [192.0.2.1] is not permitted to relay."),
        (["mail.example Nemesis ESMTP Service not available", "No SMTP service", "Bad DNS PTR resource record.",
          "For explanation visit http://x.example/e?ip=1"], "Bad DNS PTR resource record."),
        (["Requested action not taken: mailbox unavailable"], "Requested action not taken: mailbox unavailable"),
        (["See https://x.example/"], "See https://x.example/"),
        (["No", "https://x.example/why"], "No"),
    ],
)  # fmt: skip
def test_the_reason_is_neither_a_generic_line_nor_a_link(lines: list[str], reason: str) -> None:
    octets = [f"550{'-' if number < len(lines) else ' '}{line}".encode() for number, line in enumerate(lines, 1)]
    assert parse_reply(octets).reason == reason
