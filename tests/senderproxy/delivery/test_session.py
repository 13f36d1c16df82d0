"""One transaction on one session: complete or not at all, and never out of step."""

import asyncio
import errno
import hashlib
import resource
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partialmethod

import pytest

from senderproxy.delivery.session import Completed, Interrupted, Session, SessionTimeouts
from senderproxy.disk_threads import DiskThreads
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import NEEDS_SEVEN_BIT, Deferred, Delivered, Failed
from senderproxy.routing.provider import Security
from senderproxy.simulator.faults import (
    AppendOctets,
    Delay,
    Drop,
    Fault,
    FaultAction,
    FaultScript,
    FaultStage,
    OctetByOctet,
    RawOctets,
    RepeatForever,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.provider_replies import LOCAL_ERROR, SEND_LIMIT, UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import OwnershipRule
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.senderproxy.delivery.messages import (
    ANNA,
    HEADER,
    SETTINGS,
    Blocks,
    impatient_at,
    make_message,
    session_at,
    to,
)

CALM = SessionTimeouts()
PIPELINED = replace(SETTINGS, pipelining=True)
BOTH_WAYS = pytest.mark.parametrize("settings", [SETTINGS, PIPELINED], ids=["lock-step", "pipelined"])


@pytest.fixture(params=[False, True], ids=["in its task", "direct"], autouse=True)
def _is_direct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction both ways: as a coroutine, and by the callbacks of its replies where it is usual."""
    if request.param:
        monkeypatch.setattr(Session, "transact", partialmethod(Session.transact, direct=True))


async def answered(session: Session, envelope: Envelope | None = None, message: Message | None = None) -> Completed:
    result = await session.transact(envelope or to(), message or make_message(), warm=False)
    assert isinstance(result, Completed), result
    return result


async def broken(session: Session, *, warm: bool = False, message: Message | None = None) -> Interrupted:
    result = await session.transact(to(), message or make_message(), warm=warm)
    assert isinstance(result, Interrupted), result
    assert not session.usable
    assert result.reply.is_transient
    return result


# --- accepted messages -------------------------------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize("security", [Security.IMPLICIT_TLS, Security.STARTTLS])
async def test_messages_arrive_unchanged_one_after_the_other(settings: SimulatorSettings, security: Security) -> None:
    async with Simulator(settings) as simulator, session_at(simulator, security, CALM) as session:
        for number in range(3):
            text = f"Brief {number}\r\n"
            result = await answered(session, to("carl@a.example", "dora@b.example"), make_message(text.encode()))
            assert all(isinstance(outcome, Delivered) for outcome in result.outcomes.values())
            assert len(result.outcomes) == 2
            taken = simulator.received[number]
            assert taken.content == HEADER + text.encode()
            assert (taken.reverse_path, taken.recipients) == (ANNA, ("carl@a.example", "dora@b.example"))
        assert session.message_count == 3
        assert simulator.connections == 1


async def test_the_outcome_has_the_upstreams_reply_with_its_id() -> None:
    async with Simulator(SETTINGS) as simulator, session_at(simulator) as session:
        result = await answered(session)
        (outcome,) = result.outcomes.values()
        assert isinstance(outcome, Delivered)
        assert outcome.reply.text == f"Requested mail action okay, completed: id={simulator.received[0].id}"
        assert str(outcome.reply.status) == "2.0.0"


@BOTH_WAYS
@pytest.mark.parametrize(
    ("body", "content"),
    [
        ((b"..\r\n...x\r\n",), b".\r\n..x\r\n"),
        ((b"no line end",), b"no line end\r\n"),
        ((b"", b"a\r", b"\nb\r\n", b""), b"a\r\nb\r\n"),
        ((b"x" * 70_000 + b"\r\n", b"y" * 10 + b"\r\n"), b"x" * 70_000 + b"\r\n" + b"y" * 10 + b"\r\n"),
    ],
)
async def test_the_final_dot_is_where_it_belongs(
    settings: SimulatorSettings, body: tuple[bytes, ...], content: bytes
) -> None:
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        await answered(session, message=make_message(*body))
        await answered(session, message=make_message(b"next\r\n"))
        assert [taken.content for taken in simulator.received] == [HEADER + content, HEADER + b"next\r\n"]


async def test_a_message_without_a_single_octet_is_sent_as_one() -> None:
    settings = replace(SETTINGS, check_header=False)
    async with Simulator(settings) as simulator, session_at(simulator) as session:
        await answered(session, message=Message(HeaderSection(b""), Blocks(())))
        assert simulator.received[0].content == b""


@pytest.mark.parametrize(
    ("eight_bit", "message", "expected"),
    [
        (False, make_message(b"plain\r\n"), ()),
        (True, make_message(b"plain\r\n"), ("BODY=8BITMIME",)),
        (False, make_message(b"gr\xc3\xbcn\r\n"), ("BODY=8BITMIME",)),
        (False, make_message(b"plain\r\n", header=HEADER.replace(b"Angebot", b"Gr\xfc\xdfe")), ("BODY=8BITMIME",)),
    ],
)
@pytest.mark.parametrize("offered", [True, False])
async def test_8bitmime_is_declared_if_offered_and_needed(
    offered: bool, eight_bit: bool, message: Message, expected: tuple[str, ...]
) -> None:
    settings = replace(SETTINGS, eight_bit_mime=offered, check_header=False, raise_violations=False)
    async with Simulator(settings) as simulator, session_at(simulator) as session:
        envelope = replace(to(), eight_bit=eight_bit, eight_bit_anyway=not offered)
        await answered(session, envelope, message)
        parameters = simulator.received[0].parameters
        assert tuple(each for each in parameters if each.startswith("BODY")) == (expected if offered else ())
        assert f"SIZE={message.size}" in parameters


async def test_8_bit_content_needs_another_encoding_where_8bitmime_is_not_offered() -> None:
    async with Simulator(replace(SETTINGS, eight_bit_mime=False)) as simulator, session_at(simulator) as session:
        result = await session.transact(to(), make_message(b"gr\xc3\xbcn\r\n"), warm=False)
        assert isinstance(result, Completed)
        assert set(result.outcomes.values()) == {NEEDS_SEVEN_BIT}
        assert "MAIL" not in simulator.sessions[0].verbs
        await answered(session)
        assert len(simulator.received) == 1


async def test_size_is_not_declared_if_not_offered() -> None:
    async with Simulator(replace(SETTINGS, size_limit=None)) as simulator, session_at(simulator) as session:
        await answered(session)
        assert simulator.received[0].parameters == ()


async def test_a_null_reverse_path_is_sent_as_one() -> None:
    settings = replace(SETTINGS, null_reverse_path_accepted=True)
    async with Simulator(settings) as simulator, session_at(simulator) as session:
        await answered(session, Envelope(NULL_PATH, (parse_address("carl@a.example"),)))
        assert simulator.received[0].reverse_path == ""


async def test_a_quoted_local_part_keeps_its_quotes() -> None:
    path = '"carl the great"@elsewhere.example'
    async with Simulator(SETTINGS) as simulator, session_at(simulator) as session:
        await answered(session, to(path))
        assert simulator.received[0].recipients == (path,)


# --- refusals -------------------------------------------------------------------------------------


async def test_a_message_over_the_size_limit_is_not_started() -> None:
    async with Simulator(replace(SETTINGS, size_limit=200_000)) as simulator, session_at(simulator) as session:
        result = await answered(session, message=make_message(b"x" * 70 + b"\r\n", b"y" * 250_000 + b"\r\n"))
        (outcome,) = result.outcomes.values()
        assert isinstance(outcome, Failed)
        assert outcome.remote == ""  # our own reply: the upstream was not asked
        assert str(outcome.reply).startswith("552 5.3.4 Message size 0.3 MB")
        assert ", 0.2 MB (attachments" in outcome.reply.text
        assert "MAIL" not in simulator.sessions[0].verbs
        await answered(session)


RECIPIENTS = {
    "unknown@a.example": UNKNOWN_USER,
    "limit@a.example": SEND_LIMIT,
    "later@a.example": LOCAL_ERROR,
    "daily@a.example": server_reply(550, "5.4.5 Daily user sending limit exceeded"),
}


@BOTH_WAYS
async def test_accepted_recipients_get_the_message_and_the_others_their_own_outcome(
    settings: SimulatorSettings,
) -> None:
    settings = replace(settings, recipient_replies=RECIPIENTS)
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        envelope = to("carl@a.example", "unknown@a.example", "limit@a.example", "daily@a.example", "dora@b.example")
        result = await answered(session, envelope)
        carl, unknown, limit, daily, dora = (result.outcomes[path] for path in envelope.recipients)
        assert isinstance(carl, Delivered)
        assert carl == dora
        assert isinstance(unknown, Failed)
        assert str(unknown.reply) == "550 5.1.0 Unknown User"
        assert isinstance(limit, Deferred)
        assert limit.reply.text == "Mail send limit exceeded."
        assert isinstance(daily, Deferred)
        assert str(daily.reply) == "451 4.4.5 Daily user sending limit exceeded"
        assert [taken.recipients for taken in simulator.received] == [("carl@a.example", "dora@b.example")]
        assert "RSET" not in simulator.sessions[0].verbs
        await answered(session, message=make_message(b"next\r\n"))
        assert simulator.received[-1].content == HEADER + b"next\r\n"


@BOTH_WAYS
async def test_without_an_accepted_recipient_the_session_stays_usable(settings: SimulatorSettings) -> None:
    settings = replace(settings, recipient_replies=RECIPIENTS)
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, to("unknown@a.example", "limit@a.example"))
        assert [type(outcome) for outcome in result.outcomes.values()] == [Failed, Deferred]
        await answered(session, message=make_message(b"next\r\n"))
        assert [taken.content for taken in simulator.received] == [HEADER + b"next\r\n"]


@BOTH_WAYS
async def test_a_recipient_refused_before_the_reply_was_lost_is_certainly_refused(settings: SimulatorSettings) -> None:
    settings = replace(settings, recipient_replies=RECIPIENTS)
    script = FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True)))
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        envelope = to("carl@a.example", "unknown@a.example")
        result = await session.transact(envelope, make_message(), warm=False)
        assert isinstance(result, Interrupted)
        assert result.dot_written
        assert list(result.rejected) == [envelope.recipients[1]]


@BOTH_WAYS
@pytest.mark.parametrize("recipients", [("carl@a.example",), ("carl@a.example", "dora@b.example")])
async def test_a_sender_that_is_not_the_accounts_is_refused_for_good(
    settings: SimulatorSettings, recipients: tuple[str, ...]
) -> None:
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, to(*recipients, sender="chef@andere.example"))
        assert set(result.outcomes) == {parse_address(path) for path in recipients}
        for outcome in result.outcomes.values():
            assert isinstance(outcome, Failed)
            assert str(outcome.reply.status) == "5.7.1"
            assert outcome.reply.lines == (
                "Requested action not taken: mailbox unavailable",
                "Sender address is not allowed.",
            )
        await answered(session)
        assert len(simulator.received) == 1


@BOTH_WAYS
@pytest.mark.parametrize("recipient", sorted(RECIPIENTS))
async def test_a_single_refused_recipient_leaves_the_session_ready_for_the_next_message(
    settings: SimulatorSettings, recipient: str
) -> None:
    settings = replace(settings, recipient_replies=RECIPIENTS)
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, to(recipient))
        assert not any(isinstance(outcome, Delivered) for outcome in result.outcomes.values())
        await answered(session, to("dora@b.example"), make_message(b"next\r\n"))
        assert [taken.recipients for taken in simulator.received] == [("dora@b.example",)]
        assert simulator.connections == 1


async def test_a_354_without_recipients_gets_no_message() -> None:
    script = FaultScript(Fault(FaultStage.DATA, RawOctets(b"354 go ahead\r\n")))
    settings = replace(PIPELINED, recipient_replies=RECIPIENTS)
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, to("unknown@a.example"))
        assert isinstance(result.outcomes[parse_address("unknown@a.example")], Failed)
        assert not session.usable
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "lost")
        assert simulator.received == []


@BOTH_WAYS
@pytest.mark.parametrize(
    ("stage", "said", "kind", "shown"),
    [
        (FaultStage.MAIL, server_reply(550, "No"), Failed, "550 5.7.1 No"),
        (FaultStage.MAIL, server_reply(451, "Mails per session limit"), Deferred, "451 4.1.0 Mails per session limit"),
        (FaultStage.DATA, server_reply(451, "Not now"), Deferred, "451 4.0.0 Not now"),
        (FaultStage.DATA, server_reply(554, "5.5.1 No"), Failed, "554 5.5.1 No"),
        (
            FaultStage.DOT,
            server_reply(554, "Transaction failed", "Reject due to policy restrictions."),
            Failed,
            "554 5.6.0 ",
        ),
        (
            FaultStage.DOT,
            server_reply(554, "5.2.252 SendAsDenied; a not allowed to send as b"),
            Failed,
            "554 5.2.252 SendAs",
        ),
        (FaultStage.DOT, server_reply(451, "4.3.0 Try again"), Deferred, "451 4.3.0 Try again"),
        (FaultStage.DOT, server_reply(421, "Closing"), Deferred, "451 4.3.2 Closing"),
    ],
)
async def test_a_refusal_at_any_stage_is_the_outcome_for_all_recipients(
    settings: SimulatorSettings, stage: FaultStage, said: object, kind: type, shown: str
) -> None:
    script = FaultScript(Fault(stage, ReplyWith(said), times=1))  # type: ignore[arg-type]
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        envelope = to("carl@a.example", "dora@b.example")
        result = await answered(session, envelope)
        assert list(result.outcomes) == list(envelope.recipients)
        for outcome in result.outcomes.values():
            assert isinstance(outcome, kind)
            assert str(outcome.reply).startswith(shown)
            assert not getattr(outcome, "maybe_taken", False)
        assert simulator.received == []
        if session.usable:
            await answered(session)
            assert len(simulator.received) == 1


@BOTH_WAYS
async def test_a_refused_sender_stays_refused_even_if_the_connection_ends_with_it(settings: SimulatorSettings) -> None:
    script = FaultScript(
        Fault(FaultStage.MAIL, ReplyWith(server_reply(550, "Sender address is not allowed."), then_drop=True))
    )
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session)
        assert all(isinstance(outcome, Failed) for outcome in result.outcomes.values())
        assert not session.usable


@pytest.mark.parametrize("code", [530, 535, 503])
async def test_a_session_that_lost_its_login_ends_and_the_message_is_not_refused(code: int) -> None:
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(server_reply(code, "Authentication required"))))
    async with Simulator(SETTINGS, script) as simulator, session_at(simulator) as session:
        result = await broken(session)
        assert not result.dot_written
        assert f"{code} Authentication required" in result.reply.text


# --- failures ----------------------------------------------------------------------------------

BEFORE_THE_DOT = [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA, FaultStage.BODY]
FAULTS: dict[str, FaultAction] = {
    "silence": Silence(),
    "drop": Drop(),
    "421": ReplyWith(server_reply(421, "Service closing")),
    "junk": RawOctets(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "controls": RawOctets(b"\x00\x1b[2J\r\n"),
    "endless reply": RepeatForever(b"250-again\r\n"),
    "endless line": RepeatForever(b"x" * 1000),
    "1 MB line": RawOctets(b"250 " + b"x" * 1_000_000 + b"\r\n"),
    "too early": RawOctets(b"250 ok\r\n250 and another\r\n"),
}
WORDS = {"silence": "did not reply within", "drop": "closed the connection", "421": "421 Service closing"}


@BOTH_WAYS
@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_before_the_dot_means_not_accepted(
    settings: SimulatorSettings, stage: FaultStage, fault: str
) -> None:
    script = FaultScript(Fault(stage, FAULTS[fault]))
    long = make_message(
        *(b"x" * 70 + b"\r\n" for _ in range(350_000))
    )  # 25 MB: more than the kernel buffers on the way
    timeouts = impatient_at(stage) if fault == "silence" else CALM
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=timeouts) as session:
        result = await session.transact(to(), long if stage is FaultStage.BODY else make_message(), warm=False)
        assert script.applied
        assert simulator.received == []
        if isinstance(result, Interrupted):
            assert not session.usable
            assert result.reply.code == 451
            assert WORDS.get(fault, "127.0.0.1") in result.reply.text
            assert not result.dot_written
        else:
            # "too early": its first half was a good answer, and the rest was unexpected.
            assert fault == "too early"


AFTER_THE_DOT: dict[str, FaultAction] = {
    "silence": Silence(after_storing=True),
    "drop": Drop(after_storing=True),
    "junk": RawOctets(b"???\r\n"),
    "354": RawOctets(b"354 more?\r\n"),
}


@BOTH_WAYS
@pytest.mark.parametrize("fault", AFTER_THE_DOT)
async def test_without_a_reply_to_the_dot_the_outcome_is_unknown(settings: SimulatorSettings, fault: str) -> None:
    script = FaultScript(Fault(FaultStage.DOT, AFTER_THE_DOT[fault]))
    timeouts = impatient_at(FaultStage.DOT) if fault == "silence" else CALM
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=timeouts) as session:
        result = await broken(session)
        assert result.dot_written


async def test_a_refusal_before_the_end_counts_and_the_rest_is_not_sent() -> None:
    script = FaultScript(
        Fault(FaultStage.BODY, ReplyWith(server_reply(552, "5.3.4 Message too large")), at_octet=100_000)
    )
    async with (
        Simulator(replace(SETTINGS, size_limit=None), script) as simulator,
        session_at(simulator, timeouts=CALM) as session,
    ):
        long = make_message(*(b"x" * 70 + b"\r\n" for _ in range(200_000)))
        result = await answered(session, message=long)
        (outcome,) = result.outcomes.values()
        assert isinstance(outcome, Failed)
        assert str(outcome.reply) == "552 5.3.4 Message too large"
        assert not session.usable
        assert simulator.received == []


async def test_a_positive_reply_before_the_end_ends_the_session() -> None:
    script = FaultScript(Fault(FaultStage.BODY, ReplyWith(server_reply(250, "ok")), at_octet=100_000))
    async with Simulator(SETTINGS, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await broken(session, message=make_message(*(b"x" * 70 + b"\r\n" for _ in range(200_000))))
        assert not result.dot_written


@pytest.mark.parametrize("farewell", [b"421 idle too long\r\n", b"250 something\r\n", b"junk\r\n"])
async def test_a_reply_between_messages_ends_the_session(farewell: bytes) -> None:
    script = FaultScript(Fault(FaultStage.DOT, AppendOctets(farewell)))
    async with Simulator(SETTINGS, script) as simulator, session_at(simulator) as session:
        over = asyncio.Event()
        session.on_end(over.set)
        await answered(session)  # the message counts all the same
        await over.wait()
        assert not session.usable
        result = await broken(session)
        assert not result.dot_written
        assert len(simulator.received) == 1


async def test_a_connection_closed_between_messages_is_detected() -> None:
    async with Simulator(SETTINGS) as simulator, session_at(simulator) as session:
        await answered(session)
        over = asyncio.Event()
        session.on_end(over.set)
        await simulator.drop_sessions()
        await over.wait()
        assert not session.usable


async def test_a_warm_session_has_a_short_first_timeout() -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(FaultStage.MAIL, Silence()))) as simulator:
        async with session_at(simulator, timeouts=CALM) as session:
            session._timeouts = replace(CALM, connect=0.3)
            result = await broken(session, warm=True)
        assert "did not reply within 0.3 s (stage: MAIL FROM)" in result.reply.text


@BOTH_WAYS
async def test_slow_replies_are_awaited(settings: SimulatorSettings) -> None:
    script = FaultScript(
        Fault(FaultStage.MAIL, Delay(0.1)), Fault(FaultStage.RCPT, OctetByOctet(0.005)), Fault(FaultStage.DATA, Delay(0.1)),
        Fault(FaultStage.DOT, OctetByOctet(0.002)),
    )  # fmt: skip
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        await answered(session)
        assert len(simulator.received) == 1


async def test_a_slow_upstream_with_progress_does_not_time_out() -> None:
    script = FaultScript(Fault(FaultStage.BODY, Delay(0.001)))
    body = [b"x" * 70 + b"\r\n"] * 15_000
    impatient = replace(CALM, block=0.5)
    async with Simulator(SETTINGS, script) as simulator, session_at(simulator, timeouts=impatient) as session:
        await answered(session, message=make_message(*body))
        assert simulator.received[0].content == HEADER + b"".join(body)


# --- cancellation --------------------------------------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize("stage", BEFORE_THE_DOT)
async def test_a_cancelled_dialogue_closes_the_session_and_sends_nothing(
    settings: SimulatorSettings, stage: FaultStage
) -> None:
    script = FaultScript(Fault(stage, Silence()))
    long = make_message(*(b"x" * 70 + b"\r\n" for _ in range(100_000)))
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        under_way = asyncio.create_task(session.transact(to(), long, warm=False))
        while not script.applied:
            await asyncio.sleep(0)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert not session.usable
        await session.wait_closed()
        assert simulator.received == []


@BOTH_WAYS
@pytest.mark.parametrize("stage", [FaultStage.MAIL, FaultStage.RCPT, FaultStage.DATA])
async def test_a_small_message_that_is_cancelled_before_its_dot_is_not_sent(
    settings: SimulatorSettings, stage: FaultStage
) -> None:
    script = FaultScript(Fault(stage, Silence()))
    async with Simulator(settings, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        under_way = asyncio.create_task(session.transact(to(), make_message(), warm=True))
        while not script.applied:
            await asyncio.sleep(0)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        await session.wait_closed()
        assert simulator.received == []


async def test_after_the_dot_a_cancellation_waits_for_the_reply() -> None:
    script = FaultScript(Fault(FaultStage.DOT, Delay(0.2)))
    async with Simulator(SETTINGS, script) as simulator, session_at(simulator, timeouts=CALM) as session:
        under_way = asyncio.create_task(session.transact(to(), make_message(), warm=False))
        await simulator.wait_for(1)
        for _ in range(3):
            under_way.cancel()
            await asyncio.sleep(0)
        result = await under_way
        assert isinstance(result, Completed)
        assert session.message_count == 1
        assert session.usable


async def test_an_unreadable_body_is_an_internal_error_and_is_not_sent() -> None:
    class Torn(Blocks):
        size = 1000
        is_ascii = True
        has_long_lines = False

        def blocks(self) -> Iterator[bytes]:
            yield b"x" * 70_000
            raise OSError(errno.EIO, "Input/output error")

    async with Simulator(SETTINGS) as simulator, session_at(simulator, timeouts=CALM) as session:
        with pytest.raises(OSError, match="Input/output"):
            await session.transact(to(), Message(HeaderSection(HEADER), Torn(())), warm=False)
        assert not session.usable
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended is not None)
        assert simulator.received == []


async def test_a_path_with_a_line_end_is_never_sent() -> None:
    forged = parse_address("carl@a.example")._replace(local_part="x>\r\nRCPT TO:<y")
    async with Simulator(SETTINGS) as simulator, session_at(simulator, timeouts=CALM) as session:
        with pytest.raises(ValueError, match="control"):
            await session.transact(Envelope(parse_address(ANNA), (forged,)), make_message(), warm=False)
        assert simulator.received == []


# --- large messages -------------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_thousand_recipients_are_one_transaction(settings: SimulatorSettings) -> None:
    settings = replace(settings, recipients_per_message=1000)
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, to(*(f"r{number}@a.example" for number in range(1000))))
        assert len(result.outcomes) == 1000
        assert len(simulator.received[0].recipients) == 1000


@pytest.mark.slow
async def test_a_large_message_streams_in_flat_memory() -> None:
    line = b"x" * 76 + b"\r\n"
    block = line * 840
    count = 25_000_000 // len(block)

    class Generated(Blocks):
        size = count * len(block)
        is_ascii = True
        has_long_lines = False

        def blocks(self) -> Iterator[bytes]:
            for _ in range(count):
                yield block

    digest = hashlib.sha256(HEADER)
    for _ in range(count):
        digest.update(block)
    settings = replace(SETTINGS, record_content=False, ownership_rule=OwnershipRule.ANY)
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        message = Message(HeaderSection(HEADER), Generated(()))
        await answered(session)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await answered(session, message=message)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert simulator.received[1].sha256 == digest.hexdigest()
    assert after - before < 8 * 1024  # KiB, the simulator's share included


class OnDisk:
    """A body on a disk that hangs before its last block, until `release` is set."""

    is_ascii, has_long_lines = True, False

    def __init__(self, *parts: bytes, timeout_seconds: float = 60) -> None:
        self.size = sum(map(len, parts))
        self.disk = DiskThreads("test", timeout_seconds=timeout_seconds)
        self.users = 0
        self.hanging, self.release = threading.Event(), threading.Event()
        self._parts = parts

    def blocks(self) -> Iterator[bytes]:
        yield from self._parts[:-1]
        self.hanging.set()
        assert self.release.wait(30)
        yield self._parts[-1]

    def retain(self) -> None:
        self.users += 1

    def close(self) -> None:
        self.users -= 1

    async def until_hanging(self) -> None:
        while not self.hanging.is_set():
            await asyncio.sleep(0.001)

    async def until_unused(self) -> None:
        while self.users:
            await asyncio.sleep(0.001)


LARGE = tuple(bytes([64 + number]) * 998 * 100 + b"\r\n" for number in range(20))  # 2 MB in blocks above 64 KiB


def on_disk(body: OnDisk) -> Message:
    return Message(HeaderSection(HEADER), body)


@BOTH_WAYS
async def test_a_message_on_disk_arrives_unchanged(settings: SimulatorSettings) -> None:
    body = OnDisk(*LARGE)
    body.release.set()
    async with Simulator(settings) as simulator, session_at(simulator, timeouts=CALM) as session:
        await answered(session, message=on_disk(body))
        await answered(session)
        assert simulator.received[0].content == HEADER + b"".join(LARGE)
        await body.until_unused()


async def test_a_read_that_hangs_delays_its_own_message_only() -> None:
    body = OnDisk(*LARGE)
    async with (
        Simulator(SETTINGS) as simulator,
        session_at(simulator, timeouts=CALM) as slow,
        session_at(simulator, timeouts=CALM) as session,
    ):
        sending = asyncio.create_task(answered(slow, message=on_disk(body)))
        await body.until_hanging()
        await answered(session)
        assert len(simulator.received) == 1
        body.release.set()
        (outcome,) = (await sending).outcomes.values()
        assert isinstance(outcome, Delivered)
        assert simulator.received[1].content == HEADER + b"".join(LARGE)


async def test_a_disk_that_does_not_respond_in_time_defers_the_message_and_ends_the_session() -> None:
    body = OnDisk(b"".join(LARGE), timeout_seconds=0.05)  # no read returns
    async with Simulator(SETTINGS) as simulator, session_at(simulator, timeouts=CALM) as session:
        result = await answered(session, message=on_disk(body))
        assert [str(outcome.reply) for outcome in result.outcomes.values()] == [
            "451 4.3.0 The disk does not respond: the message cannot be read now"
        ]
        assert not session.usable
        assert simulator.received == []
        assert body.users == 1, "the read has not returned"
        body.release.set()
        await body.until_unused()


async def test_a_delivery_that_is_cancelled_during_a_read_ends_at_once() -> None:
    body = OnDisk(*LARGE)
    async with Simulator(SETTINGS) as simulator, session_at(simulator, timeouts=CALM) as session:
        sending = asyncio.create_task(answered(session, message=on_disk(body)))
        await body.until_hanging()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not session.usable
        body.release.set()
        await body.until_unused()
        assert simulator.received == []


async def test_the_timeouts_are_those_of_rfc_5321() -> None:
    assert (CALM.greeting, CALM.mail, CALM.rcpt, CALM.data, CALM.block) == (300, 300, 300, 120, 180)
    assert CALM.final_dot == 540
