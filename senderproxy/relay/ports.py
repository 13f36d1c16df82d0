"""Interfaces that the relay needs from other packages, with their guarantees. Implementations are elsewhere.

Not here: the spool (spool.sqlite), the upstream dialogue (delivery), the vault (accounts), reception (listener).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from senderproxy.errors import SenderproxyError
from senderproxy.log_events import LogEvent
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import CachedDecision, Decision
from senderproxy.retry import RetryPolicy
from senderproxy.rewriting.srs import SigningKeys
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.hops import Hop
from senderproxy.routing.provider import Provider, Smarthost
from senderproxy.routing.route import Route
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query, RecipientState
from senderproxy.value_class import value_class

NO_ACCOUNT: Final = ""  # stored in place of an account's id: the queue of messages for which no account is known yet

Outcomes: TypeAlias = Mapping[ForwardPath, Outcome]  # of one attempt, in the order of its recipients


class Accounts(Protocol):
    """Current accounts of the vault."""

    def directory(self) -> AccountDirectory:
        """The addresses of each account, reloaded if the vault file has changed. Cheap: called for each message.

        Never raises: while the vault cannot be read, the directory in memory stays in force.
        """
        ...

    def credential(self, account: Account) -> Credential | None:
        """The current login and secret of the account; None if the account no longer exists.

        Its version belongs to the password, or to the grant of an account that logs in with access tokens: sessions of
        other versions are closed.
        """
        ...

    def signing_keys(self) -> SigningKeys | None:
        """The keys for SRS addresses; None if the vault has none. Cheap: called for each message."""
        ...


@dataclass(frozen=True, slots=True)
class NoToken:
    """There is no access token now. `reply`: the authorization server's refusal, with its name, in our words."""

    reply: Reply  # 4xx if it is tried again; 5xx otherwise
    needs_person: bool  # the account is suspended until somebody acts; else it is tried again
    hint: str = ""  # the fix, without "To fix:"


class AccessTokens(Protocol):
    """Access tokens of accounts with an OAuth login: their credential names an application."""

    async def token(self, account: Account) -> AccessToken | NoToken:
        """The token for a login now. It may wait for a network, for at most a minute. Never raises.

        Asked once for each session that is opened, never for a message on an open one.
        """
        ...

    def refused(self, account: Account, token: AccessToken) -> bool:
        """Note a refused login with this token. True if a new one is worth one more login."""
        ...


@value_class
class Availability:
    """Limit of an account, and the reason if it cannot send now."""

    connections: int  # messages in parallel
    reason: Reply | None = None  # deferral of every message of the account; None: it can send
    retry_after: float | None = None  # seconds; None: until an operator has fixed the cause


