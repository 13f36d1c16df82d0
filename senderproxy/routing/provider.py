"""A provider: where its submission servers are, whom it lets an account name, what it limits.

Not here: the presets (routing.presets), how a limit is kept (delivery.quota, delivery.reuse).
RFC 6409, RFC 8314.
"""

from dataclasses import dataclass
from enum import Enum


class SenderRule(Enum):
    """Whom a provider lets an account name as the sender; one for the reverse-path, one for the header From."""

    ANY = "any"
    DOMAIN = "domain"  # an address in the mailbox's own domain (IONOS since January 2024)
    ADDRESS = "address"  # one of the mailbox's own addresses


class NullPolicy(Enum):
    """What becomes of a null reverse-path (bounces, out-of-office, receipts) where the provider does not take it."""

    REWRITE = "rewrite"  # an own address takes its place
    DISCARD = "discard"  # taken from the client, and dropped with a line in the log
    REJECT = "reject"
    ACCOUNT = "account"  # another account carries it, at a provider that takes it


class Security(Enum):
    """How a connection to a smarthost is protected. The certificate is verified in both."""

    IMPLICIT_TLS = "tls"  # RFC 8314 section 3.3
    STARTTLS = "starttls"  # RFC 3207; required, never opportunistic
    NONE = "none"  # a loopback address only


class LoginForm(Enum):
    """What a provider calls the user name of a mailbox."""

    ADDRESS = "address"
    LOCAL_PART = "local-part"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Smarthost:
    """One submission server."""

    host: str
    port: int
    security: Security
    ca_file: str | None = None  # PEM; None: the system's authorities

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider takes per account; None where it names no limit."""

    connections: int = 2  # at once
    messages_per_connection: int | None = None
    idle_seconds: float = 30.0  # a warm session is closed after that
    recipients_per_message: int | None = None
    messages_per_hour: int | None = None
    recipients_per_hour: int | None = None
    message_size: int | None = None  # octets; the upstream's own SIZE holds as well


@dataclass(frozen=True, slots=True)
class Provider:
    """A named provider as the configuration describes it."""

    name: str
    smarthosts: tuple[Smarthost, ...]  # in order of preference; the next one where a connection cannot be made
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")  # the first that the server offers is tried, once
    login_form: LoginForm = LoginForm.ADDRESS
    sender_rule: SenderRule = SenderRule.DOMAIN  # of the reverse-path
    from_rule: SenderRule = SenderRule.DOMAIN  # of the header From; DMARC alignment asks for it where no server does
    takes_null_reverse_path: bool = False
    null_policy: NullPolicy = NullPolicy.REWRITE
    null_account: str | None = None  # the account's id, for NullPolicy.ACCOUNT
    limits: Limits = Limits()
