"""Provider: its servers, its rules for senders, its limits. PURE.

Not here: the presets (routing.presets), the enforcement of limits (delivery.quota, delivery.reuse).

RFC 6409, RFC 8314.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class SenderRule(Enum):
    """Sender addresses that a provider permits an account; one rule for the reverse-path, one for the header From."""

    ANY = "any"
    DOMAIN = "domain"  # an address in the mailbox's own domain (IONOS since January 2024)
    ADDRESS = "address"  # one of the mailbox's own addresses


class NullPolicy(Enum):
    """Treatment of a null reverse-path (bounces, out-of-office replies, receipts) that the provider does not accept."""

    REWRITE = "rewrite"  # replaced by an own address
    DISCARD = "discard"  # accepted from the client and discarded, with a log entry
    REJECT = "reject"
    ACCOUNT = "account"  # sent by another account, at a provider that accepts it


class Security(Enum):
    """Protection of a connection to a smarthost. With TLS the certificate is always verified."""

    IMPLICIT_TLS = "tls"  # RFC 8314 section 3.3
    STARTTLS = "starttls"  # RFC 3207; required, never opportunistic
    NONE = "none"  # permitted for a loopback address only


class LoginForm(Enum):
    """Form of a mailbox's user name at a provider."""

    ADDRESS = "address"
    LOCAL_PART = "local-part"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    security: Security
    ca_file: str | None = None  # PEM; None: the system's authorities

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Smarthost(_Server):
    """One submission server."""


@dataclass(frozen=True, slots=True)
class ImapServer(_Server):
    """The IMAP server of a provider's mailboxes."""


# SASL mechanisms for passwords that delivery speaks, the preferred one first.
PASSWORD_MECHANISMS: Final = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a provider for each account; None: no known limit."""

    connections: int = 2  # at once
    messages_per_connection: int | None = None
    idle_seconds: float = 30.0  # an idle session is closed after that
    recipients_per_message: int | None = None
    messages_per_hour: int | None = None
    recipients_per_hour: int | None = None
    message_size: int | None = None  # octets; the SIZE of the upstream applies too


@dataclass(frozen=True, slots=True)
class Provider:
    """A named provider as the configuration describes it."""

    name: str
    smarthosts: tuple[Smarthost, ...]  # in order of preference; the next one if a connection fails
    mechanisms: tuple[str, ...] = PASSWORD_MECHANISMS  # the first one that the server offers is used; not for tokens
    login_form: LoginForm = LoginForm.ADDRESS
    sender_rule: SenderRule = SenderRule.DOMAIN  # of the reverse-path
    from_rule: SenderRule = (
        SenderRule.DOMAIN
    )  # of the header From; DMARC alignment needs it even if no server checks it
    takes_sub_addresses: bool = False  # with rule ADDRESS, `+tag` after an own local part (RFC 5233)
    takes_null_reverse_path: bool = False
    null_policy: NullPolicy = NullPolicy.REWRITE
    null_account: str | None = None  # account id, for NullPolicy.ACCOUNT
    signs: bool = False  # it adds a DKIM signature of the author's domain by itself
    imap: ImapServer | None = None  # for copies in the Sent folder; None: unknown
    stores_sent: bool = False  # it puts a copy of each sent message into the mailbox's Sent folder by itself
    limits: Limits = Limits()
    preset: str = ""  # the name of the preset that it started from; empty for a preset itself
