"""Sessions of the simulator, word for word, and its scripted faults."""

import asyncio
import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from senderproxy.simulator.faults import (
    AppendOctets,
    Delay,
    Drop,
    Fault,
    FaultScript,
    FaultStage,
    OctetByOctet,
    RawOctets,
    RepeatForever,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.provider_replies import (
    LOCAL_ERROR,
    NO_SUCH_MAIL_DOMAIN,
    QUOTA_EXCEEDED,
    UNKNOWN_USER,
    server_reply,
)
from senderproxy.simulator.rules import EnforcedAt, OwnershipRule, SimulatedMailbox
from senderproxy.simulator.server import ProtocolViolated, Simulator
from senderproxy.simulator.settings import SimulatorSettings, exchange_online_like, gmx_like, postfix_like
from tests.senderproxy.simulator.raw_client import RawClient, plain

ANNA = "anna@firma.example"
PASSWORD = "geheim-anna"
BERT = "bert@kunde.example"
MAILBOXES = {ANNA: SimulatedMailbox(PASSWORD), "carl@andere.example": SimulatedMailbox("geheim-carl")}
MESSAGE = (
    b"Date: Mon, 24 Nov 2025 09:00:00 +0100\r\nFrom: Anna <anna@firma.example>\r\nTo: bert@kunde.example\r\n"
    b"Subject: Angebot\r\n\r\nGuten Tag\r\n"
)
UNAVAILABLE = "550-Requested action not taken: mailbox unavailable"
NOT_ALLOWED = [UNAVAILABLE, "550 Sender address is not allowed."]
POLICY = [
    "554-Transaction failed",
    "554-Reject due to policy restrictions.",
    "554 For explanation visit https://www.ionos.com/help/index.php?id=2425&ip=127.0.0.1&c=hd",
]


def ionos(**changes: Any) -> SimulatorSettings:
    return replace(SimulatorSettings(mailboxes=MAILBOXES), **changes)


def tolerant(**changes: Any) -> SimulatorSettings:
    """Settings for clients that violate the protocol on purpose."""
    return ionos(raise_violations=False, **changes)


# ---- greeting, TLS, login ----


async def test_the_greeting_over_implicit_tls_is_ionos_word_for_word() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        assert await client.read_reply() == ["220 smtp.ionos.example (mreue001) Nemesis ESMTP Service ready"]
        assert await client.command("EHLO office.example") == [
            "250-smtp.ionos.example Hello office.example [127.0.0.1]",
            "250-8BITMIME",
            "250-AUTH PLAIN LOGIN",
            "250 SIZE 141557760",
        ]
        assert await client.command("QUIT") == ["221 smtp.ionos.example Service closing transmission channel"]
        assert await client.read_reply() == []
    assert simulator.sessions[0].ended == "quit"
    assert simulator.sessions[0].ehlo_names == ["office.example"]
    assert simulator.sessions[0].tls_version == "TLSv1.3"


async def test_before_starttls_no_login_is_offered_and_after_it_the_greeting_starts_anew() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator, starttls_port=True) as client:
        await client.read_reply()
        assert (await client.command("EHLO office.example"))[1:] == [
            "250-8BITMIME",
            "250-SIZE 141557760",
            "250 STARTTLS",
        ]
        assert await client.command("STARTTLS") == ["220 OK"]
        await client.start_tls()
        assert await client.command(f"MAIL FROM:<{ANNA}>") == ["503 Bad sequence of commands"]
        assert "250-AUTH PLAIN LOGIN" in await client.command("EHLO office.example")
        assert await client.command("STARTTLS") == ["503 Bad sequence of commands"]
        assert await client.command(f"AUTH PLAIN {plain(ANNA, PASSWORD)}") == ["235 Authentication succeeded"]
    assert simulator.clear_text_logins == []


async def test_a_second_ehlo_and_an_ehlo_after_login_are_out_of_sequence() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        assert await client.command("EHLO office.example") == ["503 Bad sequence of commands"]
        assert await client.command(f"AUTH PLAIN {plain(ANNA, PASSWORD)}") == ["235 Authentication succeeded"]
        assert await client.command("EHLO office.example") == ["503 Bad sequence of commands"]
        assert await client.command("HELO office.example") == ["503 Bad sequence of commands"]


