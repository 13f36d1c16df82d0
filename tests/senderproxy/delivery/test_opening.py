"""A session is opened once, under verified TLS, with one AUTH; or the reply has the reason."""

import asyncio
import base64
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.delivery import open_failures
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import parse_reply
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.simulator.faults import (
    AppendOctets,
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
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind
from senderproxy.translation import _, in_english, language
from tests.senderproxy.delivery.messages import (
    ANNA,
    SECRET,
    SETTINGS,
    credential,
    impatient_at,
    open_at,
    smarthost_of,
)

TLS = (Security.IMPLICIT_TLS, Security.STARTTLS)


async def refused(simulator: Simulator, security: Security = Security.IMPLICIT_TLS, **more: object) -> OpenFailed:
    result = await open_at(smarthost_of(simulator, security), **more)  # type: ignore[arg-type]
    assert isinstance(result, OpenFailed)
    assert result.reply.is_transient
    assert len(result.reply.lines) == 1  # clients show the last line only
    return result


@pytest.mark.parametrize("security", TLS)
@pytest.mark.parametrize(("offered", "used"), [(("PLAIN", "LOGIN"), "PLAIN"), (("LOGIN", "CRAM-MD5"), "LOGIN")])
async def test_a_session_is_opened_with_one_login_under_tls(
    security: Security, offered: tuple[str, ...], used: str
) -> None:
    async with Simulator(replace(SETTINGS, mechanisms=offered)) as simulator:
        session = await open_at(smarthost_of(simulator, security))
        assert isinstance(session, Session)
        assert [(login.login, login.mechanism, login.accepted, login.under_tls) for login in simulator.logins()] == [
            (ANNA, used, True, True)
        ]
        assert session.mechanism == used
        assert simulator.sessions[0].verbs.count("EHLO") == (2 if security is Security.STARTTLS else 1)
        assert simulator.sessions[0].ehlo_names[-1] == "office.example"
        await session.quit()
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "quit")


async def test_the_providers_order_of_mechanisms_is_followed() -> None:
    async with Simulator(SETTINGS) as simulator:
        session = await open_at(smarthost_of(simulator), mechanisms=("LOGIN", "PLAIN"))
        assert isinstance(session, Session)
        assert simulator.logins()[0].mechanism == "LOGIN"
        await session.quit()


async def test_a_password_with_umlauts_arrives_as_it_was_typed() -> None:
    secret = "geheim-Öl für 3 €"
    mailboxes = {ANNA: replace(SETTINGS.mailboxes[ANNA], password=secret)}
    for mechanism in ("PLAIN", "LOGIN"):
        async with Simulator(replace(SETTINGS, mailboxes=mailboxes, mechanisms=(mechanism,))) as simulator:
            session = await open_at(smarthost_of(simulator), with_credential=credential(secret=secret))
            assert isinstance(session, Session)
            await session.quit()


@pytest.mark.parametrize("offered", [("PLAIN", "LOGIN"), ("LOGIN",)])
async def test_a_wrong_password_costs_exactly_one_failed_login(offered: tuple[str, ...]) -> None:
    async with Simulator(replace(SETTINGS, mechanisms=offered)) as simulator:
        result = await refused(simulator, with_credential=credential(secret="geheim-falsch"))
        assert result.kind is FailureKind.LOGIN
        assert str(result.upstream_reply) == "535 Authentication credentials invalid"
        assert simulator.failed_logins() == 1
        assert simulator.connections == 1


CERTIFICATES = [
    (CertificateKind.EXPIRED, "has expired"),
    (CertificateKind.NOT_YET_VALID, "is not valid yet"),
    (CertificateKind.OTHER_NAME, "is for another name"),
    (CertificateKind.SELF_SIGNED, "not signed by an authority in"),
    (CertificateKind.OTHER_AUTHORITY, "not signed by an authority in"),
]


@pytest.mark.parametrize("security", TLS)
@pytest.mark.parametrize(("kind", "words"), CERTIFICATES)
async def test_a_certificate_that_is_not_right_gets_no_octet_of_a_password(
    security: Security, kind: CertificateKind, words: str
) -> None:
    async with Simulator(replace(SETTINGS, certificate=kind)) as simulator:
        result = await refused(simulator, security)
        assert result.kind is FailureKind.INCOMPATIBLE
        assert str(result.reply.status) == "4.7.5"
        assert words in result.reply.text
        assert "127.0.0.1" in result.reply.text
        await simulator.wait_until(lambda simulator: all(session.ended for session in simulator.sessions))
        assert "AUTH" not in simulator.sessions[0].verbs
        assert simulator.logins() == []
        assert simulator.clear_text_logins == []


