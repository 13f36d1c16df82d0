"""SMTP client protocol for asyncio: commands out, replies in, in the same order.

Guarantees: the n-th reply answers the n-th command, or the session ends; an unexpected reply ends it. Memory is
bounded, whatever the upstream sends (100 lines of 2 KB) and however slowly it reads (back-pressure).
Not here: the commands and their order (delivery.session); connection, TLS and login (delivery.opening).
RFC 5321 section 4.2, RFC 2920.
"""

import asyncio
import functools
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias

from senderproxy.aio import PIECE_OCTETS
from senderproxy.delivery import classify
from senderproxy.delivery.causes import Stage
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.open_failures import invalid_reply
from senderproxy.delivery.reply_timer import NEVER, ReplyTimer
from senderproxy.mail.reply import Reply, parse_reply
from senderproxy.routing.provider import Smarthost

LINE_LIMIT: Final = 2048  # octets; RFC 5321 section 4.5.3.1.5 allows 512, some servers send more
LINES_LIMIT: Final = 100  # lines of one reply; a longer one is an attack or a broken server
_SHORT: Final = 80  # octets; longer lines contain ids and do not repeat, so they are not cached

HIGH_WATER: Final = PIECE_OCTETS  # octets in the transport's buffer; above it the message is not read further
LOW_WATER: Final = PIECE_OCTETS // 4  # octets; below it reading continues, before the buffer is empty


# The result is the reply, or the end of the session instead of it. Not an exception of the future: its traceback would
# refer to the function that waits for the future, a reference cycle that keeps the session and its TLS objects.
ExpectedReply: TypeAlias = asyncio.Future[Reply | SessionEnded]


class ReplyReceiver(Protocol):
    """Receiver of one reply, or of the end of the session: an ExpectedReply, or a state machine without futures."""

    def cancelled(self) -> bool:
        """True if nothing waits for the reply any more."""
        ...

    def done(self) -> bool:
        """True if it has its reply."""
        ...

    def set_result(self, result: Reply | SessionEnded, /) -> None:
        """Take the reply, or the end of the session."""
        ...


class InvalidReplyError(ValueError):
    """The data is not an SMTP reply, or exceeds the limits."""


class ReplyReader:
    """Parser of replies. The fragmentation of its input makes no difference."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Yield the replies that this data completes. Raises InvalidReplyError at the first invalid line."""
        self._rest += data
        while (end := self._rest.find(b"\n", 0, LINE_LIMIT)) >= 0:
            line = bytes(self._rest[:end]).removesuffix(b"\r")
            del self._rest[: end + 1]
            reply = self._add_line(line)
            if reply is not None:
                yield reply
        if len(self._rest) >= LINE_LIMIT:
            raise InvalidReplyError("line too long")

    def single(self, data: bytes) -> Reply | None:
        """The reply, if this data is one short line and nothing waits before it; else `feed` must read it."""
        size = len(data)
        if size > _SHORT or self._rest or self._lines or data[3:4] != b" " or data.find(b"\n") != size - 1:
            return None
        try:
            return _parse_cached(data[:-1].removesuffix(b"\r"))
        except ValueError:
            return None

    def _add_line(self, line: bytes) -> Reply | None:
        self._lines.append(line)
        mark = line[3:4]
        if mark == b"-" and line[:3].isdigit():
            if len(self._lines) >= LINES_LIMIT:
                raise InvalidReplyError("too many lines")
            return None
        if mark not in (b" ", b""):
            raise InvalidReplyError("no space after the code")
        lines, self._lines = self._lines, []
        try:
            return parse_reply(lines) if len(lines) > 1 or len(line) > _SHORT else _parse_cached(line)
        except ValueError as error:
            raise InvalidReplyError(str(error)) from error


@functools.lru_cache(maxsize=256)
def _parse_cached(line: bytes) -> Reply:
    """Parse a short line. Three of four replies are the same `250 OK`."""
    return parse_reply([line])


