"""The order of commands and the reply to each, without a socket."""

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.mail.address import Address, parse_pattern
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.data import BareLf, InvalidOctet
from senderproxy.wire.dialogue import (
    Authenticate,
    Dialogue,
    ReceiveData,
    ReplyAndClose,
    SendReply,
    SessionOffer,
    StartTls,
    Step,
)

OFFER = SessionOffer(hostname="relay.firma.example", size_limit=1000)
TLS_OFFER = SessionOffer(hostname="relay.firma.example", size_limit=1000, starttls=True, auth=True)
EHLO, MAIL, RCPT = b"EHLO client\r\n", b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"


def say(dialogue: Dialogue, line: bytes, *, more_input: bool = False) -> Reply:
    step = dialogue.command(line, more_input=more_input)
    assert isinstance(step, SendReply), step
    return step.reply


def code(step: Step) -> int | None:
    return step.reply.code if isinstance(step, SendReply | ReplyAndClose) else None


def greeted(offer: SessionOffer = OFFER, **more: object) -> Dialogue:
    dialogue = Dialogue(offer, "192.0.2.7", **more)  # type: ignore[arg-type]
    dialogue.greet(early_input=False)
    assert say(dialogue, EHLO).code == 250
    return dialogue


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([MAIL], [503]),
        ([b"DATA\r\n"], [503]),
        ([EHLO, RCPT], [250, 503]),
        ([EHLO, b"DATA\r\n"], [250, 503]),
        ([EHLO, MAIL, b"DATA\r\n"], [250, 250, 554]),
        ([EHLO, MAIL, MAIL], [250, 250, 503]),
        ([EHLO, MAIL, b"RSET\r\n", RCPT], [250, 250, 250, 503]),
        ([EHLO, MAIL, EHLO, RCPT], [250, 250, 250, 503]),
        ([EHLO, MAIL, b"HELO client\r\n", RCPT], [250, 250, 250, 503]),
        ([EHLO, MAIL, RCPT, b"DATA\r\n"], [250, 250, 250, None]),
        ([EHLO, MAIL, b"RCPT TO:<>\r\n", b"DATA\r\n"], [250, 250, 501, 554]),
        ([EHLO, b"MAIL FROM:<x\r\n", RCPT, b"DATA\r\n"], [250, 501, 503, 503]),
        ([b"HELO client\r\n", MAIL, RCPT, b"DATA\r\n"], [250, 250, 250, None]),
        ([b"EHLO\r\n", b"HELO\r\n", b"EHLO " + b"x" * 256 + b"\r\n", MAIL], [501, 501, 501, 503]),
        ([EHLO, b"NOOP\r\n", b"NOOP whatever\r\n", b"HELP\r\n", b"VRFY anna\r\n"], [250, 250, 250, 214, 252]),
        ([EHLO, b"VRFY\r\n", b"EXPN list\r\n", b"RSET x\r\n", b"QUIT x\r\n"], [250, 501, 502, 501, 501]),
        ([EHLO, MAIL, RCPT, b"DATA x\r\n"], [250, 250, 250, 501]),
        ([EHLO, b"AUTH PLAIN\r\n", b"STARTTLS\r\n"], [250, 502, 502]),
        ([EHLO, b"BDAT 5 LAST\r\n"], [250, 502]),
        ([EHLO, b"QUIT\r\n"], [250, 221]),
        ([b"\n", b"NOOP\n", b"EHLO client\n"], [500, 250, 250]),
    ],
)
def test_the_order_of_commands(lines: list[bytes], codes: list[int | None]) -> None:
    dialogue = Dialogue(OFFER, "192.0.2.7")
    assert [code(dialogue.command(line, more_input=False)) for line in lines] == codes


def test_the_envelope_has_each_recipient_once_in_order() -> None:
    dialogue = greeted()
    for line in (
        b"MAIL FROM:<anna@firma.example> BODY=8BITMIME SIZE=500\r\n",
        RCPT,
        b"RCPT TO:<c@d.example>\r\n",
        RCPT,
    ):
        assert say(dialogue, line).code == 250
    assert isinstance(dialogue.command(b"DATA\r\n", more_input=False), ReceiveData)
    envelope = dialogue.envelope()
    assert [str(path) for path in envelope.recipients] == ["bert@kunde.example", "c@d.example"]
    assert envelope.eight_bit
    dialogue.message_finished()
    assert not dialogue.in_transaction
    assert say(dialogue, MAIL).code == 250


def test_who_talks_before_the_greeting_is_sent_away() -> None:
    step = Dialogue(OFFER, "192.0.2.7").greet(early_input=True)
    assert isinstance(step, ReplyAndClose)
    assert step.reply.code == 554


