"""A message in the form that DATA transmits. PURE.

Guarantees: `Message.blocks()` is exactly the data between 354 and the final dot: CRLF line ends only, dot-stuffed
(RFC 5321 section 4.5.2), empty or ending in CRLF.

Not here: storage of a large body (listener.body).
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from senderproxy.mail.header import HeaderSection
from senderproxy.value_class import value_class

_T = TypeVar("_T")
_Block = TypeVar("_Block", covariant=True)


class BlockReader(Protocol[_Block]):
    """Reader of blocks that come from a disk."""

    async def next(self) -> Sequence[_Block]:
        """The next blocks; none at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """End the reading, once, also before the end."""
        ...


class Disk(Protocol):
    """The disk of a body. The event loop never waits for it: other threads do."""

    async def read(self, body: "Body") -> bytes:
        """All octets of a small body. Raises OSError, also if the disk does not respond."""
        ...

    def read_ahead(self, blocks: Generator[_T, None, None], body: "Body") -> BlockReader[_T]:
        """A reader of blocks made from those of `body`, which is retained until the reader is closed."""
        ...


class Body(Protocol):
    """The part after the header section, dot-stuffed as received. It can be read repeatedly and concurrently."""

    @property
    def size(self) -> int:
        """Octets, as stuffed."""
        ...

    @property
    def is_ascii(self) -> bool:
        """True without octets above 127."""
        ...

    @property
    def has_long_lines(self) -> bool:
        """True with a line of more than 998 octets (RFC 5321 section 4.5.3.1.6)."""
        ...

    @property
    def disk(self) -> Disk | None:
        """The disk that `blocks` may wait for; None for a body in memory."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start, in blocks of bounded size. Raises OSError if some are missing."""
        ...

    def retain(self) -> None:
        """Add a user of the body. Each user calls `close` once."""
        ...

    def close(self) -> None:
        """Remove a user. After the last one the octets are released."""
        ...


@runtime_checkable
class UnnamedFile(Protocol):
    """A Body that may be in a file without a name, which the spool can link instead of copying it."""

    def unnamed_file(self) -> int | None:
        """The open file with exactly these octets, None if they are in memory."""
        ...


@value_class
class Message:
    """The header section (not dot-stuffed, with its closing blank line if it had one) and the body."""

    header: HeaderSection
    body: Body

    @property
    def size(self) -> int:
        """Octets to send, for SIZE= (RFC 1870 permits an estimate)."""
        return len(self.header.raw) + self.body.size

    def blocks(self) -> Iterator[bytes]:
        """The whole message in blocks, dot-stuffed, without the final dot."""
        yield self.header.dot_stuffed()
        yield from self.body.blocks()
