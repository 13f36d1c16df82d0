"""TLS failures of clients in words, from real handshakes."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable

import pytest

from senderproxy.listener.client_tls import explain_client_tls_failure
from tests.senderproxy.listener.conftest import ServerCertificate

Hello = Callable[[socket.socket, ServerCertificate], None]


def speaks(version: ssl.TLSVersion) -> Hello:
    def shake(connection: socket.socket, _certificate: ServerCertificate) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.wrap_socket(connection).close()

    return shake


def trusts_nobody(connection: socket.socket, _certificate: ServerCertificate) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.wrap_socket(connection, server_hostname="localhost").close()


def sends(octets: bytes) -> Hello:
    return lambda connection, _certificate: connection.sendall(octets)


def failure(certificate: ServerCertificate, hello: Hello) -> OSError:
    """The error of the server in this handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    settings = certificate.settings("implicit")
    context.load_cert_chain(settings["certificate"], settings["key"])
    ours, theirs = socket.socketpair()
    errors: list[OSError] = []

    def client() -> None:
        with theirs:
            try:
                hello(theirs, certificate)
            except OSError as error:
                errors.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        with pytest.raises(OSError) as raised, context.wrap_socket(ours, server_side=True) as secured:
            secured.recv(1)  # TLS 1.3: the client refuses the certificate after the server's handshake
        return raised.value
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    ("hello", "why", "hint"),
    [
        (speaks(ssl.TLSVersion.TLSv1), "the client offers TLS 1.1 or older only", "old_tls = true"),
        (speaks(ssl.TLSVersion.TLSv1_1), "the client offers TLS 1.1 or older only", "old_tls = true"),
        (trusts_nobody, "does not accept the certificate", "authority"),
        (sends(b"EHLO scan\r\n"), "plain text where TLS begins", 'tls = "starttls"'),
        (sends(b"GET / HTTP/1.1\r\n\r\n"), "plain text where TLS begins", 'tls = "starttls"'),
    ],
)
def test_a_failed_handshake_has_a_cause_and_a_fix(
    server_certificate: ServerCertificate, hello: Hello, why: str, hint: str
) -> None:
    found = explain_client_tls_failure(failure(server_certificate, hello), implicit=True, old_tls=False)
    assert why in found[0]
    assert hint in found[1]


def test_a_client_that_leaves_has_no_fix(server_certificate: ServerCertificate) -> None:
    why, hint = explain_client_tls_failure(failure(server_certificate, sends(b"")), implicit=True, old_tls=False)
    assert why
    assert not hint


def test_old_tls_is_not_proposed_where_it_is_set() -> None:
    error = ssl.SSLError()
    error.reason = "VERSION_TOO_LOW"
    why, hint = explain_client_tls_failure(error, implicit=False, old_tls=True)
    assert "SSL 3.0" in why
    assert "old_tls" not in hint