@pytest.mark.parametrize("last", [b"DATA\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n"])
def test_what_must_be_the_last_of_its_group_ends_the_connection_if_it_is_not(last: bytes) -> None:
    dialogue = greeted(TLS_OFFER)
    step = dialogue.command(last, more_input=True)
    assert isinstance(step, ReplyAndClose)
    assert step.reply is replies.IMPROPER_PIPELINING


def test_a_bare_line_feed_ends_the_connection_only_where_it_is_forbidden() -> None:
    assert say(greeted(), b"NOOP\n").code == 250
    step = greeted(SessionOffer("relay", 1000, bare_lf=BareLf.REJECT)).command(b"NOOP\n", more_input=False)
    assert isinstance(step, ReplyAndClose)
    assert step.reply.code == 521


def test_what_is_offered_follows_the_state_of_the_connection() -> None:
    in_clear = greeted(TLS_OFFER)
    assert say(in_clear, EHLO).lines[1:] == ("PIPELINING", "SIZE 1000", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS")
    too_early = say(in_clear, b"AUTH PLAIN\r\n")
    assert too_early.code == 538
    assert "Switch on TLS" in too_early.text
    assert isinstance(in_clear.command(b"STARTTLS\r\n", more_input=False), StartTls)
    in_clear.tls_started()
    assert say(in_clear, b"AUTH PLAIN\r\n").code == 503, "EHLO is due again"
    assert say(in_clear, EHLO).lines[-1] == "AUTH PLAIN LOGIN"
    assert say(in_clear, b"STARTTLS\r\n").code == 503


def test_everything_said_in_the_clear_is_forgotten_after_starttls() -> None:
    dialogue = greeted(TLS_OFFER)
    say(dialogue, MAIL)
    dialogue.tls_started()
    assert dialogue.client.name == ""
    assert not dialogue.in_transaction
    assert say(dialogue, MAIL).code == 503
    say(dialogue, EHLO)
    assert dialogue.client.protocol == "ESMTPS"


def test_this_machine_may_log_in_without_tls() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, auth=True, auth_in_clear=True))
    assert say(dialogue, EHLO).lines[-1] == "AUTH PLAIN LOGIN"
    step = dialogue.command(b"auth plain AGEAYg==\r\n", more_input=False)
    assert isinstance(step, Authenticate)
    assert "AGEAYg" not in repr(step)


@pytest.mark.parametrize(
    ("command", "expected"),
    [(b"AUTH CRAM-MD5\r\n", 504), (b"AUTH\r\n", 504), (b"AUTH PLAIN a b\r\n", 501), (b"AUTH XOAUTH2 x\r\n", 504)],
)
def test_a_login_method_nobody_knows_is_refused(command: bytes, expected: int) -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert say(dialogue, command).code == expected


def test_who_logs_in_gets_the_senders_of_the_user_and_cannot_log_in_twice() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    step = dialogue.logged_in("scanner", (parse_pattern("@firma.example"),))
    assert code(step) == 235
    assert dialogue.client.protocol == "ESMTPSA"
    assert str(dialogue.client) == "scanner at 192.0.2.7"
    assert say(dialogue, b"AUTH PLAIN\r\n").code == 503
    assert say(dialogue, MAIL).code == 250
    assert dialogue.client.may_use(Address("x", "firma.example"))


def test_login_in_the_middle_of_a_message_is_out_of_order() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    say(dialogue, MAIL)
    assert say(dialogue, b"AUTH PLAIN\r\n").code == 503


def test_three_refused_logins_end_the_connection() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert [code(dialogue.login_failed()) for _ in range(3)] == [535, 535, 421]


def test_a_broken_off_login_counts_for_nothing() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert [code(dialogue.login_failed(replies.AUTH_CANCELLED)) for _ in range(5)] == [501] * 5


def test_where_a_login_is_required_nothing_is_taken_without() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, auth=True, login_required=True), secure=True)
    answer = say(dialogue, MAIL)
    assert (answer.code, str(answer.status)) == (530, "5.7.0")
    assert say(dialogue, RCPT).code == 503
    dialogue.logged_in("scanner", None)
    assert say(dialogue, MAIL).code == 250


def test_each_kind_of_bad_message_is_called_by_its_name() -> None:
    assert {replies.invalid_octet(fault).code for fault in InvalidOctet} == {554}
    assert len({replies.invalid_octet(fault).text for fault in InvalidOctet}) == len(InvalidOctet)


