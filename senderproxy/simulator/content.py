"""Content of one message while it arrives.

Guarantees: size and digest cover all octets; the octets are stored only if the settings say so and they are within the
size limit.

Not here: the end of the data (simulator.data), the check of the header (simulator.headers).
"""

import hashlib

from senderproxy.simulator.data import DataReader
from senderproxy.simulator.settings import SimulatorSettings


class IncomingContent:
    """The part of a message's content that has arrived."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._limit = settings.size_limit
        self._record = settings.record_content
        self.reader = DataReader()
        self.octets = bytearray()
        self.head = bytearray()  # up to the end of the header section, for its check
        self._head_complete = False
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def too_large(self) -> bool:
        return self._limit is not None and self.size > self._limit

    def add(self, block: bytes) -> None:
        """Parse a block of the DATA stream and add its content."""
        content = self.reader.feed(block)
        self.size += len(content)
        self.digest.update(content)
        if not self._head_complete:
            self.head += content
            end = self.head.find(b"\r\n\r\n")
            self._head_complete = end >= 0 or self.head.startswith(b"\r\n")
            if end >= 0:
                del self.head[end + 4 :]
        if self._record and not self.too_large:
            self.octets += content
