"""Equal refusals of one client: the first ones of a minute are recorded, further ones counted.

Guarantees: the memory is bounded, and so are the history and the log that one client can cause with one reply. The
number of refusals that were only counted is logged at the end of the minute, and `status` has those of the last hour.
Not here: the history's limit in octets (spool.sqlite.history).
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.host_group import host_group
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.recent_counts import RecentCounts

_PERIOD: Final = 60.0  # seconds in which equal refusals are counted together
_RECORDED: Final = 10  # of them recorded each on its own; a person who tries again sees every result
_KINDS: Final = 1000  # kinds of refusals counted at once; above it the oldest period ends early
_TIMER_SLACK: Final = 0.001  # seconds that the timer is late, so that the period has ended when it fires
_Key: TypeAlias = tuple[str, str, Reply]  # group of the client, reverse-path, reply

_log = logging.getLogger("senderproxy.relay")


@dataclass(slots=True)
class _Period:
    ends_at: float  # monotonic seconds
    count: int = 0


class RepeatedRefusals:
    """The counts of the current periods."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._periods: dict[_Key, _Period] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self.last_hour = RecentCounts()  # by client, reverse-path and reply

    def __len__(self) -> int:
        return len(self._periods)

    def is_repeated(self, submission: Submission, answer: Reply) -> bool:
        """Count a refusal. True if so many equal ones were recorded that this one is not."""
        now = self._clock.monotonic()
        self._end_periods(now)
        key = (host_group(submission.client.host), str(submission.envelope.reverse_path), answer)
        period = self._periods.get(key)
        if period is None:
            if len(self._periods) >= _KINDS:
                self._end(next(iter(self._periods)))
            period = self._periods[key] = _Period(now + _PERIOD)
        period.count += 1
        if not answer.is_positive:  # a discarded message is no refusal to its client
            self.last_hour.add((key[0], key[1], str(answer)), "", now)
        if period.count <= _RECORDED:
            return False
        if self._timer is None:
            self._set_timer(period.ends_at - now)
        return True

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds + _TIMER_SLACK, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        self._end_periods(now)
        next_end = next((p.ends_at for p in self._periods.values() if p.count > _RECORDED), None)
        if next_end is not None:
            self._set_timer(next_end - now)

    def _end_periods(self, now: float) -> None:
        while self._periods:
            key = next(iter(self._periods))
            if self._periods[key].ends_at > now:
                break
            self._end(key)

    def _end(self, key: _Key) -> None:
        more = self._periods.pop(key).count - _RECORDED
        if more > 0:
            client, reverse_path, answer = key
            event(
                _log,
                log_events.REFUSALS_REPEATED,
                client=client,
                reverse_path=f"<{reverse_path}>",
                reply=answer,
                count=more,
            )
