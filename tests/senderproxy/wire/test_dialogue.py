"""The order of commands and the reply to each, without a socket."""

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.mail.address import Address, parse_pattern
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.data_decoder import BareLf
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
from senderproxy.wire.line_ends import InvalidOctet

OFFER = SessionOffer(hostname="relay.firma.example", size_limit=1000)
TLS_OFFER = SessionOffer(hostname="relay.firma.example", size_limit=1000, starttls=True, auth=True)
EHLO, MAIL, RCPT = b"EHLO client\r\n", b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n"


def reply_to(dialogue: Dialogue, line: bytes, *, more_input: bool = False) -> Reply:
    step = dialogue.command(line, more_input=more_input)
    assert isinstance(step, SendReply), step
    return step.reply


def code(step: Step) -> int | None:
    return step.reply.code if isinstance(step, SendReply | ReplyAndClose) else None


def greeted(offer: SessionOffer = OFFER, **more: object) -> Dialogue:
    dialogue = Dialogue(offer, "192.0.2.7", **more)  # type: ignore[arg-type]
    dialogue.greet(early_input=False)
    assert reply_to(dialogue, EHLO).code == 250
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
        assert reply_to(dialogue, line).code == 250
    assert isinstance(dialogue.command(b"DATA\r\n", more_input=False), ReceiveData)
    envelope = dialogue.envelope()
    assert [str(path) for path in envelope.recipients] == ["bert@kunde.example", "c@d.example"]
    assert envelope.eight_bit
    dialogue.message_finished()
    assert not dialogue.in_transaction
    assert reply_to(dialogue, MAIL).code == 250


def test_input_before_the_greeting_ends_the_connection() -> None:
    step = Dialogue(OFFER, "192.0.2.7").greet(early_input=True)
    assert isinstance(step, ReplyAndClose)
    assert step.reply.code == 554


@pytest.mark.parametrize("last", [b"DATA\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n"])
def test_input_after_the_last_command_of_a_pipelined_group_ends_the_connection(last: bytes) -> None:
    dialogue = greeted(TLS_OFFER)
    step = dialogue.command(last, more_input=True)
    assert isinstance(step, ReplyAndClose)
    assert step.reply is replies.IMPROPER_PIPELINING


def test_a_bare_line_feed_ends_the_connection_where_it_is_rejected() -> None:
    assert reply_to(greeted(), b"NOOP\n").code == 250
    step = greeted(SessionOffer("relay", 1000, bare_lf=BareLf.REJECT)).command(b"NOOP\n", more_input=False)
    assert isinstance(step, ReplyAndClose)
    assert step.reply.code == 521


def test_the_ehlo_keywords_follow_the_state_of_the_connection() -> None:
    in_clear = greeted(TLS_OFFER)
    assert reply_to(in_clear, EHLO).lines[1:] == (
        "PIPELINING",
        "SIZE 1000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "STARTTLS",
    )
    too_early = reply_to(in_clear, b"AUTH PLAIN\r\n")
    assert too_early.code == 538
    assert "Switch on TLS" in too_early.text
    assert isinstance(in_clear.command(b"STARTTLS\r\n", more_input=False), StartTls)
    in_clear.tls_started()
    assert reply_to(in_clear, b"AUTH PLAIN\r\n").code == 503, "EHLO is required again"
    assert reply_to(in_clear, EHLO).lines[-1] == "AUTH PLAIN LOGIN"
    assert reply_to(in_clear, b"STARTTLS\r\n").code == 503


def test_commands_in_clear_are_discarded_after_starttls() -> None:
    dialogue = greeted(TLS_OFFER)
    reply_to(dialogue, MAIL)
    dialogue.tls_started()
    assert dialogue.client.name == ""
    assert not dialogue.in_transaction
    assert reply_to(dialogue, MAIL).code == 503
    reply_to(dialogue, EHLO)
    assert dialogue.client.protocol == "ESMTPS"


def test_this_machine_may_log_in_without_tls() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, auth=True, auth_in_clear=True))
    assert reply_to(dialogue, EHLO).lines[-1] == "AUTH PLAIN LOGIN"
    step = dialogue.command(b"auth plain AGEAYg==\r\n", more_input=False)
    assert isinstance(step, Authenticate)
    assert "AGEAYg" not in repr(step)


@pytest.mark.parametrize(
    ("command", "expected"),
    [(b"AUTH CRAM-MD5\r\n", 504), (b"AUTH\r\n", 504), (b"AUTH PLAIN a b\r\n", 501), (b"AUTH XOAUTH2 x\r\n", 504)],
)
def test_an_unknown_mechanism_is_refused(command: bytes, expected: int) -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert reply_to(dialogue, command).code == expected