async def test_a_login_in_clear_text_is_refused_and_remembered() -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator, starttls_port=True) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        assert (await client.command(f"AUTH PLAIN {plain(ANNA, PASSWORD)}"))[0].startswith("530")
        assert simulator.clear_text_logins == ["PLAIN"]
        assert [violation.description for violation in simulator.violations] == ["a login in clear text"]
        assert simulator.logins() == []


async def test_all_ways_to_log_in_work_and_are_recorded_without_the_password() -> None:
    def coded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    exchanges = [
        [f"AUTH PLAIN {plain(ANNA, PASSWORD)}"],
        ["auth plain", plain(ANNA, PASSWORD)],
        ["AUTH LOGIN", coded(ANNA), coded(PASSWORD)],
        [f"AUTH LOGIN {coded(ANNA)}", coded(PASSWORD)],
        [f"AUTH XOAUTH2 {coded(f'user={ANNA}{chr(1)}auth=Bearer {PASSWORD}{chr(1)}{chr(1)}')}"],
    ]
    async with Simulator(ionos(mechanisms=("PLAIN", "LOGIN", "XOAUTH2"))) as simulator:
        for lines in exchanges:
            async with RawClient(simulator) as client:
                await client.read_reply()
                await client.command("EHLO office.example")
                for line in lines[:-1]:
                    assert (await client.command(line))[0].startswith("334 ")
                assert await client.command(lines[-1]) == ["235 Authentication succeeded"]
    assert [attempt.mechanism for attempt in simulator.logins(ANNA)] == ["PLAIN", "PLAIN", "LOGIN", "LOGIN", "XOAUTH2"]
    assert all(attempt.accepted and attempt.under_tls for attempt in simulator.logins())
    everything = repr([simulator.sessions, simulator.logins(), simulator.settings])
    assert "geheim" not in everything
    assert plain(ANNA, PASSWORD) not in everything
    assert "AUTH PLAIN ***" in everything


async def test_the_challenges_of_login_ask_for_username_and_password() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        assert await client.command("AUTH LOGIN") == ["334 VXNlcm5hbWU6"]
        assert await client.command("YQ==") == ["334 UGFzc3dvcmQ6"]
        assert await client.command("*") == ["501 Syntax error in parameters or arguments"]


@pytest.mark.parametrize("login", [ANNA, "nobody@firma.example"])
async def test_a_wrong_password_and_an_unknown_login_hear_the_same_and_are_counted(login: str) -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        assert await client.log_in(login, "geheim-falsch") == ["535 Authentication credentials invalid"]
        assert simulator.failed_logins(login) == 1
        assert simulator.failed_logins() == 1
        assert await client.command(f"MAIL FROM:<{ANNA}>") == ["530 Authentication required"]


async def test_a_login_out_of_place_or_in_an_unknown_way_is_refused() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        assert await client.command("AUTH LOGIN") == ["503 Bad sequence of commands"]
        await client.command("EHLO office.example")
        assert await client.command("AUTH CRAM-MD5") == ["504 Unrecognized authentication type"]
        assert await client.command("AUTH PLAIN not-base64!") == ["501 Syntax error in parameters or arguments"]
        assert await client.command("AUTH PLAIN YQ==") == ["501 Syntax error in parameters or arguments"]
        await client.command(f"AUTH PLAIN {plain(ANNA, PASSWORD)}")
        assert await client.command(f"AUTH PLAIN {plain(ANNA, PASSWORD)}") == ["503 Bad sequence of commands"]


# ---- permitted addresses ----


