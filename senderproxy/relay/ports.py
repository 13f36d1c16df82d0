"""What the relay needs from the outer rooms, and nothing about how they do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decided
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider, Smarthost
from senderproxy.routing.route import Route
from senderproxy.tracking.record import Event, MessageRecord, Query, RecipientState


class Accounts(Protocol):
    """The accounts in the vault, as they are at this moment."""

    def directory(self) -> AccountDirectory:
        """Who carries what. Notices by itself when the vault changed on disk; cheap, called for each message.

        Never raises: a vault that cannot be read leaves what was read before in force.
        """
        ...

    def credential(self, account: Account) -> Credential | None:
        """The account's login and secret of this moment; None where the account is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an account can send at this moment.

    `blocked`: why not, as it stands against any of its mail; `seconds`: how long that holds, None until it is mended.
    """

    connections: int  # how many messages at once
    blocked: Reply | None = None
    seconds: float | None = None


class Courier(Protocol):
    """Takes one message to one account's upstream."""

    async def deliver(
        self, route: Route, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        """Offer the message to all recipients; one outcome for each of them, in their order.

        Never raises for what the network or the upstream does. `tag` is the message's id, for the log. May be
        cancelled before the final dot is written; from then on the caller must wait for it.
        """
        ...

    async def hand_in(
        self, server: Smarthost, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        """Give a report of ours to the internal server, without a login; else as `deliver`."""
        ...

    def availability(self, account: Account, provider: Provider) -> Availability:
        """Whether a message of this account would be offered upstream now. Cheap."""
        ...


class Intake(Protocol):
    """What the listener hands a complete message to."""

    async def accept(self, submission: Submission) -> Reply:
        """The answer to the final dot. Never raises for what a message contains."""
        ...


# ---- the spool ----


class SpoolError(SenderproxyError):
    """The spool cannot be read or written: nothing was done, whatever was asked."""


class SpoolFull(SpoolError):
    """There is not enough room on the disk: nothing was written."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message for the spool, and what becomes of each recipient when it is there.

    `account` is the id of the account whose turn it waits for. `states` has every recipient of the envelope. The
    content is kept while one of them is not final.
    """

    submission: Submission
    account: str
    author: str
    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    decided: Decided | None = None  # about it, when it came in


@dataclass(frozen=True, slots=True)
class Claim:
    """A message leased to whoever has this: nobody else attempts or changes it until it is settled.

    `due` are the recipients to be attempted, with their states; the submission's envelope names all of them.
    `decided` is the arrival's, while the message is in memory still.
    """

    submission: Submission
    account: str
    author: str
    due: Mapping[ForwardPath, RecipientState]
    faults: int = 0  # internal errors in a row
    decided: Decided | None = None


@dataclass(frozen=True, slots=True)
class SpoolUpdate:
    """What an attempt, or a person, changes about a claimed message. All of it is one commit.

    `states` has the recipients that change; `reports` are new messages (arrivals) that tell the author.
    """

    states: Mapping[ForwardPath, RecipientState]
    events: Sequence[Event] = ()
    reports: Sequence[Arrival] = ()
    account: str | None = None  # whose turn it waits for from now on; None: as before
    faults: int = 0


class Spool(Protocol):
    """Where messages wait, and what happened to all of them. Owned by one process at a time.

    Guarantees (docs/spool-states.md): what `accept` and `settle` were awaited for survives a power cut; a recipient's
    state, its events and its reports are one commit; what cannot be read is held, never guessed and never deleted.
    Every method raises SpoolError where the disk or the database fails, and then has changed nothing.
    """

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        """Keep the messages, in one commit; return when they are safe. `leased`: the claims on them, else nothing.

        An arrival whose states are all final is kept without its content, for its story alone.
        """
        ...

    def note(self, arrival: Arrival) -> None:
        """The story of a message that passed through: all states are final. Written soon, in bounded batches.

        Never raises and never waits; a power cut may cost the last second of stories.
        """
        ...

    async def claim(self, account: str, now: datetime) -> Claim | None:
        """The message of this account that is due for longest and not leased, with all its due recipients."""
        ...

    async def claim_expired(self, account: str, received_before: datetime) -> Claim | None:
        """A message of this account that waits since before then, due or not, with all its waiting recipients."""
        ...

    async def claim_undelayed(self, received_before: datetime) -> Claim | None:
        """One that waits since before then, with those waiting recipients of whom no delay was reported yet."""
        ...

    async def claim_one(self, message_id: str) -> Claim | None:
        """This one, with all its recipients that wait or are held; None where it is not there, or leased."""
        ...

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        """Write the verdict down and end the lease; return when it is safe. A verdict of nothing just ends it."""
        ...

    async def due(self, account: str | None = None) -> Mapping[str, datetime]:
        """When the next recipient of this account, or of each that has waiting ones, is due; leased ones left out."""
        ...

    async def shift(self, step: timedelta) -> None:
        """The machine's clock was put forward by so much: everything that waits keeps its distance from now."""
        ...

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        """The messages that fit, the newest first (those that wait: the oldest first), from the one after that id."""
        ...

    async def events(self, message_id: str) -> Sequence[Event]:
        """What happened to a message, in order."""
        ...

    async def header(self, message_id: str) -> HeaderSection | None:
        """A message's header section as it came; None where its content is gone."""
        ...

    async def totals(self) -> "Sequence[Totals]":
        """How much waits and is held, for each account."""
        ...


class CrashJournal(Protocol):
    """Which messages are being tried: what a process that dies of one tells the next."""

    def take_over(self) -> Sequence[str]:
        """The ids that the process before this one had begun and not ended when it crashed. Told once."""
        ...

    def begin(self, message_id: str) -> None:
        """It is about to be tried."""
        ...

    def end(self, message_id: str) -> None:
        """We have survived it."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """One account's queue. Counts are of messages; times are of their reception."""

    account: str
    waiting: int
    held: int
    size: int  # octets
    oldest: datetime
    by_age: Sequence[int] = field(default=())  # waiting or held, one for each of tracking.age_buckets
    reasons: Mapping[str, int] = field(default_factory=dict)  # the last reply's words, the commonest first, at most 5
