"""ContentChange: the interface of a change to the body of a message. PURE.

Guarantees: a plan lists such changes (rewriting.plan.RewritePlan.content_changes), and makes none of them itself.
Not here: the threads and files on which they run (relay.content_changes).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from senderproxy.mail.header import HeaderSection

Write: TypeAlias = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The content leaves as it is. What was written meanwhile is dropped."""

    reason: str  # one sentence, for the log
    is_expected: bool = False  # by the rules of the change; else something is wrong with the message


class ContentChange(Protocol):
    """A change that reads the body once and writes the new one, in blocks of any size."""

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        """Write the whole new body, and return the header section that belongs to it; or Unchanged.

        Called on a thread. Both bodies are without dot-stuffing and have CRLF line ends; `write` raises ValueError for
        a body that does not end in one. An exception leaves the message as it is.
        """
        ...
