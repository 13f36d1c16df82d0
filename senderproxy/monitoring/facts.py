"""Facts about the service, for its conditions: plain values at one moment. PURE.

Times are aware, in UTC. A part that nobody observes keeps its default: `check` without a running service knows less.
Not here: the observation (service, cli), the rules (monitoring.conditions).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from senderproxy.domain_records.history import RecordTrouble
from senderproxy.domain_records.own_key import KeyLook


@dataclass(frozen=True, slots=True)
class LimitUse:
    """The use of an hourly limit."""

    unit: str  # messages or recipients
    used: int
    limit: int


class AccountTrouble(StrEnum):
    """The reason why an account cannot send."""

    NONE = ""
    SUSPENDED = "suspended"  # its password was refused
    PAUSED = "paused"  # the provider reported a limit
    NO_SESSION = "no session"  # the last attempt to open one failed
    CERTIFICATE = "certificate"  # the same, because of the server's certificate


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """One account."""

    account: str
    provider: str
    trouble: AccountTrouble = AccountTrouble.NONE
    words: str = ""  # the provider's reply, or the reason
    since: datetime | None = None  # of the trouble
    until: datetime | None = None  # the end of a pause
    hint: str = ""  # the fix, if the reply names one
    hourly: Sequence[LimitUse] = ()
    sends_through: str = ""  # its fallback, while that sends all its mail


@dataclass(frozen=True, slots=True)
class HopFacts:
    """A server without a login that takes no mail: the last attempt to open a session failed."""

    way: str
    server: str
    words: str
    hint: str
    since: datetime
    about_certificate: bool = False


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The waiting and held messages of one account; `oldest`: the reception of the oldest one."""

    account: str
    waiting: int
    held: int
    oldest: datetime


class SpoolState(StrEnum):
    """The ability of the spool to store messages."""

    OPEN = "open"
    CLOSED = "closed"  # it cannot be opened
    FULL = "full"  # too little space on its disk
    SILENT = "silent"  # its disk does not respond
    LOST = "lost"  # one of its files was deleted, moved or replaced
    BROKEN = "broken"  # its disk reports errors


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One of the instances that share a spool."""

    name: str  # host and process
    silent: float = 0.0  # seconds since its last sign of life
    messages: int = 0  # that another one has in progress
    is_this: bool = False
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class SpoolFacts:
    """The spool and its disk."""

    state: SpoolState = SpoolState.OPEN
    why: str = ""
    hint: str = ""
    free: int | None = None  # octets on its disk; None: not known
    min_free: int = 0  # octets; below this no message is queued
    durability: str = ""  # of a database server: standby, server or none; empty: it is on a disk of this machine
    instances: Sequence[InstanceFacts] = ()  # that share a database

    @property
    def is_open(self) -> bool:
        """True if it takes messages."""
        return self.state is SpoolState.OPEN

    @property
    def is_readable(self) -> bool:
        """True if its messages can be counted."""
        return self.state not in (SpoolState.CLOSED, SpoolState.SILENT)


@dataclass(frozen=True, slots=True)
class AccountsFacts:
    """The vault, its accounts, and the settings that name accounts."""

    accounts: int
    problem: str = ""  # why it cannot be read; the accounts in memory stay in force
    hint: str = ""
    rolled_back: str = ""  # a sentence, if it is older than the one used before
    unusable: Sequence[str] = ()  # a sentence for each record that cannot be used
    unknown_providers: Sequence[tuple[str, str]] = ()  # account, provider
    unknown_accounts: Sequence[tuple[str, str]] = ()  # setting, account


class CertificateOwner(StrEnum):
    """The side that shows a certificate."""

    LISTENER = "listener"
    SMARTHOST = "smarthost"
    CLIENT = "client"  # this service, to a smarthost of a route


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The certificate of a listener or of this service, from its file, or of a smarthost, from the last session."""

    owner: CertificateOwner
    name: str  # of the listener, or of the smarthost's section; host and port of a provider's smarthost
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    file: str = ""  # of a listener or of this service
    problem: str = ""  # why it cannot be used
    renewed: bool = False  # the file has a newer one, which is not in use yet


@dataclass(frozen=True, slots=True)
class ApplicationFacts:
    """An OAuth application with a known end of its secret or certificate."""

    application: str
    valid_until: datetime
    accounts: Sequence[str]  # that log in through it


