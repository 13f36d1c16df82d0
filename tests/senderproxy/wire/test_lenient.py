"""Malformed commands of scanners, and their correction by a lenient listener."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import NULL_PATH, Address
from senderproxy.mail.reply import Reply
from senderproxy.wire.command import Command, MailCommand, RcptCommand, read_command, read_mail, read_rcpt

LIMIT = 150_000_000
SCAN = Address("scan", "firma.example")
FORCED = Address("scanner", "firma.example")

SHAPES = [
    "scan@firma.example",
    " scan@firma.example",
    "<scan@firma.example",
    "scan@firma.example>",
    " < scan@firma.example > ",
    "<<scan@firma.example>>",
    " Scanner <scan@firma.example>",
    ' "Scanner, 2. OG" <scan@firma.example>',
    " scan@firma <scan@firma.example>",
    ' "scan@firma, Flur" <scan@firma.example>',
    " Scanner <scan@firma.example",
    " Büro <scan@firma.example>",
    "<scan@firma.example>  ",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colon", [":", " :", " : ", ":  "])
def test_the_address_in_a_malformed_path_is_found(shape: str, colon: str) -> None:
    assert read_mail(f"FROM{colon}{shape}", LIMIT, lenient=True) == MailCommand(SCAN)
    assert read_rcpt(f"to{colon}{shape}", lenient=True) == RcptCommand(SCAN)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.strip() != "<scan@firma.example>"])
def test_a_strict_listener_refuses_malformed_paths(shape: str) -> None:
    for answer in (read_mail(f"FROM:{shape}", LIMIT), read_rcpt(f"TO:{shape}")):
        assert isinstance(answer, Reply)
        assert answer.code == 501
    assert isinstance(read_mail("FROM:<scanner>", LIMIT, forced_sender=FORCED), Reply)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_after_a_malformed_path_count(shape: str) -> None:
    assert read_mail(f"FROM:{shape} SIZE=5 BODY=8BITMIME AUTH=<>", LIMIT, lenient=True) == MailCommand(SCAN, 5, True)
    assert read_rcpt(f"TO:{shape} NOTIFY=NEVER", lenient=True) == RcptCommand(SCAN)
    too_large = read_mail(f"FROM:{shape} SIZE={LIMIT + 1}", LIMIT, lenient=True, forced_sender=FORCED)
    assert isinstance(too_large, Reply)
    assert too_large.code == 552


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("<scanner>", "The sender address scanner has no @ and no domain"),
        ("scanner", "The sender address scanner has no @"),
        ("", "Missing sender address"),
        ("SIZE=5", "has no @"),
        ("<", "Missing sender"),
        ("Scanner <>", "Missing sender"),
        ("<@firma.example>", "has nothing before the @"),
        ("<scan@>", "has nothing after the @"),
        ("<scan @firma.example>", "contains a space"),
        ("<büro@firma.example>", "has an umlaut"),
        ("a@firma.example, b@firma.example", "More than one sender"),
        ("a@firma.example; <b@firma.example>", "More than one sender"),
        ("<scan@firma..example>", "is not a valid address"),
        ("<" + "x" * 300 + ">", "xxx..."),
    ],
)
def test_an_invalid_sender_address_gets_a_plain_reply_unless_a_sender_is_forced(path: str, words: str) -> None:
    answer = read_mail(f"FROM:{path}", LIMIT, lenient=True)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (501, "5.1.7")
    assert words in answer.text
    assert "mail settings of the device" in answer.text
    assert read_mail(f"FROM:{path}", LIMIT, lenient=True, forced_sender=FORCED) == MailCommand(FORCED)


def test_a_forced_sender_does_not_replace_a_valid_one() -> None:
    assert read_mail("FROM: scan@firma.example", LIMIT, lenient=True, forced_sender=FORCED) == MailCommand(SCAN)
    for null in ("<>", "< >", " <> AUTH=<>"):
        assert read_mail(f"FROM:{null}", LIMIT, lenient=True, forced_sender=FORCED) == MailCommand(NULL_PATH)


@pytest.mark.parametrize("argument", ["", "scan@firma.example", "TO:<scan@firma.example>", "FROM <scan@firma.example>"])
def test_mail_without_from_and_its_colon_is_refused(argument: str) -> None:
    answer = read_mail(argument, LIMIT, lenient=True, forced_sender=FORCED)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("<bert>", "The recipient address bert has no @"),
        ("<>", "Missing recipient address"),
        ("", "Missing recipient address"),
        ("<bert@kunde.example>,<carl@kunde.example>", "More than one recipient"),
        ("bert@kunde.example,carl@kunde.example", "More than one recipient"),
        ("bert@kunde.example carl@kunde.example", "More than one recipient"),
        ("<jürgen@kunde.example>", "has an umlaut"),
        ("bert@kunde.example AUTH", "contains a space"),
    ],
)
def test_a_recipient_must_be_one_valid_address(path: str, words: str) -> None:
    answer = read_rcpt(f"TO:{path}", lenient=True)
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (501, "5.1.3")
    assert words in answer.text
    assert "address book of the device" in answer.text


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"HELO \x01\x02 \xfc", "HELO", "?? ?"),
        (b"HELO", "HELO", ""),
        (b"MAIL\tFROM:\t<scan@firma.example>\t", "MAIL", "FROM: <scan@firma.example>"),
        ("MAIL FROM: Büro <scan@firma.example>".encode("latin-1"), "MAIL", "FROM: Büro <scan@firma.example>"),
        ("MAIL FROM: Büro <scan@firma.example>".encode(), "MAIL", "FROM: Büro <scan@firma.example>"),
    ],
)
def test_malformed_command_lines_are_corrected(line: bytes, verb: str, argument: str) -> None:
    assert read_command(line, lenient=True) == Command(verb, argument)


def test_a_nul_in_an_address_is_refused() -> None:
    assert isinstance(read_command(b"MAIL FROM:<scan\0@firma.example>", lenient=True), Reply)


_PIECES = st.lists(
    st.sampled_from(["FROM", "TO", ":", " ", "<", ">", "@", '"', ",", "a@b.example", "x", "ü", "SIZE=1", "AUTH=<>"]),
    max_size=12,
).map("".join)


@given(_PIECES)
def test_a_lenient_listener_accepts_what_a_strict_one_accepts_with_the_same_meaning(argument: str) -> None:
    strict = read_mail(argument, LIMIT)
    if isinstance(strict, MailCommand):
        assert read_mail(argument, LIMIT, lenient=True, forced_sender=FORCED) == strict
    recipient = read_rcpt(argument)
    if isinstance(recipient, RcptCommand):
        assert read_rcpt(argument, lenient=True) == recipient


@given(st.one_of(_PIECES.map(lambda text: f"FROM:{text}"), st.text(max_size=60).map(lambda text: f"TO:{text}")))
def test_any_argument_is_a_command_or_a_reply_and_only_an_explicit_null_path_is_null(argument: str) -> None:
    mail = read_mail(argument, LIMIT, lenient=True)
    if isinstance(mail, MailCommand) and mail.reverse_path is NULL_PATH:
        assert argument.replace(" ", "").startswith("FROM:<>")
    for answer in (mail, read_rcpt(argument, lenient=True)):
        if isinstance(answer, Reply):
            assert answer.code in {501, 555, 552}
            answer.render()
