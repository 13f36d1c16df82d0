"""DATA phase of one message: 354, reception up to the final dot, hand-over to the intake.

Guarantees: a message that cannot be accepted is read to its end before it is refused, so that the connection stays in
step; memory stays flat: the client is not read while two blocks wait for the disk; every message that is cut short or
refused is in the log; once complete, a message is carried to its end whether its client stays or leaves, and the reply
that a client missed is in the log. A client and the disk may take a limited time, the upstream is not timed here.
Not here: line ends and the final dot (wire.data_decoder), storage of the body (listener.body), the intake
(listener.aiosmtpd_adapter).
RFC 5321 sections 4.1.1.4 and 4.5.3.2.5.
"""

import asyncio
import errno
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.disk_threads import DiskTimeout
from senderproxy.listener.aiosmtpd_adapter import CompleteEnvelope
from senderproxy.listener.client_stream import ClientStream, ClientTimeout, CloseRequested
from senderproxy.listener.connections import ListenerState
from senderproxy.listener.read_buffer import ClientGone
from senderproxy.listener.turned_away import TurnedAway
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.data_decoder import DataDecoder, HeaderCollector, HeaderTooLarge
from senderproxy.wire.dialogue import Dialogue
from senderproxy.wire.line_ends import BareCr

_log = logging.getLogger("senderproxy.listener")

_FALSE_END: Final = re.compile(rb"(?:\A|[\r\n])\.(?:\r*\n|\r)\Z")  # CRLF.CRLF is read before it is searched for
_END_KEPT: Final = 6  # octets
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SMALL: Final = 32 * 1024  # octets; a larger message takes its fair share of the event loop
_EXCESS: Final = 16 * 1024 * 1024  # octets beyond twice the size limit; then the message is not read to its end


def looks_ended(tail: bytes) -> bool:
    """True if data with these last octets, six or all, ends in a lone dot that is no CRLF.CRLF."""
    return bool(_FALSE_END.search(tail))


@dataclass(frozen=True, slots=True)
class BegunData:
    """Data that has begun without this module: 354 is written, its octets so far are in the input.

    `interruption`: an exception of this type is raised when they are read; None: the client may send more. Not the
    exception itself: its traceback refers to the connection.
    """

    started: float  # on the loop's clock
    interruption: type[BaseException] | None


def data_deadline(stream: ClientStream, started: float, octets: int, tail: bytes) -> float:
    """The time until which more of a message must arrive, on the loop's clock.

    `octets`: of the message so far, which began at `started`; `tail`: the last six.
    """
    timeouts = stream.timeouts
    latest = started + timeouts.idle + octets / timeouts.min_rate
    block = timeouts.false_end if looks_ended(tail) else timeouts.block
    return min(stream.loop.time() + block, latest)


