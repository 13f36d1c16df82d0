"""Stall of the writer: a disk that does not answer a commit.

Guarantees: while the writer has made no progress for ten seconds, new messages are refused at once, and those that wait
for it without having been begun are refused too: nothing of them is written later. A message in the commit that hangs
waits for its outcome. When the disk answers again, everything continues. No timer runs while the spool is idle.
Not here: the writer (spool.sqlite.writer), the report in `status` (spool.sqlite.disk_health).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.relay.ports import SpoolError
from senderproxy.translation import _

LIMIT: Final = (
    10.0  # seconds of one commit; a disk that works needs milliseconds, one that is overloaded a second or two
)
_CHECK: Final = 10.0  # seconds from a job to the look at the writer
_CHECK_STALLED: Final = 1.0  # seconds between two looks at a writer that is stalled

_log = logging.getLogger("senderproxy.spool")


class SpoolStalled(SpoolError):
    """The disk does not answer; nothing of the message was or will be written."""


class StallWatch:
    """Watches the writer from the event loop, while it has jobs."""

    def __init__(
        self,
        busy_since: Callable[[], float | None],
        monotonic: Callable[[], float],
        refuse_waiting: Callable[[SpoolError], None],
    ) -> None:
        """`busy_since`: the start of the current commit, in monotonic seconds; None: the writer is idle.

        `refuse_waiting` refuses the new messages that the writer has not begun.
        """
        self._busy_since = busy_since
        self._monotonic = monotonic
        self._refuse_waiting = refuse_waiting
        self._timer: asyncio.TimerHandle | None = None
        self._is_stalled = False

    def job_submitted(self) -> None:
        """Start the timer, unless it runs."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_CHECK, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def seconds(self) -> float:
        """The duration of the current commit; 0 if there is none."""
        since = self._busy_since()
        return 0.0 if since is None else self._monotonic() - since

    def check(self) -> None:
        """Raises SpoolStalled if the writer is stalled."""
        if (seconds := self.seconds()) >= LIMIT:
            raise not_responding(seconds)

    def _look(self) -> None:
        self._timer = None
        try:
            self.check()
        except SpoolStalled as error:
            if not self._is_stalled:
                self._is_stalled = True
                event(_log, log_events.SPOOL_STALLED, why=error.message, hint=error.hint)
            self._refuse_waiting(error)
        else:
            if self._is_stalled:
                self._is_stalled = False
                event(_log, log_events.SPOOL_STALL_ENDED)
        if self._busy_since() is not None:
            pause = _CHECK_STALLED if self._is_stalled else _CHECK
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)


def not_responding(seconds: float) -> SpoolStalled:
    """The error for a disk that has not answered for so many seconds."""
    return SpoolStalled(
        _("The disk of the spool has not responded for {seconds} s.").format(seconds=f"{seconds:.0f}"),
        hint=_("Look for errors of the disk: dmesg"),
    )
