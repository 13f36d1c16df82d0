"""Any command line: a command, or a well-formed reply; an address that was read is safe in a command of our own."""

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import NULL_PATH, Address, parse_address
from senderproxy.mail.reply import REPLY_LINE_LIMIT, Reply
from senderproxy.wire.command import Command, MailCommand, RcptCommand, read_command, read_mail, read_rcpt
from tests.fuzz.octets import cut
from tests.fuzz.profile import fuzzed

_PIECES = st.sampled_from(
    [b"MAIL", b"RCPT", b"mail", b"EHLO", b"AUTH", b" ", b"  ", b"\t", b"FROM:", b"TO:", b"from :", b"<", b">", b"<>", b"@", b",", b":",
     b'"', b"\\", b"anna@firma.example", b"a@b", b"@r.example:", b" SIZE=", b" SIZE=99999999999999999999", b" BODY=8BITMIME",
     b" AUTH=<>", b" SMTPUTF8", b" NOTIFY=NEVER", b"=", b"\xe4", b"\xc3\xa4", b"\0", b"\x7f", b"\r", b"\n", b"[192.0.2.1]",
     b"[IPv6:::1]", b"x" * 300, b"Anna Berg ", b"(note)"]
)  # fmt: skip
_LINES = st.tuples(
    st.sampled_from([b"", b"MAIL FROM:", b"MAIL FROM:<", b"RCPT TO:", b"RCPT TO:<"]),
    st.lists(_PIECES | st.binary(max_size=10), max_size=10).map(b"".join),
).map(b"".join)


def assert_sendable(reply: Reply) -> None:
    parts = reply.render().split(b"\r\n")
    assert parts.pop() == b""
    assert reply.code >= 500
    assert all(part.isascii() and part.decode().isprintable() and len(part) <= REPLY_LINE_LIMIT - 2 for part in parts)


@fuzzed(500)
@given(_LINES, st.booleans(), st.booleans(), st.sampled_from([None, parse_address("scanner@firma.example")]))
def test_any_line_is_a_command_or_gets_a_reply(
    line: bytes, extended: bool, lenient: bool, forced_sender: Address | None
) -> None:
    command = read_command(line, extended=extended, lenient=lenient)
    if isinstance(command, Reply):
        assert_sendable(command)
        return
    assert isinstance(command, Command)
    assert command.argument.isprintable() or not command.argument.isascii()
    mail = read_mail(command.argument, 1000, lenient=lenient, forced_sender=forced_sender)
    if isinstance(mail, MailCommand):
        assert mail.reverse_path is NULL_PATH or _is_safe(mail.reverse_path)
        assert mail.size is None or mail.size <= 1000
    else:
        assert_sendable(mail)
    recipient = read_rcpt(command.argument, lenient=lenient)
    if isinstance(recipient, RcptCommand):
        assert _is_safe(recipient.forward_path)
    else:
        assert_sendable(recipient)


def _is_safe(path: object) -> bool:
    """The path has the same meaning in a command of ours, which has no room for another argument."""
    text = str(path)
    strict = read_rcpt(f"TO:<{text}>")
    return text.isascii() and text.isprintable() and isinstance(strict, RcptCommand) and strict.forward_path == path


def test_cut_gives_all_octets_in_order() -> None:
    assert cut(b"abcdef", [2, 4, 99]) == [b"ab", b"cd", b"ef"]
    assert cut(b"", [1]) == []
