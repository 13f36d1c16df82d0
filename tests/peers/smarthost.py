"""Postfix as a smarthost without logins: for clients in its network, or with a certificate of its authority.

Guarantees: nobody else may send through it; what it takes is in one mailbox. It can be slow, or refuse every recipient.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.peers.certificates import Authority, Certificate
from tests.peers.postfix import Delivery, Postfix, write_map
from tests.peers.process import LOOPBACK


class PostfixSmarthost(Postfix):
    """One smarthost. `seconds`: of each message before it is taken; `refuses`: the reply to every recipient."""

    def __init__(self, name: str, *, by_certificate: bool = False, seconds: int = 0, refuses: str = "") -> None:
        super().__init__(name, ports=1)
        self._by_certificate = by_certificate
        self._seconds = seconds
        self._refuses = refuses
        self._authority: Authority | None = None
        self._client: Certificate | None = None

    @property
    def port(self) -> int:
        """Its port."""
        return self.ports[0]

    @property
    def ca_file(self) -> Path:
        """The authority of its certificate."""
        assert self._authority is not None
        return self._authority.ca_file

    @property
    def client(self) -> Certificate:
        """A certificate that it accepts from a client."""
        assert self._client is not None
        return self._client

    def received(self) -> list[Delivery]:
        """Return what it has acknowledged until now, oldest first; waits until that is delivered."""
        self.finish_work()
        return self.mailbox()

    def section(self, *, certificate: bool = False) -> str:
        """Return its section of senderproxy's configuration."""
        own = f'certificate = "{self.client.chain}"\nkey = "{self.client.key}"\n' if certificate else ""
        return f'[smarthosts.{self.name}]\nhost = "localhost"\nport = {self.port}\nca_file = "{self.ca_file}"\n{own}'

    def prepare(self, things: contextlib.ExitStack) -> None:
        """Make the certificates."""
        self._authority = Authority(self.folder)
        self._authority.issue("localhost")
        self._client = self._authority.issue("client.office.test")

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """One port, with STARTTLS."""
        return [(self.port, {"smtpd_tls_security_level": "encrypt"})]

    def settings(self) -> Mapping[str, str]:
        """A relay as the manual builds it."""
        recipients = self.folder / "etc" / "recipients"
        recipients.write_text(f"/./ {self._refuses}\n" if self._refuses else "", "ascii")
        permitted = "permit_tls_all_clientcerts" if self._by_certificate else "permit_mynetworks"
        others = write_map(self.folder / "etc" / "others", {LOOPBACK: "554 5.7.1 Relay access denied"})
        return {
            "mynetworks": "192.0.2.0/24" if self._by_certificate else "127.0.0.0/8",
            "smtpd_tls_cert_file": str(self.folder / "localhost.pem"),
            "smtpd_tls_key_file": str(self.folder / "localhost.key"),
            "smtpd_tls_CAfile": str(self.ca_file),
            "smtpd_tls_ask_ccert": "yes" if self._by_certificate else "no",
            "smtpd_tls_received_header": "yes",
            "smtpd_relay_restrictions": f"{permitted}, check_client_access {others}, reject",
            "smtpd_recipient_restrictions": f"check_recipient_access regexp:{recipients}, permit",
            "smtpd_data_restrictions": f"sleep {self._seconds}, permit" if self._seconds else "permit",
            "default_transport": "virtual",
            "relay_transport": "virtual",
        }
