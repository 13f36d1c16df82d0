"""RelaySMTP: aiosmtpd's SMTP with another conversation: sans-IO dialogue, block-wise DATA, replies in one piece.

Guarantees: a message that is complete is carried to its end whether its client stays or goes, and what came of it is in
the log; no input makes a program error show in a reply; a client is waited for with bounded patience, the upstream with
none of ours. Replies leave in the order of the commands, together where commands came together.
Not here: what may be said when (wire.dialogue), the message's octets (wire.data), who may enter
(listener.connections), what becomes of the message (listener.aiosmtpd_adapter).
RFC 5321, RFC 2920, RFC 3207.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, assert_never

from aiosmtpd.smtp import SMTP

from senderproxy import log_events
from senderproxy.aio import fair_share, wait_done
from senderproxy.listener.aiosmtpd_adapter import CompleteEnvelope, Handler
from senderproxy.listener.body import BodyBuffer
from senderproxy.listener.client_auth import Admission, User
from senderproxy.listener.connections import ListenerState
from senderproxy.listener.read_buffer import ClientGone, ReadBuffer
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.command import AUTH_LIMIT
from senderproxy.wire.data import DataDecoder, HeaderCollector
from senderproxy.wire.dialogue import Authenticate, Dialogue, HangUp, ReceiveData, Respond, StartTls, Step
from senderproxy.wire.login import Challenge

_log = logging.getLogger("senderproxy.listener")

_CLOSING: Final = 421  # the code after which the connection is closed, RFC 5321 section 3.8
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNREAD: Final = 64 * 1024  # octets of replies a client may leave unread before we wait for it
_TURN: Final = 100  # commands of one client in a row before its replies leave and the others have their turn
_LAST_OCTETS: Final = 30.0  # seconds for a client to take what it was sent before the connection was closed
_TLS_GOODBYE: Final = 5.0  # seconds for the client's half of the goodbye
_SMALL: Final = 32 * 1024  # octets; what is larger takes turns
_FAR_TOO_MUCH: Final = 16 * 1024 * 1024  # octets beyond twice the limit: nobody who means well goes on


class _Silent(Exception):
    """The client let its time run out."""


class _Stopping(Exception):
    """The service stops, and nothing of this client's is under way."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message that came in whole. Whoever has it closes the body."""

    header: HeaderSection
    body: BodyBuffer