async def test_a_letter_of_the_mailboxs_domain_is_taken_and_kept_byte_for_byte() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.command("MAIL FROM:<kasse@firma.example> SIZE=400 BODY=8BITMIME") == [
            "250 Requested mail action okay, completed"
        ]
        assert await client.command(f"RCPT TO:<{BERT}>") == ["250 OK"]
        assert await client.command("DATA") == ["354 Start mail input; end with <CRLF>.<CRLF>"]
        client.send(MESSAGE + b"..a dot\r\n.\r\n")
        reply = (await client.read_reply())[0]
        (received,) = await simulator.wait_for(1)
        assert reply == f"250 Requested mail action okay, completed: id={received.id}"
        assert [len(part) for part in received.id.split("-")] == [6, 10, 6]
        assert received.content == MESSAGE + b".a dot\r\n"
        assert received.size == len(received.content)
        assert received.sha256 == hashlib.sha256(received.content).hexdigest()
        assert (received.login, received.reverse_path) == (ANNA, "kasse@firma.example")
        assert received.recipients == (BERT,)
        assert received.parameters == ("SIZE=400", "BODY=8BITMIME")
        assert (received.session, received.transaction) == (1, 1)


async def test_many_letters_go_over_one_session_each_with_an_id_of_its_own() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        for _ in range(3):
            assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")
        assert len({received.id for received in simulator.received}) == 3
        assert simulator.connections == 1
        assert simulator.sessions[0].messages == 3
        assert simulator.sessions[0].verbs[:2] == ["EHLO", "AUTH"]
        assert len(simulator.logins(ANNA)) == 1


@pytest.mark.parametrize("reverse_path", ["carl@andere.example", "", "anna@sub.firma.example"])
async def test_a_foreign_or_empty_reverse_path_is_refused_at_mail_from(reverse_path: str) -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.command(f"MAIL FROM:<{reverse_path}>") == NOT_ALLOWED
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")
        assert [refused.login for refused in simulator.refused] == [ANNA]


