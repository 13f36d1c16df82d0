"""Event: one thing that happened to a message, as it is written down. PURE.

Promises: plain values only, so an event read in ten years means what it meant when it was written.
Leaves to others: where events are kept (spool), the story told from them (tracking.timeline).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class What(Enum):
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
    what: What
    recipients: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
