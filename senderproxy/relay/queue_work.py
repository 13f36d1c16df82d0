"""Work of the queue at this moment: attempts in progress, and lanes with messages that can be sent now.

Not here: the attempts (relay.runner), the messages that wait for a later time (relay.ports.Spool).
"""

import asyncio
from collections.abc import Set

from senderproxy.clock import Clock
from senderproxy.relay.account_availability import AccountAvailability
from senderproxy.relay.dispatch import LaneQueue, LaneQueues


class QueueWork:
    """The work of one delivery loop. `tasks`: its attempts in progress, and the writing of their results."""

    def __init__(
        self, queues: LaneQueues, availability: AccountAvailability, tasks: Set["asyncio.Task[None]"], clock: Clock
    ) -> None:
        self._queues = queues
        self._availability = availability
        self._tasks = tasks
        self._clock = clock

    @property
    def in_progress(self) -> int:
        """The number of attempts in progress."""
        return len(self._tasks)

    @property
    def is_due(self) -> bool:
        """True if messages are being leased, or are due in a lane that can send."""
        monotonic = self._clock.monotonic()
        return any(queue.claiming or self._can_send(queue, monotonic) for queue in self._queues)

    def _can_send(self, queue: LaneQueue, monotonic: float) -> bool:
        if not queue.is_due(monotonic) or queue.is_blocked(monotonic):
            return False
        return self._availability.connections(queue) != 0