@dataclass(frozen=True, slots=True)
class SenderRuleFacts:
    """A sender that a provider refused although the configured rule allows it."""

    provider: str
    account: str
    address: str
    words: str
    reply: str
    hint: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LookUpFacts:
    """A host with a failing look-up; its addresses of the time `found` are used."""

    host: str
    why: str
    since: datetime
    found: datetime


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """The blocks of the event loop in the last hour."""

    blocks: int
    longest_seconds: float  # since the start of the service
    since: datetime  # the first one of the hour


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The last step of the system's clock."""

    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class CrashFacts:
    """The ends of earlier processes that were no stop. `times`: oldest first; not empty."""

    times: Sequence[datetime]
    cause: str = ""  # of the last one, if it is known


@dataclass(frozen=True, slots=True)
class OutdatedProgram:
    """A service of another version or build than the installed program."""

    running: str  # version
    installed: str  # version


@dataclass(frozen=True, slots=True)
class RefusedConfiguration:
    """A configuration that a reload did not put in force."""

    why: str
    hint: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AlertWayFacts:
    """A way of alerts after a failed attempt."""

    way: str
    why: str
    hint: str
    since: datetime


@dataclass(frozen=True, slots=True)
class MetricsFacts:
    """The address on which metrics cannot be read, the reason and the fix."""

    address: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class DrainFacts:
    """A drain: the service refuses the health checks of proxies, so that no new clients come."""

    since: datetime


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A client that was turned away in the last hour."""

    client: str
    count: int
    why: str  # the last reason
    since: datetime  # the first time in the hour
    is_local: bool  # its address is of a private network


@dataclass(frozen=True, slots=True)
class RefusedMessages:
    """Equal refusals of messages of one client in the last hour."""

    client: str
    reverse_path: str
    reply: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class AutomaticMail:
    """Automatic messages above the hourly limit from one author to one recipient, in the last hour."""

    author: str
    recipient: str
    refused: int
    deferred: int
    limit: int


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """A DNS record of an own domain that is not right; `provider`: the one that its mail leaves through."""

    domain: str
    provider: str
    trouble: RecordTrouble


@dataclass(frozen=True, slots=True)
class DkimKeyFacts:
    """An own DKIM key with a wrong DNS record. `right_at`: None: it was never right, so the key does not sign."""

    domain: str
    selector: str
    look: KeyLook
    since: datetime
    right_at: datetime | None
    signs: bool


@dataclass(frozen=True, slots=True)
class MxStoppedFacts:
    """A sender domain with waiting mail to mail servers: its SPF record is not known to name our `address`."""

    domain: str
    address: str
    record: str  # as published; empty: none
    why: str  # of an invalid record, or of an unknown result
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """Copies for the Sent folder of one account. No `kind`: none waits after a failure.

    `is_refusal`: somebody must act. `given_up`: since the start of the service, the last one at `given_up_at`.
    """

    account: str
    waiting: int
    kind: str = ""  # a key
    words: str = ""
    hint: str = ""
    since: datetime | None = None
    is_refusal: bool = False
    given_up: int = 0
    given_up_at: datetime | None = None
    given_up_why: str = ""


@dataclass(frozen=True, slots=True)
class MailGapFacts:
    """An unusually long time without mail."""

    seconds: float  # since the last message, or since the start of the service


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that conditions are found in. One attribute for each part of the service."""

    now: datetime
    accounts: Sequence[AccountSnapshot] = ()
    hops: Sequence[HopFacts] = ()
    mx_stopped: Sequence[MxStoppedFacts] = ()
    queues: Sequence[QueueFacts] = ()
    spool: SpoolFacts | None = None
    vault: AccountsFacts | None = None
    certificates: Sequence[CertificateFacts] = ()
    applications: Sequence[ApplicationFacts] = ()
    sender_rules: Sequence[SenderRuleFacts] = ()
    look_ups: Sequence[LookUpFacts] = ()
    loop: LoopFacts | None = None
    clock: ClockFacts | None = None
    crash: CrashFacts | None = None
    configuration: RefusedConfiguration | None = None
    program: OutdatedProgram | None = None
    alert_ways: Sequence[AlertWayFacts] = ()
    metrics: MetricsFacts | None = None
    drain: DrainFacts | None = None
    clients: Sequence[ClientFacts] = ()
    refusals: Sequence[RefusedMessages] = ()
    automatic: Sequence[AutomaticMail] = ()  # the latest one first
    domains: Sequence[DomainFacts] = ()
    dkim_keys: Sequence[DkimKeyFacts] = ()
    mail_gap: MailGapFacts | None = None
    copies: Sequence[CopyFacts] = ()