async def test_a_simulator_told_to_take_the_null_reverse_path_takes_it() -> None:
    async with Simulator(ionos(null_reverse_path_accepted=True)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert (await client.send_message("", [BERT], MESSAGE))[0].startswith("250 ")
        assert simulator.received[0].reverse_path == ""


async def test_gmx_lets_a_mailbox_send_as_its_own_addresses_only() -> None:
    mailboxes = {ANNA: SimulatedMailbox(PASSWORD, aliases=("verkauf@firma.example",))}
    async with Simulator(gmx_like(mailboxes)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.command("MAIL FROM:<kasse@firma.example>") == NOT_ALLOWED
        assert (await client.send_message("verkauf@firma.example", [BERT], MESSAGE))[0].startswith("250 ")


async def test_a_postfix_hoster_refuses_a_foreign_reverse_path_at_rcpt_to() -> None:
    async with Simulator(postfix_like(MAILBOXES)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.command("MAIL FROM:<kasse@firma.example>") == ["250 2.1.0 Ok"]
        assert await client.command(f"RCPT TO:<{BERT}>") == [
            f"553 5.7.1 <kasse@firma.example>: Sender address rejected: not owned by user {ANNA}"
        ]
        assert await client.command("RSET") == ["250 2.0.0 Ok"]
        assert (await client.send_message("", [BERT], MESSAGE))[0].startswith("250 2.0.0 Ok: queued as ")


async def test_a_postfix_hoster_without_login_denies_relaying() -> None:
    async with Simulator(postfix_like(MAILBOXES)) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        assert await client.command(f"MAIL FROM:<{ANNA}>") == ["250 2.1.0 Ok"]
        assert await client.command(f"RCPT TO:<{BERT}>") == [f"554 5.7.1 <{BERT}>: Relay access denied"]


async def test_exchange_online_refuses_a_foreign_header_from_at_the_end_of_data() -> None:
    async with Simulator(exchange_online_like(MAILBOXES)) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        await client.command("AUTH LOGIN")
        await client.command(base64.b64encode(ANNA.encode()).decode())
        await client.command(base64.b64encode(PASSWORD.encode()).decode())
        reply = await client.send_message(ANNA, [BERT], MESSAGE.replace(b"anna@firma", b"boss@firma"))
        denied = "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"
        assert reply == [f"554 5.2.252 SendAsDenied; {ANNA} not allowed to send as boss@firma.example; {denied}"]
        reply = await client.send_message("boss@firma.example", [BERT], MESSAGE)
        assert reply == ["550 5.7.60 SMTP; Client does not have permissions to send as this sender"]
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 2.0.0 OK <")


async def test_the_rule_may_be_held_at_the_end_of_data_for_reverse_path_and_header_from() -> None:
    async with (
        Simulator(ionos(enforced_at=EnforcedAt.DATA, header_from_enforced=True)) as simulator,
        RawClient(simulator) as client,
    ):
        await client.log_in(ANNA, PASSWORD)
        assert await client.send_message("carl@andere.example", [BERT], MESSAGE) == NOT_ALLOWED
        foreign = MESSAGE.replace(b"anna@firma.example", b"carl@andere.example")
        assert await client.send_message(ANNA, [BERT], foreign) == NOT_ALLOWED
        assert simulator.refused[-1].reasons == ("header From carl@andere.example",)


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("unknown@kunde.example", ["550 Unknown User"]),
        ("full@kunde.example", ["550 Quota Exceeded"]),
        ("x@nowhere.example", [UNAVAILABLE, "550 invalid DNS MX or A/AAAA resource record"]),
        ("later@kunde.example", ["451 Requested action aborted: local error in processing"]),
    ],
)
async def test_recipients_are_refused_one_by_one_as_set_down(recipient: str, reply: list[str]) -> None:
    answers = {
        "unknown@kunde.example": UNKNOWN_USER,
        "full@kunde.example": QUOTA_EXCEEDED,
        "@nowhere.example": NO_SUCH_MAIL_DOMAIN,
        "later@kunde.example": LOCAL_ERROR,
    }
    async with Simulator(ionos(recipient_replies=answers)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        await client.command(f"MAIL FROM:<{ANNA}>")
        assert await client.command(f"RCPT TO:<{recipient}>") == reply
        assert await client.command("DATA") == ["503 Bad sequence of commands"]
        assert await client.command(f"RCPT TO:<{BERT}>") == ["250 OK"]


# ---- limits ----


async def test_the_hourly_limit_strikes_at_rcpt_to_for_that_login_only() -> None:
    async with Simulator(ionos(recipients_per_hour=2)) as simulator:
        async with RawClient(simulator) as client:
            await client.log_in(ANNA, PASSWORD)
            await client.send_message(ANNA, [BERT, "dora@kunde.example"], MESSAGE)
            await client.command(f"MAIL FROM:<{ANNA}>")
            assert await client.command(f"RCPT TO:<{BERT}>") == [
                "450-Requested mail action not taken: mailbox unavailable",
                "450 Mail send limit exceeded.",
            ]
        async with RawClient(simulator) as client:
            await client.log_in("carl@andere.example", "geheim-carl")
            await client.command("MAIL FROM:<carl@andere.example>")
            assert await client.command(f"RCPT TO:<{BERT}>") == ["250 OK"]


async def test_the_two_hundred_and_first_recipient_is_too_many() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        await client.command(f"MAIL FROM:<{ANNA}>")
        for number in range(200):
            assert await client.command(f"RCPT TO:<r{number}@kunde.example>") == ["250 OK"]
        assert (await client.command(f"RCPT TO:<{BERT}>"))[0].startswith("452 ")


async def test_a_session_carries_only_so_many_messages() -> None:
    async with Simulator(ionos(messages_per_session=1)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        await client.send_message(ANNA, [BERT], MESSAGE)
        assert await client.command(f"MAIL FROM:<{ANNA}>") == [
            "451-Requested action aborted",
            "451 Mails per session limit",
        ]


async def test_a_letter_too_large_is_refused_when_announced_and_when_it_comes() -> None:
    async with Simulator(ionos(size_limit=1000)) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert (await client.command(f"MAIL FROM:<{ANNA}> SIZE=1001"))[0].startswith("552-")
        assert (await client.send_message(ANNA, [BERT], MESSAGE + b"a" * 1000 + b"\r\n"))[0].startswith("552-")
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")


async def test_an_idle_session_is_closed_with_a_421() -> None:
    async with Simulator(ionos(idle_seconds=0.05)) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        assert (await client.read_reply())[0].startswith("421 ")
        assert await client.read_reply() == []


# ---- end of DATA ----


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"Date: Mon, 24 Nov 2025 09:00:00 +0100\r\n", b""), "Date is missing"),
        ((b"Date: Mon,", b"Date: Monday,"), "invalid Date"),
        ((b"From: Anna", "From: Änna".encode()), "octets above 127"),
        ((b"<anna@firma.example>", b"<anna@firma.example"), "From cannot be read"),
        ((b"To: bert@kunde.example", b"To:"), "To is empty"),
        ((b"Subject: Angebot", b"Subject: a\r\nSubject: b"), "Subject occurs 2 times"),
    ],
)
async def test_a_bad_header_is_refused_at_the_final_dot(change: tuple[bytes, bytes], reason: str) -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.send_message(ANNA, [BERT], MESSAGE.replace(*change)) == POLICY
        assert any(reason in found for found in simulator.refused[0].reasons)
        assert simulator.received == []
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")


