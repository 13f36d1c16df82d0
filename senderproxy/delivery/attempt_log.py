"""The log line of an attempt, with or without a login.

Guarantees: one line for each attempt, with the worst reply. Without a line, the replies are not read.
Not here: the outcomes (delivery.transactions).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.relay.ports import Outcomes

_log: Final = logging.getLogger("senderproxy.delivery")

Facts: TypeAlias = Mapping[str, object]

_NO_FACTS: Final[Facts] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AttemptEvents:
    """The events of one kind of attempt, by its result. `interrupted`: cancelled, or ended by an internal error."""

    delivered: LogEvent
    partial: LogEvent
    failed: LogEvent
    interrupted: LogEvent


HOP_ATTEMPTS: Final = AttemptEvents(
    log_events.HOP_ATTEMPT_DELIVERED,
    log_events.HOP_ATTEMPT_PARTIAL,
    log_events.HOP_ATTEMPT_FAILED,
    log_events.HOP_ATTEMPT_INTERRUPTED,
)  # by a server without a login


def log_attempt(events: AttemptEvents, facts: Facts, outcomes: Outcomes | None, more: Facts = _NO_FACTS) -> None:
    """Log an attempt. `outcomes`: None if it was interrupted. `more`: facts behind those of the outcomes."""
    if outcomes is None:
        event(_log, events.interrupted, fault=None, **facts)
        return
    kind = events.delivered
    delivered = sum(isinstance(outcome, Delivered) for outcome in outcomes.values())
    if delivered != len(outcomes):
        kind = events.partial if delivered else events.failed
    if not _log.isEnabledFor(kind.level):
        return
    worst_first = (o.reply for kind in (Failed, Deferred, Delivered) for o in outcomes.values() if type(o) is kind)
    event(
        _log,
        kind,
        fault=None,
        **facts,
        recipients=len(outcomes),
        reply=next(worst_first, None),
        maybe_taken=any(isinstance(o, Deferred) and o.maybe_taken for o in outcomes.values()) or None,
        **more,
    )
