"""Postfix and Dovecot as the provider: logins, TLS on both usual ports, and a rule on whose sender a login may use.

Guarantees: a login may use its own addresses only (rule ADDRESS) or any address of its own domain (rule DOMAIN), and is
refused with Postfix's own words otherwise; whatever is taken arrives in one mailbox with the login that brought it.
Recipients whose local part begins with `unknown-` are refused for good, with `busy-` for now; where it greylists, with
`grey-` the first time.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.peers.certificates import Authority
from tests.peers.dovecot import DovecotSasl
from tests.peers.greylist import Greylist
from tests.peers.postfix import Delivery, Postfix, write_map
from tests.peers.process import LOOPBACK


class Rule(Enum):
    """Which senders a login may use."""

    ADDRESS = "address"
    DOMAIN = "domain"


@dataclass(frozen=True)
class Mailbox:
    """A login at the provider and the further addresses that belong to it."""

    login: str
    password: str
    aliases: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """What stands behind the at sign."""
        return self.login.rpartition("@")[2]


class PostfixProvider(Postfix):
    """A provider with these mailboxes."""

    def __init__(
        self,
        mailboxes: Sequence[Mailbox],
        rule: Rule,
        *,
        takes_null_sender: bool = False,
        refuses_at_mail: bool = False,
        host_name: str = "localhost",
        greylists: bool = False,
        mechanisms: str = "plain login",
        introspection_url: str = "",
    ) -> None:
        super().__init__("provider", ports=2)
        self._mailboxes = tuple(mailboxes)
        self.rule = rule
        self.takes_null_sender = takes_null_sender
        self._refuses_at_mail = refuses_at_mail
        self._host_name = host_name
        self._greylists = greylists
        self._mechanisms = mechanisms
        self._introspection_url = introspection_url
        self.greylist: Greylist | None = None
        self._sasl: DovecotSasl | None = None
        self._authority: Authority | None = None

    @property
    def starttls_port(self) -> int:
        """The port that providers have at 587."""
        return self.ports[0]

    @property
    def tls_port(self) -> int:
        """The port that providers have at 465."""
        return self.ports[1]

    @property
    def authority(self) -> Authority:
        """Who vouches for the provider's certificate."""
        assert self._authority is not None
        return self._authority

    @property
    def sasl(self) -> DovecotSasl:
        """The book of logins."""
        assert self._sasl is not None
        return self._sasl

    def received(self) -> list[Delivery]:
        """Return what the provider has acknowledged until now, oldest first; waits until that is delivered."""
        self.finish_work()
        return self.mailbox()

    def failed_logins(self) -> list[str]:
        """Return the login of each refused attempt, in order; Dovecot writes its log a moment after it answers."""
        return self.sasl.failed_logins()

    def log(self) -> str:
        """Return what Postfix has logged, then Dovecot."""
        return super().log() + (self._sasl.log() if self._sasl else "")

    def prepare(self, things: contextlib.ExitStack) -> None:
        """Make a certificate, and open the book of logins."""
        if self._greylists:
            self.greylist = things.enter_context(Greylist())
        self._authority = Authority(self.folder)
        self._authority.issue(self._host_name)
        self._sasl = things.enter_context(
            DovecotSasl(
                self.folder / "dovecot",
                self.queue_folder / "private" / "auth",
                {mailbox.login: mailbox.password for mailbox in self._mailboxes},
                mechanisms=self._mechanisms,
                introspection_url=self._introspection_url,
            )
        )

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """STARTTLS on one port, TLS from the first byte on the other."""
        return [
            (self.starttls_port, {"smtpd_tls_security_level": "encrypt"}),
            (self.tls_port, {"smtpd_tls_wrappermode": "yes"}),
        ]

    def settings(self) -> Mapping[str, str]:
        """A submission server as the manual builds it, delivering to the one mailbox."""
        owners = write_map(self.folder / "etc" / "owners", self._owners())
        null_sender = write_map(self.folder / "etc" / "null", {"<>": "550 5.7.1 Sender address is not allowed."})
        recipients = self.folder / "etc" / "recipients"
        recipients.write_text(
            "/^unknown-/ 550 5.1.1 No such mailbox here\n/^busy-/ 450 4.2.1 Mailbox busy, try again later\n", "ascii"
        )
        senders = ["reject_authenticated_sender_login_mismatch"]
        if not self.takes_null_sender:
            senders.append(f"check_sender_access {null_sender}")
        return {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_cert_file": str(self.folder / f"{self._host_name}.pem"),
            "smtpd_tls_key_file": str(self.folder / f"{self._host_name}.key"),
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": "private/auth",
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_sender_login_maps": owners,
            "smtpd_delay_reject": "no" if self._refuses_at_mail else "yes",
            "smtpd_sender_restrictions": ", ".join(senders),
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_recipient_restrictions": f"check_recipient_access regexp:{recipients}{self._policy()}",
            "message_drop_headers": "content-length return-path",  # not Bcc: what comes shall be seen
            "default_transport": "virtual",
            "relay_transport": "virtual",
        }

    def _policy(self) -> str:
        return f", check_policy_service inet:{LOOPBACK}:{self.greylist.port}" if self.greylist else ""

    def _owners(self) -> Mapping[str, Sequence[str]]:
        owners: dict[str, list[str]] = {}
        for mailbox in self._mailboxes:
            match self.rule:
                case Rule.ADDRESS:
                    addresses: Sequence[str] = (mailbox.login, *mailbox.aliases)
                case Rule.DOMAIN:
                    addresses = (f"@{mailbox.domain}",)
            for address in addresses:
                owners.setdefault(address, []).append(mailbox.login)
        return owners