# ---- protocol violations ----


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"a\nb\r\n", "bare LF in the content"),
        (b"a\rb\r\n", "bare CR in the content"),
        (b"a\0b\r\n", "NUL in the content"),
        (b"a\n.\nQUIT\r\n", "bare LF in the content"),
        (b".a\r\n", "a line begins with a dot that is not doubled"),
    ],
)
async def test_octets_no_relay_may_send_are_found_and_raised_at_the_end(octets: bytes, what: str) -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert await client.send_message(ANNA, [BERT], MESSAGE + octets) == POLICY
        assert simulator.received == []
        simulator.raise_failures()
    simulator.settings = ionos()
    with pytest.raises(ProtocolViolated, match=what):
        simulator.raise_failures()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"NOOP\n", "bare LF in a line"),
        (b"NO\rOP\r\n", "bare CR in a line"),
        (b"NOOP\0\r\n", "NUL in a line"),
        ("MAIL FROM:<änna@firma.example>\r\n".encode(), "octets above 127 in a line"),
    ],
)
async def test_a_broken_command_line_is_refused_and_recorded(line: bytes, what: str) -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        client.send(line)
        assert await client.read_reply() == ["501 Syntax error in parameters or arguments"]
        assert [violation.description for violation in simulator.violations] == [what]


async def test_a_line_without_end_ends_the_session() -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        client.send(b"A" * 5000)
        assert (await client.read_reply())[0].startswith("500 ")
        assert await client.read_reply() == []


async def test_talking_before_the_reply_is_noticed_where_pipelining_was_not_offered() -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        client.send(f"MAIL FROM:<{ANNA}>\r\nRCPT TO:<{BERT}>\r\n".encode())
        assert (await client.read_reply(), await client.read_reply()) == (
            ["250 Requested mail action okay, completed"],
            ["250 OK"],
        )
        assert [violation.command for violation in simulator.violations] == ["MAIL"]


async def test_pipelining_is_fine_where_offered_but_not_past_data() -> None:
    async with (
        Simulator(replace(postfix_like(MAILBOXES), raise_violations=False)) as simulator,
        RawClient(simulator) as client,
    ):
        await client.log_in(ANNA, PASSWORD)
        client.send(f"MAIL FROM:<{ANNA}>\r\nRCPT TO:<{BERT}>\r\nDATA\r\n".encode())
        codes = [(await client.read_reply())[0][:3] for _ in range(3)]
        client.send(MESSAGE + b".\r\nMAIL FROM:<" + ANNA.encode() + b">\r\nRSET\r\n")
        codes += [(await client.read_reply())[0][:3] for _ in range(3)]
        assert codes == ["250", "250", "354", "250", "250", "250"]
        assert simulator.violations == []
        client.send(f"MAIL FROM:<{ANNA}>\r\nRCPT TO:<{BERT}>\r\nDATA\r\n".encode() + MESSAGE)
        await client.read_reply()
        await client.read_reply()
        await client.read_reply()
        assert [violation.command for violation in simulator.violations] == ["DATA"]


