"""The closed list of reasons for which another account may send, at every failure and for every reply."""

import ssl
from datetime import UTC, datetime
from itertools import product

import pytest

from senderproxy.delivery.account_health import Healthy, Paused, Suspended, unavailable
from senderproxy.delivery.causes import CONSEQUENCES, FAILED_LOGINS, Cause, Circumstances, Effect, Stage, cause_of
from senderproxy.delivery.classify import outcome, unavailable_after
from senderproxy.delivery.open_failures import (
    FailureKind,
    OpenFailed,
    as_unavailable,
    ca_file_unreadable,
    failure_of,
    login_in_progress,
    mechanism_failed,
    no_authorities,
    no_smarthost,
    no_usable_mechanism,
    plain_text_refused,
    starttls_missing,
)
from senderproxy.mail.outcome import Deferred, Unavailable
from senderproxy.mail.reply import parse_reply, reply
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.simulator.faults import Drop, Fault, FaultScript, FaultStage, ReplyWith, Silence
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from tests.senderproxy.delivery.messages import MAILBOXES, PATIENT, SETTINGS, impatient_at, smarthost_of
from tests.senderproxy.delivery.office import office

HOST = Smarthost("smtp.example", 465, Security.IMPLICIT_TLS)
SAID = reply(451, "4.0.0", "no")


# ---- a session that cannot be opened ----


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("kind", FailureKind)
def test_each_kind_of_failure_has_one_place_in_the_list(kind: FailureKind, is_last: bool) -> None:
    expected = {
        FailureKind.UNREACHABLE: Unavailable.UNREACHABLE,
        FailureKind.LIMIT: Unavailable.PAUSED,
        FailureKind.LOGIN: Unavailable.PAUSED,
    }
    assert as_unavailable(OpenFailed(kind, SAID), is_last=is_last).unavailable is expected.get(kind)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause in FAILED_LOGINS])
def test_a_failed_login_suspends_or_pauses(cause: Cause) -> None:
    final, temporary = reply(535, "5.7.8", "no"), reply(454, "4.7.0", "later")
    suspends = CONSEQUENCES[cause].effect is Effect.SUSPEND
    for said, expected in (
        (final, Unavailable.SUSPENDED if suspends else Unavailable.PAUSED),
        (temporary, Unavailable.PAUSED),
    ):
        failed = OpenFailed(FailureKind.LOGIN, SAID, said, cause, Stage.AUTH)
        assert as_unavailable(failed, is_last=True).unavailable is expected


def test_what_this_machine_causes_is_not_in_the_list() -> None:
    for failed in (
        ca_file_unreadable(HOST, FileNotFoundError(2, "No such file")),
        no_authorities(HOST),
        no_usable_mechanism(HOST, ["PLAIN"], ["xoauth2"]),
        mechanism_failed(HOST, "no"),
        plain_text_refused(HOST, "192.0.2.1"),
        no_smarthost("hoster"),
        login_in_progress(HOST),
    ):
        assert as_unavailable(failed, is_last=True).unavailable is None, failed.reply


def test_a_server_without_tls_is_unreachable_if_there_is_no_other() -> None:
    for failed in (starttls_missing(HOST),):
        assert as_unavailable(failed, is_last=True).unavailable is Unavailable.UNREACHABLE
        assert as_unavailable(failed, is_last=False).unavailable is None


def test_health_in_the_list() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    assert unavailable(Healthy()) is None
    assert unavailable(Suspended(Cause.PASSWORD, SAID, "v1", now)) is Unavailable.SUSPENDED
    assert unavailable(Paused(Cause.LIMIT, SAID, "v1", 1.0, now, 60.0)) is Unavailable.LIMIT
    assert unavailable(Paused(Cause.CLOSING, SAID, "v1", 1.0, now, 60.0)) is Unavailable.PAUSED


# ---- a reply in a transaction ----

REPLIES = [
    "450 4.2.1 Mailbox busy",
    "450 4.7.1 Greylisted, try again in 300 s",
    "450 Mail send limit exceeded.",
    "421 4.7.0 Too many connections",
    "421 4.3.2 Closing",
    "451 4.3.0 Local error",
    "452 4.5.3 Too many recipients",
    "452 4.2.2 Mailbox full",
    "454 4.7.1 You have sent too many messages",
    "530 5.7.0 Must issue a STARTTLS command first",
    "535 5.7.8 Not logged in",
    "550 5.1.1 No such user",
    "550 5.4.5 Daily user sending quota exceeded.",
    "550 5.7.1 Sender not allowed",
    "550 5.7.1 Message rejected as spam",
    "552 5.3.4 Too large",
    "552 5.2.2 Mailbox full",
    "553 5.1.8 Sender's domain does not exist",
    "554 5.7.1 Your IP address is blocked",
    "554 5.7.1 Spam",
]


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.FINAL_DOT])
@pytest.mark.parametrize("text", REPLIES)
def test_only_a_reply_that_pauses_the_account_before_the_content_is_in_the_list(text: str, stage: Stage) -> None:
    said, circumstances = parse_reply([text.encode()]), Circumstances(stage)
    cause = cause_of(said, circumstances)
    found = outcome(said, circumstances, "smtp.example")
    why = found.unavailable if isinstance(found, Deferred) else None
    pauses = CONSEQUENCES[cause].effect is Effect.PAUSE
    if stage is Stage.FINAL_DOT or not pauses:
        assert why is None
    elif said.code != 421:  # which ends the session: see below
        assert why is (Unavailable.LIMIT if cause is Cause.LIMIT else Unavailable.PAUSED)


