"""Envelope of one transaction: reverse-path and forward-paths from MAIL and RCPT. PURE.

RFC 5321 section 2.3.1.
"""

from collections.abc import Sequence
from dataclasses import replace

from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.value_class import value_class


@value_class
class Envelope:
    """Paths of one transaction. The recipients are unique and in the order of receipt."""

    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    eight_bit: bool = False  # BODY=8BITMIME was declared (RFC 6152)
    eight_bit_anyway: bool = (
        False  # what could be re-encoded is: the rest is sent to a server without 8BITMIME as it is
    )

    def with_reverse_path(self, reverse_path: ReversePath) -> "Envelope":
        """A copy with this reverse-path."""
        return self if reverse_path == self.reverse_path else replace(self, reverse_path=reverse_path)

    def with_recipients(self, recipients: Sequence[ForwardPath]) -> "Envelope":
        """A copy with these recipients, a subset of the own."""
        return self if len(recipients) == len(self.recipients) else replace(self, recipients=tuple(recipients))