def test_a_login_sets_the_senders_of_the_user_and_cannot_be_repeated() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    step = dialogue.logged_in("scanner", (parse_pattern("@firma.example"),))
    assert code(step) == 235
    assert dialogue.client.protocol == "ESMTPSA"
    assert str(dialogue.client) == "scanner at 192.0.2.7"
    assert reply_to(dialogue, b"AUTH PLAIN\r\n").code == 503
    assert reply_to(dialogue, MAIL).code == 250
    assert dialogue.client.may_use(Address("x", "firma.example"))


def test_auth_during_a_mail_transaction_is_out_of_order() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    reply_to(dialogue, MAIL)
    assert reply_to(dialogue, b"AUTH PLAIN\r\n").code == 503


def test_three_failed_logins_end_the_connection() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert [code(dialogue.login_failed()) for _ in range(3)] == [535, 535, 421]


def test_a_cancelled_login_is_not_counted() -> None:
    dialogue = greeted(TLS_OFFER, secure=True)
    assert [code(dialogue.login_failed(replies.AUTH_CANCELLED)) for _ in range(5)] == [501] * 5


def test_mail_needs_a_login_where_one_is_required() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, auth=True, login_required=True), secure=True)
    answer = reply_to(dialogue, MAIL)
    assert (answer.code, str(answer.status)) == (530, "5.7.0")
    assert reply_to(dialogue, RCPT).code == 503
    dialogue.logged_in("scanner", None)
    assert reply_to(dialogue, MAIL).code == 250


def test_each_invalid_octet_has_its_own_reply() -> None:
    assert {replies.invalid_octet(fault).code for fault in InvalidOctet} == {554}
    assert len({replies.invalid_octet(fault).text for fault in InvalidOctet}) == len(InvalidOctet)


