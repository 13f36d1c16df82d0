"""The upstream dialogue as an asyncio protocol: replies in the order of the commands, and never out of step.

Guarantees: the n-th reply answers the n-th command, or the session is over; a reply nobody waits for ends it. Memory is
bounded whatever the upstream sends (100 lines of 2 KB) and however slowly it reads (back-pressure).
Not here: which commands, in which order (session); connecting, TLS and the login (aiosmtplib).
RFC 5321 section 4.2, RFC 2920.
"""

import asyncio
import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from senderproxy.aio import PIECE_OCTETS
from senderproxy.delivery import classify
from senderproxy.delivery.classify import SessionLost, Stage
from senderproxy.mail.reply import Reply, parse_reply
from senderproxy.routing.provider import Smarthost

LINE_LIMIT: Final = 2048  # octets; RFC 5321 section 4.5.3.1.5 grants 512, some servers take more
LINES_LIMIT: Final = 100  # lines of one reply; a longer one is an attack or a broken server
_SHORT: Final = 80  # octets; only short lines repeat, so only their replies are cached

HIGH_WATER: Final = PIECE_OCTETS  # octets we let wait in the transport before we stop reading the message
LOW_WATER: Final = PIECE_OCTETS // 4  # octets in the transport at which reading of the message continues


class NoReplyError(ValueError):
    """What came is no SMTP reply, or one without end."""


