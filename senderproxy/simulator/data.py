"""Find the end of DATA, and take the dot-stuffing off again.

Guarantees: only CRLF.CRLF ends the data; every bare CR, bare LF, NUL and undoubled dot is noticed; what comes out is
the content as it was before stuffing. Works on any cut of the stream, down to single octets, in flat memory.
Not here: keeping the content, answering.
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

from typing import Final

_END: Final = b"\r\n.\r\n"


class DataReader:
    """Fed with blocks as they arrive; says what may be kept, and when it is over."""

    def __init__(self) -> None:
        # The CRLF of the DATA command counts as the line end before the first line (RFC 5321 section 4.1.1.4).
        self._carry = b"\r\n"
        self._borrowed = 2
        self.faults: list[str] = []
        self.rest: bytes | None = None  # what came after the end; None while there is no end yet

    def feed(self, block: bytes) -> bytes:
        """Take the next block; returns content that is certain by now."""
        data = self._carry + block
        end = data.find(_END)
        if end >= 0:
            self.rest = data[end + len(_END) :]
            self._carry = b""
            return self._release(data[: end + 2])
        held = _longest_beginning_of_end(data)
        self._carry = data[len(data) - held :]
        return self._release(data[: len(data) - held])

    def _release(self, data: bytes) -> bytes:
        self._inspect(data)
        # With the end out of the way, every dot after a line end is one that stuffing put there.
        content = data.replace(b"\r\n.", b"\r\n")
        if self._borrowed and content:
            content, self._borrowed = content[self._borrowed :], 0
        return content

    def _inspect(self, data: bytes) -> None:
        pairs = data.count(b"\r\n")
        found = {
            "bare CR in the content": data.count(b"\r") != pairs,
            "bare LF in the content": data.count(b"\n") != pairs,
            "NUL in the content": b"\0" in data,
            "a line begins with a dot that is not doubled": data.count(b"\r\n.") != data.count(b"\r\n.."),
        }
        self.faults += [fault for fault, present in found.items() if present and fault not in self.faults]


def _longest_beginning_of_end(data: bytes) -> int:
    """How many octets at the end of `data` may be the beginning of CRLF.CRLF."""
    for length in range(min(len(_END) - 1, len(data)), 0, -1):
        if _END.startswith(data[-length:]):
            return length
    return 0