@pytest.mark.parametrize("cause", Cause)
def test_the_causes_about_a_recipient_or_a_message_are_never_in_the_list(cause: Cause) -> None:
    why = unavailable_after(cause)
    assert (why is None) == (CONSEQUENCES[cause].effect is not Effect.PAUSE)
    if cause in (Cause.RECIPIENT, Cause.RECIPIENT_COUNT, Cause.SIZE, Cause.CONTENT, Cause.SENDER, Cause.TEMPORARY):
        assert why is None


# ---- the courier, with a server ----

U = Unavailable
SCENES = [
    (FaultStage.CONNECT, Drop(), U.UNREACHABLE),
    (FaultStage.BANNER, Drop(), U.UNREACHABLE),
    (FaultStage.BANNER, Silence(), U.UNREACHABLE),
    (FaultStage.BANNER, ReplyWith(server_reply(554, "No SMTP service here")), U.UNREACHABLE),
    (FaultStage.BANNER, ReplyWith(server_reply(421, "4.3.2 Too busy")), U.PAUSED),
    (FaultStage.EHLO, Drop(), U.UNREACHABLE),
    (FaultStage.AUTH, ReplyWith(server_reply(535, "5.7.8 Wrong password")), U.SUSPENDED),
    (FaultStage.AUTH, ReplyWith(server_reply(454, "4.7.0 Temporary authentication failure")), U.PAUSED),
    (FaultStage.AUTH, Drop(), U.PAUSED),
    (FaultStage.MAIL, ReplyWith(server_reply(450, "Mail send limit exceeded.")), U.LIMIT),
    (FaultStage.MAIL, ReplyWith(server_reply(421, "4.3.2 Closing")), U.PAUSED),
    (FaultStage.RCPT, ReplyWith(server_reply(421, "4.3.2 Closing")), U.PAUSED),
    (FaultStage.MAIL, Drop(), None),
    (FaultStage.RCPT, ReplyWith(server_reply(450, "4.2.1 Mailbox busy")), None),
    (FaultStage.RCPT, Drop(), None),
    (FaultStage.DATA, ReplyWith(server_reply(451, "4.3.0 Local error")), None),
    (FaultStage.BODY, Drop(), None),
    (FaultStage.DOT, Drop(), None),
    (FaultStage.DOT, Drop(after_storing=True), None),
    (FaultStage.DOT, Silence(), None),
    (FaultStage.DOT, ReplyWith(server_reply(450, "Mail send limit exceeded.")), None),
    (FaultStage.DOT, ReplyWith(server_reply(421, "4.3.2 Closing")), None),
]


@pytest.mark.parametrize(("stage", "action", "expected"), SCENES, ids=lambda value: str(getattr(value, "value", value)))
async def test_the_outcome_names_the_reason_or_none(stage: FaultStage, action: object, expected: U | None) -> None:
    script = FaultScript(Fault(stage, action))  # type: ignore[arg-type]
    # Only the silent ones wait.
    timeouts = impatient_at(stage) if isinstance(action, Silence) else PATIENT
    async with Simulator(SETTINGS, script) as simulator, office(smarthost_of(simulator), timeouts=timeouts) as o:
        sent = await o.send_one()
        assert isinstance(sent, Deferred)
        assert sent.unavailable is expected
        assert not (sent.unavailable and sent.maybe_taken)


async def test_a_refused_certificate_is_unreachable_if_no_smarthost_is_left() -> None:
    expired = SimulatorSettings(mailboxes=MAILBOXES, certificate=CertificateKind.EXPIRED)
    async with Simulator(expired) as bad, Simulator(SETTINGS) as good:
        async with office(smarthost_of(bad), timeouts=PATIENT) as o:
            sent = await o.send_one()
            assert isinstance(sent, Deferred)
            assert sent.unavailable is U.UNREACHABLE
        async with office(smarthost_of(bad), smarthost_of(good), timeouts=PATIENT) as o:
            sent = await o.send_one()
            assert isinstance(sent, Deferred)
            assert sent.unavailable is None


async def test_an_unknown_host_and_a_refused_connection_are_unreachable() -> None:
    async with Simulator(SETTINGS) as simulator:
        gone = smarthost_of(simulator)
        await simulator.go_offline()
        unknown = Smarthost("smtp.invalid", 465, Security.IMPLICIT_TLS)
        async with office(unknown, gone, timeouts=PATIENT) as o:
            sent = await o.send_one()
            assert isinstance(sent, Deferred)
            assert sent.unavailable is U.UNREACHABLE


async def test_a_blocked_account_a_used_up_hour_and_a_stop() -> None:
    async with Simulator(SETTINGS) as simulator, office(smarthost_of(simulator), messages_per_hour=1) as o:
        o.accounts.set_password("anna", "geheim-falsch")
        reasons = []
        for account in ("anna", "anna", "bert", "bert"):
            sent = await o.send_one(account)
            reasons.append(sent.unavailable if isinstance(sent, Deferred) else None)
        assert reasons == [U.SUSPENDED, U.SUSPENDED, None, U.LIMIT]
        await o.courier.close(0)
        sent = await o.send_one("bert")
        assert isinstance(sent, Deferred)
        assert (sent.of_account, sent.unavailable) == (True, None)


def test_an_exception_before_the_login_is_in_the_list_only_for_the_network_and_tls() -> None:
    for fault, stage in product(
        (ConnectionRefusedError(111, "refused"), TimeoutError()), (Stage.LOOK_UP, Stage.CONNECT)
    ):
        assert as_unavailable(failure_of(fault, HOST, stage), is_last=False).unavailable is U.UNREACHABLE
    broken = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    broken.reason = "WRONG_VERSION_NUMBER"
    assert as_unavailable(failure_of(broken, HOST, Stage.HANDSHAKE), is_last=True).unavailable is U.UNREACHABLE