class Courier(Protocol):
    """Delivery of one message to the upstream server of one account."""

    async def deliver(self, route: Route, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """Offer the message to all recipients; one outcome for each of them, in their order.

        Never raises for an error of the network or the upstream server. `tag` is the message's id, for the log. May be
        cancelled before the final dot is sent; after it the caller must wait.
        """
        ...

    async def deliver_report(self, server: Smarthost, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """Deliver a report to the internal server, without a login; otherwise as `deliver`."""
        ...

    async def deliver_hop(self, hop: Hop, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """Hand the message to a server without a login; otherwise as `deliver`.

        `of_account` in an outcome is about the hop: its server cannot be reached, or takes nothing now.
        """
        ...

    def has_begun(self, tag: str) -> bool:
        """True if the next `deliver` with this tag goes on with an attempt whose octets the upstream already has."""
        ...

    def hop_availability(self, lane: Lane) -> Availability:
        """The limit of a hop by its lane, and the reason if a message would be deferred without a connection. Cheap."""
        ...

    def availability(self, account: Account, provider: Provider) -> Availability:
        """The account's limit, and the reason if a message would be deferred without a connection. Cheap."""
        ...


class Intake(Protocol):
    """Acceptance of complete messages from a listener."""

    async def accept(self, submission: Submission) -> Reply:
        """The reply to the final dot. Never raises for the content of a message."""
        ...


# ---- the spool ----


class SpoolError(SenderproxyError):
    """The spool cannot be read or written; nothing was changed."""


class SpoolFull(SpoolError):
    """Not enough free disk space; nothing was written."""


class SpoolRejected(SpoolError):
    """The spool refuses this change, and will refuse it again; other changes are possible."""


JOB_PAYLOAD_LIMIT: Final = 16_384  # octets of the payload of a job; what is larger is content


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work for the time after its commit. `kind` is stored on disk and never changed.

    `holds_content`: the content of the message with which it is stored is kept until the job is final.
    """

    kind: str
    lane: Lane
    payload: bytes = b""
    due_in: timedelta = timedelta()
    holds_content: bool = False

    def __post_init__(self) -> None:
        if len(self.payload) > JOB_PAYLOAD_LIMIT:
            raise ValueError(f"the payload of a job of kind {self.kind} has {len(self.payload)} octets")


@value_class
class Arrival:
    """A new message for the spool, with the initial state of each recipient.

    `account` is the id of the account in whose lane it waits; `lanes` has the recipients that wait in another one.
    `states` has every recipient of the envelope; one that waits is due after its `due_in`, or at once. The content is
    stored until all of them are final.
    """

    submission: Submission
    account: str
    author: str
    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    decision: CachedDecision | None = None  # made at the reception
    lanes: Mapping[ForwardPath, Lane] = field(default_factory=dict)
    jobs: Sequence[NewJob] = ()


@value_class
class Lease:
    """The right to change recipients of a message, until they are settled or the lease ends."""

    id: str  # of this lease; the message has another one the next time
    ends_in: timedelta | None = None  # from the claim on; None: it ends with the process that has it


@value_class
class Claim:
    """Leased recipients of a message: nothing else attempts or changes them until they are settled.

    `lane` is the lane of all recipients in `due`; None: they are in several. A claim on a lane leaves the message's
    recipients in other lanes to other claims. `account` is the account of the lane, or else of the message. `due` has
    the recipients to attempt, with their states, without a `due_in`: a state that is written back as it is leaves the
    due time where it is. The submission's envelope has all recipients. `decision` is the arrival's, as long as the
    message is in memory.
    """

    lease: Lease
    lane: Lane | None
    submission: Submission
    account: str
    author: str
    due: Mapping[ForwardPath, RecipientState]
    faults: int = 0  # internal errors in a row
    decision: CachedDecision | None = None


@value_class
class SpoolUpdate:
    """Changes to leased recipients by an attempt or an operator, written in one commit.

    `states` has only the recipients that change; one that waits is due after its `due_in`, and without one when it was
    due before. `reports` are new messages to the author.
    """

    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    reports: Sequence[Arrival] = ()
    account: str | None = None  # in whose lane all leased recipients wait from now on; None: unchanged
    faults: int = 0
    lanes: Mapping[ForwardPath, Lane] = field(default_factory=dict)  # of single recipients, from now on
    jobs: Sequence[NewJob] = ()
    leaves_history: bool = True  # False: a message that is finished by it, and has no job, is forgotten


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A leased job: no other claim has it until it is settled. `submission`: the message of its content."""

    lease: Lease
    kind: str
    lane: Lane
    payload: bytes
    attempts: int  # before this one
    why: str  # reason of the last retry; empty: none
    submission: Submission | None
    age: timedelta | None = None  # since it was stored; None while ages are uncertain


@dataclass(frozen=True, slots=True)
class JobTotals:
    """Counts of the jobs of one kind in one lane."""

    kind: str
    lane: Lane
    count: int
    unreadable: int  # of these, kept for an operator
    age: timedelta  # of the oldest


class Spool(Protocol):
    """Storage of the waiting messages, and of the history of all messages.

    Guarantees (docs/spool-states.md): what `accept` and `settle` have written survives a power cut; a recipient's
    state, its events and its reports are one commit; unreadable data is held, never guessed and never deleted.
    Every method raises SpoolError if the disk or the database fails, and then has changed nothing.
    Time is the spool's: callers pass delays and ages and receive the time left. A step of the caller's clock changes no
    due time and no age.
    """

    def on_wake(self, wake: Callable[[Lane | None], None]) -> None:
        """Call `wake` from now on, on the event loop, when messages may be due that the caller does not know of.

        Its argument is their lane; None: any lane, so `due` must be read again. The caller's own `accept` and `settle`
        cause no call, except for a claim on several lanes.
        """
        ...

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        """Store the messages in one commit; return when they are synced.

        `leased`: lease them to the caller and return the claims; otherwise return nothing. Of an arrival whose states
        are all final, the content is stored only if a job holds it.
        """
        ...

    def note(self, arrival: Arrival) -> None:
        """Record the history of a message that was passed through: all states are final. Written in bounded batches.

        Never raises and never waits; a power cut may lose the last second of such records.
        """
        ...

    async def claim(self, lane: Lane, limit: int) -> Sequence[Claim]:
        """Lease the messages of the lane that have been due longest, `limit` at most, with its due recipients."""
        ...

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        """Lease the oldest messages of the lane above that age, due or not, with all its waiting recipients.

        None while ages are uncertain.
        """
        ...

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        """Lease the oldest messages above that age, with the waiting recipients of any lane without a delay report."""
        ...

    async def claim_one(self, message_id: str) -> Claim | None:
        """Lease this message, with all its waiting or held recipients, of any lane; None if it is unknown or leased."""
        ...

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        """Write the update and end the lease; return when it is synced. An empty update only ends the lease.

        Raises ValueError if the lease has ended.
        """
        ...

    def age(self, claim: Claim) -> timedelta | None:
        """The time since the reception of a leased message; None while ages are uncertain. Cheap, never raises."""
        ...

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of this lane, or of every lane with waiting recipients.

        Negative: overdue. Leased recipients are excluded.
        """
        ...

    async def claim_jobs(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        """Lease the jobs of this kind and lane that have been due longest, `limit` at most.

        Jobs of a kind that no caller claims, of a later version, stay as they are.
        """
        ...

    async def settle_job(
        self, claim: JobClaim, *, retry_in: timedelta | None = None, why: str = "", events: Sequence[Event] = ()
    ) -> None:
        """Retry the job after that delay, for that reason, or else delete it: it is done, or dropped.

        `events`: of the message to which it belongs; of a job without a message they are dropped. Return when that is
        synced. With the last job and the last recipient of a message, its content is deleted. Raises ValueError if the
        lease has ended.
        """
        ...

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        """The time left to the next due time of each lane with jobs of this kind. Leased jobs are excluded."""
        ...

    async def job_totals(self) -> Sequence[JobTotals]:
        """Counts of all jobs, of whatever kind."""
        ...

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        """The matching messages, newest first (waiting ones: oldest first), beginning after the id `after`."""
        ...

    async def events(self, message_id: str) -> Sequence[Event]:
        """The history of a message, in order."""
        ...

    async def header(self, message_id: str) -> HeaderSection | None:
        """The received header section of a message; None if its content is no longer stored."""
        ...

    async def totals(self) -> "Sequence[Totals]":
        """Counts of the waiting and held messages of each account."""
        ...

    async def counts_by_hour(self, since: datetime) -> Sequence[HourCount]:
        """Counts of the recipients of the messages received since then, by hour and status."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """One account's queue. Counts are of messages; times are of their reception."""

    account: str
    waiting: int
    held: int
    size: int  # octets
    oldest: datetime
    by_age: Sequence[int] = field(default=())  # waiting or held messages, one for each of tracking.age_buckets
    reasons: Mapping[str, int] = field(default_factory=dict)  # text of the last reply, most frequent first, at most 5


# ---- observers: one for each part; without one, no call is made ----


class IntakeObserver(Protocol):
    """Observer of the replies to clients. It never waits."""

    def answered(self, listener: str, account: str, kind: LogEvent, seconds: float) -> None:
        """A message got its reply after so many seconds. `account`: its id, or NO_ACCOUNT; `kind`: as it is logged."""
        ...


class DeliveryObserver(Protocol):
    """Observer of the attempts upstream. It never waits."""

    def attempted(
        self, account: str, provider: str, outcomes: "Outcomes | None", seconds: float, *, is_reused: bool
    ) -> None:
        """An attempt ended after so many seconds. No outcomes: it was cancelled, or an internal error ended it.

        `is_reused`: its last session had been open before.
        """
        ...


class SpoolObserver(Protocol):
    """Observer of the spool's commits. No method waits."""

    def stored(self, arrivals: "Sequence[Arrival]") -> None:
        """These messages are stored: waiting, or with final states of a first attempt."""
        ...

    def noted(self, arrival: "Arrival") -> None:
        """A message was passed through or refused: all its states are final."""
        ...

    def settled(self, account: str, update: "SpoolUpdate") -> None:
        """The update of a queued message of this account is written."""
        ...

    def committed(self, seconds: float) -> None:
        """A transaction with its sync took so long. Called on the writer's thread."""
        ...


# ---- learned facts ----

LEARNED_KEY_LIMIT: Final = 500  # characters of a key; the id of an account has 255 at most
LEARNED_VALUE_LIMIT: Final = 16_384  # characters of a value; a reply of five long lines has 2500
LEARNED_ROWS_LIMIT: Final = 20_000  # rows of one kind; as many as the largest component has facts
LEARNED_OCTETS_LIMIT: Final = 4 * 2**20  # octets of one kind, keys and values; the largest component needs half of it


@dataclass(frozen=True, slots=True)
class LearnedRow:
    """A learned fact as it is stored. `key`: its kind, a slash, its subject; `value`: JSON."""

    key: str
    value: str
    age: float  # seconds since it was written, by the store's clock; never negative


class LearnedStore(Protocol):
    """Table of learned facts, in the spool's database.

    Guarantees: a batch is written as a whole or not at all. The table is bounded: of one kind, at most
    LEARNED_ROWS_LIMIT rows with LEARNED_OCTETS_LIMIT octets in all; above either limit, the rows of this kind that were
    written longest ago are deleted. Every method raises SpoolError if the disk or the database fails.
    """

    async def read_learned(self) -> Sequence[LearnedRow]:
        """All rows, the one written longest ago first."""
        ...

    async def write_learned(self, rows: Mapping[str, str | None]) -> None:
        """Write or replace the values of these keys; None deletes the row. Return when they are synced.

        A key has at most LEARNED_KEY_LIMIT characters, a value at most LEARNED_VALUE_LIMIT.
        """
        ...


# ---- the queue ----


class SharedLearnedStore(Protocol):
    """Facts that other instances have learned, in a table that they share."""

    def on_learned(self, changed: Callable[[Sequence[str]], None]) -> None:
        """Call `changed` with the keys of rows that others have written or deleted. A notice may be lost."""
        ...

    async def read_some(self, keys: Sequence[str]) -> Sequence[LearnedRow]:
        """The rows with these keys, as far as they are there. Raises SpoolError."""
        ...


class Dispatcher(Protocol):
    """Dispatch of queued messages, as the intake needs it. No method waits."""

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy now in force."""
        ...

    def message_incoming(self, account: str) -> bool:
        """A message of the account is about to be written to the spool; True: a slot is reserved for its first attempt.

        A reserved slot must be used by `start_reserved`, or given back by `release_slot`.
        """
        ...

    def release_slot(self, account: str) -> None:
        """Give back a reserved slot: the message was not stored."""
        ...

    def start_reserved(self, claim: Claim) -> None:
        """Start the first attempt of a leased message in its reserved slot."""
        ...

    def message_queued(self, arrival: Arrival) -> None:
        """A message was stored that is not leased: attempt it when it is due."""
        ...

    def adopt_attempt(self, claim: Claim, decision: Decision, attempt: "asyncio.Task[Outcomes]") -> None:
        """Take over an attempt in progress, of a message that is stored and leased meanwhile, and settle its result."""
        ...


class CrashJournal(Protocol):
    """List of the attempts in progress, read by the next process after a crash."""

    def take_suspects(self) -> Sequence[str]:
        """The ids of the messages in progress when the previous process crashed. Cleared by the call."""
        ...

    def attempt_started(self, message_id: str) -> None:
        """Add a message to the list."""
        ...

    def attempt_ended(self, message_id: str) -> None:
        """Remove a message from the list."""
        ...
