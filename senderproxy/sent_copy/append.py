"""APPEND of one copy, in blocks.

Guarantees: memory does not depend on the size of the message; exactly the announced octets are sent, or the connection
ends within the literal, and the server stores nothing. A large copy is sent only after the server has agreed.
Not here: the folder and the login (sent_copy.session), repetition.
RFC 9051 sections 6.3.12 and 7.6, RFC 7888 (LITERAL+, LITERAL-).
"""

import re
from collections.abc import Iterator, Set
from datetime import datetime
from itertools import count
from typing import Final

from senderproxy.sent_copy.connection import ImapConnection, ImapStep, NotImap, TooMuchData, quoted
from senderproxy.sent_copy.ports import Copy
from senderproxy.sent_copy.refusals import NegativeAnswer, answer_of

_UNASKED: Final = 64 * 1024  # octets sent without waiting for the server, with LITERAL+: one round trip less
_UNASKED_SMALL: Final = 4096  # octets, with LITERAL-: RFC 7888 section 5
_STORE_SECONDS: Final = 300.0  # from the last octet to the answer: a busy disk, or a virus scanner of the server
_EXPLAIN_SECONDS: Final = 5.0  # for the reason of a connection that was closed while we were sending
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LITERAL: Final = re.compile(rb"\{(\d{1,9})\+?\}\r?\n\Z")
_TAGGED: Final = re.compile(rb"(OK|NO|BAD)(?: (.*))?\r?\n", re.IGNORECASE | re.DOTALL)


class AppendRefused(Exception):
    """The server does not store the copy."""

    def __init__(self, answer: NegativeAnswer) -> None:
        super().__init__("append refused")
        self.answer = answer


class UnreadableCopy(Exception):
    """The message cannot be read from the disk. `args[0]`: why."""


class UnsuitableCopy(Exception):
    """The message is none that IMAP can carry: it has NUL octets, or another size than announced."""


class Appending:
    """The transfer of one copy.

    `may_be_stored`: True from its last octet on until the server says that it is stored. A refusal changes nothing:
    some servers refuse what they have stored, and a search costs less than a second copy.
    """

    def __init__(self, connection: ImapConnection, capabilities: Set[bytes], copy: Copy) -> None:
        self._connection = connection
        self._capabilities = capabilities
        self._copy = copy
        self._tags = (b"copy%d" % number for number in count(1))
        self.may_be_stored = False

    def append(self, folder: bytes) -> None:
        """Store the copy in the folder. Raises AppendRefused, UnreadableCopy, UnsuitableCopy, as ImapConnection."""
        copy, connection = self._copy, self._connection
        connection.attempt.step = ImapStep.APPEND
        size = len(copy.mark_field) + copy.size
        unasked = size <= self._unasked_limit()
        tag = next(self._tags)
        date = internal_date(copy.sent_at).encode("ascii")
        head = b'%s APPEND %s (\\Seen) "%s" {%d%s}\r\n' % (tag, quoted(folder), date, size, b"+" if unasked else b"")
        connection.send(head)
        if not unasked:
            self._read_answer(tag, wants_continuation=True)
        try:
            self._send_message()
        except OSError:
            if not self._is_stored(tag):
                raise
        else:
            connection.allow(_STORE_SECONDS)
            self._read_answer(tag)
        self.may_be_stored = False

    def _unasked_limit(self) -> int:
        if b"LITERAL+" in self._capabilities:
            return _UNASKED
        return _UNASKED_SMALL if self._capabilities & {b"LITERAL-", b"IMAP4REV2"} else 0

    def _send_message(self) -> None:
        left, blocks = self._copy.size, self._copy.blocks()
        self._connection.send(self._copy.mark_field)
        block = _next(blocks)
        while block:
            following = _next(blocks)
            left -= len(block)
            if b"\0" in block or left < 0 or (left == 0) == bool(following):
                raise UnsuitableCopy
            self.may_be_stored = not following
            self._connection.send(block)
            block = following
        self._connection.send(b"\r\n")

    def _is_stored(self, tag: bytes) -> bool:
        """Read what the server says about a connection that it closed while we were sending.

        Raises AppendRefused if it refused the copy; False if it says nothing, or goodbye.
        """
        attempt = self._connection.attempt
        fault = attempt.fault
        self._connection.allow(_EXPLAIN_SECONDS)
        try:
            self._read_answer(tag)
        except (OSError, NotImap, TooMuchData, ValueError):
            pass
        else:
            return self.may_be_stored
        attempt.fault = fault
        return False

    def _read_answer(self, tag: bytes, *, wants_continuation: bool = False) -> None:
        """Read up to the answer of this command. Raises AppendRefused, and as ImapConnection."""
        while True:
            line = self._connection.readline()
            first, _, rest = line.partition(b" ")
            if first == b"+" or line in (b"+\r\n", b"+\n"):
                if wants_continuation:
                    return
                raise NotImap
            if first == b"*":
                self._skip_literals(line)
            elif first == tag and (found := _TAGGED.fullmatch(rest)):
                if found[1].upper() == b"OK" and not wants_continuation:
                    return
                raise AppendRefused(answer_of(found[2] or b""))
            else:
                raise NotImap

    def _skip_literals(self, line: bytes) -> None:
        while literal := _LITERAL.search(line):
            self._connection.read(int(literal[1]))
            line = self._connection.readline()


def internal_date(when: datetime) -> str:
    """The date of a message in a folder. `when`: aware. RFC 9051 section 9, date-time."""
    seconds = int((when.utcoffset() or when - when).total_seconds())
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    zone = f"{sign}{minutes // 60:02}{minutes % 60:02}"
    return f"{when.day:02}-{_MONTHS[when.month - 1]}-{when.year:04} {when:%H:%M:%S} {zone}"


def _next(blocks: Iterator[bytes]) -> bytes:
    """The next block that is not empty; empty at the end."""
    try:
        for block in blocks:
            if block:
                return block
    except OSError as fault:
        raise UnreadableCopy(fault.strerror or type(fault).__name__) from None
    return b""
