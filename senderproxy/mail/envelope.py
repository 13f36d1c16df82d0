"""What MAIL and RCPT said: the reverse-path and the forward-paths of one transaction.

RFC 5321 section 2.3.1.
"""

from dataclasses import dataclass

from senderproxy.mail.address import ForwardPath, ReversePath


@dataclass(frozen=True, slots=True)
class Envelope:
    """One transaction's paths. The recipients are in the order in which they came, each once."""

    reverse_path: ReversePath
    recipients: tuple[ForwardPath, ...]
    eight_bit: bool = False  # BODY=8BITMIME was declared (RFC 6152)
