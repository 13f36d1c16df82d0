"""MAIL and RCPT: accepted syntax, and the replies to the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import NULL_PATH, Address
from senderproxy.mail.reply import Reply
from senderproxy.wire.command import (
    AUTH_LIMIT,
    Command,
    MailCommand,
    RcptCommand,
    line_limit,
    read_command,
    read_mail,
    read_rcpt,
)

LIMIT = 150_000_000
ANNA = Address("anna", "firma.example")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<anna@firma.example>", MailCommand(ANNA)),
        ("from:<anna@Firma.EXAMPLE>", MailCommand(ANNA)),
        ("FROM:<Anna@firma.example>", MailCommand(Address("Anna", "firma.example"))),
        ("FROM: <anna@firma.example>", MailCommand(ANNA)),
        ("FROM:<>", MailCommand(NULL_PATH)),
        ("FROM:<> BODY=8BITMIME AUTH=<>", MailCommand(NULL_PATH, None, True)),
        ("FROM:<@relay.example,@other.example:anna@firma.example>", MailCommand(ANNA)),
        ("FROM:<anna@firma.example> SIZE=13343 AUTH=<>", MailCommand(ANNA, 13343)),
        ("FROM:<anna@firma.example> AUTH=anna+40firma.example size=5 body=7bit", MailCommand(ANNA, 5)),
        ("FROM:<anna@firma.example>  BODY=8BITMIME   SIZE=1", MailCommand(ANNA, 1, True)),
        ("FROM:<anna@firma.example> RET=HDRS ENVID=QQ314159", MailCommand(ANNA)),
        ("FROM:<anna@firma.example> MT-PRIORITY=3", MailCommand(ANNA)),
        ('FROM:<"a > b"@firma.example>', MailCommand(Address("a > b", "firma.example"))),
        ("FROM:<anna@[192.0.2.1]>", MailCommand(Address("anna", "[192.0.2.1]"))),
        ("FROM:<anna@bücher.example>", MailCommand(Address("anna", "xn--bcher-kva.example"))),
    ],
)
def test_a_sender_is_read_with_its_parameters(argument: str, expected: MailCommand) -> None:
    assert read_mail(argument, LIMIT) == expected


@pytest.mark.parametrize(
    ("argument", "code", "status", "words"),
    [
        ("", 501, "5.5.4", "MAIL FROM:<"),
        ("<anna@firma.example>", 501, "5.5.4", "MAIL FROM:<"),
        ("TO:<anna@firma.example>", 501, "5.5.4", "MAIL FROM:<"),
        ("FROM:", 501, "5.1.7", "Missing address"),
        ("FROM:anna@firma.example", 501, "5.1.7", "angle brackets"),
        ("FROM:<", 501, "5.1.7", "closing bracket"),
        ("FROM:<@relay.example:", 501, "5.1.7", "closing bracket"),
        ("FROM:<anna@firma.example", 501, "5.1.7", "closing bracket"),
        ("FROM:<<anna@firma.example>>", 501, "5.1.7", "Unbalanced"),
        ('FROM:<"anna@firma.example>', 501, "5.1.7", "Unbalanced"),
        ("FROM:<anna@firma.example>SIZE=5", 501, "5.1.7", "No space after the closing bracket"),
        ("FROM:<anna@firma.example>>", 501, "5.1.7", "No space after the closing bracket"),
        ("FROM:<an na@firma.example>", 501, "5.1.7", "quotation marks"),
        ("FROM:<anna>", 501, "5.1.7", "no @"),
        ("FROM:< >", 501, "5.1.7", "no @"),
        ("FROM:<@firma.example>", 501, "5.1.7", "nothing before the @"),
        ("FROM:<@relay.example:>", 501, "5.1.7", "empty"),
        ("FROM:<anna@firma..example>", 501, "5.1.7", "not a domain name"),
        (f"FROM:<{'a' * 701}@firma.example>", 501, "5.1.7", "700"),
        (f"FROM:<anna@{'a.' * 125}example>", 501, "5.1.7", "255"),
        ("FROM:<änna@firma.example>", 553, "5.6.7", "outside ASCII before the @"),
        ("FROM:<änna@firma.example> SMTPUTF8", 553, "5.6.7", "outside ASCII before the @"),
        ("FROM:<anna@firma.example> SMTPUTF8=1", 501, "5.5.4", "SMTPUTF8 takes no value"),
        ("FROM:<anna@firma.example> SMTPUTF8 SMTPUTF8", 501, "5.5.4", "Duplicate"),
        ("FROM:<anna@firma.example> REQUIRETLS", 555, "5.7.30", "REQUIRETLS"),
        ("FROM:<anna@firma.example> HOLDFOR=100", 555, "5.5.4", "HOLDFOR"),
        ("FROM:<anna@firma.example> BY=120;R", 555, "5.5.4", "BY"),
        ("FROM:<anna@firma.example> NOTIFY=NEVER", 555, "5.5.4", "NOTIFY"),
        ("FROM:<anna@firma.example> SIZE=1 size=2", 501, "5.5.4", "Duplicate parameter SIZE"),
        ("FROM:<anna@firma.example> SIZE", 501, "5.5.4", "SIZE"),
        ("FROM:<anna@firma.example> SIZE=1k", 501, "5.5.4", "SIZE"),
        ("FROM:<anna@firma.example> SIZE=-1", 501, "5.5.4", "SIZE"),
        (f"FROM:<anna@firma.example> SIZE={'9' * 21}", 501, "5.5.4", "SIZE"),
        ("FROM:<anna@firma.example> BODY=BINARYMIME", 501, "5.5.4", "BODY"),
        ("FROM:<anna@firma.example> BODY", 501, "5.5.4", "BODY"),
        ("FROM:<anna@firma.example> AUTH", 501, "5.5.4", "AUTH"),
        ("FROM:<anna@firma.example> =5", 501, "5.5.4", "Malformed"),
        ("FROM:<anna@firma.example> X=", 501, "5.5.4", "Malformed"),
        ("FROM:<anna@firma.example> X=ü", 501, "5.5.4", "Malformed"),
        ("FROM:<anna@firma.example> SIZE=150000001", 552, "5.3.4", "Message too large; limit is 150 MB"),
    ],
)
def test_an_invalid_sender_is_refused_with_the_error(argument: str, code: int, status: str, words: str) -> None:
    answer = read_mail(argument, LIMIT)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (code, status)
    assert words in answer.text


def test_a_recipient_is_read_without_its_dsn_parameters() -> None:
    expected = RcptCommand(Address("bert", "kunde.example"))
    assert read_rcpt("TO:<bert@kunde.example>") == expected
    assert read_rcpt("to: <@relay.example:bert@kunde.example>") == expected
    assert read_rcpt("TO:<bert@kunde.example> NOTIFY=NEVER ORCPT=rfc822;bert@kunde.example") == expected


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("TO:<>", 501, "5.1.3"),
        ("TO:", 501, "5.1.3"),
        ("TO:bert@kunde.example", 501, "5.1.3"),
        ("TO:<bert@kunde.example", 501, "5.1.3"),
        ("FROM:<bert@kunde.example>", 501, "5.5.4"),
        ("TO:<bért@kunde.example>", 553, "5.6.7"),
        ("TO:<bert@kunde.example> SIZE=5", 555, "5.5.4"),
        ("TO:<bert@kunde.example> NOTIFY=NEVER NOTIFY=NEVER", 501, "5.5.4"),
    ],
)
def test_an_invalid_recipient_is_refused(argument: str, code: int, status: str) -> None:
    answer = read_rcpt(argument)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (code, status)


def test_a_command_keeps_the_case_of_its_argument() -> None:
    assert read_command(b"mail FROM:<Anna@Firma.example>") == Command("MAIL", "FROM:<Anna@Firma.example>")
    assert read_command(b"NOOP") == Command("NOOP", "")
    assert read_command(b"RSET  ") == Command("RSET", "")


@pytest.mark.parametrize(
    "line",
    [b"", b" NOOP", b"NOOP\0", b"NO\rOP", b"NOOP\tx", b"\x16\x03\x01\x02", b"1234", b"MAIL FROM:<\xff@x.example>"],
)
def test_an_invalid_command_line_gets_one_reply(line: bytes) -> None:
    answer = read_command(line)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (500, "5.5.2")


def test_a_host_name_with_an_umlaut_is_accepted_in_ehlo() -> None:
    assert read_command("EHLO MÜLLER-PC".encode("cp1252")) == Command("EHLO", "M?LLER-PC")


def test_a_line_may_be_as_long_as_its_command_allows_and_no_longer() -> None:
    for verb in ("NOOP", "MAIL", "RCPT", "AUTH"):
        limit = line_limit(verb, extended=True)
        line = verb.encode() + b" " + b"x" * (limit - 2 - len(verb) - 1)
        assert isinstance(read_command(line), Command)
        assert isinstance(read_command(line + b"x"), Reply)
    assert line_limit("AUTH", extended=True) == AUTH_LIMIT
    assert line_limit("MAIL", extended=False) == 512


def test_a_password_typed_as_a_command_is_not_repeated() -> None:
    command = read_command(b"AUTH PLAIN AGFubmEAZ2VoZWltLWFubmE=")
    assert "AGFubmE" not in repr(command)
    unknown = read_command(b"Z2VoZWlt LWFubmE=")
    assert isinstance(unknown, Command)
    assert "LWFubmE" not in repr(unknown)


@given(st.binary(max_size=600))
def test_any_octets_are_a_command_or_a_reply(line: bytes) -> None:
    command = read_command(line)
    if isinstance(command, Command):
        for answer in (read_mail(command.argument, LIMIT), read_rcpt(command.argument)):
            if isinstance(answer, Reply):
                assert answer.is_permanent
                answer.render()


@given(st.text(max_size=200), st.sampled_from(["FROM:", "TO:", "FROM:<", "TO:<", "FROM:<a@b.example> "]))
def test_any_text_after_the_keyword_is_a_path_or_a_reply(text: str, start: str) -> None:
    for answer in (read_mail(start + text, LIMIT), read_rcpt(start + text)):
        assert isinstance(answer, Reply | MailCommand | RcptCommand)
