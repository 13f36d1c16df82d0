"""Ledger of a soak: every message with its reply, its copies at the provider and the reports on it.

Guarantees: each message has a number of its own and is submitted once, so the ledger is exact.
"""

import re
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from senderproxy.simulator.observations import ReceivedMessage
from tests.peers.random_faults import read_report

_ID: Final = re.compile(rb"<(\d+)\.soak@firma\.example>")


class Reply(Enum):
    """The reply that a client had to its message."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NONE = "none"  # the client left before it


@dataclass(frozen=True, slots=True)
class _Submitted:
    author: str
    recipients: tuple[str, ...]
    reply: Reply


@dataclass
class Ledger:
    """All messages of a soak."""

    submitted: dict[int, _Submitted] = field(default_factory=dict)
    replies: Counter[str] = field(default_factory=Counter)
    wrong_logins: list[str] = field(default_factory=list)
    _copies: Counter[tuple[int, str]] = field(default_factory=Counter)  # with a final reply to the service
    _unconfirmed: Counter[tuple[int, str]] = field(default_factory=Counter)  # stored, but the reply was lost
    _reported: Counter[tuple[int, str]] = field(default_factory=Counter)
    _logins: dict[int, set[str]] = field(default_factory=dict)

    def submit(self, number: int, author: str, recipients: tuple[str, ...], reply: Reply, kind: str) -> None:
        """Enter a message when its client knows its reply, or gives up."""
        self.submitted[number] = _Submitted(author, recipients, reply)
        self.replies[f"{kind} {reply.value}"] += 1

    def receive(self, messages: Iterable[ReceivedMessage], lost_replies: Set[tuple[int, int]]) -> None:
        """Enter what the provider received; the replies to some transactions were lost."""
        for taken in messages:
            is_unconfirmed = (taken.session, taken.transaction) in lost_replies
            if b"multipart/report" in taken.content:
                if not is_unconfirmed:  # its other copy counts
                    self._receive_report(taken)
                continue
            number = _number_in(taken.content)
            self._logins.setdefault(number, set()).add(str(taken.login))
            for recipient in taken.recipients:
                (self._unconfirmed if is_unconfirmed else self._copies)[number, recipient] += 1

    def _receive_report(self, taken: ReceivedMessage) -> None:
        returned, recipients = read_report(taken.content)
        number = _number_in(returned)
        self._logins.setdefault(number, set()).add(str(taken.login))
        for recipient in recipients:
            self._reported[number, recipient] += 1

    def problems(self) -> list[str]:
        """Everything that is not as it must be; call it when nothing is queued any more."""
        found: list[str] = []
        for number, message in self.submitted.items():
            for recipient in message.recipients:
                copies, reports = self._copies[number, recipient], self._reported[number, recipient]
                expected = {
                    Reply.ACCEPTED: ((1, 0), (0, 1)),
                    # A pass-through attempt may reach some recipients and be refused for others: the client then has
                    # a reply for all.
                    Reply.REFUSED: ((0, 0),),
                    Reply.NONE: ((1, 0), (0, 1), (0, 0)),
                }[message.reply]
                if (copies, reports) not in expected:
                    found.append(f"{number} to {recipient}, {message.reply.value}: {copies} copies, {reports} reports")
            found += [
                f"{number} of {message.author} was sent on the login {login}"
                for login in self._logins.get(number, set()) - {message.author}
            ]
        found += [f"{number}: received, but not submitted" for number in self._logins.keys() - self.submitted.keys()]
        return found

    def __str__(self) -> str:
        doubled = sum(self._unconfirmed.values())
        return (
            f"{len(self.submitted)} submitted: {dict(sorted(self.replies.items()))}; {sum(self._copies.values())} copies,"
            f" {sum(self._reported.values())} recipients reported, {doubled} copies whose reply was lost"
        )


def _number_in(content: bytes) -> int:
    found = _ID.search(content)
    assert found is not None, content[:500]
    return int(found[1])
