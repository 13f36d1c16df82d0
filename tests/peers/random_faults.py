"""A provider that fails at random, and the reports of a service on what it failed to deliver.

Guarantees: the same generator gives the same faults for the same course of events. Faults are counted, and
transactions whose final reply was lost are known.
Not here: which faults, and how often (tests.crash.traffic, tests.soak.day).
"""

import random
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesParser

from senderproxy.simulator.faults import Drop, FaultAction, FaultPoint, FaultScript


class RandomFaults(FaultScript):
    """Faults at random."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.counts: Counter[str] = Counter()  # by stage and action
        self.lost_replies: set[tuple[int, int]] = set()  # session and transaction

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        """The fault of this point, counted."""
        action = self.choose(point, self._rng.random())
        if isinstance(action, Drop) and action.after_storing:
            self.lost_replies.add((point.session, point.transaction))
        if action is not None:
            self.counts[f"{point.stage.value} {type(action).__name__}"] += 1
        return action

    @abstractmethod
    def choose(self, point: FaultPoint, chance: float) -> FaultAction | None:
        """The fault of this point; `chance`: at random from 0 to 1."""


def read_report(content: bytes) -> tuple[bytes, Sequence[str]]:
    """The message or header that a report returns, and the recipients that it is about."""
    parts = BytesParser().parsebytes(content).get_payload()
    assert isinstance(parts, list)
    _, status, returned = parts
    assert isinstance(status, Message)
    assert isinstance(returned, Message)
    return returned.as_bytes(), re.findall(r"Final-Recipient: rfc822; ?(\S+)", status.as_string())
