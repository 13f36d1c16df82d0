"""Failures and replies are classified from values alone: every failure is a 4xx with its reason."""

import errno
import socket
import ssl

import aiosmtplib
import pytest

from senderproxy.delivery import classify, open_failures
from senderproxy.delivery.causes import Cause, Circumstances, ClassifiedReply, Stage
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.mail.address import parse_address
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import parse_reply, reply
from senderproxy.routing.provider import Security, Smarthost

IONOS = Smarthost("smtp.ionos.de", 465, Security.IMPLICIT_TLS)
OWN = Smarthost("mail.office.example", 465, Security.IMPLICIT_TLS, "/etc/senderproxy/office-ca.pem")


def verification(code: int, message: str) -> ssl.SSLCertVerificationError:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, message
    return fault


def ssl_fault(reason: str) -> ssl.SSLError:
    fault = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()}")
    fault.reason = reason
    return fault


@pytest.mark.parametrize(
    ("fault", "stage", "trouble", "status", "words"),
    [
        (OSError(errno.ECONNREFUSED, "x"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "refused the connection"),
        (OSError(errno.ENETUNREACH, "x"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "no route"),
        (OSError(errno.EHOSTUNREACH, "x"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "no route"),
        (OSError(errno.EPERM, "x"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "firewall"),
        (OSError(errno.EMFILE, "x"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "LimitNOFILE="),
        (OSError(errno.EIO, "I/O error"), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "I/O error"),
        (TimeoutError(), Stage.CONNECT, FailureKind.UNREACHABLE, "4.4.1", "(stage: connection)"),
        (TimeoutError(), Stage.LOOK_UP, FailureKind.UNREACHABLE, "4.4.1", "(stage: address look-up)"),
        (socket.gaierror(-2, "Name not known"), Stage.LOOK_UP, FailureKind.UNREACHABLE, "4.4.3", "Check the host name"),
        (ConnectionResetError(), Stage.HANDSHAKE, FailureKind.UNREACHABLE, "4.4.2", "(stage: TLS handshake)"),
        (ssl.SSLEOFError(), Stage.HANDSHAKE, FailureKind.UNREACHABLE, "4.4.2", "closed the connection"),
        (aiosmtplib.SMTPServerDisconnected("x"), Stage.AUTH, FailureKind.LOGIN, "4.4.2", "(stage: login)"),
        (aiosmtplib.SMTPReadTimeoutError("x"), Stage.EHLO, FailureKind.UNREACHABLE, "4.4.1", "(stage: EHLO)"),
        (
            ssl_fault("WRONG_VERSION_NUMBER"),
            Stage.HANDSHAKE,
            FailureKind.INCOMPATIBLE,
            "4.7.5",
            'security = "starttls"',
        ),
        (ssl_fault("UNSUPPORTED_PROTOCOL"), Stage.HANDSHAKE, FailureKind.INCOMPATIBLE, "4.7.5", "TLS 1.2"),
        (
            ssl_fault("SSLV3_ALERT_HANDSHAKE_FAILURE"),
            Stage.HANDSHAKE,
            FailureKind.INCOMPATIBLE,
            "4.7.5",
            "no key exchange or cipher that is safe today",
        ),
        (verification(10, "certificate has expired"), Stage.HANDSHAKE, FailureKind.INCOMPATIBLE, "4.7.5", "expired"),
        (
            verification(9, "certificate is not yet valid"),
            Stage.HANDSHAKE,
            FailureKind.INCOMPATIBLE,
            "4.7.5",
            "not valid yet",
        ),
        (verification(62, "Hostname mismatch"), Stage.STARTTLS, FailureKind.INCOMPATIBLE, "4.7.5", "another name"),
        (verification(18, "self-signed"), Stage.HANDSHAKE, FailureKind.INCOMPATIBLE, "4.7.5", "ca_file"),
        (verification(20, "unable to get local issuer"), Stage.HANDSHAKE, FailureKind.INCOMPATIBLE, "4.7.5", "ca_file"),
        (
            verification(85, "Missing Authority Key Identifier"),
            Stage.HANDSHAKE,
            FailureKind.INCOMPATIBLE,
            "4.7.5",
            "Python 3.13",
        ),
        (
            verification(92, "CA cert does not include key usage extension"),
            Stage.HANDSHAKE,
            FailureKind.INCOMPATIBLE,
            "4.7.5",
            "3.13",
        ),
        (verification(3, "unable to get certificate CRL"), Stage.HANDSHAKE, FailureKind.INCOMPATIBLE, "4.7.5", "CRL"),
    ],
)
def test_every_failure_is_a_deferral_with_its_reason(
    fault: BaseException, stage: Stage, trouble: FailureKind, status: str, words: str
) -> None:
    result = open_failures.failure_of(fault, IONOS, stage)
    assert result.kind is trouble
    assert result.reply.code == 451
    assert str(result.reply.status) == status
    assert words in result.reply.text
    assert "smtp.ionos.de" in result.reply.text or "3.13" in words
    assert len(result.reply.lines) == 1


def test_the_cause_of_an_aiosmtplib_exception_is_reported() -> None:
    outer = aiosmtplib.SMTPConnectError("Error connecting")
    outer.__cause__ = verification(10, "certificate has expired")
    assert "expired" in open_failures.failure_of(outer, IONOS, Stage.HANDSHAKE).reply.text


def test_an_untrusted_certificate_names_the_ca_file() -> None:
    result = open_failures.failure_of(verification(20, "x"), OWN, Stage.HANDSHAKE)
    assert "/etc/senderproxy/office-ca.pem" in result.reply.text


def test_an_internal_error_is_raised_again() -> None:
    with pytest.raises(ZeroDivisionError):
        open_failures.failure_of(ZeroDivisionError(), IONOS, Stage.AUTH)
    with pytest.raises(aiosmtplib.SMTPNotSupported):
        open_failures.failure_of(aiosmtplib.SMTPNotSupported("x"), IONOS, Stage.AUTH)


def test_a_refused_login_is_a_deferral_with_the_servers_text() -> None:
    fault = aiosmtplib.SMTPAuthenticationError(535, "5.7.139 Authentication unsuccessful\nthe tenant says no")
    result = open_failures.failure_of(fault, IONOS, Stage.AUTH)
    assert result.kind is FailureKind.LOGIN
    assert "535 5.7.139 Authentication unsuccessful / the tenant says no" in result.reply.text


def test_several_unreachable_smarthosts_are_one_line() -> None:
    one = OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", "a.example:465 is silent"))
    two = OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", "b.example:587 is silent"))
    assert open_failures.combined([one]) == one
    assert open_failures.combined([one, two]).reply.lines == ("a.example:465 is silent; b.example:587 is silent",)


@pytest.mark.parametrize(
    ("line", "stage", "kind", "shown"),
    [
        (b"250 2.1.5 Ok", Stage.RCPT, Delivered, "250 2.1.5 Ok"),
        (b"251 User not local; will forward", Stage.RCPT, Delivered, "251 2.0.0 User not local; will forward"),
        (b"550 Unknown User", Stage.RCPT, Failed, "550 5.1.0 Unknown User"),
        (b"450 greylisted", Stage.RCPT, Deferred, "450 4.1.0 greylisted"),
        (b"550 5.1.1 nobody", Stage.RCPT, Failed, "550 5.1.1 nobody"),
        (b"550 Sender address is not allowed.", Stage.MAIL, Failed, "550 5.7.1 Sender address is not allowed."),
        (b"553 Sender address rejected: not owned by user x", Stage.RCPT, Failed, "553 5.7.1 Sender address rejected"),
        (b"554 no", Stage.FINAL_DOT, Failed, "554 5.6.0 no"),
        (b"452 disk", Stage.FINAL_DOT, Deferred, "452 4.6.0 disk"),
        (b"550 5.4.5 Daily user sending limit exceeded", Stage.MAIL, Deferred, "451 4.4.5 Daily"),
        (b"421 4.4.2 bye", Stage.FINAL_DOT, Deferred, "451 4.4.2 bye"),
        (b"503 Bad sequence of commands", Stage.DATA, Deferred, "451 4.7.1 Bad sequence of commands"),
        (b"354 go on", Stage.RCPT, Deferred, "451 4.5.0 "),
        (b"250 fine", Stage.DATA, Deferred, "451 4.5.0 "),
    ],
)
def test_a_reply_has_one_outcome_at_its_stage(line: bytes, stage: Stage, kind: type[Outcome], shown: str) -> None:
    result = classify.outcome(parse_reply([line]), Circumstances(stage), "smtp.example")
    assert isinstance(result, kind)
    assert str(result.reply).startswith(shown)


ANNA, BERT = parse_address("anna@a.example"), parse_address("bert@b.example")


def test_a_rejected_recipient_has_its_own_outcome() -> None:
    ok, no = parse_reply([b"250 ok"]), parse_reply([b"550 no"])
    base = Circumstances(Stage.MAIL)
    assert classify.rejected_recipients((ANNA, BERT), ok, (ok, ok), base, "smtp.example") == ({}, [])
    refused, replies = classify.rejected_recipients((ANNA, BERT), ok, (ok, no), base, "smtp.example")
    assert replies == [ClassifiedReply(no, Cause.RECIPIENT)]
    assert list(refused) == [BERT]
    assert refused[BERT] == Failed(parse_reply([b"550 5.1.0 no"]), remote="smtp.example")
    nobody, replies = classify.rejected_recipients((ANNA, BERT), no, (), base, "smtp.example")
    assert replies == [ClassifiedReply(no, Cause.SENDER)]
    assert list(nobody) == [ANNA, BERT]
    assert all(isinstance(outcome, Failed) for outcome in nobody.values())


@pytest.mark.parametrize(
    ("line", "is_over_limit"),
    [
        (b"452 Too many recipients", True),
        (b"452 4.5.3 Error: too many recipients", True),
        (b"452 4.5.3 enough", True),
        (b"552 5.5.3 Maximum limit of 100 recipients reached", True),
        (b"552 Too many recipients", True),
        (b"550 5.5.3 Too many recipients specified", True),
        (b"452 4.2.2 over quota", False),
        (b"450 too many recipients this hour", False),
        (b"552 Requested mail action aborted: exceeded storage allocation", False),
    ],
)
def test_a_limit_of_recipients_is_distinguished_from_other_refusals(line: bytes, is_over_limit: bool) -> None:
    ok, over = parse_reply([b"250 ok"]), parse_reply([line])
    base = Circumstances(Stage.MAIL)
    outcomes, _ = classify.rejected_recipients((ANNA, BERT), ok, (ok, over), base, "smtp.example")
    delivered = {ANNA: Delivered(ok), **outcomes}
    assert list(classify.recipients_over_limit(delivered)) == ([BERT] if is_over_limit else [])
    assert not classify.recipients_over_limit(outcomes)  # no recipient was delivered to
    outcomes, _ = classify.rejected_recipients((ANNA, BERT), ok, (over, ok), base, "smtp.example")
    assert isinstance(outcomes[ANNA], Failed if over.is_permanent else Deferred)  # never for the first recipient


def test_an_unknown_outcome_warns_of_a_second_delivery() -> None:
    shown = classify.outcome_unknown(classify.reply_timeout(IONOS, Stage.FINAL_DOT, 540.0))
    assert str(shown).startswith(
        "451 4.4.2 smtp.ionos.de:465 did not reply within 540 s (stage: end of message), after"
    )
    assert "twice" in shown.text


@pytest.mark.parametrize(("octets", "words"), [(999, "1.0 kB"), (150_000_000, "150.0 MB"), (141_557_760, "141.6 MB")])
def test_sizes_are_formatted_for_people(octets: int, words: str) -> None:
    assert classify.format_size(octets) == words
