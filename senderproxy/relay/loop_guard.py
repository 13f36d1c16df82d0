"""Limit for automatic responses from one author to one recipient. PURE.

Guarantees: within an hour, at most the configured number of bounces and automatic replies passes from one author to one
recipient; memory is bounded, and given back after the hour. A refusal ends the loop: no report is sent to a null
reverse-path (RFC 5321 section 4.5.5). Needed because a null reverse-path that had to be rewritten can be answered. The
counts outlive a restart.
Not here: the reports that a delay or failure requires (dsn.report_policy), the hop count (relay.decide).
RFC 3834 sections 2 and 5.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from senderproxy.learned import Fact, Instant, LearnedSource, Notify, clamp, ignore_change
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply, reply

LEARNED_KIND: Final = "loop"  # of the facts about the pairs
_HOUR: Final = 3600.0  # seconds
_WRITTEN_LIMIT: Final = 1000  # times of one pair beyond a restart, the last ones; a limit above that is no limit
_DIGEST: Final = 16  # octets; two pairs never have the same digest
PAIRS_LIMIT: Final = 20_000  # pairs of author and recipient in memory, a few MB; the least recent one is dropped


def is_automatic_response(path: ReversePath, header: HeaderSection) -> bool:
    """True for a bounce, receipt or automatic reply: null reverse-path, or Auto-Submitted: auto-replied (RFC 3834)."""
    if not isinstance(path, Address):
        return True
    return any(value.strip().lower().startswith(b"auto-replied") for value in header.values("Auto-Submitted"))


class LoopGuard(LearnedSource):
    """Counts of automatic responses in the last hour, for each pair of author and recipient.

    `changed` is called with the subject of a fact that has changed: a pair's digest.
    """

    def __init__(self) -> None:
        self.changed: Notify = ignore_change
        self._sent: dict[str, list[float]] = {}  # times, by pair; the pair that was counted last is the last one

    def check(
        self, author: Address, recipients: Sequence[ForwardPath], per_hour: int, monotonic: float
    ) -> Reply | None:
        """Count one message to all recipients and return None; or return the refusal and count nothing."""
        self.expire(monotonic)
        pairs = [_pair(author, recipient) for recipient in recipients]
        for pair, recipient in zip(pairs, recipients, strict=True):
            if len(self._recent(pair, monotonic)) >= per_hour:
                return reply(
                    554,
                    "5.4.6",
                    f"Mail loop: {author} has sent {recipient.key} {per_hour} automatic messages within an hour.",
                    "The limit is automatic_per_hour under [senders] in the configuration.",
                )
        for pair in pairs:
            times = [*self._recent(pair, monotonic), monotonic]
            self._sent.pop(pair, None)
            self._sent[pair] = times
            self.changed(pair)
        while len(self._sent) > PAIRS_LIMIT:
            self._forget(next(iter(self._sent)))
        return None

    def expire(self, monotonic: float) -> None:
        """Forget the pairs without a message in the last hour."""
        while self._sent:
            pair, times = next(iter(self._sent.items()))
            if times and times[-1] > monotonic - _HOUR:
                return
            self._forget(pair)

    def uncount(self, author: Address, recipients: Sequence[ForwardPath]) -> None:
        """Undo the last count: the message was not sent."""
        for recipient in recipients:
            pair = _pair(author, recipient)
            times = self._sent.get(pair)
            if times is None:
                continue
            times.pop()
            self.changed(pair)
            if not times:
                del self._sent[pair]

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource. Ages in seconds."""
        ages = [round(at.monotonic - sent, 1) for sent in self._recent(subject, at.monotonic)]
        ages = ages[-_WRITTEN_LIMIT:]
        return {"ages": ages} if ages else None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        times = sorted(written.monotonic - clamp(age, _HOUR) for age in fact["ages"])
        if not times or len(self._sent) >= PAIRS_LIMIT:
            return False
        self._sent[subject] = times
        return True

    def _recent(self, pair: str, monotonic: float) -> list[float]:
        return [sent for sent in self._sent.get(pair, ()) if sent > monotonic - _HOUR]

    def _forget(self, pair: str) -> None:
        del self._sent[pair]
        self.changed(pair)


def _pair(author: Address, recipient: ForwardPath) -> str:
    text = f"{author.key}\0{recipient.key}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST).hexdigest()
