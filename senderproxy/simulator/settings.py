"""How a simulator is set up: its mailboxes, and which provider's habits it has.

Guarantees: frozen values with defaults that are IONOS as it was recorded; `postfix_like` and the others change what
those providers do differently; `dataclasses.replace` changes the rest. A running simulator takes a new value at the
next command (`simulator.settings = ...`).
Not here: faults on purpose (simulator.script).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from senderproxy.simulator.phrases import EXCHANGE_ONLINE, IONOS, POSTFIX, Answer, Phrases
from senderproxy.simulator.rules import Held, OwnershipRule, SimulatedMailbox


class CertificateKind(Enum):
    """What the simulator shows at the TLS handshake."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    OTHER_NAME = "issued for another name"
    SELF_SIGNED = "self-signed"
    OTHER_AUTHORITY = "issued by an authority nobody knows"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """One provider. The defaults are IONOS."""

    mailboxes: Mapping[str, SimulatedMailbox] = field(default_factory=dict)  # by login
    host: str = "smtp.ionos.example"
    phrases: Phrases = IONOS

    rule: OwnershipRule = OwnershipRule.DOMAIN
    held: Held = Held.AT_MAIL
    header_from_held: bool = False  # whether IONOS does is not known
    null_reverse_path_taken: bool = False
    header_policy: bool = True

    size_limit: int | None = 141_557_760
    recipients_per_message: int = 200
    recipients_per_hour: int | None = None  # for each login
    messages_per_session: int | None = None
    recipient_answers: Mapping[str, Answer] = field(default_factory=dict)  # by address or "@domain", in lower case

    starttls_offered: bool = True
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    auth_before_tls: bool = False
    second_ehlo_refused: bool = True
    pipelining: bool = False
    eight_bit_mime: bool = True
    further_extensions: tuple[str, ...] = ()
    idle_seconds: float | None = None

    certificate: CertificateKind = CertificateKind.GOOD
    only_old_tls: bool = False  # nothing newer than TLS 1.1

    wire_strict: bool = True  # leaving `async with` raises when a client broke the rules of the wire
    content_kept: bool = True  # False for load: size and digest only


def gmx_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """GMX and WEB.DE: IONOS' platform, but a mailbox sends as its own addresses only."""
    return SimulatorSettings(mailboxes=mailboxes, host="mail.gmx.example", rule=OwnershipRule.ADDRESS)


def postfix_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """A hoster with Postfix: own addresses only, refused at RCPT TO; pipelining; takes the null reverse-path."""
    return SimulatorSettings(
        mailboxes=mailboxes,
        host="mail.hoster.example",
        phrases=POSTFIX,
        rule=OwnershipRule.ADDRESS,
        held=Held.AT_RCPT,
        null_reverse_path_taken=True,
        header_policy=False,
        size_limit=104_857_600,
        recipients_per_message=1000,
        second_ehlo_refused=False,
        pipelining=True,
        further_extensions=("ENHANCEDSTATUSCODES", "DSN"),
    )


def exchange_online_like(mailboxes: Mapping[str, SimulatedMailbox]) -> SimulatorSettings:
    """Microsoft 365: the header From must be the mailbox's own, found out at the end of DATA."""
    return SimulatorSettings(
        mailboxes=mailboxes,
        host="smtp.office365.example",
        phrases=EXCHANGE_ONLINE,
        rule=OwnershipRule.ADDRESS,
        held=Held.AT_DATA,
        header_from_held=True,
        null_reverse_path_taken=True,
        header_policy=False,
        size_limit=157_286_400,
        recipients_per_message=500,
        mechanisms=("LOGIN", "XOAUTH2"),
        second_ehlo_refused=False,
        pipelining=True,
        further_extensions=("ENHANCEDSTATUSCODES",),
    )