async def test_text_after_starttls_is_never_taken_for_text_under_tls() -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator, starttls_port=True) as client:
        await client.read_reply()
        await client.command("EHLO office.example")
        client.send(b"STARTTLS\r\nNOOP\r\n")
        assert await client.read_reply() == []
        assert [violation.command for violation in simulator.violations] == ["STARTTLS"]


async def test_a_parameter_that_was_not_offered_is_refused_and_recorded() -> None:
    async with Simulator(tolerant()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        for parameter in ("RET=HDRS", "SMTPUTF8", "BODY=BINARYMIME", "SIZE=many"):
            assert (await client.command(f"MAIL FROM:<{ANNA}> {parameter}"))[0].startswith("555 ")
        assert await client.command(f"MAIL FROM:<{ANNA}> AUTH=<>") == ["250 Requested mail action okay, completed"]
        assert (await client.command(f"RCPT TO:<{BERT}> NOTIFY=NEVER"))[0].startswith("555 ")
        assert len(simulator.violations) == 5


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("RCPT TO:<bert@kunde.example>", "503"),
        ("DATA", "503"),
        ("DATA now", "501"),
        ("EHLO", "503"),
        ("MAIL FROM: <anna@firma.example>", "501"),
        ("MAIL FROM:anna@firma.example", "501"),
        ("STARTTLS", "503"),
        ("STARTTLS now", "501"),
        ("VRFY anna", "500"),
        ("BDAT 10 LAST", "500"),
        ("RSET", "250"),
        ("NOOP", "250"),
        ("", "500"),
    ],
)
async def test_commands_out_of_place_are_answered_not_obeyed(command: str, code: str) -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert (await client.command(command))[0].startswith(code)
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")


async def test_an_ehlo_without_a_name_is_no_ehlo() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        assert (await client.command("EHLO"))[0].startswith("501")
        assert (await client.command("EHLO two names"))[0].startswith("501")
        assert (await client.command("HELO office.example")) == [
            "250 smtp.ionos.example Hello office.example [127.0.0.1]"
        ]


async def test_a_nested_mail_from_is_out_of_sequence() -> None:
    async with Simulator(ionos()) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        await client.command(f"MAIL FROM:<{ANNA}>")
        assert await client.command(f"MAIL FROM:<{ANNA}>") == ["503 Bad sequence of commands"]


async def test_a_client_that_leaves_in_the_middle_of_a_letter_leaves_nothing() -> None:
    async with Simulator(ionos()) as simulator:
        async with RawClient(simulator) as client:
            await client.log_in(ANNA, PASSWORD)
            await client.command(f"MAIL FROM:<{ANNA}>")
            await client.command(f"RCPT TO:<{BERT}>")
            await client.command("DATA")
            client.send(MESSAGE)
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "lost")
        assert simulator.received == []


# ---- scripted faults ----

STAGES_WITH_A_REPLY = [
    (FaultStage.BANNER, 0),
    (FaultStage.EHLO, 1),
    (FaultStage.AUTH, 2),
    (FaultStage.MAIL, 3),
    (FaultStage.RCPT, 4),
    (FaultStage.DATA, 5),
    (FaultStage.DOT, 6),
    (FaultStage.QUIT, 7),
]


async def run_steps(client: RawClient, steps: int) -> list[str]:
    """Run that many steps of a normal session. Returns the reply to the last one."""
    lines = [
        b"EHLO office.example\r\n",
        f"AUTH PLAIN {plain(ANNA, PASSWORD)}\r\n".encode(),
        f"MAIL FROM:<{ANNA}>\r\n".encode(),
        f"RCPT TO:<{BERT}>\r\n".encode(),
        b"DATA\r\n",
        MESSAGE + b".\r\n",
        b"QUIT\r\n",
    ]
    reply = await client.read_reply()
    for line in lines[:steps]:
        client.send(line)
        reply = await client.read_reply()
    return reply


