"""What MAIL and RCPT said: the reverse-path and the forward-paths of one transaction.

RFC 5321 section 2.3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from senderproxy.mail.address import ForwardPath, ReversePath


@dataclass(frozen=True, slots=True)
class Envelope:
    """One transaction's paths. The recipients are in the order in which they came, each once."""

    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    eight_bit: bool = False  # BODY=8BITMIME was declared (RFC 6152)

    def with_reverse_path(self, reverse_path: ReversePath) -> "Envelope":
        """The same with this reverse-path."""
        return self if reverse_path == self.reverse_path else replace(self, reverse_path=reverse_path)

    def with_recipients(self, recipients: Sequence[ForwardPath]) -> "Envelope":
        """The same for these recipients."""
        return self if len(recipients) == len(self.recipients) else replace(self, recipients=tuple(recipients))
