"""Parser of the DATA stream: finds its end and removes the dot-stuffing.

Guarantees: only CRLF.CRLF ends the data. Every bare CR, bare LF, NUL and undoubled dot is reported. The output is the
content before dot-stuffing. The stream may be split at any octet; memory use is constant.

Not here: storage of the content (simulator.content), replies (simulator.mail_commands).

RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
"""

from typing import Final

_END: Final = b"\r\n.\r\n"


class DataReader:
    """Incremental parser: takes blocks as they arrive, returns content, knows when the data ended."""

    def __init__(self) -> None:
        # The CRLF of the DATA command counts as the line end before the first line (RFC 5321 section 4.1.1.4).
        self._pending = b"\r\n"
        self._virtual_octets = 2  # octets of that CRLF, not part of the content
        self.faults: list[str] = []
        self.rest: bytes | None = None  # octets after the end of the data; None before the end

    def feed(self, block: bytes) -> bytes:
        """Parse the next block. Returns the content that is complete by now."""
        data = self._pending + block
        end = data.find(_END)
        if end >= 0:
            self.rest = data[end + len(_END) :]
            self._pending = b""
            return self._unstuff(data[: end + 2])
        kept = _possible_end_octets(data)
        self._pending = data[len(data) - kept :]
        return self._unstuff(data[: len(data) - kept])

    def _unstuff(self, data: bytes) -> bytes:
        self._find_faults(data)
        # The end of the data is removed already, so each dot after a line end was added by dot-stuffing.
        content = data.replace(b"\r\n.", b"\r\n")
        if self._virtual_octets and content:
            content, self._virtual_octets = content[self._virtual_octets :], 0
        return content

    def _find_faults(self, data: bytes) -> None:
        pairs = data.count(b"\r\n")
        found = {
            "bare CR in the content": data.count(b"\r") != pairs,
            "bare LF in the content": data.count(b"\n") != pairs,
            "NUL in the content": b"\0" in data,
            "a line begins with a dot that is not doubled": data.count(b"\r\n.") != data.count(b"\r\n.."),
        }
        self.faults += [fault for fault, present in found.items() if present and fault not in self.faults]


def _possible_end_octets(data: bytes) -> int:
    """Number of octets at the end of `data` that may be the beginning of CRLF.CRLF."""
    for length in range(min(len(_END) - 1, len(data)), 0, -1):
        if _END.startswith(data[-length:]):
            return length
    return 0