@pytest.mark.parametrize(("stage", "steps"), STAGES_WITH_A_REPLY)
async def test_at_every_stage_the_script_can_drop_refuse_or_garble(stage: FaultStage, steps: int) -> None:
    script = FaultScript(Fault(stage, Drop(), session=1))
    script.add(Fault(stage, ReplyWith(server_reply(421, "closing"), then_drop=True), session=2))
    script.add(Fault(stage, RawOctets(b"\x1b[31mgarbage\r\n", then_drop=True), session=3))
    script.add(Fault(stage, OctetByOctet(0.0001), session=4))
    script.add(Fault(stage, Delay(0.01), session=5))
    script.add(Fault(stage, AppendOctets(b"250 more\r\n"), session=6))
    replies = []
    async with Simulator(ionos(), script) as simulator:
        for session in range(1, 8):
            async with RawClient(simulator) as client:
                replies.append(await run_steps(client, steps))
                if session == 6:
                    assert await client.read_reply() == ["250 more"]
    assert replies[0] == []
    assert replies[1] == ["421 closing"]
    assert replies[2] == ["\x1b[31mgarbage"]
    assert replies[3][-1][:3] == replies[6][-1][:3] == replies[4][-1][:3] == replies[5][-1][:3]
    assert len(script.applied) == 6
    assert len(simulator.received) == (4 if stage is FaultStage.DOT else 7 if stage is FaultStage.QUIT else 0)


@pytest.mark.parametrize(("stage", "steps"), STAGES_WITH_A_REPLY)
async def test_at_every_stage_the_script_can_fall_silent(stage: FaultStage, steps: int) -> None:
    async with Simulator(ionos(), FaultScript(Fault(stage, Silence()))) as simulator, RawClient(simulator) as client:
        running = asyncio.create_task(run_steps(client, steps))
        while not simulator.script.applied:
            await asyncio.sleep(0.005)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running, 0.1)
        assert len(simulator.script.applied) == 1
        assert simulator.sessions[0].ended is None
        client.writer.transport.abort()
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "lost")


@pytest.mark.parametrize("stage", [FaultStage.CONNECT, FaultStage.HANDSHAKE])
async def test_before_tls_the_script_can_drop_fall_silent_or_answer_in_clear_text(stage: FaultStage) -> None:
    script = FaultScript(Fault(stage, Drop(), session=1), Fault(stage, Silence(), session=2))
    script.add(Fault(stage, RawOctets(b"220 no tls here\r\n"), session=3), Fault(stage, Delay(0.01), session=4))
    async with Simulator(ionos(), script) as simulator:
        with pytest.raises(OSError):
            async with RawClient(simulator):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), RawClient(simulator):
                pass
        with pytest.raises(OSError):
            async with RawClient(simulator):
                pass
        async with RawClient(simulator) as client:
            assert (await client.read_reply())[0].startswith("220 ")


async def test_starttls_can_be_stripped_refused_and_poisoned() -> None:
    script = FaultScript(
        Fault(FaultStage.STARTTLS, ReplyWith(server_reply(454, "TLS not available")), session=2),
        Fault(FaultStage.STARTTLS, AppendOctets(b"250 injected\r\n"), session=3),
    )
    async with Simulator(ionos(starttls_offered=False), script) as simulator:
        async with RawClient(simulator, starttls_port=True) as client:
            await client.read_reply()
            assert "250 SIZE 141557760" in await client.command("EHLO office.example")
            assert await client.command("STARTTLS") == ["503 Bad sequence of commands"]
        simulator.settings = ionos()
        async with RawClient(simulator, starttls_port=True) as client:
            await client.read_reply()
            await client.command("EHLO office.example")
            assert await client.command("STARTTLS") == ["454 TLS not available"]
            assert await client.command("NOOP") == ["250 OK"]
        async with RawClient(simulator, starttls_port=True) as client:
            await client.read_reply()
            await client.command("EHLO office.example")
            assert await client.command("STARTTLS") == ["220 OK"]
            assert await client.read_reply() == ["250 injected"]


