"""Dispatch decisions: whether the next message of a lane may be sent now, and when to look again. PURE.

A lane is an account, or a server without a login.
Guarantees: a lane that is blocked, at its limit or without a due message never delays another one. A lane whose last
attempts failed sends one message at a time until one is accepted.
Not here: the loop and its timer (relay.runner), a lane's limit and availability (delivery), bursts (relay.pacing).
Times are monotonic, in seconds, if nothing else is said.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply
from senderproxy.tracking.record import ACCOUNT_LANE, Blocked, Lane

_AHEAD: Final = 4  # messages leased beyond a lane's sessions, at most one for each: no session waits for the disk


@dataclass(slots=True)
class LaneQueue:
    """Dispatch state of one lane."""

    lane: Lane
    due_at: float | None = None  # of its next message, as far as known; None: no message waits
    changes: int = 0  # reports of a due time; a due time read from the spool is valid if none came meanwhile
    running: int = 0  # attempts in progress
    failures: int = 0  # attempts in a row that failed because of the account or the server
    blocked_until: float = 0.0
    blocked_by: Reply | None = None
    claiming: bool = False  # its messages are being leased

    @property
    def account(self) -> str:
        """The id of the account; empty for a lane without one."""
        return self.lane.name if self.lane.kind == ACCOUNT_LANE else ""

    def note_due(self, due_at: float) -> None:
        """A message waits that is due then."""
        self.changes += 1
        if self.due_at is None or due_at < self.due_at:
            self.due_at = due_at

    def is_due(self, monotonic: float) -> bool:
        return self.due_at is not None and self.due_at <= monotonic

    def is_blocked(self, monotonic: float) -> bool:
        return self.blocked_until > monotonic

    def block(self, reply: Reply, until: float) -> None:
        """Send nothing before that time. `reply`: the reason, for the operator."""
        self.blocked_by, self.blocked_until = reply, until

    def unblock(self, monotonic: float) -> None:
        """Try its next message now."""
        self.blocked_until, self.failures, self.blocked_by = 0.0, 0, None
        self.changes += 1
        self.due_at = monotonic

    def free_slots(self, connections: int | None) -> int:
        """The number of messages that may be attempted. `connections`: the lane's limit; None: no such account."""
        if connections == 0:
            return 0
        if connections is None or self.failures:
            return max(1 - self.running, 0)
        return max(connections + min(connections, _AHEAD) - self.running, 0)

    def record_outcomes(self, outcomes: Mapping[ForwardPath, Outcome], monotonic: float) -> Reply | None:
        """Count failures of the lane; the reply if this attempt failed because of it and nothing blocks it yet."""
        if any(isinstance(outcome, Delivered | Failed) for outcome in outcomes.values()):
            self.failures = 0
            return None
        failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Deferred) and outcome.of_account]
        if not failures or self.is_blocked(monotonic):
            return None
        self.failures += 1
        return failures[0].reply

    def seconds_until_ready(self, monotonic: float, burst_until: float) -> float:
        """Seconds until its next message can be sent; infinite if an event will call for it earlier.

        Such an event is the end of its leasing, the end of one of its attempts, or a new message.
        """
        if self.due_at is None or self.claiming or (self.running and self.due_at <= monotonic):
            return math.inf
        return max(self.due_at - monotonic, self.blocked_until - monotonic, burst_until - monotonic, 0.0)


class LaneQueues:
    """The queues of all lanes with messages, in the order of service."""

    def __init__(self) -> None:
        self._queues: dict[Lane, LaneQueue] = {}

    def __iter__(self) -> Iterator[LaneQueue]:
        return iter(list(self._queues.values()))

    def get(self, lane: Lane) -> LaneQueue:
        """The lane's queue, created if it is not there."""
        queue = self._queues.get(lane)
        if queue is None:
            queue = self._queues[lane] = LaneQueue(lane)
        return queue

    def find(self, lane: Lane) -> LaneQueue | None:
        """The lane's queue; None if it has no messages."""
        return self._queues.get(lane)

    def serve_last(self, queue: LaneQueue) -> None:
        """Move the queue behind all others, so that a burst's allowance is shared among the lanes."""
        self._queues[queue.lane] = self._queues.pop(queue.lane)

    def are_active(self) -> bool:
        """True if a message waits or is being attempted."""
        return any(queue.due_at is not None or queue.running for queue in self._queues.values())

    def drop_idle(self) -> None:
        """Forget the queues without messages, so that memory is bounded."""
        self._queues = {
            lane: queue
            for lane, queue in self._queues.items()
            if queue.due_at is not None or queue.running or queue.claiming or queue.failures
        }

    def blocked(self, now: datetime, monotonic: float) -> Mapping[Lane, Blocked]:
        """The lanes that cannot send, with the reason and the end. `now`: the time of day."""
        return {
            queue.lane: Blocked(
                str(queue.blocked_by) if queue.blocked_by else "the queue cannot be read",
                None if math.isinf(queue.blocked_until) else now + timedelta(seconds=queue.blocked_until - monotonic),
            )
            for queue in self._queues.values()
            if queue.is_blocked(monotonic)
        }

    def seconds_until_ready(self, monotonic: float, burst_until: float) -> float:
        """Seconds until the next message of any lane can be sent; infinite if an event will call for it earlier."""
        return min(
            (queue.seconds_until_ready(monotonic, burst_until) for queue in self._queues.values()),
            default=math.inf,
        )