class DataPhase:
    """Reception of one message. `begun`: it has begun already."""

    __slots__ = (
        "_begun",
        "_body",
        "_decoder",
        "_dialogue",
        "_end",
        "_header",
        "_refusal",
        "_started",
        "_state",
        "_stream",
        "_writing",
    )

    def __init__(
        self, stream: ClientStream, state: ListenerState, dialogue: Dialogue, begun: BegunData | None = None
    ) -> None:
        self._begun = begun
        self._stream = stream
        self._state = state
        self._dialogue = dialogue
        bare_cr = BareCr.CONVERT if dialogue.offer.lenient else BareCr.REJECT
        self._decoder = DataDecoder(dialogue.offer.bare_lf, bare_cr)
        self._header = HeaderCollector(dialogue.offer.header_limit, dialogue.offer.field_limit)
        self._body = state.new_body()
        self._end = b""  # the last octets received
        self._refusal: Reply | None = None
        self._started = 0.0  # on the loop's clock, without the time for the disk
        self._writing: asyncio.Future[None] | None = None  # of the block before

    @property
    def ended(self) -> bool:
        """The final dot was read: what follows are commands again."""
        return self._decoder.done

    @property
    def false_end(self) -> bool:
        """The data so far ends in a lone dot, but not in CRLF.CRLF: the client may believe that it has ended."""
        return looks_ended(self._end)

    async def receive(self) -> Message | Reply:
        """Send 354 and read the message up to its final dot.

        Result: the message, whose body the caller closes; or the reply to one that is not accepted.
        Raises ClientGone, ClientTimeout or CloseRequested where the message is cut short, after logging it.
        """
        stream, source, decoder = self._stream, self._stream.input, self._decoder
        most = 2 * self._dialogue.offer.size_limit + _EXCESS
        message: Message | None = None
        try:
            if self._begun is None:
                stream.write(replies.START_DATA)
                self._started = stream.loop.time()
            else:
                self._started = self._begun.started
            while not decoder.done and decoder.octets <= most:
                if source.size == 0:
                    await self._wait_for_input()
                if decoder.octets + source.size > _SMALL:
                    await stream.fair_share.acquire(source.size)
                piece = source.take()
                self._end = (self._end + piece[-_END_KEPT:])[-_END_KEPT:]
                self._store(decoder.feed(piece))
                if self._body.must_write and self._refusal is None:
                    await self._write()
            source.put_back(decoder.rest)
            if self._body.on_disk and self._refusal is None:
                await self._write(rest=True)
                if self._body.disk_error is not None:
                    self._state.events.log(log_events.MESSAGE_BUFFERED_IN_MEMORY, why=str(self._body.disk_error))
            message = self._message()
        except (ClientGone, ConnectionError, asyncio.CancelledError):
            self._log(log_events.MESSAGE_CUT_BY_CLIENT)
            raise
        except CloseRequested:
            self._log(log_events.MESSAGE_CUT_BY_STOP)
            raise
        except ClientTimeout:
            if self.false_end:
                self._log(log_events.MESSAGE_FALSE_END, hint="set the line ends of the client to CRLF")
                host = self._dialogue.client.host
                self._state.auth.count_turned_away(host, TurnedAway.FALSE_END, log_events.MESSAGE_FALSE_END.sentence)
            else:
                self._log(log_events.MESSAGE_TOO_SLOW)
            raise
        finally:
            if message is None and self._refusal is None:
                self._body.close()
        if message is None:
            assert self._refusal is not None
            self._log(log_events.MESSAGE_DATA_REFUSED, self._refusal)
            return self._refusal
        if decoder.normalized:
            event(_log, log_events.BARE_LF_CONVERTED, client=self._dialogue.client)
        if decoder.converted_cr:
            event(_log, log_events.BARE_CR_CONVERTED, client=self._dialogue.client)
        return message

    def _message(self) -> Message | None:
        """The complete message; None where it is refused."""
        if self._refusal is not None:
            return None
        header = self._header.section()
        if isinstance(header, HeaderTooLarge):
            offer = self._dialogue.offer
            self._refuse(replies.header_too_large(header, offer.header_limit, offer.field_limit))
            return None
        return Message(header, self._body)

    async def _wait_for_input(self) -> None:
        """Wait for more of the message, at most `block` seconds; all of it must arrive at `min_rate` on average."""
        stream = self._stream
        if self._begun is not None and self._begun.interruption is not None:
            raise self._begun.interruption()
        if stream.stop_requested:
            raise CloseRequested
        stream.flush()
        stream.set_deadline(data_deadline(stream, self._started, self._decoder.octets, self._end))
        await stream.more()
        stream.set_deadline(None)

    def _store(self, piece: bytes) -> None:
        if self._refusal is None and (refusal := self._check(piece)) is not None:
            self._refuse(refusal)

    def _refuse(self, refusal: Reply) -> None:
        """Refuse the message at its end; what was received is dropped now."""
        self._refusal = refusal
        self._body.close()

    def _check(self, piece: bytes) -> Reply | None:
        """Store a piece in memory; the reply where the message cannot be accepted."""
        decoder, limit = self._decoder, self._dialogue.offer.size_limit
        if decoder.invalid is not None:
            return replies.invalid_octet(decoder.invalid)
        if decoder.octets > limit:
            return replies.too_large(limit)
        self._body.append(self._header.feed(piece))
        return None

    async def _write(self, *, rest: bool = False) -> None:
        """Begin to write what is in memory, once the block before is written; `rest`: and wait until it is written.

        An error of the disk refuses the message. Raises CloseRequested.
        """
        try:
            await self._wait_for_disk()
            self._writing = self._body.write()
            if rest:
                await self._wait_for_disk()
        except OSError as error:
            full, hangs = error.errno in _DISK_FULL, isinstance(error, DiskTimeout)
            event(_log, log_events.MESSAGE_NOT_BUFFERED, fault=None if full or hangs else error, why=str(error))
            self._refuse(replies.DISK_FULL if full else replies.DISK_TIMEOUT if hangs else replies.INTERNAL_ERROR)

    async def _wait_for_disk(self) -> None:
        """Wait until the block before is written; the client is not read meanwhile, and has that time in addition."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        if not writing.done():
            stream, began = self._stream, asyncio.get_running_loop().time()
            if stream.stop_requested:
                raise CloseRequested
            stream.set_deadline(began + self._state.spill.disk.timeout_seconds)
            try:
                await stream.input.until_done(writing)
            except ClientTimeout:
                raise DiskTimeout from None
            finally:
                stream.set_deadline(None)
            self._started += asyncio.get_running_loop().time() - began
        writing.result()

    def _log(self, kind: LogEvent, reply: Reply | None = None, **more: object) -> None:
        event(
            _log,
            kind,
            fault=None,
            client=self._dialogue.client,
            reverse_path=f"<{self._dialogue.envelope().reverse_path}>",
            size=self._decoder.octets,
            reply=reply,
            **more,
        )


async def reply_of(transaction: "asyncio.Task[Reply]", envelope: CompleteEnvelope, state: ListenerState) -> Reply:
    """Wait for the intake's reply to a complete message, without a time limit.

    The transaction is a task of its own: it goes on when the client leaves (the caller is cancelled then), and the body
    is closed when it ends.
    """
    assert envelope.message is not None
    body = envelope.message.body
    transaction.add_done_callback(lambda _: body.close())
    state.add_transaction(transaction)
    try:
        await wait_done(transaction)
    except asyncio.CancelledError:
        transaction.add_done_callback(_log_missed_reply(envelope))
        raise
    if transaction.cancelled():
        event(_log, log_events.MESSAGE_INTERRUPTED, id=envelope.id)
        return replies.stopping(state.hostname)
    return transaction.result()


def _log_missed_reply(envelope: CompleteEnvelope) -> Callable[["asyncio.Task[Reply]"], None]:
    """Log the reply that a client did not wait for: the client will send the message again."""

    def log_reply(transaction: "asyncio.Task[Reply]") -> None:
        reply: Any = "interrupted by the stop of the service" if transaction.cancelled() else transaction.result()
        event(_log, log_events.CLIENT_LEFT_BEFORE_REPLY, id=envelope.id, client=envelope.client, reply=reply)

    return log_reply