class ReplyReader:
    """Octets in, replies out; the pieces in which the octets come make no difference."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Reply]:
        """The replies that are complete with this data; raises NoReplyError at the first line that is none."""
        self._rest += data
        while (end := self._rest.find(b"\n", 0, LINE_LIMIT)) >= 0:
            line = bytes(self._rest[:end]).removesuffix(b"\r")
            del self._rest[: end + 1]
            reply = self._take(line)
            if reply is not None:
                yield reply
        if len(self._rest) >= LINE_LIMIT:
            raise NoReplyError("the line has no end")

    def _take(self, line: bytes) -> Reply | None:
        self._lines.append(line)
        mark = line[3:4]
        if mark == b"-" and line[:3].isdigit():
            if len(self._lines) >= LINES_LIMIT:
                raise NoReplyError("the reply has no end")
            return None
        if mark not in (b" ", b""):
            raise NoReplyError("no space after the code")
        lines, self._lines = self._lines, []
        try:
            return parse_reply(lines) if len(lines) > 1 or len(line) > _SHORT else _parse_again(line)
        except ValueError as error:
            raise NoReplyError(str(error)) from error


@functools.lru_cache(maxsize=256)
def _parse_again(line: bytes) -> Reply:
    """Three of four replies are the same `250 OK` all day long."""
    return parse_reply([line])


class UpstreamProtocol(asyncio.Protocol):
    """Takes over a transport that is connected, secured and logged in."""

    def __init__(self, transport: asyncio.Transport, smarthost: Smarthost) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._smarthost = smarthost
        self._reader = ReplyReader()
        self._expected: deque[asyncio.Future[Reply]] = deque()
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._unheard: tuple[asyncio.Future[Reply], Reply] | None = None  # whose waiter was cancelled just before
        self._patience = 0.0  # seconds for the reply that is waited for
        self._deadline = math.inf  # when it must have come
        self._timer: asyncio.TimerHandle | None = None
        self.stage = Stage.IDLE
        self.end: SessionLost | None = None
        self.on_end: Callable[[], None] | None = None  # called once, when the session can carry nothing more
        self.closed: asyncio.Future[None] = self._loop.create_future()
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        transport.set_protocol(self)

    # --- what the session says ---

    def send(self, *lines: str) -> Sequence["asyncio.Future[Reply]"]:
        """Write command lines in one go; one future each for their replies."""
        for line in lines:
            if not (line.isascii() and line.isprintable()):
                raise ValueError("a command line carries a control or a character outside ASCII")
        futures = [self.expect() for _ in lines]
        self.write("".join(f"{line}\r\n" for line in lines).encode("ascii"))
        return futures

    def expect(self) -> "asyncio.Future[Reply]":
        """One more reply is due."""
        self._check()
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._expected.append(future)
        return future

    def write(self, octets: bytes) -> None:
        """Hand octets to the transport."""
        self._check()
        self._transport.write(octets)

    async def reply(self, future: "asyncio.Future[Reply]", seconds: float, stage: Stage) -> Reply:
        """Wait for one reply; silence ends the session."""
        self.stage = stage
        if future.done():
            return future.result()
        self._expect_within(seconds)
        try:
            return await future
        finally:
            self._deadline = math.inf

    async def certain_reply(self, future: "asyncio.Future[Reply]", seconds: float, stage: Stage) -> Reply:
        """Wait for one reply, cancelled or not; silence ends the session, and so the wait."""
        self.stage = stage
        self._expect_within(seconds)
        try:
            while True:
                try:
                    return await future
                except asyncio.CancelledError:
                    if future.cancelled():
                        future = self._expect_instead_of(future)
        finally:
            self._deadline = math.inf

    async def drain(self, seconds: float, early: "asyncio.Future[Reply]") -> None:
        """Return when there is room for more, or `early` came; no progress for so long ends the session."""
        while self._paused and self.end is None and not early.done():
            waiting = self._transport.get_write_buffer_size()
            self._drained = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._check_progress, waiting, seconds)
            try:
                await self._drained
            finally:
                timer.cancel()
                self._drained = None

    def fail(self, lost: SessionLost) -> None:
        """The session is over: everybody who waits is told, the connection is cut."""
        if self.end is not None:
            return
        self.end = lost
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        while self._expected:
            future = self._expected.popleft()
            if not future.done():
                future.set_exception(SessionLost(lost.reply, lost.said))
                future.exception()  # it may be that nobody asks for it
        self._wake()
        if self.on_end is not None:
            self.on_end()

    def close(self) -> None:
        """End it in order, after QUIT was answered."""
        if self.end is None:
            self.end = SessionLost(classify.cut(self._smarthost, Stage.QUIT, None))
            if self._timer is not None:
                self._timer.cancel()
            self._transport.close()

    def cut(self) -> None:
        """Whatever is still there of the connection goes now."""
        self._transport.abort()

    # --- what asyncio says ---

    def data_received(self, data: bytes) -> None:
        if self.end is not None:
            return
        try:
            for said in self._reader.feed(data):
                self._take(said)
        except NoReplyError:
            self.fail(SessionLost(classify.junk(self._smarthost, self.stage)))

    def eof_received(self) -> None:
        self.fail(SessionLost(classify.cut(self._smarthost, self.stage, None)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(SessionLost(classify.cut(self._smarthost, self.stage, exc)))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # --- inside ---

    def _take(self, said: Reply) -> None:
        if not self._expected:
            # Between commands a server has nothing to say but good-bye; whatever it is, we no longer know where we are.
            self.fail(SessionLost(classify.said_at(self._smarthost, Stage.IDLE, said), said))
            return
        future = self._expected.popleft()
        if future.cancelled():
            self._unheard = future, said
        elif not future.done():
            future.set_result(said)
        self._wake()

    def _check(self) -> None:
        if self.end is not None:
            raise SessionLost(self.end.reply, self.end.said)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _expect_instead_of(self, cancelled: "asyncio.Future[Reply]") -> "asyncio.Future[Reply]":
        """Another future for the same reply, which may have come already."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._unheard is not None and self._unheard[0] is cancelled:
            future.set_result(self._unheard[1])
        else:
            self._check()
            self._expected[self._expected.index(cancelled)] = future
        return future

    def _expect_within(self, seconds: float) -> None:
        """From now on there is so long for a reply. One timer for the session, moved only when it must be."""
        self._patience, self._deadline = seconds, self._loop.time() + seconds
        if self._timer is None or self._deadline < self._timer.when():
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._timer = None
        if self._deadline <= self._loop.time():
            self._fall_silent(self.stage, self._patience)
        elif not math.isinf(self._deadline):
            self._arm()

    def _fall_silent(self, stage: Stage, seconds: float) -> None:
        self.fail(SessionLost(classify.silence(self._smarthost, stage, seconds)))

    def _check_progress(self, waiting: int, seconds: float) -> None:
        if self._transport.get_write_buffer_size() < waiting:
            self._wake()  # slow, but it moves: drain looks again
        else:
            self._fall_silent(Stage.BODY, seconds)
