"""LoopGuard: automatic mail comes to rest.

Guarantees: within an hour no more than so many bounces and automatic replies go from one author to one recipient,
whoever answers whom; memory is bounded. A refusal ends it: nobody reports to a null reverse-path (RFC 5321 section
4.5.5). Needed because a null reverse-path that had to be rewritten can be answered. RFC 3834 sections 2 and 5.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply, reply

_HOUR: Final = 3600.0
_PAIRS: Final = 20_000  # author and recipient; the one that was silent longest is forgotten


def is_automatic_response(path: ReversePath, header: HeaderSection) -> bool:
    """A bounce, a receipt or an automatic reply: by its null reverse-path, or by its own words (RFC 3834)."""
    if not isinstance(path, Address):
        return True
    return any(value.strip().lower().startswith(b"auto-replied") for value in header.values("Auto-Submitted"))


class LoopGuard:
    """Who has sent automatic mail to whom within the last hour."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], deque[float]] = {}

    def objection(
        self, author: Address, recipients: Sequence[ForwardPath], per_hour: int, monotonic: float
    ) -> Reply | None:
        """None where one more may go to all of them, and it is counted; else the refusal."""
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
            times = self._recent(pair, monotonic)
            times.append(monotonic)
            self._sent.pop(pair, None)
            self._sent[pair] = times
        while len(self._sent) > _PAIRS:
            del self._sent[next(iter(self._sent))]
        return None

    def forgive(self, author: Address, recipients: Sequence[ForwardPath]) -> None:
        """The one that was counted last did not leave."""
        for recipient in recipients:
            if times := self._sent.get((author.key, recipient.key)):
                times.pop()

    def _recent(self, pair: tuple[str, str], monotonic: float) -> deque[float]:
        times = self._sent.get(pair) or deque()
        while times and times[0] <= monotonic - _HOUR:
            times.popleft()
        return times