def test_recipients_do_not_count_as_idle_commands() -> None:
    dialogue = greeted(SessionOffer("relay", 1000, recipient_limit=5000))
    reply_to(dialogue, MAIL)
    for number in range(3000):
        assert reply_to(dialogue, b"RCPT TO:<p%d@kunde.example>\r\n" % number).code == 250
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
def test_any_commands_in_any_order_lead_to_one_step_each_and_data_needs_its_preconditions(
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
def test_a_device_may_send_any_helo_or_none(lines: list[bytes]) -> None:
    dialogue = Dialogue(SessionOffer("relay", 1000, lenient=True), "192.0.2.7")
    for line in (*lines, b"MAIL FROM : scan@firma.example\r\n", b"RCPT TO: Bert <bert@kunde.example>\r\n"):
        assert reply_to(dialogue, line).code == 250
    assert isinstance(dialogue.command(b"DATA\r\n", more_input=False), ReceiveData)
    assert str(dialogue.envelope().reverse_path) == "scan@firma.example"
    assert [str(path) for path in dialogue.envelope().recipients] == ["bert@kunde.example"]
    assert len(dialogue.client.name) <= 255


def test_a_device_without_helo_must_log_in_where_required() -> None:
    dialogue = Dialogue(SessionOffer("relay", 1000, auth=True, login_required=True, lenient=True), "192.0.2.7")
    assert reply_to(dialogue, MAIL).code == 530


def test_the_forced_sender_stays_after_ehlo_starttls_and_login() -> None:
    dialogue = Dialogue(LENIENT_OFFER, "192.0.2.7")

    def is_a_device() -> bool:
        return dialogue.client.lenient and dialogue.client.forced_sender == SCANNER

    assert is_a_device()
    reply_to(dialogue, EHLO)
    assert is_a_device()
    dialogue.tls_started()
    assert is_a_device()
    reply_to(dialogue, EHLO)
    dialogue.logged_in("scanner", None)
    assert is_a_device()
    reply_to(dialogue, EHLO)
    dialogue.message_finished()
    assert is_a_device()


def test_an_invalid_sender_is_replaced_by_the_forced_one_only() -> None:
    bad = b"MAIL FROM:<scanner@>\r\n"
    forcing = greeted(LENIENT_OFFER)
    assert reply_to(forcing, bad).code == 250
    assert forcing.envelope().reverse_path == SCANNER
    assert reply_to(greeted(SessionOffer("relay", 1000, lenient=True)), bad).code == 501
    assert reply_to(greeted(SessionOffer("relay", 1000, forced_sender=SCANNER)), bad).code == 501


def test_a_local_name_as_the_sender_gets_the_name_of_this_server_on_a_lenient_listener() -> None:
    """As Postfix completes it (append_at_myorigin)."""
    dialogue = greeted(SessionOffer("relay.firma.example", 1000, lenient=True))
    assert reply_to(dialogue, b"MAIL FROM:<root>\r\n").code == 250
    assert dialogue.envelope().reverse_path == Address("root", "relay.firma.example")
    assert reply_to(greeted(SessionOffer("relay", 1000, lenient=True)), b"MAIL FROM: root\r\n").code == 501
    assert reply_to(greeted(SessionOffer("relay", 1000)), b"MAIL FROM:<root>\r\n").code == 501


@pytest.mark.parametrize(
    ("sender", "domain"), [(b"<anna@firma.example>", "firma.example"), (b"<>", "relay.firma.example")]
)
def test_postmaster_needs_no_domain(sender: bytes, domain: str) -> None:
    """RFC 5321 section 4.5.1. It is the postmaster of the sender's domain."""
    dialogue = greeted(SessionOffer("relay.firma.example", 1000))
    assert reply_to(dialogue, b"MAIL FROM:" + sender + b"\r\n").code == 250
    assert reply_to(dialogue, b"RCPT TO:<Postmaster>\r\n").code == 250
    assert [str(path) for path in dialogue.envelope().recipients] == [f"Postmaster@{domain}"]
    assert reply_to(dialogue, b"RCPT TO:<root>\r\n").code == 501


class Quota:
    """Allows so many messages and recipients."""

    def __init__(self, messages: int, recipients: int) -> None:
        self.messages, self.recipients = messages, recipients

    def message(self) -> Reply | None:
        self.messages -= 1
        return replies.message_rate("192.0.2.7", 1) if self.messages < 0 else None

    def recipient(self) -> Reply | None:
        self.recipients -= 1
        return replies.recipient_rate("192.0.2.7", 1) if self.recipients < 0 else None


def test_a_message_over_the_quota_is_deferred_and_begins_no_transaction() -> None:
    dialogue = greeted(quota=Quota(1, 9))
    assert [reply_to(dialogue, line).code for line in (MAIL, b"RSET\r\n", MAIL, RCPT)] == [250, 250, 450, 503]
    assert not dialogue.in_transaction
    assert reply_to(dialogue, b"MAIL FROM:<x\r\n").code == 501


def test_a_recipient_over_the_quota_is_deferred_and_the_accepted_ones_stay() -> None:
    dialogue = greeted(quota=Quota(9, 1))
    lines = (MAIL, RCPT, b"RCPT TO:<carl@kunde.example>\r\n")
    assert [reply_to(dialogue, line).code for line in lines] == [250, 250, 450]
    assert [str(path) for path in dialogue.envelope().recipients] == ["bert@kunde.example"]


def test_a_logged_in_user_has_no_quota() -> None:
    dialogue = greeted(TLS_OFFER, quota=Quota(0, 0))
    assert reply_to(dialogue, MAIL).code == 450
    dialogue.logged_in("scanner", None)
    assert [reply_to(dialogue, line).code for line in (MAIL, RCPT)] == [250, 250]


def test_a_mail_command_is_remembered_once_it_is_accepted() -> None:
    dialogue = greeted()
    reply_to(dialogue, b"MAIL FROM:<x\r\n")
    assert not dialogue.mail_seen
    reply_to(dialogue, MAIL)
    reply_to(dialogue, b"RSET\r\n")
    assert dialogue.mail_seen


def test_auth_after_helo_is_for_devices_only() -> None:
    for lenient in (True, False):
        dialogue = Dialogue(SessionOffer("relay", 1000, auth=True, auth_in_clear=True, lenient=lenient), "192.0.2.7")
        dialogue.greet(early_input=False)
        dialogue.command(b"HELO scan\r\n", more_input=False)
        step = dialogue.command(b"AUTH LOGIN " + b"QUJD" * 200 + b"\r\n", more_input=False)
        assert isinstance(step, Authenticate) is lenient
        if lenient:
            dialogue.logged_in("scan", None)
            assert dialogue.client.protocol == "ESMTPA"


def test_auth_in_clear_stays_refused_after_helo() -> None:
    dialogue = Dialogue(SessionOffer("relay", 1000, auth=True, lenient=True), "192.0.2.7")
    dialogue.greet(early_input=False)
    dialogue.command(b"HELO scan\r\n", more_input=False)
    assert reply_to(dialogue, b"AUTH LOGIN\r\n").code == 538
