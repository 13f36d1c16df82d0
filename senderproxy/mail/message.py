"""A message in the form in which it travels.

Guarantees: `Message.blocks()` is exactly what follows 354 up to, but without, the final dot: CRLF line ends only,
dot-stuffed (RFC 5321 section 4.5.2), ending in CRLF or empty.
Not here: where a large body is kept (listener.body).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from senderproxy.mail.header import HeaderSection


class Body(Protocol):
    """What follows the header section, dot-stuffed as it came; may be read again and again, by several at once."""

    @property
    def size(self) -> int:
        """Octets, as stuffed."""
        ...

    @property
    def is_ascii(self) -> bool:
        """No octet above 127 in it."""
        ...

    @property
    def has_long_lines(self) -> bool:
        """A line of more than 998 octets in it (RFC 5321 section 4.5.3.1.6)."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start, in blocks of bounded size. Raises OSError where they are not all there."""
        ...

    def retain(self) -> None:
        """One more wants to read it; each who keeps it closes it."""
        ...

    def close(self) -> None:
        """One less; the last one's close gives the octets up."""
        ...


@runtime_checkable
class UnnamedFile(Protocol):
    """A Body that may lie in a file without a name; who keeps the message can give it one instead of copying it."""

    def unnamed_file(self) -> int | None:
        """The file, open, with these octets and no others; None where they are in memory."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """The header section as bytes (not stuffed, with its closing blank line if it had one) and the body."""

    header: HeaderSection
    body: Body

    @property
    def size(self) -> int:
        """Octets upstream will be sent; what SIZE= declares (RFC 1870: an estimate is allowed)."""
        return len(self.header.raw) + self.body.size

    def blocks(self) -> Iterator[bytes]:
        """The whole message in blocks, dot-stuffed, without the final dot."""
        yield self.header.dot_stuffed()
        yield from self.body.blocks()