class RelaySMTP(SMTP):  # type: ignore[misc, unused-ignore]  # aiosmtpd's types are loose
    """One connection."""

    def __init__(self, handler: Handler, house: ListenerState, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self._wire: asyncio.Transport | None = None
        self._secure = False
        self._inlet = ReadBuffer(loop)
        self._turns = fair_share()
        self._outgoing = bytearray()
        self._host = ""
        self._verdict: Admission | Reply | None = None
        self._dialogue: Dialogue | None = None
        self._deadline: float | None = None
        self._armed_for = 0.0
        self._draining = False
        self._handshaking = False
        self._winding_down = False
        self._cut_off = False
        self._lost = False
        self._transaction: asyncio.Task[Reply] | None = None
        self._commands = 0
        super().__init__(handler, hostname=house.hostname, loop=loop)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        if not peer:  # gone again already
            self._verdict = None
        else:
            self._host = peer[0]
            self._verdict = self._house.enter(self, self._host)
        self._wire = transport
        self._inlet.attach(transport)
        if self._house.settings.tls == "implicit":
            # What comes first belongs to the handshake. Soon, not now: Python 3.11.2 starts to read after this call.
            self.loop.call_soon(transport.pause_reading)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Input; aiosmtpd's own reader stays empty."""
        self._inlet.feed(data)

    def eof_received(self) -> bool:
        """The client will send no more; a message under way is still answered, where the transport can do that."""
        self._inlet.end()
        return not self._secure

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone. aiosmtpd cancels the conversation; a transaction is a task of its own and goes on."""
        if self._lost:
            return
        self._lost = True
        self._inlet.end()
        self._deadline = None
        self._house.leave(self)
        super().connection_lost(error)

    # What the house calls

    def wind_down(self) -> None:
        """Finish the message under way, then say goodbye; at once where there is none."""
        self._winding_down = True
        if not self._in_transaction():
            self._inlet.interrupt(_Stopping())

    def cut_off(self) -> None:
        """Say goodbye now; a message that is with the upstream gets its last chance to be answered."""
        self._winding_down = self._cut_off = True
        if self._handshaking:
            self.abort()
        elif self._transaction is not None:
            self._transaction.cancel()
        else:
            self._inlet.interrupt(_Stopping())

    def dismiss(self) -> None:
        """Say goodbye and close, whatever is under way."""
        if self._wire is not None and not self._wire.is_closing():
            self._outgoing += _rendered(replies.stopping(self._house.hostname))
            self._close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._wire is not None:
            self._wire.abort()

    # The conversation

    def _create_envelope(self) -> CompleteEnvelope:
        return CompleteEnvelope()

    async def _handle_client(self) -> None:
        """From the greeting to the goodbye, whatever happens in between."""
        try:
            await self._converse()
        except (ClientGone, ConnectionError):
            event(_log, log_events.CLIENT_DISCONNECTED, client=self._host)
        except _Silent:
            await self._hang_up(replies.silent(self._house.patience.idle))
        except _Stopping:
            await self._hang_up(replies.stopping(self._house.hostname))
        except Exception as fault:  # noqa: BLE001  one connection's fault is not the others'
            self._house.counters.faults += 1
            event(_log, log_events.CONNECTION_ERROR, fault=fault, client=self._host)
            await self._hang_up(replies.BROKEN_OFF)
        finally:
            self._close()

    async def _converse(self) -> None:
        self._set_deadline(None)
        if self._verdict is None:
            self.abort()
            return
        if self._house.settings.tls == "implicit" and not await self._encrypt():
            return
        if isinstance(self._verdict, Reply):
            event(_log, log_events.CLIENT_REJECTED, client=self._host, reply=self._verdict)
            await self._hang_up(self._verdict)
            return
        terms = self._house.terms(self._host, self._verdict)
        dialogue = Dialogue(terms, self._host, senders=self._verdict.senders, secure=self._secure)
        self._dialogue = dialogue
        await asyncio.sleep(0)  # what came together with the connection is here now
        going_on = await self._do(dialogue, dialogue.greet(talked=self._inlet.size > 0))
        while going_on:
            line = await self._next_line()
            step = dialogue.overlong() if line is None else self._ask(dialogue, line)
            going_on = await self._do(dialogue, step)

    def _ask(self, dialogue: Dialogue, line: bytes) -> Step:
        """What to do about a command. A fault in there costs the transaction, not the connection."""
        try:
            return dialogue.command(line, more=self._inlet.size > 0)
        except Exception as fault:  # noqa: BLE001
            self._house.counters.faults += 1
            event(_log, log_events.COMMAND_ERROR, fault=fault, client=self._host)
            dialogue.forget()
            return Respond(replies.FAULT)

    async def _do(self, dialogue: Dialogue, step: Step) -> bool:
        """Do what a step says; False where the conversation is over."""
        match step:
            case Respond():
                self._say(step.reply)
                return True
            case HangUp():
                await self._hang_up(step.reply)
                return False
            case ReceiveData():
                return await self._receive(dialogue)
            case StartTls():
                return await self._start_tls(dialogue)
            case Authenticate():
                return await self._do(dialogue, await self._log_in(dialogue, step))
            case _:
                assert_never(step)

    async def _log_in(self, dialogue: Dialogue, step: Authenticate) -> Step:
        progress = step.login.begin(step.initial)
        while isinstance(progress, Challenge):
            self._outgoing += progress.render()
            line = await self._next_line()
            if line is None:
                return HangUp(replies.LOGIN_TOO_LONG)
            progress = step.login.answer(line.rstrip(b"\r\n"))
        if isinstance(progress, Reply):
            return dialogue.login_refused(progress)
        self._flush()
        verdict = await self._house.auth.verify(self._host, progress)
        if isinstance(verdict, User):
            return dialogue.logged_in(verdict.name, verdict.senders)
        return dialogue.login_refused(verdict)

    async def _start_tls(self, dialogue: Dialogue) -> bool:
        """Nothing in clear can slip in: the inlet is empty (the dialogue saw to it) when the handshake begins."""
        self._outgoing += _rendered(replies.START_TLS)
        if not await self._encrypt():
            return False
        dialogue.secured()
        return True

    async def _encrypt(self) -> bool:
        assert self._wire is not None
        assert self._house.tls is not None
        wire = self._wire
        self._flush()
        self._inlet.attach(None)
        self._secure = True  # if it fails there is no connection left that could be insecure
        self._handshaking = True
        try:
            secured = await self.loop.start_tls(
                wire,
                self,
                self._house.tls,
                server_side=True,
                ssl_handshake_timeout=self._house.patience.handshake,
                ssl_shutdown_timeout=_TLS_GOODBYE,
            )
        except OSError as error:
            event(_log, log_events.CLIENT_TLS_FAILED, client=self._host, why=_without_place(error))
            secured = None
        if secured is None:
            wire.abort()
            self.connection_lost(None)  # asyncio does not say so of a connection that ends in its handshake
            return False
        self._handshaking = False
        self._wire = self.transport = secured
        self._inlet.attach(secured)
        return True

    # A message

    async def _receive(self, dialogue: Dialogue) -> bool:
        """354, the message, its answer; False where the conversation is over."""
        decoder = DataDecoder(dialogue.terms.bare_lf)
        try:
            taken = await self._take_message(dialogue, decoder)
        except (ClientGone, ConnectionError, asyncio.CancelledError):
            self._report_loss(dialogue, decoder, log_events.MESSAGE_CUT_BY_CLIENT)
            raise
        except _Stopping:
            self._report_loss(dialogue, decoder, log_events.MESSAGE_CUT_BY_STOP)
            raise
        except _Silent:
            self._report_loss(dialogue, decoder, log_events.MESSAGE_TOO_SLOW)
            await self._hang_up(replies.TOO_SLOW)
            return False
        if isinstance(taken, Reply):
            self._report_loss(dialogue, decoder, log_events.MESSAGE_DATA_REFUSED, reply=taken)
            answer = taken
        else:
            if decoder.mended:
                event(_log, log_events.BARE_LF_CONVERTED, client=dialogue.client)
            answer = await self._hand_over(dialogue, taken)
        self._house.counters.count(answer)
        dialogue.finished()
        if decoder.done and answer.code != _CLOSING:
            self._say(answer)
            return True
        await self._hang_up(answer)
        return False

    async def _take_message(self, dialogue: Dialogue, decoder: DataDecoder) -> _Taken | Reply:
        """Read up to the final dot, storing what comes; the message, or the reply to one that cannot be taken."""
        limit = dialogue.terms.size_limit
        header, body = HeaderCollector(), self._house.new_body()
        refusal: Reply | None = None
        complete = False
        try:
            self._say(replies.START_DATA)
            started = self.loop.time()
            while not decoder.done and decoder.octets <= 2 * limit + _FAR_TOO_MUCH:
                if self._inlet.size == 0:
                    await self._wait_for_more(started, decoder.octets)
                if decoder.octets + self._inlet.size > _SMALL:
                    await self._turns.acquire(self._inlet.size)
                piece = decoder.feed(self._inlet.take())
                if refusal is None and (refusal := self._store(piece, decoder, header, body, limit)) is not None:
                    body.close()
            self._inlet.put_back(decoder.rest)
            complete = refusal is None
        finally:
            if not complete:
                body.close()
        return refusal or _Taken(header.section(), body)

    async def _wait_for_more(self, started: float, octets: int) -> None:
        """Wait for more of a message. All of it may take as long as it needs at the slowest pace, and some grace."""
        if self._cut_off:
            raise _Stopping
        patience = self._house.patience
        self._flush()
        latest = started + patience.idle + octets / patience.slowest
        self._set_deadline(min(self.loop.time() + patience.block, latest))
        await self._more()
        self._set_deadline(None)

    def _store(
        self, piece: bytes, decoder: DataDecoder, header: HeaderCollector, body: BodyBuffer, limit: int
    ) -> Reply | None:
        if decoder.fault is not None:
            return replies.refusal_of(decoder.fault)
        if decoder.octets > limit:
            return replies.too_large(limit)
        rest = header.feed(piece)
        if header.too_long:
            return replies.header_too_long()
        try:
            body.append(rest)
        except OSError as error:
            full = error.errno in _FULL
            event(_log, log_events.MESSAGE_NOT_BUFFERED, fault=None if full else error, why=str(error))
            return replies.DISK_FULL if full else replies.FAULT
        return None

    async def _hand_over(self, dialogue: Dialogue, taken: _Taken) -> Reply:
        """Give a complete message to the handler in a task of its own, and wait for the answer without a timer."""
        letter = self.envelope
        assert isinstance(letter, CompleteEnvelope)
        letter.id = self._house.clock.new_id()
        letter.client, letter.paths = dialogue.client, dialogue.envelope()
        letter.message = Message(taken.header, taken.body)
        transaction: asyncio.Task[Reply] = self.loop.create_task(self._call_handler_hook("DATA"))
        transaction.add_done_callback(lambda _: taken.body.close())
        self._house.begin(transaction)
        self._transaction = transaction
        try:
            await wait_done(transaction)
        except asyncio.CancelledError:
            transaction.add_done_callback(_report_unheard(letter))
            raise
        finally:
            self._transaction = None
        self.envelope = self._create_envelope()
        if transaction.cancelled():
            event(_log, log_events.MESSAGE_INTERRUPTED, id=letter.id)
            return replies.stopping(self._house.hostname)
        return transaction.result()

    def _report_loss(
        self, dialogue: Dialogue, decoder: DataDecoder, kind: LogEvent, reply: Reply | None = None
    ) -> None:
        path = dialogue.envelope().reverse_path
        event(
            _log,
            kind,
            client=dialogue.client,
            reverse_path=f"<{path}>",
            size=decoder.octets,
            reply=reply,
        )

    # Reading and writing

    async def _next_line(self) -> bytes | None:
        """The next line with its line feed, within the client's time; None where it never ends."""
        self._commands += 1
        if self._commands % _TURN == 0:
            self._flush()
            await self._let_it_read()
            await asyncio.sleep(0)
        line = self._line()
        if line is not None:
            return line
        self._flush()
        await self._let_it_read()
        self._set_deadline(self.loop.time() + self._house.patience.idle)
        while (line := self._line()) is None and self._inlet.size <= AUTH_LIMIT:
            await self._more()
        self._set_deadline(None)
        return line

    async def _more(self) -> None:
        """Wait for input; raises _Silent where the client's time is over, even if something trickles in."""
        if self._deadline is not None and self.loop.time() >= self._deadline:
            raise _Silent
        await self._inlet.more()

    def _line(self) -> bytes | None:
        if self._winding_down and not self._in_transaction():
            raise _Stopping
        return self._inlet.line()

    def _in_transaction(self) -> bool:
        return self._dialogue is not None and self._dialogue.in_transaction and not self._cut_off

    def _say(self, answer: Reply) -> None:
        """Put a reply where it leaves together with the others."""
        self._outgoing += _rendered(answer)

    async def _let_it_read(self) -> None:
        """Wait for a client that sends commands but does not read the replies."""
        if self._wire is None or self._wire.get_write_buffer_size() <= _UNREAD:
            return
        self._set_deadline(self.loop.time() + self._house.patience.idle)
        self._draining = True
        await self._writer.drain()
        self._draining = False
        self._set_deadline(None)

    def _flush(self) -> None:
        """Send what was said."""
        if self._outgoing and self._wire is not None and not self._wire.is_closing():
            self._wire.write(bytes(self._outgoing))
        self._outgoing.clear()

    def _close(self) -> None:
        """Send what was said and close; a client that never takes the last octets is dropped after a while."""
        self._flush()
        if self._wire is None or self._lost:
            return
        self._wire.close()
        self._draining = True
        self._set_deadline(self.loop.time() + min(self._house.patience.idle, _LAST_OCTETS))

    async def _hang_up(self, answer: Reply) -> None:
        """Say a last reply, and see that it arrives: closing on unread input would take it away from the client."""
        self._outgoing += _rendered(answer)
        self._flush()
        wire = self._wire
        if wire is None or wire.is_closing() or not wire.can_write_eof():
            return
        try:
            wire.write_eof()
            self._set_deadline(self.loop.time() + self._house.patience.linger)
            while True:
                self._inlet.take()
                await self._more()
        except (ClientGone, _Silent, _Stopping, OSError):
            pass
        finally:
            self._set_deadline(None)

    # Time

    def _set_deadline(self, deadline: float | None) -> None:
        """The client has until then; None: it is not the client we wait for. One timer, moved only when it must be."""
        self._deadline = deadline
        if deadline is not None and (self._armed_for == 0.0 or deadline < self._armed_for):
            self._arm(deadline)

    def _arm(self, when: float) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._armed_for = when
        self._timeout_handle = self.loop.call_at(when, self._timeout_cb)

    def _timeout_cb(self) -> None:
        self._armed_for = 0.0
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._arm(self._deadline)
        elif self._draining:
            self.abort()
        else:
            self._inlet.interrupt(_Silent())

    def _reset_timeout(self, duration: float | None = None) -> None:
        """What aiosmtpd calls when a connection is made; each wait of ours sets its own deadline."""
        self._set_deadline(self.loop.time() + (duration or self._house.patience.idle))


@lru_cache(maxsize=256)
def _rendered(answer: Reply) -> bytes:
    return answer.render()


def _report_unheard(letter: CompleteEnvelope) -> Callable[["asyncio.Task[Reply]"], None]:
    """The client went away before the answer: what it does not hear is in the log, since it will send again."""

    def report(transaction: "asyncio.Task[Reply]") -> None:
        answer: Any = "cut off by the stop of the service" if transaction.cancelled() else transaction.result()
        event(
            _log,
            log_events.CLIENT_LEFT_BEFORE_REPLY,
            id=letter.id,
            client=letter.client,
            reply=answer,
        )

    return report


def _without_place(error: OSError) -> str:
    """OpenSSL's words without the line of its source."""
    return str(getattr(error, "reason", None) or str(error) or type(error).__name__)