async def test_tls_older_than_1_2_is_refused() -> None:
    async with Simulator(replace(SETTINGS, only_old_tls=True)) as simulator:
        result = await refused(simulator)
        assert "TLS" in result.reply.text
        assert "1.2" in result.reply.text
        assert simulator.logins() == []


async def test_without_the_authoritys_certificate_nothing_is_trusted() -> None:
    async with Simulator(SETTINGS) as simulator:
        unknown = replace(smarthost_of(simulator), ca_file=None)
        result = await open_at(unknown)
        assert isinstance(result, OpenFailed)
        assert "not signed by an authority that this machine trusts" in result.reply.text
        assert simulator.logins() == []


async def test_a_stripped_starttls_gets_no_password(tmp_path: Path) -> None:
    async with Simulator(
        replace(SETTINGS, starttls_offered=False, auth_before_tls=True, raise_violations=False)
    ) as simulator:
        result = await refused(simulator, Security.STARTTLS)
        assert result.kind is FailureKind.INCOMPATIBLE
        assert "does not offer STARTTLS, so no password was sent" in result.reply.text
        assert simulator.sessions[0].verbs == ["EHLO"]


async def test_a_login_offered_before_tls_is_not_used() -> None:
    async with Simulator(replace(SETTINGS, auth_before_tls=True)) as simulator:
        session = await open_at(smarthost_of(simulator, Security.STARTTLS))
        assert isinstance(session, Session)
        assert simulator.clear_text_logins == []
        await session.quit()


@pytest.mark.parametrize("smuggled", [b"250 evil\r\n", b"250-evil\r\n250 AUTH PLAIN\r\n"])
async def test_text_injected_before_tls_is_never_used_under_it(smuggled: bytes) -> None:
    script = FaultScript(Fault(FaultStage.STARTTLS, AppendOctets(smuggled)))
    async with Simulator(SETTINGS, script) as simulator:
        result = await open_at(smarthost_of(simulator, Security.STARTTLS))
        if isinstance(result, Session):
            assert not result.extensions.pipelining
            assert result.extensions.size_limit == SETTINGS.size_limit
            await result.quit()
        assert script.applied


@pytest.mark.parametrize(
    ("offered", "words"),
    [((), "offers no AUTH; usable are PLAIN and LOGIN"), (("XOAUTH2",), "offers only AUTH XOAUTH2")],
)
async def test_an_upstream_without_a_supported_mechanism_is_named(offered: tuple[str, ...], words: str) -> None:
    async with Simulator(replace(SETTINGS, mechanisms=offered)) as simulator:
        result = await refused(simulator)
        assert result.kind is FailureKind.INCOMPATIBLE
        assert words in result.reply.text
        assert "AUTH" not in simulator.sessions[0].verbs


STAGES = {
    FaultStage.HANDSHAKE: "TLS handshake",
    FaultStage.BANNER: "greeting",
    FaultStage.EHLO: "EHLO",
    FaultStage.AUTH: "login",
}


@pytest.mark.parametrize("stage", STAGES)
async def test_a_timeout_at_any_stage_has_a_reply_that_names_it(stage: FaultStage) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, Silence()))) as simulator:
        result = await refused(simulator, timeouts=impatient_at(stage))
        assert result.kind is (FailureKind.LOGIN if stage is FaultStage.AUTH else FailureKind.UNREACHABLE)
        assert f"did not answer in time (stage: {STAGES[stage]})" in result.reply.text


@pytest.mark.parametrize("stage", STAGES)
async def test_a_closed_connection_at_any_stage_has_a_reply_that_names_it(stage: FaultStage) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, Drop()))) as simulator:
        result = await refused(simulator)
        assert result.kind is (FailureKind.LOGIN if stage is FaultStage.AUTH else FailureKind.UNREACHABLE)
        assert f"closed the connection (stage: {STAGES[stage]})" in result.reply.text


@pytest.mark.parametrize("action", [Silence(), Drop()])
@pytest.mark.parametrize("stage", [FaultStage.STARTTLS, FaultStage.HANDSHAKE])
async def test_a_missing_reply_to_starttls_has_a_reply_that_names_it(stage: FaultStage, action: FaultAction) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, action))) as simulator:
        result = await refused(simulator, Security.STARTTLS, timeouts=impatient_at(stage))
        assert result.kind is FailureKind.UNREACHABLE
        assert "STARTTLS" in result.reply.text
        assert simulator.clear_text_logins == []


