"""Postfix as the office's internal server: takes the office's mail, hands all of it to one smarthost, keeps a queue.

Guarantees: mail for the office's own domains (bounces, above all) stays in the house and can be looked at; everything
else goes to the relay port given, several messages over one connection when there are several.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.peers.postfix import Delivery, Postfix, write_map
from tests.peers.process import LOOPBACK
from tests.peers.provider import Mailbox

CONNECTIONS: Final = 2


class PostfixOffice(Postfix):
    """The internal server of an office with these domains."""

    def __init__(
        self,
        relay_port: int,
        domains: Sequence[str],
        *,
        connections: int = CONNECTIONS,
        one_login_for_all: Mailbox | None = None,
        ca_file: Path | None = None,
    ) -> None:
        super().__init__("office", ports=1)
        self._one_login_for_all = one_login_for_all
        self._ca_file = ca_file
        self.relay_port = relay_port
        self._domains = tuple(domains)
        self.connections = connections

    @property
    def port(self) -> int:
        """Where the office's people hand in their mail."""
        return self.ports[0]

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """One port, for everybody on this machine."""
        return [(self.port, {})]

    def settings(self) -> Mapping[str, str]:
        """What a small office's main.cf says, with a queue that a test can push."""
        return {
            "relayhost": f"[{LOOPBACK}]:{self.relay_port}",
            "virtual_mailbox_domains": " ".join(self._domains),
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtp_tls_security_level": "may",
            "smtp_destination_concurrency_limit": str(self.connections),
            "smtp_connection_cache_destinations": f"[{LOOPBACK}]:{self.relay_port}",
            # an office's Postfix would wait for minutes; a test says when (postqueue -f)
            "minimal_backoff_time": "600s",
            "maximal_backoff_time": "600s",
            "smtp_connect_timeout": "10s",
            **self._login_settings(),
        }

    def _login_settings(self) -> Mapping[str, str]:
        """How an office without senderproxy is set up: one account for whoever writes."""
        if self._one_login_for_all is None:
            return {}
        login = self._one_login_for_all
        passwords = write_map(
            self.folder / "etc" / "passwords", {f"[{LOOPBACK}]:{self.relay_port}": f"{login.login}:{login.password}"}
        )
        return {
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_password_maps": passwords,
            "smtp_tls_security_level": "encrypt",
            "smtp_tls_CAfile": str(self._ca_file),
        }

    def returned(self) -> list[Delivery]:
        """Return the bounces that the office's people found in their mailbox."""
        return [mail for mail in self.mailbox() if mail.reverse_path == ""]

    def most_messages_over_one_connection(self) -> int:
        """Return how often the busiest connection to the smarthost was used (Postfix logs conn_use from 2 on)."""
        uses = [int(line.split("conn_use=")[1].split(",")[0]) for line in self.log_lines("conn_use=")]
        return max(uses, default=1)