class UpstreamProtocol(asyncio.Protocol):
    """Protocol of one session, on a transport that is connected and logged in."""

    def __init__(self, transport: asyncio.Transport, smarthost: Smarthost) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._smarthost = smarthost
        self._reader = ReplyReader()
        self._expected: deque[ReplyReceiver] = deque()
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._unclaimed: tuple[ReplyReceiver, Reply] | None = None  # the reply to a future cancelled before it
        self._timer = ReplyTimer(self._loop, self._time_out_reply)
        self.on_replies: Callable[[], None] | None = None  # after the replies of one read, and after the end
        self.stage = Stage.IDLE
        self.end: SessionEnded | None = None
        self.on_end: Callable[[], None] | None = None  # called once, when the session ends
        self.closed: asyncio.Future[None] = self._loop.create_future()
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        transport.set_protocol(self)

    # --- for the session ---

    @property
    def certificate_validity(self) -> tuple[datetime, datetime] | None:
        """The beginning and the end of the validity of the server's certificate; None without TLS."""
        certificate: Mapping[str, str] = self._transport.get_extra_info("peercert") or {}
        if "notBefore" not in certificate or "notAfter" not in certificate:
            return None
        start, end = (ssl.cert_time_to_seconds(certificate[name]) for name in ("notBefore", "notAfter"))
        return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)

    def send(self, *lines: str) -> Sequence[ExpectedReply]:
        """Send command lines in one write. Returns a future for the reply to each."""
        for line in lines:
            if not (line.isascii() and line.isprintable()):
                raise ValueError("control or non-ASCII character in a command line")
        futures = [self.expect() for _ in lines]
        self.write("".join(f"{line}\r\n" for line in lines).encode("ascii"))
        return futures

    def expect(self) -> ExpectedReply:
        """Return a future for one more reply."""
        self._check()
        future: ExpectedReply = self._loop.create_future()
        self._expected.append(future)
        return future

    def send_for(self, receiver: ReplyReceiver, octets: bytes, replies: int, seconds: float, stage: Stage) -> None:
        """Write octets to which so many replies come, for this receiver; the first one within so many seconds."""
        self._check()
        self._expected.extend([receiver] * replies)
        self.stage = stage
        self._timer.start(seconds)
        self._transport.write(octets)

    def await_next(self, seconds: float, stage: Stage) -> None:
        """Limit the time for the next of several replies from now on."""
        self.stage = stage
        self._timer.start(seconds)

    def stop_waiting(self) -> None:
        """End the limit of `send_for` or `await_next`."""
        self._timer.deadline = NEVER

    def expect_futures(self) -> Sequence[ExpectedReply]:
        """Replace the receivers of all replies that have not come by futures; the limit of time stays."""
        futures = [self._loop.create_future() for _ in self._expected]
        self._expected = deque(futures)
        return futures

    def write(self, octets: bytes | memoryview) -> None:
        """Write octets to the transport."""
        self._check()
        self._transport.write(octets)

    async def reply(self, future: ExpectedReply, seconds: float, stage: Stage) -> Reply:
        """Wait for one reply, in seconds. A timeout ends the session."""
        self.stage = stage
        if future.done():
            return _reply_of(future.result())
        if self._timer.deadline == NEVER:
            self._timer.start(seconds)
        try:
            return _reply_of(await future)
        finally:
            self._timer.deadline = NEVER

    async def certain_reply(self, future: ExpectedReply, seconds: float, stage: Stage) -> Reply:
        """Wait for one reply, even if cancelled. A timeout ends the session, and so the wait."""
        self.stage = stage
        if self._timer.deadline == NEVER:
            self._timer.start(seconds)
        try:
            while True:
                try:
                    return _reply_of(await future)
                except asyncio.CancelledError:
                    if future.cancelled():
                        future = self._replace_cancelled(future)
        finally:
            self._timer.deadline = NEVER

    async def drain(self, seconds: float, early: ExpectedReply) -> None:
        """Wait until the transport accepts more, or `early` is done. No progress for `seconds` ends the session."""
        while self._paused and self.end is None and not early.done():
            buffered = self._transport.get_write_buffer_size()
            self._drained = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._check_progress, buffered, seconds)
            try:
                await self._drained
            finally:
                timer.cancel()
                self._drained = None

    def fail(self, end: SessionEnded) -> None:
        """End the session: raise `end` at every waiter, abort the connection."""
        if self.end is not None:
            return
        self.end = end
        self._timer.close()
        self._transport.abort()
        while self._expected:
            future = self._expected.popleft()
            if not future.done():
                future.set_result(end)
        self._wake_drain()
        on_end, self.on_end = self.on_end, None  # it refers to the session, so to this protocol
        if on_end is not None:
            on_end()
        if self.on_replies is not None:
            self.on_replies()

    def close(self) -> None:
        """Close the connection in order, after the reply to QUIT."""
        if self.end is None:
            self.end = SessionEnded(classify.connection_closed(self._smarthost, Stage.QUIT, None))
            self.on_end = None
            self._timer.close()
            self._transport.close()

    def abort(self) -> None:
        """Abort the connection, without waiting for unsent octets."""
        self._transport.abort()

    # --- called by asyncio ---

    def data_received(self, data: bytes) -> None:
        if self.end is not None:
            return
        try:
            if (reply := self._reader.single(data)) is not None:
                self._receive(reply)
            else:
                for reply in self._reader.feed(data):
                    self._receive(reply)
        except InvalidReplyError:
            self.fail(SessionEnded(invalid_reply(self._smarthost, self.stage)))
        if self.on_replies is not None:
            self.on_replies()

    def eof_received(self) -> None:
        self.fail(SessionEnded(classify.connection_closed(self._smarthost, self.stage, None)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(SessionEnded(classify.connection_closed(self._smarthost, self.stage, exc)))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake_drain()

    # --- internals ---

    def _receive(self, reply: Reply) -> None:
        if not self._expected:
            # Between commands a server sends 421 at most. After any other reply, replies and commands are out of step.
            self.fail(SessionEnded(classify.session_ended(self._smarthost, Stage.IDLE, reply), reply))
            return
        future = self._expected.popleft()
        if self.on_replies is not None:  # a state machine takes every reply
            future.set_result(reply)
            return
        if future.cancelled():
            self._unclaimed = future, reply
        elif not future.done():
            future.set_result(reply)
        self._wake_drain()

    def _check(self) -> None:
        if self.end is not None:
            raise self.end.copy()

    def _wake_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _replace_cancelled(self, cancelled: ExpectedReply) -> ExpectedReply:
        """Return a new future for the same reply, which may have come already."""
        future: ExpectedReply = self._loop.create_future()
        if self._unclaimed is not None and self._unclaimed[0] is cancelled:
            future.set_result(self._unclaimed[1])
        else:
            self._check()
            self._expected[self._expected.index(cancelled)] = future
        return future

    def _time_out_reply(self, seconds: float) -> None:
        self._time_out(self.stage, seconds)

    def _time_out(self, stage: Stage, seconds: float) -> None:
        self.fail(SessionEnded(classify.reply_timeout(self._smarthost, stage, seconds)))

    def _check_progress(self, buffered: int, seconds: float) -> None:
        if self._transport.get_write_buffer_size() < buffered:
            self._wake_drain()  # slow progress: drain checks again
        else:
            self._time_out(Stage.BODY, seconds)


def _reply_of(result: Reply | SessionEnded) -> Reply:
    """Return the reply. Raises SessionEnded where the session ended before it."""
    if isinstance(result, SessionEnded):
        raise result.copy()
    return result
