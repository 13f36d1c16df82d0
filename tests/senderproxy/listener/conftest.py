"""A test CA and a certificate for the listener."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.senderproxy.listener.smtp_client import HOSTNAME


@dataclass(frozen=True)
class ServerCertificate:
    """Certificate and key of the listener, and a client context that trusts them."""

    certificate: str
    key: str
    client_context: ssl.SSLContext

    def settings(self, tls: str) -> dict[str, Any]:
        return {"tls": tls, "certificate": self.certificate, "key": self.key}


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    folder: Path = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert(HOSTNAME)
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=index > 0)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return ServerCertificate(str(folder / "certificate.pem"), str(folder / "key.pem"), context)
