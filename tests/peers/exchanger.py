"""Postfix as the mail server of recipients' domains: takes mail for them from anyone, without a login.

Guarantees: recipients whose local part begins with `unknown-` are refused for good, with `busy-` for now; where it
greylists, with `grey-` the first time. What it takes is in one mailbox.
"""

import contextlib
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from tests.peers.certificates import Authority
from tests.peers.greylist import Greylist
from tests.peers.postfix import Delivery, Postfix, write_map
from tests.peers.process import LOOPBACK

_SMTP: Final = 25
_DISK: Final = "4000000000000000000"  # octets that must be free; no disk has them


class ExchangerTls(Enum):
    """TLS of a server."""

    OFFERED = "offered"  # with a certificate that nobody vouches for, for another name
    BROKEN = "broken"  # the offered handshake fails: TLS 1.0 only
    REFUSED = "refused"  # STARTTLS is offered and refused with 454: the server's own settings are wrong
    NONE = "none"


class PostfixExchanger(Postfix):
    """One server of a domain. `full`: its disk is; `refuses`: the sender firma.example and bounces, with this text.

    `address`: on port 25 of this address; left out, on a free port of loopback.
    """

    def __init__(
        self,
        name: str,
        *,
        tls: ExchangerTls = ExchangerTls.OFFERED,
        greylists: bool = False,
        full: bool = False,
        refuses: str = "",
        recipient_limit: int = 1000,
        address: str = "",
    ) -> None:
        super().__init__(name, ports=1)
        self._own_address = bool(address)
        self.address = address or LOOPBACK
        self._tls = tls
        self._greylists = greylists
        self._full = full
        self._refuses = refuses
        self._recipient_limit = recipient_limit
        self.greylist: Greylist | None = None

    @property
    def port(self) -> int:
        """Its port in place of 25."""
        return _SMTP if self._own_address else self.ports[0]

    def received(self) -> list[Delivery]:
        """Return what it has acknowledged until now, oldest first; waits until that is delivered."""
        self.finish_work()
        return self.mailbox()

    def restart(self, *, refuses: str = "") -> None:
        """Stop it if it runs, and start it with another refusal."""
        self.stop()
        self._refuses = refuses
        self._write_configuration()
        self.start()

    def prepare(self, things: contextlib.ExitStack) -> None:
        """Make a certificate."""
        if self._greylists:
            self.greylist = things.enter_context(Greylist())
        Authority(self.folder).issue("elsewhere.test")

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """One port."""
        return [(self.port, {})]

    def settings(self) -> Mapping[str, str]:
        """A server of a domain as the manual builds it."""
        recipients = self.folder / "etc" / "recipients"
        recipients.write_text(
            "/^unknown-/ 550 5.1.1 No such mailbox here\n/^busy-/ 450 4.2.1 Mailbox busy, try again later\n", "ascii"
        )
        checks = [f"check_recipient_access regexp:{recipients}"]
        if self._refuses:
            senders = write_map(self.folder / "etc" / "senders", {"firma.example": self._refuses, "<>": self._refuses})
            checks.insert(0, f"check_sender_access {senders}")
        if self.greylist is not None:
            checks.append(f"check_policy_service inet:{LOOPBACK}:{self.greylist.port}")
        settings = {
            "virtual_mailbox_domains": "static:all",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "mynetworks": "192.0.2.0/24",
            "smtpd_recipient_restrictions": ", ".join([*checks, "permit"]),
            "smtpd_recipient_limit": str(self._recipient_limit),
            "smtpd_tls_security_level": "none" if self._tls is ExchangerTls.NONE else "may",
            "smtpd_tls_cert_file": str(self.folder / "elsewhere.test.pem"),
            "smtpd_tls_key_file": str(self.folder / "elsewhere.test.key"),
            "smtpd_tls_received_header": "yes",
            "smtpd_tls_loglevel": "1",
            "default_transport": "virtual",
            "relay_transport": "virtual",
        }
        if self._tls is ExchangerTls.BROKEN:
            settings["smtpd_tls_protocols"] = "TLSv1"
        if self._tls is ExchangerTls.REFUSED:
            settings["smtpd_tls_protocols"] = "nonsense"
        if self._full:
            settings["queue_minfree"] = _DISK
        return settings
