"""ContentChanger: runs the content changes of a plan on a thread, from file to file.

Guarantees: the event loop waits neither for the work nor for the disk; memory is bounded, whatever the size of the
message: a new body above 256 KiB is in an unnamed file. If a change fails or declines, the message leaves without it,
with the reason in the log and in the result; only a disk that fails defers it. The new body is dot-stuffed, and its
size is exact.
Not here: the changes (rewriting.content_change), their choice (rewriting.plan).
"""

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.disk_threads import READ_BLOCK, DiskThreads, DiskTimeout
from senderproxy.log import event
from senderproxy.mail.dot_stuffing import DotStuffer, remove_dots
from senderproxy.mail.message import Message
from senderproxy.rewriting.content_change import ContentChange, Unchanged
from senderproxy.rewriting.long_lines import LongLineDetector
from senderproxy.translation import N_

_MEMORY_LIMIT: Final = 256 * 1024  # octets of a new body in memory; most messages have less
_TIMEOUT: Final = 60.0  # seconds for all changes of one message; 100 MB take some seconds

INTERNAL_ERROR: Final = N_("an internal error")

_log: Final = logging.getLogger("senderproxy.relay")


class ChangedMessage(NamedTuple):
    """A message after its content changes, and those that were not made, with their reasons."""

    message: Message
    unmade: Mapping[int, str]  # by the index of the change
    digest: str = ""  # SHA-256 of the new body, if it was asked for


class ContentChanger:
    """The threads for content changes, started when the first one is needed."""

    def __init__(self, timeout_seconds: float = _TIMEOUT) -> None:
        self._disk = DiskThreads("content-change", timeout_seconds=timeout_seconds)

    async def change(
        self, message_id: str, message: Message, changes: Sequence[ContentChange], *, with_digest: bool = False
    ) -> ChangedMessage:
        """Return the message after all changes, in their order. Its body is to be closed if it is another one.

        Raises OSError if the disk does not respond, is full or fails.
        """
        working = self._disk.do(lambda: self._apply_all(message_id, message, changes, with_digest=with_digest))
        message.body.retain()
        working.add_done_callback(lambda _: message.body.close())
        try:
            await wait_done(working, self._disk.timeout_seconds)
        except BaseException:
            working.add_done_callback(lambda done: _close_unused(done, message))
            raise
        if not working.done():
            working.add_done_callback(lambda done: _close_unused(done, message))
            raise DiskTimeout
        return working.result()

    def _apply_all(
        self, message_id: str, message: Message, changes: Sequence[ContentChange], *, with_digest: bool
    ) -> ChangedMessage:
        current = message
        unmade: dict[int, str] = {}  # by the index of the change
        for index, change in enumerate(changes):
            previous = current
            try:
                made = self._apply(message_id, previous, change)
                if isinstance(made, str):
                    unmade[index] = made
                else:
                    current = made
            except OSError:
                current = message
                raise
            finally:
                if current is not previous and isinstance(previous.body, ChangedBody):
                    previous.body.discard()
        return ChangedMessage(current, unmade, _digest(current) if with_digest else "")

    def _apply(self, message_id: str, message: Message, change: ContentChange) -> Message | str:
        """Make one change; on a thread. Returns the reason if it is not made."""
        body = ChangedBody(self._disk)
        try:
            header = change.apply(message.header, remove_dots(message.body.blocks()), body.write)
            if not isinstance(header, Unchanged):
                body.finish()
                return Message(header, body)
            reason, fault, is_expected = header.reason, None, header.is_expected
        except OSError:
            body.discard()
            raise
        except Exception as error:  # noqa: BLE001  the message leaves as it is
            reason, fault, is_expected = INTERNAL_ERROR, error, False
        body.discard()
        kind = log_events.CONTENT_CHANGE_OMITTED if is_expected else log_events.CONTENT_UNCHANGED
        event(_log, kind, fault=fault, id=message_id, why=reason)
        return reason


def _digest(message: Message) -> str:
    found = hashlib.sha256()
    for block in message.body.blocks():
        found.update(block)
    return found.hexdigest()


class ChangedBody:
    """An implementation of mail.message.Body: written on one thread, read on any, closed by each of its users."""

    def __init__(self, disk: DiskThreads) -> None:
        self.size = 0
        self.is_ascii = True
        self._disk = disk
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._lines = LongLineDetector()
        self._stuffer = DotStuffer()
        self._last = b"\r\n"  # the last two octets
        self._users = 1

    @property
    def has_long_lines(self) -> bool:
        """True with a line of more than 998 octets."""
        return self._lines.found

    @property
    def disk(self) -> DiskThreads | None:
        """The threads that read its file; None for a body in memory."""
        return self._disk if self._file is not None else None

    def write(self, piece: bytes) -> None:
        """Add a piece, without dot-stuffing. May block. Raises OSError."""
        self._last = (self._last + piece[-2:])[-2:]
        stuffed = self._stuffer.add_dots(piece)
        self.size += len(stuffed)
        self.is_ascii = self.is_ascii and stuffed.isascii()
        self._lines.feed(stuffed)
        self._memory += stuffed
        if len(self._memory) > _MEMORY_LIMIT:
            self._write_memory()

    def finish(self) -> None:
        """End the writing. Raises ValueError if the body does not end in CRLF, OSError if the disk fails."""
        if self._last != b"\r\n":
            raise ValueError("the new body does not end in CRLF")
        if self._file is not None:
            self._write_memory()

    def blocks(self) -> Iterator[bytes]:
        """The octets from the start, in blocks. Raises OSError if the body was closed."""
        if self._file is None:
            yield bytes(self._memory)
            return
        position = 0
        while position < self.size:
            block = os.pread(self._file.fileno(), READ_BLOCK, position)
            if not block:
                raise OSError("the file of the changed body is shorter than it was when written")
            yield block
            position += len(block)

    def retain(self) -> None:
        """Add a user, who must call `close` too."""
        self._users += 1

    def close(self) -> None:
        """Remove a user; the last one frees memory and file. On the event loop."""
        self._users -= 1
        if self._users == 0:
            self._memory, self.size = bytearray(), 0
            if self._file is not None:
                self._disk.do_always(self._file.close)

    def discard(self) -> None:
        """Free the file of a body that no one uses; on the thread that has written it."""
        if self._file is not None:
            self._file.close()

    def _write_memory(self) -> None:
        if self._file is None:
            self._file = _unnamed_file()
        octets, self._memory = memoryview(self._memory), bytearray()
        while octets:
            octets = octets[self._file.write(octets) :]


def _unnamed_file() -> BinaryIO:
    """Return a file that disappears when it is closed or the process ends."""
    return tempfile.TemporaryFile(buffering=0)


def _close_unused(done: "asyncio.Future[ChangedMessage]", message: Message) -> None:
    """Close the result of a call that no one waits for any more."""
    if done.exception() is None and done.result().message is not message:
        done.result().message.body.close()