def test_a_thousand_recipients_are_no_idle_talk() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, recipient_limit=5000))
    say(dialogue, MAIL)
    for number in range(3000):
        assert say(dialogue, b"RCPT TO:<p%d@kunde.example>\r\n" % number).code == 250
    assert isinstance(dialogue.command(b"DATA\r\n", more_input=False), ReceiveData)


COMMANDS = st.sampled_from(
    [
        EHLO,
        MAIL,
        RCPT,
        b"HELO x\r\n",
        b"DATA\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"VRFY x\r\n",
        b"HELP\r\n",
        b"EXPN x\r\n",
        b"BDAT 1\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN " + b64encode(b"\0a\0b") + b"\r\n",
        b"AUTH LOGIN\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\r\n",
        b"MAIL FROM:<\r\n",
        b"MAIL FROM:<@relay.example:\r\n",
    ]
) | st.binary(max_size=80).map(lambda noise: noise.replace(b"\n", b"") + b"\r\n")


@settings(max_examples=500)
@given(st.lists(st.tuples(COMMANDS, st.booleans()), max_size=30), st.booleans())
def test_any_order_of_anything_leads_to_one_step_each_and_mail_never_goes_without_its_due(
    lines: list[tuple[bytes, bool]], required: bool
) -> None:
    dialogue = Dialogue(
        SessionOffer("relay", 1000, starttls=True, auth=True, auth_in_clear=True, login_required=required), "127.0.0.1"
    )
    for line, more_input in lines:
        step = dialogue.command(line, more_input=more_input)
        match step:
            case SendReply() | ReplyAndClose():
                step.reply.render()
                if isinstance(step, ReplyAndClose):
                    return
            case ReceiveData():
                assert not more_input
                assert dialogue.envelope().recipients
                assert not required or dialogue.client.user is not None
                dialogue.message_finished()
            case StartTls():
                assert not more_input
                dialogue.tls_started()
            case Authenticate():
                assert not more_input
                dialogue.logged_in("a", None)


# Devices

SCANNER = Address("scanner", "firma.example")
LENIENT_OFFER = SessionOffer(
    "relay", 1000, starttls=True, auth=True, auth_in_clear=True, lenient=True, forced_sender=SCANNER
)


@pytest.mark.parametrize(
    "lines", [[], [b"HELO\r\n"], [b"EHLO \r\n"], [b"HELO \x01 ?!\r\n"], [b"EHLO " + b"x" * 300 + b"\r\n"]]
)
def test_a_device_may_greet_as_it_likes_or_not_at_all(lines: list[bytes]) -> None:
    dialogue = Dialogue(SessionOffer("relay", 1000, lenient=True), "192.0.2.7")
    for line in (*lines, b"MAIL FROM : scan@firma.example\r\n", b"RCPT TO: Bert <bert@kunde.example>\r\n"):
        assert say(dialogue, line).code == 250
    assert isinstance(dialogue.command(b"DATA\r\n", more_input=False), ReceiveData)
    assert str(dialogue.envelope().reverse_path) == "scan@firma.example"
    assert [str(path) for path in dialogue.envelope().recipients] == ["bert@kunde.example"]
    assert len(dialogue.client.name) <= 255


def test_a_device_that_must_log_in_must_do_so_without_a_greeting_too() -> None:
    dialogue = Dialogue(SessionOffer("relay", 1000, auth=True, login_required=True, lenient=True), "192.0.2.7")
    assert say(dialogue, MAIL).code == 530


def test_the_forced_sender_stays_with_the_client_through_everything() -> None:
    dialogue = Dialogue(LENIENT_OFFER, "192.0.2.7")

    def is_a_device() -> bool:
        return dialogue.client.lenient and dialogue.client.forced_sender == SCANNER

    assert is_a_device()
    say(dialogue, EHLO)
    assert is_a_device()
    dialogue.tls_started()
    assert is_a_device()
    say(dialogue, EHLO)
    dialogue.logged_in("scanner", None)
    assert is_a_device()
    say(dialogue, EHLO)
    dialogue.message_finished()
    assert is_a_device()


def test_a_sender_that_is_no_address_gives_way_to_the_forced_one_only() -> None:
    bad = b"MAIL FROM:<scanner>\r\n"
    forcing = greeted(LENIENT_OFFER)
    assert say(forcing, bad).code == 250
    assert forcing.envelope().reverse_path == SCANNER
    assert say(greeted(SessionOffer("relay", 1000, lenient=True)), bad).code == 501
    assert say(greeted(SessionOffer("relay", 1000, forced_sender=SCANNER)), bad).code == 501