async def test_ehlo_can_come_without_a_login() -> None:
    async with Simulator(ionos(mechanisms=())) as simulator, RawClient(simulator) as client:
        await client.read_reply()
        assert (await client.command("EHLO office.example"))[1:] == ["250-8BITMIME", "250 SIZE 141557760"]


async def test_a_lost_reply_after_the_final_dot_leaves_the_letter_taken() -> None:
    script = FaultScript(
        Fault(FaultStage.DOT, Drop(after_storing=True), session=1),
        Fault(FaultStage.DOT, Silence(after_storing=True), session=2),
    )
    async with Simulator(ionos(), script) as simulator:
        async with RawClient(simulator) as client:
            assert await run_steps(client, 6) == []
        async with RawClient(simulator) as client:
            running = asyncio.create_task(run_steps(client, 6))
            await simulator.wait_for(2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(running, 0.1)


async def test_a_refusal_in_the_middle_of_the_letter_is_the_only_answer_to_it() -> None:
    fault = Fault(FaultStage.BODY, ReplyWith(server_reply(552, "enough")), transaction=1, at_octet=100, times=1)
    async with Simulator(ionos(), FaultScript(fault)) as simulator, RawClient(simulator) as client:
        await run_steps(client, 5)
        client.send(MESSAGE)
        assert await client.read_reply() == ["552 enough"]
        client.send(b"more\r\n.\r\n")
        assert await client.command("NOOP") == ["250 OK"]
        assert simulator.received == []
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")


async def test_a_connection_can_break_or_freeze_in_the_middle_of_the_letter() -> None:
    script = FaultScript(
        Fault(FaultStage.BODY, Drop(), session=1, at_octet=50), Fault(FaultStage.BODY, Silence(), session=2)
    )
    async with Simulator(ionos(), script) as simulator:
        async with RawClient(simulator) as client:
            await run_steps(client, 5)
            client.send(MESSAGE)
            assert await client.read_reply() == []
        async with RawClient(simulator) as client:
            await run_steps(client, 5)
            client.send(MESSAGE + b".\r\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.read_reply()
        assert simulator.received == []


async def test_a_slow_reader_holds_the_client_back_and_still_takes_everything() -> None:
    body = b"".join(b"line %06d ...............................................\r\n" % n for n in range(200))
    async with (
        Simulator(ionos(), FaultScript(Fault(FaultStage.BODY, Delay(0.002)))) as simulator,
        RawClient(simulator) as client,
    ):
        await run_steps(client, 5)
        client.send(MESSAGE + body + b".\r\n")
        assert (await client.read_reply())[0].startswith("250 ")
        assert simulator.received[0].content == MESSAGE + body


async def test_an_endless_greeting_ends_with_the_client() -> None:
    async with Simulator(
        ionos(), FaultScript(Fault(FaultStage.BANNER, RepeatForever(b"220-welcome\r\n")))
    ) as simulator:
        async with RawClient(simulator) as client:
            for _ in range(1000):
                assert await client.reader.readline() == b"220-welcome\r\n"
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "lost")


async def test_a_reply_said_in_place_of_a_refusal_has_its_effect() -> None:
    script = FaultScript(Fault(FaultStage.MAIL, ReplyWith(server_reply(250, "let through"))))
    async with Simulator(ionos(), script) as simulator, RawClient(simulator) as client:
        await client.log_in(ANNA, PASSWORD)
        assert (await client.send_message("carl@andere.example", [BERT], MESSAGE))[0].startswith("250 ")


async def test_a_simulator_without_mailboxes_asks_for_no_login() -> None:
    async with (
        Simulator(SimulatorSettings(ownership_rule=OwnershipRule.ANY)) as simulator,
        RawClient(simulator, starttls_port=True) as client,
    ):
        await client.read_reply()
        await client.command("EHLO office.example")
        assert (await client.send_message(ANNA, [BERT], MESSAGE))[0].startswith("250 ")
        assert simulator.received[0].login is None
