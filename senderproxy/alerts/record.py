"""Records of alerts, and the port of their ways. PURE.

Guarantees: an alert with the same id is the same alert, so a receiver can drop a double. Texts are those of conditions:
bounded, without secrets.
Not here: the decision to send one, its words (the other modules here), the ways (service).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from senderproxy.errors import SenderproxyError
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition


class AlertKind(StrEnum):
    """The kinds of alerts. BEGUN to OVER have one item, DIGEST has several, the others none."""

    BEGUN = "begun"  # a condition exists
    WORSE = "worse"  # it has a higher severity than in the last alert about it
    REMINDER = "reminder"  # it still exists, long after the last alert about it
    OVER = "over"  # it does not exist any more
    DIGEST = "digest"  # many of these at the same time, or in an hour
    WEEKLY = "weekly"  # the sums of a week
    TEST = "test"  # `senderproxy alert test`


@dataclass(frozen=True, slots=True)
class AlertItem:
    """The news about one condition. `kind` is BEGUN, WORSE, REMINDER or OVER."""

    kind: AlertKind
    condition: Condition  # as it is now, or as it was last; its texts are in English
    translations: Mapping[str, Condition] = field(default_factory=dict)  # the same by language, such as "de"
    ended: datetime | None = None  # for OVER
    times: int = 1  # how often it began since the last alert about it; more than once: it comes and goes


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of recipients in a period."""

    since: datetime
    delivered: int = 0  # accepted by a provider
    refused: int = 0  # refused by a provider
    alerts: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Times are aware, in UTC."""

    id: str  # visible ASCII, at most 64 characters; the same for each repeated attempt and each way
    kind: AlertKind
    host: str  # the name of this server
    time: datetime
    items: tuple[AlertItem, ...] = ()  # the worst first
    more: int = 0  # items of a digest beyond those that are listed
    open: int = 0  # conditions that were alerted and go on, after this alert
    waiting: int | None = None  # messages in the queue; None: unknown
    sums: Sums | None = None  # for WEEKLY

    @property
    def severity(self) -> Severity:
        """The severity of its worst item in progress; INFO without one."""
        return max((item.condition.severity for item in self.items if item.ended is None), default=Severity.INFO)


class AlertNotSent(SenderproxyError):
    """A way did not send an alert. `message` has the cause and `hint` the fix, in words for the operator.

    `partly`: some recipients have it, so it counts as sent; the way is shown as failing all the same.
    """

    def __init__(self, message: str, *, hint: str = "", partly: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.partly = partly


class Way(Protocol):
    """One way to send alerts, such as mail or a webhook."""

    @property
    def name(self) -> str:
        """Its name in commands and the log: a setting of [alerts], such as `webhook`."""
        ...

    async def send(self, alert: Alert) -> None:
        """Send the alert, within a bounded time (30 seconds). Repeated attempts are the way's own.

        Raises AlertNotSent if it is not sent, or not known to be. Called for one alert at a time.
        """
        ...
