"""Limit for automatic responses from one author to one recipient. PURE.

Guarantees: within an hour, at most the configured number of bounces and automatic replies passes from one author to one
recipient; memory is bounded, and given back after the hour. A refusal ends the loop: no report is sent to a null
reverse-path (RFC 5321 section 4.5.5). Needed because a null reverse-path that had to be rewritten can be answered.
Not here: the reports that a delay or failure requires (dsn.report_policy), the hop count (relay.decide).
RFC 3834 sections 2 and 5.
"""

from collections.abc import Sequence
from typing import Final

from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply, reply

_HOUR: Final = 3600.0  # seconds
PAIRS_LIMIT: Final = 20_000  # pairs of author and recipient in memory, a few MB; the least recent one is dropped


def is_automatic_response(path: ReversePath, header: HeaderSection) -> bool:
    """True for a bounce, receipt or automatic reply: null reverse-path, or Auto-Submitted: auto-replied (RFC 3834)."""
    if not isinstance(path, Address):
        return True
    return any(value.strip().lower().startswith(b"auto-replied") for value in header.values("Auto-Submitted"))


class LoopGuard:
    """Counts of automatic responses in the last hour, for each pair of author and recipient."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], list[float]] = {}  # times; the pair that was counted last is the last one

    def check(
        self, author: Address, recipients: Sequence[ForwardPath], per_hour: int, monotonic: float
    ) -> Reply | None:
        """Count one message to all recipients and return None; or return the refusal and count nothing."""
        self.expire(monotonic)
        pairs = [(author.key, recipient.key) for recipient in recipients]
        for pair in pairs:
            if len(self._recent(pair, monotonic)) >= per_hour:
                return reply(
                    554,
                    "5.4.6",
                    f"Mail loop: {author} has sent {pair[1]} {per_hour} automatic messages within an hour.",
                    "The limit is automatic_per_hour under [senders] in the configuration.",
                )
        for pair in pairs:
            times = [*self._recent(pair, monotonic), monotonic]
            self._sent.pop(pair, None)
            self._sent[pair] = times
        while len(self._sent) > PAIRS_LIMIT:
            del self._sent[next(iter(self._sent))]
        return None

    def expire(self, monotonic: float) -> None:
        """Forget the pairs without a message in the last hour."""
        while self._sent:
            pair, times = next(iter(self._sent.items()))
            if times and times[-1] > monotonic - _HOUR:
                return
            del self._sent[pair]

    def uncount(self, author: Address, recipients: Sequence[ForwardPath]) -> None:
        """Undo the last count: the message was not sent."""
        for recipient in recipients:
            times = self._sent.get((author.key, recipient.key))
            if times is None:
                continue
            times.pop()
            if not times:
                del self._sent[author.key, recipient.key]

    def _recent(self, pair: tuple[str, str], monotonic: float) -> list[float]:
        return [sent for sent in self._sent.get(pair, ()) if sent > monotonic - _HOUR]
