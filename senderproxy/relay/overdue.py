"""Periodic check for delayed and expired messages.

Guarantees: a delay is reported once for each recipient; the messages of a blocked lane expire at their age as those
of any other. The check runs while messages wait, and only then.
Not here: expiry after an attempt (relay.queue_attempts), the reports (relay.dsn_queueing).
RFC 5321 section 4.5.4.1.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.dispatch import LaneQueue
from senderproxy.relay.ports import Spool, SpoolError
from senderproxy.relay.queue_attempts import QueueAttempts
from senderproxy.relay.settling import ResultWriter

_log = logging.getLogger("senderproxy.relay")

_AT_ONCE: Final = 1  # messages leased at a time: an error in between leaves no other lease behind
_INTERVAL: Final = 30.0  # seconds between two checks; delays and expiry are counted in hours


class OverdueCheck:
    """Timer of the check, and the check itself."""

    def __init__(
        self,
        spool: Callable[[], Spool],
        attempts: QueueAttempts,
        results: ResultWriter,
        blocked_queues: Callable[[], Iterable[LaneQueue]],
    ) -> None:
        """`blocked_queues` returns the queues that cannot send."""
        self._spool = spool
        self._attempts = attempts
        self._results = results
        self._blocked_queues = blocked_queues
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, check: Callable[[], None]) -> None:
        """Call `check` after the interval, unless a call is scheduled already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, check)

    def cancel(self) -> None:
        """Cancel the scheduled call, if any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def run(self) -> None:
        """Let the messages of blocked lanes expire, and report the delays of the others."""
        policy, spool = self._attempts.policy, self._spool()
        try:
            for queue in self._blocked_queues():  # first: what expires needs no report on its delay
                while claims := await spool.claim_expired(queue.lane, policy.give_up, _AT_ONCE):
                    for claim in claims:
                        await self._results.write(claim, await self._attempts.after_expiry(claim, queue.blocked_by))
            if policy.report_delay is not None:
                while claims := await spool.claim_undelayed(policy.report_delay, _AT_ONCE):
                    for claim in claims:
                        await self._results.write(claim, await self._attempts.after_delay(claim))
        except SpoolError as error:
            event(_log, log_events.QUEUE_READ_FAILED, why=error.message, hint=error.hint)
