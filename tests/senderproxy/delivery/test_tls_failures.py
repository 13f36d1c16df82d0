"""Each TLS failure is named, with its own fix: never the network or a firewall where it is the certificate."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.delivery.tls_failures import Explained, explain_tls_failure
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.simulator.server import Simulator
from tests.field.upstreams import open_upstream
from tests.senderproxy.delivery.messages import SETTINGS, smarthost_of

SMARTHOST = Smarthost("smtp.hoster.example", 465, Security.IMPLICIT_TLS)
SHORT = replace(SessionTimeouts(), greeting=0.3)


def verification(code: int, message: str = "x") -> ssl.SSLCertVerificationError:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, message
    return fault


def handshake(reason: str) -> ssl.SSLError:
    fault = ssl.SSLError(1, reason)
    fault.reason = reason
    return fault


@pytest.mark.parametrize(
    ("fault", "text", "fix"),
    [
        (verification(10), "has expired", "timedatectl"),
        (verification(9), "is not valid yet", "timedatectl"),
        (verification(62), "is for another name", "set host to a name in the certificate"),
        (verification(64), "is for another name", "set host to a name in the certificate"),
        (verification(18), "is not signed by an authority that this machine trusts", "ca_file"),
        (verification(19), "is not signed by an authority that this machine trusts", "ca_file"),
        (verification(20), "is not signed by an authority that this machine trusts", "ca_file"),
        (verification(66), "uses a key or signature that is not safe today", "update that server"),
        (verification(85, "Missing Authority Key Identifier"), "is not valid: Missing", "Python 3.13"),
        (handshake("UNSUPPORTED_PROTOCOL"), "does not support TLS 1.2", "enable TLS 1.2"),
        (handshake("TLSV1_ALERT_PROTOCOL_VERSION"), "does not support TLS 1.2", "enable TLS 1.2"),
        (handshake("SSLV3_ALERT_HANDSHAKE_FAILURE"), "no key exchange or cipher that is safe", "update that server"),
        (handshake("DH_KEY_TOO_SMALL"), "no key exchange or cipher that is safe", "update that server"),
        (handshake("WRONG_VERSION_NUMBER"), "does not start with TLS", 'security = "starttls"'),
        (handshake("HTTP_REQUEST"), "does not start with TLS", 'security = "starttls"'),
        (handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "asks for a client certificate", "465"),
        (handshake("SOMETHING_NEW"), "failed: something new", "log"),
    ],
)
def test_each_failure_has_its_words_and_its_fix(fault: ssl.SSLError, text: str, fix: str) -> None:
    found = explain_tls_failure(fault, SMARTHOST)
    assert isinstance(found, Explained)
    assert text in found.text
    assert "smtp.hoster.example:465" in found.text
    assert fix in found.hint
    assert not any(word in f"{found.text} {found.hint}".lower() for word in ("network", "dns"))
    assert not (found.text + found.hint).endswith(".")


async def opened(smarthost: Smarthost) -> OpenFailed:
    opener = SessionOpener(SHORT, "proxy.firma.example", Resolver(SystemClock()))
    try:
        result = await opener.open(smarthost)
        assert isinstance(result, OpenFailed)
        assert result.hint in result.reply.text
        return result
    finally:
        opener.close()


@pytest.mark.parametrize(
    ("upstream", "words"),
    [("tls-only-rsa", "key exchange or cipher that is safe"), ("tls-small-dh", "key exchange or cipher that is safe")],
)
async def test_a_server_with_old_methods_is_refused_with_the_reason(tmp_path: Path, upstream: str, words: str) -> None:
    async with open_upstream(upstream, tmp_path) as server:
        result = await opened(Smarthost("127.0.0.1", server.port, Security.IMPLICIT_TLS, str(server.ca_file)))
    assert words in result.reply.text
    assert "older than 1.2" not in result.reply.text


async def test_a_port_with_tls_that_is_used_without_names_the_setting() -> None:
    async with Simulator(SETTINGS) as simulator:
        tls = smarthost_of(simulator)
        result = await opened(replace(tls, security=Security.STARTTLS))
        assert 'security = "tls"' in result.hint


async def test_a_port_without_tls_that_is_used_with_it_names_the_setting() -> None:
    async with Simulator(replace(SETTINGS, raise_violations=False)) as simulator:
        plain = smarthost_of(simulator, Security.STARTTLS)
        result = await opened(replace(plain, security=Security.IMPLICIT_TLS))
        assert 'security = "starttls"' in result.hint


async def test_a_machine_without_authorities_gets_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    result = await asyncio.wait_for(opened(Smarthost("127.0.0.1", 1, Security.IMPLICIT_TLS)), 30)
    assert "apt install ca-certificates" in result.hint
    assert "ca_file" not in result.reply.text
