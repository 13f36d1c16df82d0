"""Records of messages: events (Event), recipients and their states (MessageRecord), searches (Query). PURE.

Guarantees: `senderproxy queue` and `senderproxy track` show these values, and nothing else.
Not here: their storage (spool), their changes (relay).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reply import Reply
from senderproxy.value_class import value_class

ACCOUNT_LANE: Final = "account"  # kind of the lanes of accounts; their name is the account's id
SENT_COPY_JOBS: Final = "sent_copy"  # kind of the jobs of copies, in the lanes of accounts; never changed


class EventKind(Enum):
    """The kinds of events. The values are stored on disk: never changed, never reused with another meaning."""

    ACCEPTED = "accepted"  # responsibility is ours now. Facts: client, listener, account, author, size, mode
    REFUSED = "refused"  # to the client, which still has it. Facts: reply, hint
    CHANGED = "changed"  # by a rewriting rule or a repair. Facts: what, old, new, reason
    # Facts: account or way, outcome (delivered, deferred, failed), reply, maybe_taken, seconds, footer; of a fallback
    # also instead_of (the account of the message), cause (a mail.outcome.Unavailable), why (the reply of that account),
    # sent_as (the address that replaced the sender)
    ATTEMPTED = "attempted"
    DISCARDED = "discarded"  # by a setting. Facts: reply
    HELD = "held"  # by an operator or an error. Facts: why, by (the operator's name)
    RELEASED = "released"  # by an operator. Facts: by
    RETRIED = "retried"  # an operator requested the next attempt now. Facts: by
    CANCELLED = "cancelled"  # by an operator. Facts: by
    EXPIRED = "expired"  # given up after the time in the settings. Facts: reply
    REPORTED = "reported"  # to the author. Facts: report (its id), kind (failed, expired, delayed, cancelled), to
    UNREPORTED = "unreported"  # no report to the author. Facts: why
    FAULT = "fault"  # internal error in an attempt. Facts: why
    # The copy in the Sent folder. Facts: state (tracking.record.CopyState), account, folder, why, why_text (see
    # translation.stored_text), note
    COPY = "copy"


class CopyState(Enum):
    """The state of the copy of a message in a Sent folder. The values are stored on disk: never changed."""

    WAITING = "waiting"  # it will be stored, or tried again. Facts: why, of a try
    STORED = "stored"  # Facts: folder
    LOST = "lost"  # the message left, and the copy could not be kept. Facts: why
    GIVEN_UP = "given_up"  # Facts: why
    DROPPED = "dropped"  # the account has no copies any more


@value_class
class Event:
    """An event of these recipients; of the message as a whole if there are none."""

    at: datetime  # aware, UTC
    kind: EventKind
    recipients: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class RecipientStatus(Enum):
    """The status of one recipient. The values are stored on disk: never changed."""

    WAITING = "waiting"  # queued; attempted when due
    HELD = "held"  # queued; not attempted until an operator releases it
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"
    DEFERRED = "deferred"  # refused for now: the client still has it, and sends it again

    @property
    def is_final(self) -> bool:
        """True if the status does not change any more."""
        return self not in (RecipientStatus.WAITING, RecipientStatus.HELD)


class Lane(NamedTuple):
    """A queue of recipients that are attempted one after another. The kinds are stored on disk: never changed."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @staticmethod
    @lru_cache(maxsize=1024)
    def of_account(account: str) -> "Lane":
        """The lane of the recipients that this account sends to."""
        return Lane(ACCOUNT_LANE, account)

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "Lane":
        """The lane of its text form."""
        kind, _, name = text.partition(":")
        return Lane(kind, name)


@value_class
class RecipientState:
    """The state of one recipient. `why` is set if it is held.

    `due_in` of a waiting recipient: in a record, the time left to its next attempt (negative: overdue); in a change,
    the delay of its next attempt, or None to leave it where it is. None in an arrival: due at once.
    `remote` is the host that sent the reply; empty for a reply of our own.
    """

    status: RecipientStatus
    due_in: timedelta | None = None
    tries: int = 0
    reply: Reply | None = None  # the last one for this recipient
    why: str = ""
    delay_reported: bool = False
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The reason why a lane cannot send, and the earliest end; None: until an operator fixes the cause."""

    why: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message, as the queue tools list it. One attribute for each fact."""

    id: str
    received_at: datetime
    client: str
    listener: str
    reverse_path: str  # empty: null
    author: str
    account: str  # the one that it waits for, or that delivered it
    size: int  # octets
    message_id: str  # of its header; empty: none
    report_on: str | None  # this message is a report on the one with that id
    recipients: Mapping[ForwardPath, RecipientState]
    as_of: datetime  # from which the times left of the recipients count
    leased: bool = False  # an attempt is in progress
    blocked: Blocked | None = None  # the account, if it cannot send now
    lanes: Mapping[ForwardPath, Lane] = field(default_factory=dict)  # of those not in the lane of its account
    blocked_lanes: Mapping[Lane, Blocked] = field(default_factory=dict)  # those of them that cannot send now
    subject: str = ""  # empty: there is none, or it was not kept

    def blocked_for(self, path: ForwardPath) -> Blocked | None:
        """The reason why the lane of a recipient cannot send now; None if it can."""
        lane = self.lanes.get(path)
        return self.blocked if lane is None else self.blocked_lanes.get(lane)

    def due_at(self, state: RecipientState) -> datetime | None:
        """The time of the next attempt for one of its recipients; None if it does not wait."""
        return None if state.due_in is None else self.as_of + state.due_in


class HourCount(NamedTuple):
    """Recipients of the messages that were received in one hour, by their status now."""

    hour: datetime  # its beginning, UTC
    status: RecipientStatus
    recipients: int


@dataclass(frozen=True, slots=True)
class Query:
    """A search for messages. All criteria that are set must match; texts match a whole address or a whole id.

    `sender` matches the author or the reverse-path; `sender` and `recipient` may be `@domain`; `id` is our id or the
    Message-ID; `upstream_id` is the id in the upstream's reply to the final dot; `subject` has words of the subject, or
    the beginnings of words from three characters on.
    """

    id: str | None = None
    account: str | None = None
    sender: str | None = None
    recipient: str | None = None
    upstream_id: str | None = None
    status: RecipientStatus | None = None
    unfinished: bool = False  # only messages that wait or are held
    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None
