"""Records of a message: its events (Event), its recipients and their states (MessageRecord). PURE.

Guarantees: what the queue tools show and `senderproxy track` tells is this and the message's events, nothing else.
Not here: where records are kept (spool), who changes them (relay).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reply import Reply


class EventKind(Enum):
    """The kinds of events. The values are on people's disks: never changed, never used again for something else."""

    ACCEPTED = "accepted"  # we are responsible from here on. Facts: client, listener, account, author, size, mode
    REFUSED = "refused"  # not taken from the client, who has it still. Facts: reply
    CHANGED = "changed"  # by a rewrite or a repair. Facts: what, old, new, reason
    ATTEMPTED = "attempted"  # facts: account, outcome (delivered, deferred, failed), reply, maybe_taken, seconds
    DISCARDED = "discarded"  # because a setting says so. Facts: reply
    HELD = "held"  # facts: why, by (a person's name, where it was one)
    RELEASED = "released"  # by a person. Facts: by
    RETRIED = "retried"  # a person asked for the next attempt now. Facts: by
    CANCELLED = "cancelled"  # by a person. Facts: by
    EXPIRED = "expired"  # tried for as long as the settings say. Facts: reply
    REPORTED = "reported"  # to its author. Facts: report (the report's own id), kind (failed, delayed), to
    UNREPORTED = "unreported"  # nobody is told. Facts: why
    FAULT = "fault"  # an error of ours in the middle of an attempt. Facts: why


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, to these recipients; to the message as a whole where none is named."""

    at: datetime  # aware, UTC
    kind: EventKind
    recipients: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class RecipientStatus(Enum):
    """Where one recipient's copy is. The values are on people's disks: never changed."""

    WAITING = "waiting"  # ours; tried when due
    HELD = "held"  # ours; a person must look
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"
    DEFERRED = "deferred"  # not taken for now: the client has it still, and sends it again

    @property
    def is_final(self) -> bool:
        """Nothing more will happen to it."""
        return self not in (RecipientStatus.WAITING, RecipientStatus.HELD)


@dataclass(frozen=True, slots=True)
class RecipientState:
    """One recipient's copy. `due_at` is set where it waits, `why` where it is held.

    `remote` is the host whose words the reply has; empty where they are our own.
    """

    status: RecipientStatus
    due_at: datetime | None = None
    tries: int = 0
    reply: Reply | None = None  # the last that was said about it
    why: str = ""
    delay_reported: bool = False
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """An account that cannot send: why, and until when at the least; None: until somebody mends it."""

    why: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message as it is listed."""

    id: str
    received_at: datetime
    client: str
    listener: str
    reverse_path: str  # empty: null
    author: str
    account: str  # whose turn it waits for, or who carried it
    size: int  # octets
    message_id: str  # of its header; empty: it came without
    report_on: str | None  # it is a report of ours on this message
    recipients: Mapping[ForwardPath, RecipientState]
    leased: bool = False  # an attempt is under way
    blocked: Blocked | None = None  # the account's, where the queue's keeper knows of one


@dataclass(frozen=True, slots=True)
class Query:
    """Which messages are meant. Everything that is set must fit; texts fit a whole address or a whole id.

    `sender` fits the author or the reverse-path, `sender` and `recipient` may be `@domain`; `id` is ours or the
    header's Message-ID; `upstream_id` is what the upstream called the message when it took it.
    """

    id: str | None = None
    account: str | None = None
    sender: str | None = None
    recipient: str | None = None
    upstream_id: str | None = None
    status: RecipientStatus | None = None
    unfinished: bool = False  # only what waits or is held
    since: datetime | None = None
    until: datetime | None = None