@pytest.mark.parametrize(
    ("stage", "code", "words", "trouble"),
    [
        (FaultStage.BANNER, 421, "Too many connections", FailureKind.LIMIT),
        (FaultStage.BANNER, 554, "No service here", FailureKind.INCOMPATIBLE),
        (FaultStage.EHLO, 421, "Not now", FailureKind.LIMIT),
        (FaultStage.EHLO, 550, "I do not know you", FailureKind.INCOMPATIBLE),
        (FaultStage.AUTH, 454, "4.7.0 Temporary authentication failure", FailureKind.LOGIN),
        (FaultStage.AUTH, 421, "Too many logins", FailureKind.LOGIN),
        (FaultStage.AUTH, 535, "5.7.8 No", FailureKind.LOGIN),
        (FaultStage.AUTH, 534, "5.7.9 Too weak", FailureKind.LOGIN),
        (
            FaultStage.AUTH,
            550,
            "5.7.30 Basic authentication is not supported for Client Submission.",
            FailureKind.LOGIN,
        ),
        (FaultStage.AUTH, 500, "What?", FailureKind.LOGIN),
    ],
)
async def test_a_negative_reply_of_the_upstream_is_passed_on(
    stage: FaultStage, code: int, words: str, trouble: FailureKind
) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, ReplyWith(server_reply(code, words))))) as simulator:
        result = await refused(simulator)
        assert result.kind is trouble
        assert result.reply.code == 451
        assert f"{code} {words}" in result.reply.text
        assert len(simulator.logins()) <= (2 if code in (500, 534) else 1)  # the method was refused, not the password


JUNK: list[FaultAction] = [
    RawOctets(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    RawOctets(b"\x00\x01\x02\xff\r\n"),
    RawOctets(b"2500 ok\r\n"),
    RawOctets(b"x" * 1_000_000 + b"\r\n"),
    RepeatForever(b"220-again and again\r\n"),
    RepeatForever(b"x" * 1000),
]


@pytest.mark.parametrize("stage", [FaultStage.BANNER, FaultStage.EHLO, FaultStage.AUTH])
@pytest.mark.parametrize("action", JUNK, ids=range(len(JUNK)))
async def test_invalid_and_endless_replies_end_the_attempt(stage: FaultStage, action: FaultAction) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, action))) as simulator:
        result = await refused(simulator)
        assert result.kind not in (FailureKind.LOCAL, FailureKind.WAITING)
        assert len(result.reply.render()) < 5000


@pytest.mark.parametrize("stage", [FaultStage.BANNER, FaultStage.EHLO, FaultStage.AUTH])
async def test_an_upstream_that_sends_unsolicited_replies_is_refused(stage: FaultStage) -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(stage, AppendOctets(b"250 and another thing\r\n")))) as simulator:
        await refused(simulator)
        await simulator.wait_until(lambda simulator: all(session.ended for session in simulator.sessions))


async def test_controls_in_a_reply_never_reach_the_client_or_the_log() -> None:
    script = FaultScript(Fault(FaultStage.BANNER, RawOctets(b"554 \x1b[31mred\x07\x00 alert\r\n")))
    async with Simulator(SETTINGS, script) as simulator:
        result = await refused(simulator)
        assert result.reply.text.isprintable()
        assert "alert" in result.reply.text


@pytest.mark.parametrize(
    "echo",
    [
        SECRET.encode(),
        base64.b64encode(SECRET.encode()),
        base64.b64encode(f"\0{ANNA}\0{SECRET}".encode()),
    ],
)
@pytest.mark.parametrize("code", [b"535", b"500"])
async def test_a_server_that_repeats_our_password_does_not_get_it_into_any_reply(code: bytes, echo: bytes) -> None:
    script = FaultScript(Fault(FaultStage.AUTH, RawOctets(code + b" cannot read: AUTH PLAIN " + echo + b"\r\n")))
    async with Simulator(SETTINGS, script) as simulator:
        result = await refused(simulator)
        for text in (str(result), repr(result), result.reply.render().decode(), str(result.upstream_reply)):
            assert echo.decode() not in text
            assert SECRET not in text
        assert "***" in result.reply.text


async def test_a_slow_greeting_is_awaited() -> None:
    async with Simulator(SETTINGS, FaultScript(Fault(FaultStage.BANNER, OctetByOctet(0.002)))) as simulator:
        session = await open_at(smarthost_of(simulator))
        assert isinstance(session, Session)
        await session.quit()


async def test_a_closed_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        smarthost = Smarthost("127.0.0.1", taken.getsockname()[1], Security.IMPLICIT_TLS)
        result = await open_at(smarthost)
    assert isinstance(result, OpenFailed)
    assert result.kind is FailureKind.UNREACHABLE
    assert str(result.reply.status) == "4.4.1"
    assert f"127.0.0.1:{smarthost.port} refused the connection" in result.reply.text


