"""Limit for automatic responses from one author to one recipient. PURE.

Guarantees: within an hour, at most the configured number of bounces and automatic replies passes from one author to one
recipient; memory is bounded, and given back after the hour. An automatic reply above the limit is refused, which ends
the loop: no report is sent to a null reverse-path (RFC 5321 section 4.5.5). A report or journal above it is deferred,
because nothing else tells of its contents. Needed because a null reverse-path that had to be rewritten can be answered.
The counts outlive a restart. Where several instances take messages, those of all count; the others know them within a
second or two.
Not here: the reports that a delay or failure requires (dsn.report_policy), the hop count (relay.decide).
RFC 3834 sections 2 and 5, RFC 6522.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from senderproxy.learned import Fact, Instant, Notify, SharedLearnedSource, clamp, ignore_change
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay.counts_of_others import CountsOfOthers

LEARNED_KIND: Final = "loop"  # of the facts about the pairs
_HOUR: Final = 3600.0  # seconds
_WRITTEN_LIMIT: Final = 1000  # times of one pair beyond a restart, the last ones; a limit above that is no limit
_DIGEST: Final = 16  # octets; two pairs never have the same digest
PAIRS_LIMIT: Final = 20_000  # pairs of author and recipient in memory, a few MB; the least recent one is dropped
LIMITED_PAIRS: Final = 200  # pairs above the limit in memory; more than an operator reads
_HORIZON: Final = 24 * _HOUR  # seconds; a queued report waits no longer, and the times of a pair stay bounded
_HINT: Final = "look for two programs that answer each other; the limit is automatic_per_hour under [senders]"


def is_automatic_response(path: ReversePath, header: HeaderSection) -> bool:
    """True for a bounce, receipt or automatic reply: null reverse-path, or Auto-Submitted: auto-replied (RFC 3834)."""
    if not isinstance(path, Address):
        return True
    return any(value.strip().lower().startswith(b"auto-replied") for value in header.values("Auto-Submitted"))


def is_report_or_journal(header: HeaderSection) -> bool:
    """True for a report (RFC 6522: bounces, receipts) and for a journal report of Exchange."""
    if any(value.strip().lower().startswith(b"multipart/report") for value in header.values("Content-Type")):
        return True
    return bool(header.values("X-MS-Journal-Report"))


@dataclass(frozen=True, slots=True)
class OverLimit:
    """The refusal or deferral of a message above the limit."""

    reply: Reply
    hint: str = _HINT
    wait: float | None = None  # seconds until it may be sent; None: refused for good


@dataclass(frozen=True, slots=True)
class LimitedPair:
    """One author and recipient with messages above the limit; plain values for JSON. `monotonic` is of the last one."""

    author: str
    recipient: str
    refused: int
    deferred: int
    limit: int
    monotonic: float


class LoopGuard(SharedLearnedSource):
    """Counts of automatic responses in the last hour, for each pair of author and recipient.

    `changed` is called with the subject of a fact that has changed: a pair's digest, and this instance beside others.
    """

    def __init__(self) -> None:
        self.changed: Notify = ignore_change
        # Times, by pair: that of a queued message is when it is due. The pair that was counted last is the last one.
        self._sent: dict[str, list[float]] = {}
        self.others: CountsOfOthers | None = None  # None: there is no other instance
        self._limited: dict[str, LimitedPair] = {}  # the pair that was limited last is the last one

    def check(
        self,
        author: Address,
        recipients: Sequence[ForwardPath],
        per_hour: int,
        monotonic: float,
        *,
        can_wait: bool = False,
    ) -> OverLimit | None:
        """Count one message to all recipients and return None; or return the limit and count nothing.

        `can_wait`: it is a report or journal, which is deferred.
        """
        self.expire(monotonic)
        pairs = [_pair(author, recipient) for recipient in recipients]
        for pair, recipient in zip(pairs, recipients, strict=True):
            times = self._of_all(pair, monotonic)
            if len(times) >= per_hour:
                self._note(pair, author, recipient, per_hour, monotonic, can_wait=can_wait)
                sent = f"{author} has sent {recipient.key} {per_hour} automatic messages within an hour."
                if not can_wait:
                    return OverLimit(reply(554, "5.4.6", f"Mail loop: {sent}"))
                wait = max(1.0, times[-per_hour] + _HOUR - monotonic)
                return OverLimit(
                    reply(451, "4.4.6", f"{sent} This report is accepted again in {round(wait / 60) or 1} min."),
                    wait=wait,
                )
        self._count(pairs, monotonic, monotonic)
        return None

    def count(self, author: Address, recipient: ForwardPath, monotonic: float) -> int:
        """The automatic messages of the author to the recipient in the last hour, queued ones included."""
        return len(self._of_all(_pair(author, recipient), monotonic))

    def reserve(self, author: Address, recipients: Sequence[ForwardPath], per_hour: int, monotonic: float) -> float:
        """Count a message above the limit that is queued; the seconds until it may be sent."""
        pairs = [_pair(author, recipient) for recipient in recipients]
        due = monotonic
        for pair in pairs:
            times = self._of_all(pair, monotonic)
            if len(times) >= per_hour:
                due = max(due, times[-per_hour] + _HOUR)
        if due - monotonic > _HORIZON:
            return _HORIZON
        self._count(pairs, due, monotonic)
        return due - monotonic

    def expire(self, monotonic: float) -> None:
        """Forget the pairs without a message in the last hour."""
        while self._sent:
            pair, times = next(iter(self._sent.items()))
            if times and times[-1] > monotonic - _HOUR:
                break
            self._forget(pair)
        while self._limited:
            pair, limited = next(iter(self._limited.items()))
            if limited.monotonic > monotonic - _HOUR:
                break
            del self._limited[pair]

    def uncount(self, author: Address, recipients: Sequence[ForwardPath]) -> None:
        """Undo the last count: the message was not sent."""
        for recipient in recipients:
            pair = _pair(author, recipient)
            times = self._sent.get(pair)
            if times is None:
                continue
            times.pop()
            self._notify(pair)
            if not times:
                del self._sent[pair]

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource. Ages in seconds; negative for a message that is due later."""
        pair, _blank, instance = subject.partition(" ")
        if instance != ("" if self.others is None else self.others.own):
            return None  # of another one, and out of date
        ages = [round(at.monotonic - sent, 1) for sent in self._recent(pair, at.monotonic)]
        ages = ages[-_WRITTEN_LIMIT:]
        return {"ages": ages} if ages else None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        times = sorted(written.monotonic - clamp(age + _HORIZON, _HORIZON + _HOUR) + _HORIZON for age in fact["ages"])
        hour_ago = written.monotonic + written.elapsed - _HOUR
        if self.others is not None:
            pair, _blank, instance = subject.partition(" ")
            self.others.replace(pair, instance, times)
            return bool(times) and times[-1] > hour_ago
        if not times or times[-1] <= hour_ago or len(self._sent) >= PAIRS_LIMIT:
            return False
        self._sent[subject] = times
        return True

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """See learned.SharedLearnedSource."""
        self.restore(subject, fact, written)

    def gone(self, subject: str) -> None:
        """See learned.SharedLearnedSource."""
        if self.others is not None:
            pair, _blank, instance = subject.partition(" ")
            self.others.replace(pair, instance, ())

    def limited(self, monotonic: float) -> list[LimitedPair]:
        """The pairs with messages above the limit in the last hour, the latest one first."""
        self.expire(monotonic)
        return list(reversed(self._limited.values()))

    def _count(self, pairs: Sequence[str], at: float, monotonic: float) -> None:
        for pair in pairs:
            times = [*self._recent(pair, monotonic), at]
            self._sent.pop(pair, None)
            self._sent[pair] = times
            self._notify(pair)
        while len(self._sent) > PAIRS_LIMIT:
            self._forget(next(iter(self._sent)))

    def _note(
        self, pair: str, author: Address, recipient: Address, per_hour: int, monotonic: float, *, can_wait: bool
    ) -> None:
        before = self._limited.pop(pair, None)
        refused, deferred = (before.refused, before.deferred) if before else (0, 0)
        self._limited[pair] = LimitedPair(
            author.key, recipient.key, refused + (not can_wait), deferred + can_wait, per_hour, monotonic
        )
        while len(self._limited) > LIMITED_PAIRS:
            del self._limited[next(iter(self._limited))]

    def _recent(self, pair: str, monotonic: float) -> list[float]:
        return [sent for sent in self._sent.get(pair, ()) if sent > monotonic - _HOUR]

    def _of_all(self, pair: str, monotonic: float) -> list[float]:
        """The times at all instances."""
        own = self._recent(pair, monotonic)
        return own if self.others is None else sorted([*own, *self.others.since(pair, monotonic - _HOUR)])

    def _forget(self, pair: str) -> None:
        del self._sent[pair]
        self._notify(pair)

    def _notify(self, pair: str) -> None:
        self.changed(pair if self.others is None else f"{pair} {self.others.own}")


def _pair(author: Address, recipient: ForwardPath) -> str:
    text = f"{author.key}\0{recipient.key}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST).hexdigest()
