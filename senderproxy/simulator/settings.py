"""Settings of a simulator: its mailboxes and the behaviour of its provider.

Guarantees: frozen values. The defaults are IONOS as recorded; `postfix_like` and the others change what those providers
do differently; `dataclasses.replace` changes the rest. A running simulator uses new settings from the next command on
(`simulator.settings = ...`).

Not here: scripted faults (simulator.faults).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from senderproxy.simulator.provider_replies import EXCHANGE_ONLINE, IONOS, POSTFIX, ProviderReplies, ServerReply
from senderproxy.simulator.rules import EnforcedAt, OwnershipRule, SimulatedMailbox


class CertificateKind(Enum):
    """Server certificate in the TLS handshake."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    OTHER_NAME = "issued for another name"
    SELF_SIGNED = "self-signed"
    OTHER_AUTHORITY = "issued by an unknown authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Settings of one provider. The defaults are IONOS. One attribute for each setting."""

    mailboxes: Mapping[str, SimulatedMailbox] = field(default_factory=dict)  # by login
    host: str = "smtp.ionos.example"
    replies: ProviderReplies = IONOS

    ownership_rule: OwnershipRule = OwnershipRule.DOMAIN
    enforced_at: EnforcedAt = EnforcedAt.MAIL
    header_from_enforced: bool = False  # not known for IONOS
    null_reverse_path_accepted: bool = False
    check_header: bool = True

    size_limit: int | None = 141_557_760
    recipients_per_message: int = 200
    recipients_per_hour: int | None = None  # for each login
    messages_per_session: int | None = None
    recipient_replies: Mapping[str, ServerReply] = field(default_factory=dict)  # by address or "@domain", in lower case

    starttls_offered: bool = True
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    auth_before_tls: bool = False
    second_ehlo_refused: bool = True
    pipelining: bool = False
    eight_bit_mime: bool = True
    further_extensions: tuple[str, ...] = ()
    idle_seconds: float | None = None

    certificate: CertificateKind = CertificateKind.GOOD
    only_old_tls: bool = False  # TLS 1.0 and 1.1 only
    client_authority: str | None = None  # PEM; a client needs a certificate of this authority for the TLS handshake

    raise_violations: bool = True  # leaving `async with` raises after a protocol violation by a client
    record_content: bool = True  # False for load tests: size and digest only


def gmx_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """GMX and WEB.DE: the platform of IONOS, but a mailbox sends as its own addresses only."""
    return SimulatorSettings(mailboxes=mailboxes, host="mail.gmx.example", ownership_rule=OwnershipRule.ADDRESS)


def postfix_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """A hoster with Postfix: own addresses only, refused at RCPT TO; pipelining; null reverse-path accepted."""
    return SimulatorSettings(
        mailboxes=mailboxes,
        host="mail.hoster.example",
        replies=POSTFIX,
        ownership_rule=OwnershipRule.ADDRESS,
        enforced_at=EnforcedAt.RCPT,
        null_reverse_path_accepted=True,
        check_header=False,
        size_limit=104_857_600,
        recipients_per_message=1000,
        second_ehlo_refused=False,
        pipelining=True,
        further_extensions=("ENHANCEDSTATUSCODES", "DSN"),
    )


def exchange_online_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """Microsoft 365: the header From must be the mailbox's own, checked at the end of DATA."""
    return SimulatorSettings(
        mailboxes=mailboxes,
        host="smtp.office365.example",
        replies=EXCHANGE_ONLINE,
        ownership_rule=OwnershipRule.ADDRESS,
        enforced_at=EnforcedAt.DATA,
        header_from_enforced=True,
        null_reverse_path_accepted=True,
        check_header=False,
        size_limit=157_286_400,
        recipients_per_message=500,
        mechanisms=("LOGIN", "XOAUTH2"),
        second_ehlo_refused=False,
        pipelining=True,
        further_extensions=("ENHANCEDSTATUSCODES",),
    )