async def test_a_name_that_does_not_exist_is_named() -> None:
    result = await open_at(Smarthost("smtp.nowhere.invalid", 465, Security.IMPLICIT_TLS))
    assert isinstance(result, OpenFailed)
    assert result.kind is FailureKind.UNREACHABLE
    assert "smtp.nowhere.invalid" in result.reply.text


async def test_implicit_tls_on_a_starttls_port_is_explained() -> None:
    async with Simulator(replace(SETTINGS, raise_violations=False)) as simulator:
        smarthost = Smarthost("127.0.0.1", simulator.port_starttls, Security.IMPLICIT_TLS, str(simulator.ca_file))
        result = await open_at(smarthost)
        assert isinstance(result, OpenFailed)
        assert 'security = "starttls"' in result.reply.text


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("no certificate", "contains no certificate")])
async def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    ca_file = tmp_path / "office-ca.pem"
    if content is not None:
        ca_file.write_text(content)
    async with Simulator(SETTINGS) as simulator:
        result = await open_at(replace(smarthost_of(simulator), ca_file=str(ca_file)))
        assert isinstance(result, OpenFailed)
        assert result.kind is FailureKind.INCOMPATIBLE
        assert str(ca_file) in result.reply.text
        assert words in result.reply.text
        assert simulator.connections == 0


async def test_plain_text_is_allowed_to_this_machine_if_configured() -> None:
    async with Simulator(replace(SETTINGS, auth_before_tls=True, raise_violations=False)) as simulator:
        session = await open_at(smarthost_of(simulator, Security.NONE))
        assert isinstance(session, Session)
        assert simulator.clear_text_logins == ["PLAIN"]
        await session.quit()


async def test_plain_text_is_refused_to_another_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells which address we would come from
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    with socket.create_server((own, 0)) as listener:
        smarthost = Smarthost(own, listener.getsockname()[1], Security.NONE)
        result = await open_at(smarthost)
        assert isinstance(result, OpenFailed)
        assert "not on this machine" in result.reply.text
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize("stage", [FaultStage.HANDSHAKE, FaultStage.BANNER, FaultStage.EHLO, FaultStage.AUTH])
async def test_a_cancelled_attempt_leaves_no_connection_open(stage: FaultStage) -> None:
    script = FaultScript(Fault(stage, Silence()))
    async with Simulator(SETTINGS, script) as simulator:
        opening = asyncio.create_task(open_at(smarthost_of(simulator)))
        await simulator.wait_until(lambda simulator: bool(script.applied) or simulator.connections == 1)
        while not script.applied:
            await asyncio.sleep(0)
        while not opening.done():  # Python 3.11's wait_for may miss a cancellation that comes with a result
            opening.cancel()
            await asyncio.wait((opening,), timeout=0.05)
        assert opening.cancelled() or isinstance(opening.result(), OpenFailed)
        await simulator.wait_until(lambda simulator: simulator.open_connections == 0)


# ---- words for the operator ----


def test_a_failure_has_words_for_the_operator_in_any_language_and_a_reply_in_english() -> None:
    with language("de"):
        failed = open_failures.starttls_missing(Smarthost("mail.example", 587, Security.STARTTLS))
        both = open_failures.combined([failed, open_failures.no_smarthost("ionos")])
    assert failed.words == "mail.example:587 bietet kein STARTTLS an, deshalb wurde kein Kennwort gesendet"
    assert failed.reply.text.startswith(
        "mail.example:587 does not offer STARTTLS, so no password was sent. To fix: use port 465"
    )
    assert in_english(both.words).endswith("so no password was sent; Provider ionos has no smarthost")


@pytest.mark.parametrize("secret", ["geheim-eins", "geheim-Öl für 3 €"])
def test_a_server_that_repeats_a_secret_does_not_bring_it_into_the_words(secret: str) -> None:
    octets = secret.encode()
    said = parse_reply([b"500 unknown command " + octets])
    text = _("{smarthost} replied (stage: {stage}): {reply}").format(
        smarthost="mail.example", stage="login", reply=said
    )
    failed = OpenFailed(FailureKind.INCOMPATIBLE, said, said, words=text)
    clean = open_failures.without_secrets(failed, [octets])
    assert secret not in repr(clean)
    assert "geheim" not in clean.words + clean.reply.text
    kept = open_failures.without_secrets(failed, [b"geheim-other"])
    assert kept.words == text
