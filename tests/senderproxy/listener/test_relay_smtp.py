"""Conversations with a listener over real sockets."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.mail.address import NULL_PATH, Address
from senderproxy.mail.reply import reply
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import HOSTNAME, MESSAGE, TIMEOUTS, SmtpClient, listening, until
from tests.senderproxy.listener.test_event_limiter import StillLoop

MAIL = b"MAIL FROM:<anna@firma.example>\r\n"
RCPT = b"RCPT TO:<bert@kunde.example>\r\n"


async def test_a_message_reaches_the_intake_as_it_was_sent() -> None:
    intake = RecordingIntake()
    message = b"From: anna@firma.example\r\n..dotted: x\r\n\r\n..\r\n..dots\r\nGr\xfc\xdfe\r\n"
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(message)
        assert (answer.code, answer.text) == (250, "2.0.0 taken")
        assert (await client.ask(b"QUIT\r\n")).code == 221
        assert await client.closed()
        await client.close()
    [taken] = intake.taken
    assert taken.wire == message
    assert taken.header == b"From: anna@firma.example\r\n.dotted: x\r\n\r\n"
    assert not taken.is_ascii
    assert taken.envelope.reverse_path == Address("anna", "firma.example")
    assert taken.envelope.recipients == (Address("bert", "kunde.example"),)
    assert (taken.client.host, taken.client.name, taken.client.protocol) == (
        "127.0.0.1",
        "client.firma.example",
        "ESMTP",
    )
    assert len(taken.id) == 12


async def test_the_greeting_and_what_is_offered() -> None:
    async with listening(RecordingIntake(), max_message_size=1000) as listener:
        client = await SmtpClient.to(listener)
        assert (await client.answer()).text == f"{HOSTNAME} ESMTP senderproxy"
        offer = await client.ask(b"EHLO client\r\n")
        assert offer.texts == [HOSTNAME, "PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        assert (await client.ask(b"HELO client\r\n")).texts == [HOSTNAME]
        await client.close()


async def test_twenty_messages_of_many_senders_on_one_connection() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        for number in range(20):
            author = b"person%d@firma.example" % number
            assert (await client.mail(MESSAGE, author=author)).code == 250
        await client.close()
    assert [str(taken.envelope.reverse_path) for taken in intake.taken] == [
        f"person{number}@firma.example" for number in range(20)
    ]


async def test_a_pipelined_group_gets_one_reply_for_each_command_in_order() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"RCPT TO:<>\r\n" + RCPT + b"NOOP\r\nDATA\r\n")
        assert [answer.code for answer in await client.answers(6)] == [250, 250, 501, 250, 250, 354]
        await client.send(MESSAGE + b".\r\n" + MAIL + RCPT + b"RSET\r\nQUIT\r\n")
        assert [answer.code for answer in await client.answers(5)] == [250, 250, 250, 250, 221]
        await client.close()
    assert len(intake.taken) == 1
    assert len(intake.taken[0].envelope.recipients) == 1


async def test_half_a_command_behind_a_whole_one_does_not_hold_back_the_reply() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(b"NOOP\r\nNO")).code == 250
        assert (await client.ask(b"OP\r\n")).code == 250
        await client.close()


async def test_a_whole_session_one_octet_at_a_time() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.to(listener)
        await client.answer()
        message = b"From: a@firma.example\r\n\r\na\n.\nb\r\n..\r\n.\r\n"
        for line in (b"EHLO x\r\n", MAIL, RCPT, b"DATA\r\n", message, b"QUIT\r\n"):
            for octet in line:
                await client.send(bytes([octet]))
            await client.answer()
        await client.close()
    assert intake.taken[0].wire == b"From: a@firma.example\r\n\r\na\r\n..\r\nb\r\n..\r\n"


async def test_a_bounce_with_a_null_reverse_path_is_accepted() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(author=b"")).code == 250
        await client.close()
    assert intake.taken[0].envelope.reverse_path is NULL_PATH


async def test_bare_line_feeds_of_an_old_script_are_converted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(b"From: a@firma.example\nSubject: x\n\nline\n.\nline\r\n")).code == 250
        await client.close()
    assert intake.taken[0].wire == b"From: a@firma.example\r\nSubject: x\r\n\r\nline\r\n..\r\nline\r\n"
    assert any(getattr(record, "senderproxy_event", "") == "bare_lf_converted" for record in caplog.records)


async def test_an_empty_message_and_one_without_a_body() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(b"")).code == 250
        assert (await client.mail(b"Subject: x\r\n")).code == 250
        assert (await client.mail(b"\r\nbody\r\n")).code == 250
        await client.close()
    assert [taken.wire for taken in intake.taken] == [b"", b"Subject: x\r\n", b"\r\nbody\r\n"]
    assert [taken.header for taken in intake.taken] == [b"", b"Subject: x\r\n", b"\r\n"]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (reply(550, None, "mailbox unavailable", "Sender address is not allowed."), 550, "5.0.0"),
        (reply(451, "4.3.0", "later"), 451, "4.3.0"),
        (reply(421, None, "try later"), 451, "4.0.0"),
        (reply(250, None, "completed: id=1"), 250, "2.0.0"),
    ],
)
async def test_the_client_gets_the_reply_of_the_intake(answer: object, code: int, text: str) -> None:
    async with listening(RecordingIntake(answer)) as listener:  # type: ignore[arg-type]
        client = await SmtpClient.greeted(listener)
        received = await client.mail()
        assert received.code == code
        assert received.status == text
        assert (await client.ask(b"NOOP\r\n")).code == 250
        await client.close()


@pytest.mark.parametrize("fault", [KeyError("boom"), ValueError("(IndexError)"), MemoryError(), OSError(28, "full")])
async def test_an_internal_error_is_a_451_with_an_id_that_is_in_the_log(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(RecordingIntake(fault, reply(250, "2.0.0", "taken"))) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail()
        assert (answer.code, answer.status) == (451, "4.3.0")
        [record] = [record for record in caplog.records if record.exc_info]
        assert vars(record)["senderproxy_fields"]["id"] in answer.text
        assert (await client.mail()).code == 250, "the connection goes on"
        await client.close()


async def test_an_invalid_reply_of_the_intake_becomes_a_451() -> None:
    async with listening(RecordingIntake(reply(354, None, "go ahead"))) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail()).code == 451
        await client.close()


async def test_a_hundred_clients_at_once() -> None:
    intake = RecordingIntake()

    async def send_three(listener: object, number: int) -> None:
        client = await SmtpClient.greeted(listener)  # type: ignore[arg-type]
        for _ in range(3):
            assert (await client.mail(MESSAGE + b"%d\r\n" % number)).code == 250
        assert (await client.ask(b"QUIT\r\n")).code == 221
        await client.close()

    async with listening(intake, max_connections_per_client=100) as listener:
        await asyncio.gather(*(send_three(listener, number) for number in range(100)))
    assert len(intake.taken) == 300
    assert sorted(intake.taken[i].wire for i in range(300)) == sorted(
        MESSAGE + b"%d\r\n" % number for number in range(100) for _ in range(3)
    )


@pytest.mark.slow
async def test_a_thousand_idle_clients_do_not_delay_a_message() -> None:
    intake = RecordingIntake()
    patient = replace(TIMEOUTS, before_mail=1000)  # a busy machine takes more than 30 s for so many greetings
    async with listening(intake, timeouts=patient, max_connections=1001, max_connections_per_client=1001) as listener:
        idle = [await SmtpClient.greeted(listener) for _ in range(1000)]
        client = await SmtpClient.greeted(listener)
        assert (await client.mail()).code == 250
        assert listener.connections == 1001
        await client.close()
        for other in idle:
            await other.close()
    assert len(intake.taken) == 1


# Limits


async def test_a_message_announced_too_large_is_refused_before_it_is_sent() -> None:
    async with listening(RecordingIntake(), max_message_size=1000) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.ask(b"MAIL FROM:<anna@firma.example> SIZE=1001\r\n")
        assert (answer.code, answer.status) == (552, "5.3.4")
        await client.close()


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (
            b"X-Small: a\r\nX-Large: " + b"x" * 300_000 + b"\r\n",
            "Header section too large; limit is 256 KiB; the largest field is X-Large (300011 octets)",
        ),
        (
            b"X-Small: a\r\n" * 1001,
            "Too many header fields; limit is 1000; the largest field is X-Small (12 octets)",
        ),
    ],
)
async def test_a_header_section_over_a_limit_is_refused_at_the_end_of_the_message(header: bytes, text: str) -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(header + MESSAGE + b"x" * 900 + b"\r\n")
        assert (answer.code, answer.status) == (552, "5.3.4")
        assert text in answer.text
        assert (await client.mail(b"X-Small: a\r\n" * 998 + MESSAGE)).code == 250
        await client.close()
    assert len(intake.taken) == 1


async def test_the_limits_on_the_header_section_are_settings() -> None:
    async with listening(RecordingIntake(), max_header_size=1000, max_header_fields=5) as listener:
        client = await SmtpClient.greeted(listener)
        for header, words in ((b"X: " + b"x" * 990 + b"\r\n", "limit is 1 kB"), (b"X: a\r\n" * 4, "limit is 5")):
            assert words in (await client.mail(header + MESSAGE)).text
        assert (await client.mail(b"X: a\r\n" * 3 + MESSAGE)).code == 250
        await client.close()


async def test_a_message_that_turns_out_too_large_is_refused_at_its_end_and_the_next_one_accepted() -> None:
    intake = RecordingIntake()
    async with listening(intake, max_message_size=1000) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(MESSAGE + b"x" * 2000 + b"\r\n")
        assert (answer.code, answer.status) == (552, "5.3.4")
        assert (await client.mail(b"x" * 998 + b"\r\n")).code == 250
        await client.close()
    assert len(intake.taken) == 1


async def test_a_message_without_end_is_not_read_for_ever() -> None:
    async with listening(RecordingIntake(), max_message_size=1000) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"DATA\r\n")
        await client.answers(3)
        block = b"x" * 65534 + b"\r\n"
        answer = asyncio.ensure_future(client.answer())
        for _ in range(600):
            if answer.done():
                break
            try:
                await client.send(block)
            except ConnectionError:
                break
        assert (await answer).code == 552
        await client.close()


async def test_a_header_section_without_end_is_refused() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(b"X: y\r\n" * 100_000 + b"\r\n")
        assert (answer.code, answer.status) == (552, "5.3.4")
        assert (await client.mail()).code == 250
        await client.close()


async def test_a_recipient_over_the_limit_is_deferred_and_the_others_are_accepted() -> None:
    intake = RecordingIntake()
    async with listening(intake, max_recipients=3) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + b"".join(b"RCPT TO:<p%d@kunde.example>\r\n" % n for n in range(4)) + b"DATA\r\n")
        answers = await client.answers(6)
        assert [answer.code for answer in answers] == [250, 250, 250, 250, 452, 354]
        assert answers[4].status == "4.5.3"
        assert (await client.ask(MESSAGE + b".\r\n")).code == 250
        await client.close()
    assert len(intake.taken[0].envelope.recipients) == 3


async def test_two_thousand_commands_without_a_message_are_too_many() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(b"NOOP\r\n" * 2000)
        codes: list[int] = []
        while not codes or codes[-1] == 250:
            codes.append((await client.answer()).code)
        assert codes[-1] == 421
        assert len(codes) == 1000
        assert await client.closed()
        await client.close()
        fresh = await SmtpClient.greeted(listener)
        assert (await fresh.mail()).code == 250
        await fresh.close()


async def test_five_unknown_commands_end_the_connection() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        for _ in range(4):
            answer = await client.ask(b"Z2VoZWlt LWFubmE=\r\n")
            assert (answer.code, answer.status) == (500, "5.5.1")
            assert "Z2VoZWlt" not in answer.text
        assert (await client.ask(b"XCLIENT ADDR=192.0.2.1\r\n")).code == 421
        assert await client.closed()
        await client.close()


async def test_a_line_that_never_ends_is_cut_off() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.ask(b"NOOP " + b"x" * 20_000)
        assert (answer.code, answer.status) == (500, "5.5.2")
        assert await client.closed()
        await client.close()


# Order


async def test_input_before_the_greeting_ends_the_connection() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.to(listener, first=b"EHLO client\r\n")
        answer = await client.answer()
        assert (answer.code, answer.status) == (554, "5.5.1")
        assert await client.closed()
        await client.close()


async def test_a_message_sent_before_the_354_is_not_read_as_commands() -> None:
    intake = RecordingIntake()
    smuggled = MAIL + RCPT + b"DATA\r\nevil\r\n.\r\n"
    async with listening(intake) as listener:
        for start in (MAIL + RCPT + b"DATA\r\n", MAIL + b"DATA\r\n", b"DATA\r\n"):
            client = await SmtpClient.greeted(listener)
            await client.send(start + smuggled)
            answers = await client.answers(start.count(b"\r\n"))
            assert (answers[-1].code, answers[-1].status) == (503, "5.5.1")
            assert await client.closed()
            await client.close()
    assert intake.taken == []


async def test_bdat_is_not_offered_and_what_follows_it_is_not_read() -> None:
    async with listening(RecordingIntake()) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"BDAT 10 LAST\r\nRSET\r\nQUIT\r\n")
        assert [answer.code for answer in await client.answers(3)] == [250, 250, 502]
        assert await client.closed()
        await client.close()


async def test_an_http_request_is_not_read_as_commands() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.to(listener)
        await client.answer()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n" + MAIL + RCPT)
        assert (await client.answer()).code == 421
        assert await client.closed()
        await client.close()


# Smuggling

FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\n.\n",
]


@pytest.mark.parametrize("bare_lf", ["normalize", "reject"])
@pytest.mark.parametrize("false_end", FALSE_ENDS)
async def test_no_smuggling_sequence_makes_two_messages_of_one(false_end: bytes, bare_lf: str) -> None:
    intake = RecordingIntake()
    smuggled = b"MAIL FROM:<boss@firma.example>\r\n" + RCPT + b"DATA\r\nFrom: boss@firma.example\r\n\r\nevil\r\n"
    async with listening(intake, bare_lf=bare_lf) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(MESSAGE[:-2] + false_end + smuggled)
        if answer.code != 250:
            assert (answer.code, answer.status) == (554, "5.6.0")
        assert (await client.ask(b"NOOP\r\n")).code == 250, "one reply, and the connection is in step"
        await client.close()
    assert len(intake.taken) == (1 if answer.code == 250 else 0)
    assert (answer.code == 250) == (
        bare_lf == "normalize" and b"\r" not in false_end.replace(b"\r\n", b"") and b"\0" not in false_end
    )
    for taken in intake.taken:
        assert b"\r\n.\r\n" not in b"\r\n" + taken.wire
        assert taken.wire.replace(b"\r\n", b"").find(b"\n") < 0
        assert taken.wire.endswith(b"evil\r\n")


# Clients that are slow, or leave


async def test_a_client_that_sends_an_octet_now_and_then_is_dropped_and_disturbs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeouts = ListenerTimeouts(idle=20, before_mail=20, block=20, min_rate=1e9, linger=1000)
    async with listening(RecordingIntake(), timeouts=timeouts) as listener:
        others = 0
        with monkeypatch.context() as patch:
            clock = StillLoop(patch)
            commands = await SmtpClient.greeted(listener)
            message = await SmtpClient.greeted(listener)
            await message.send(MAIL + RCPT + b"DATA\r\n")
            await message.answers(3)
            received = [asyncio.ensure_future(client.answer()) for client in (commands, message)]
            while not all(answer.done() for answer in received):
                for client, answer in zip((commands, message), received, strict=True):
                    if not answer.done():
                        client.writer.write(b"x")
                busy = await SmtpClient.greeted(listener)
                assert (await busy.mail()).code == 250
                await busy.close()
                await clock.pass_by(5)
                others += 1
        assert [answer.result().code for answer in received] == [421, 421]
        assert [answer.result().status for answer in received] == ["4.4.2", "4.4.2"]
        assert others > 3
        for client in (commands, message):
            await client.close()


async def test_a_steady_upload_may_take_longer_than_the_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = ListenerTimeouts(idle=10, before_mail=10, block=10, min_rate=100, linger=0.1)
    intake = RecordingIntake()
    async with listening(intake, timeouts=timeouts) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"DATA\r\n")
        await client.answers(3)
        with monkeypatch.context() as patch:
            clock = StillLoop(patch)
            for _ in range(6):
                await client.send(b"line of text\r\n" * 50)
                await clock.pass_by(4)
        assert (await client.ask(b".\r\n")).code == 250
        await client.close()
    assert len(intake.taken) == 1


async def test_no_client_timer_runs_while_the_upstream_works(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = ListenerTimeouts(idle=10, before_mail=10, block=10, linger=0.1)
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake, timeouts=timeouts) as listener:
        waiting = await SmtpClient.greeted(listener)
        answer = asyncio.ensure_future(waiting.mail())
        await intake.until_started(1)
        idle = await SmtpClient.greeted(listener)
        with monkeypatch.context() as patch:
            await StillLoop(patch).pass_by(11)
            assert (await idle.answer()).code == 421, "an idle client's time has run out meanwhile"
        assert not answer.done()
        intake.release()
        assert (await answer).code == 250
        for client in (waiting, idle):
            await client.close()


@pytest.mark.slow
async def test_a_client_that_does_not_read_its_replies_is_dropped() -> None:
    timeouts = ListenerTimeouts(idle=0.3, before_mail=30, block=0.3, linger=0.1)
    async with listening(RecordingIntake(), timeouts=timeouts) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(MAIL)).code == 250
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def never_stop() -> None:
            while True:
                await client.send(RCPT * 1000)

        with pytest.raises(ConnectionError):
            await never_stop()
        await client.close()


@pytest.mark.slow
async def test_a_client_that_does_not_read_the_last_reply_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = ListenerTimeouts(idle=10, before_mail=10, block=10, linger=0.1)
    async with listening(RecordingIntake(), timeouts=timeouts) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.ask(MAIL)).code == 250
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection: Any = listener._state.all_connections()[0]
        commands = connection._stream.commands
        with monkeypatch.context() as patch:
            clock = StillLoop(patch)
            while not connection._stream.transport.get_write_buffer_size():
                await client.send(RCPT * 1000)
                commands += 1000
                while connection._stream.commands < commands:
                    await asyncio.sleep(0)
            assert connection._stream.transport.get_write_buffer_size() < 64 * 1024, (
                "not so much unread that we would have waited"
            )
            while listener.connections:
                await clock.pass_by(1)
        client.reset()


async def test_a_client_that_leaves_during_its_message_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        for end in (SmtpClient.reset, lambda client: client.writer.close()):
            client = await SmtpClient.greeted(listener)
            await client.send(MAIL + RCPT + b"DATA\r\n")
            await client.answers(3)
            await client.send(MESSAGE)
            end(client)
            await until(lambda: not listener.connections)
    assert intake.started == 0
    assert sum("nothing stored" in record.message for record in caplog.records) == 2


async def test_a_transaction_goes_on_when_its_client_crashes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"DATA\r\n")
        await client.answers(3)
        await client.send(MESSAGE + b".\r\n")
        await intake.until_started(1)
        client.reset()
        await until(lambda: not listener.connections)
        assert listener.status()["under_way"] == 1
        intake.release()
        await intake.until_taken(1)
        await until(lambda: not listener.status()["under_way"])
    assert intake.taken[0].wire == MESSAGE
    assert intake.cut_off == 0
    [record] = [
        record for record in caplog.records if getattr(record, "senderproxy_event", "") == "client_left_before_reply"
    ]
    assert vars(record)["senderproxy_fields"]["id"] == intake.taken[0].id
    assert str(vars(record)["senderproxy_fields"]["reply"]).startswith("250")


async def test_a_client_that_closes_its_sending_side_still_gets_its_reply() -> None:
    intake = RecordingIntake()
    intake.hold()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        await client.send(MAIL + RCPT + b"DATA\r\n")
        await client.answers(3)
        await client.send(MESSAGE + b".\r\n")
        client.writer.write_eof()
        await intake.until_started(1)
        intake.release()
        assert (await client.answer()).code == 250
        assert await client.closed()
        await client.close()


async def test_connections_that_are_only_opened_and_closed_do_no_harm() -> None:
    async with listening(RecordingIntake(), timeouts=TIMEOUTS) as listener:
        for _ in range(50):
            client = await SmtpClient.to(listener)
            client.reset()
        client = await SmtpClient.greeted(listener)
        assert (await client.mail()).code == 250
        await client.close()


# ---- devices ----

HELLO = bytes.fromhex("16030100c8010000c40303") + b"\x11" * 32 + b"\x00\x00\x04\xc0\x2f\x00\x35\x01\x00"


@pytest.mark.parametrize("hello", [HELLO, HELLO + b"\n" + b"x" * 200, b"\x16\x03\x01"])
@pytest.mark.parametrize("early", [True, False])
async def test_a_tls_hello_at_a_plain_port_is_closed_at_once(
    hello: bytes, early: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(RecordingIntake()) as listener:
        if early:
            client = await SmtpClient.to(listener, first=hello)
        else:
            client = await SmtpClient.to(listener)
            assert (await client.answer()).code == 220
            await client.send(hello)
        assert b"Timeout" not in await client.rest()  # TIMEOUTS has 30 s for a command
        await client.close()
    events = [
        record for record in caplog.records if getattr(record, "senderproxy_event", "") == "client_tls_at_plain_port"
    ]
    assert [event.levelname for event in events] == ["WARNING"]


QUICK = ListenerTimeouts(idle=30, before_mail=30, block=30, linger=0.2, false_end=0.05)


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r\r\n.\r\r\n", b"\r.\r", b"\r\n.\r", b"\n.\r"])
@pytest.mark.parametrize("lenient", [True, False])
async def test_a_device_that_believes_its_message_has_ended_gets_the_reason(
    end: bytes, lenient: bool, caplog: pytest.LogCaptureFixture
) -> None:
    intake = RecordingIntake()
    async with listening(intake, timeouts=QUICK, lenient=lenient) as listener:
        client = await SmtpClient.greeted(listener)
        for command in (MAIL, RCPT, b"DATA\r\n"):
            await client.ask(command)
        await client.send(b"From: anna@firma.example\n\nSeite 1")
        for octet in end:
            await client.send(bytes((octet,)))
        answer = await client.answer()
        assert answer.code == 421
        assert "LF.LF" in answer.text
        assert await client.closed()
        await client.close()
    assert intake.taken == []
    keys = [getattr(record, "senderproxy_event", "") for record in caplog.records]
    assert "message_false_end" in keys
    assert "message_too_slow" not in keys


async def test_a_lone_dot_in_the_text_is_no_end_while_more_arrives() -> None:
    intake = RecordingIntake()
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        for command in (MAIL, RCPT, b"DATA\r\n"):
            await client.ask(command)
        await client.send(b"From: anna@firma.example\n\na\n.\n")
        await client.send(b"b\n")
        assert (await client.ask(b"\r\n.\r\n")).code == 250
        await client.close()
    [taken] = intake.taken
    assert taken.wire.endswith(b"a\r\n..\r\nb\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "wire"),
    [
        (b"From: anna@firma.example\r\r\n\r\r\nGuten Tag\r\r\n", b"From: anna@firma.example\r\n\r\nGuten Tag\r\n"),
        (b"From: anna@firma.example\r\n\r\n10%\r100%\r\n", b"From: anna@firma.example\r\n\r\n10%\r\n100%\r\n"),
    ],
)
async def test_crs_outside_line_ends_are_converted_on_a_lenient_listener_only(sent: bytes, wire: bytes) -> None:
    intake = RecordingIntake()
    async with listening(intake, lenient=True) as listener:
        client = await SmtpClient.greeted(listener)
        assert (await client.mail(sent)).code == 250
        assert (await client.mail(b"From: anna\r@firma.example\r\n\r\n")).code == 554
        await client.close()
    assert [taken.wire for taken in intake.taken] == [wire]
    async with listening(intake) as listener:
        client = await SmtpClient.greeted(listener)
        answer = await client.mail(sent)
        assert answer.code == 554
        assert "lenient = true" in answer.text
        await client.close()
