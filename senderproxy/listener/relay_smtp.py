"""RelaySMTP: aiosmtpd's SMTP class with a conversation of our own.

Guarantees: one reply for each command, in the order of the commands, together where commands came together; no input
makes an internal error show in a reply; a client that sends or reads too slowly is disconnected.
Not here: the order of commands (wire.dialogue), octets and deadlines (listener.client_stream), message data
(listener.data_phase), admission and limits (listener.connections).
RFC 5321, RFC 2920, RFC 3207.
"""

import asyncio
import logging
from typing import Final, assert_never

from senderproxy import log_events
from senderproxy.aio import forget_traceback
from senderproxy.listener.aiosmtpd_adapter import CompleteEnvelope, Handler
from senderproxy.listener.client_auth import Admission, User
from senderproxy.listener.client_input import CLOSING, UNREAD_LIMIT, ClientInput, check_no_tls
from senderproxy.listener.client_stream import ClientStream, ClientTimeout, CloseRequested
from senderproxy.listener.client_tls import explain_client_tls_failure
from senderproxy.listener.connections import CONNECTED, Connection, ListenerState, Peer
from senderproxy.listener.data_phase import DataPhase, reply_of
from senderproxy.listener.late_smtp import LateSMTP
from senderproxy.listener.read_buffer import ClientGone
from senderproxy.listener.turned_away import TurnedAway
from senderproxy.listener.usual_conversation import UsualConversation
from senderproxy.log import event
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.auth import Challenge
from senderproxy.wire.dialogue import Authenticate, Dialogue, ReceiveData, ReplyAndClose, SendReply, StartTls, Step

_log = logging.getLogger("senderproxy.listener")

_TLS_SHUTDOWN: Final = 5.0  # seconds for the client's close_notify, RFC 8446 section 6.1


def _discard(connection: Connection, stream: ClientStream, state: ListenerState, transport: asyncio.Transport) -> None:
    """Close a connection whose conversation has not begun."""
    stream.connection_lost()
    state.unregister(connection)
    transport.abort()


class RelaySMTP(LateSMTP):
    """One connection."""

    def __init__(
        self, handler: Handler, state: ListenerState, loop: asyncio.AbstractEventLoop, peer: Peer = CONNECTED
    ) -> None:
        """`peer`: the client that a proxy's header names; CONNECTED: the one that is connected."""
        super().__init__(handler, state.hostname, loop)
        self._state = state
        self._peer = peer
        self._stream = ClientStream(loop, state.timeouts)
        self._secure = False
        self._admission: Admission | Reply | None = None
        self._dialogue: Dialogue | None = None
        self._handshaking = False
        self._transaction: asyncio.Task[Reply] | None = None
        self._input = ClientInput(self, self._stream, state, handler)
        self._usual = UsualConversation(self._stream, self._start_conversation)

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, and greet the client or start a conversation with it."""
        assert isinstance(transport, asyncio.Transport)
        try:
            if peer := transport.get_extra_info("peername"):  # None: the client has disconnected already
                if self._peer is CONNECTED:
                    self._peer = Peer(peer[0])
                self._admission = self._state.register(self, self._peer.host, is_check=self._peer.is_check)
            self._stream.attach(transport)
            if self._state.settings.tls == "implicit":
                self._handshaking = True
                # The first octets belong to the handshake. Not at once: Python 3.11.2 starts to read after this call.
                self._stream.loop.call_soon(transport.pause_reading)
            elif isinstance(self._admission, Admission) and self._input.takes_usual:
                # Input that came together with the connection arrives in the pass of the loop after the next one.
                self._stream.loop.call_soon(self._stream.loop.call_soon, self._greet)
                return
            self._usual.skip()
        except BaseException:  # without memory, too, no client waits for a greeting that never comes
            _discard(self, self._stream, self._state, transport)
            raise

    def _greet(self) -> None:
        """Greet a usual client. The conversation greets any other one."""
        stream, admission = self._stream, self._admission
        if stream.lost:
            return
        assert isinstance(admission, Admission)
        try:
            if stream.input.size or stream.input.has_ended or self._input.closing_reply is not None:
                self._usual.skip()
                return
            dialogue = _new_dialogue(self._state, self._peer, admission)
            greeting = dialogue.greet(early_input=False)
            assert isinstance(greeting, SendReply)
            stream.write(greeting.reply)
            self._dialogue = dialogue
            self._input.begin(dialogue)
            stream.input.wait_with(self._usual)
        except BaseException:
            stream.abort()
            raise

    def _start_conversation(self) -> None:
        assert self._stream.transport is not None
        self.start(self._stream.transport)

    def data_received(self, data: bytes) -> None:
        """Buffer input; aiosmtpd's own reader stays empty."""
        self._stream.input.feed(data)

    def eof_received(self) -> bool:
        """End the input. A message in progress is still answered, where the transport can be half closed."""
        self._stream.input.end()
        return not self._secure

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  the name is aiosmtpd's
        """Unregister the connection. aiosmtpd cancels the conversation; a transaction goes on as a task of its own.

        Then the references that form cycles are cleared: the connection and its TLS objects (100 KB) are freed at once.
        """
        if self._stream.lost:
            return
        goes_on = self._usual.lost(is_receiving=self._input.is_receiving)
        self._stream.connection_lost()
        self._state.unregister(self)
        self.end(goes_on=goes_on)
        self._input.connection = None

    def leave(self, reply: Reply) -> bool:
        """Send a last reply and close; False if the conversation does it."""
        return self._usual.leave(reply)

    # Called by the listener when it stops or has too many connections

    @property
    def in_transaction(self) -> bool:
        """True from an accepted MAIL until the reply to its message."""
        return self._dialogue is not None and self._dialogue.in_transaction and not self._stream.stop_requested

    def finish(self, reply: Reply) -> None:
        """Send this reply and close after the message in progress; at once where there is none."""
        self._input.closing_reply = reply
        if not self.in_transaction:
            self._stream.input.interrupt(CloseRequested())

    def evict(self) -> None:
        """Reply 421 and close at once; drop a client that cannot get a reply: in its handshake, or not reading."""
        if self._handshaking or self._stream.unread > UNREAD_LIMIT:
            self.abort()
        else:
            self.finish(replies.EVICTED)

    def interrupt(self) -> None:
        """Cancel the message in progress, reply 421 and close."""
        self._input.closing_reply = replies.stopping(self._state.hostname)
        self._stream.stop_requested = True
        if self._handshaking:
            self.abort()
        elif (transaction := self._transaction or self._input.message) is not None:
            transaction.cancel()
        else:
            self._stream.input.interrupt(CloseRequested())

    def force_close(self) -> None:
        """Send 421 and close, whatever is in progress."""
        transport = self._stream.transport
        if transport is not None and not transport.is_closing():
            self._stream.write(replies.stopping(self._state.hostname))
            self._stream.close()

    def abort(self) -> None:
        """Drop the connection."""
        self._stream.abort()

    # The conversation

    async def _handle_client(self) -> None:
        """Run the conversation from the greeting to the close, and end it in order whatever happens."""
        try:
            await self._converse()
        except (ClientGone, ConnectionError):
            event(_log, log_events.CLIENT_DISCONNECTED, client=self._peer.host)
        except ClientTimeout:
            await self._stream.finish(replies.timeout(self._stream.command_timeout))
        except CloseRequested:
            await self._stream.finish(self._input.closing_reply or replies.stopping(self._state.hostname))
        except Exception as fault:  # noqa: BLE001  an error in one connection does not reach the others
            self._state.counters.faults += 1
            event(_log, log_events.CONNECTION_ERROR, fault=fault, client=self._peer.host)
            await self._stream.finish(replies.INTERNAL_ERROR_CLOSING)
        finally:
            self._stream.close()

    async def _converse(self) -> None:
        dialogue, going_on = self._dialogue, True
        came = dialogue is not None
        if dialogue is None:
            if (dialogue := await self._open()) is None:
                return
        else:
            self._input.resume(self._usual.take_reason())
        while going_on:
            line, came = await self._input.next_line(dialogue, self.drain, came=came), False
            if (step := self._input.take_step()) is None:
                step = dialogue.line_too_long() if line is None else self.step_of(dialogue, line)
            going_on = await self._perform(dialogue, step)

    async def _open(self) -> Dialogue | None:
        """Open the conversation up to the greeting; None where it ends with that."""
        if self._admission is None:
            self.abort()
            return None
        if self._state.settings.tls == "implicit" and not await self._encrypt():
            return None
        if isinstance(self._admission, Reply):
            _log_rejected(self._state, self._peer, self._admission)
            await self._stream.finish(self._admission)
            return None
        self._dialogue = dialogue = _new_dialogue(self._state, self._peer, self._admission, secure=self._secure)
        await asyncio.sleep(0)  # lets input that came together with the connection arrive
        check_no_tls(self._stream, self._state, self._peer.host)
        is_greeted = await self._perform(dialogue, dialogue.greet(early_input=self._stream.input.size > 0))
        return dialogue if is_greeted else None

    def step_of(self, dialogue: Dialogue, line: bytes) -> Step:
        """The dialogue's step for a command. An internal error ends the transaction, not the connection."""
        try:
            return dialogue.command(line, more_input=bool(self._stream.input.octets))
        except Exception as fault:  # noqa: BLE001
            self._state.counters.faults += 1
            event(_log, log_events.COMMAND_ERROR, fault=fault, client=self._peer.host)
            dialogue.reset()
            return SendReply(replies.INTERNAL_ERROR)

    async def _perform(self, dialogue: Dialogue, step: Step) -> bool:
        """Perform a step; False where the conversation is over."""
        match step:
            case SendReply():
                self._stream.write(step.reply)
                return True
            case ReplyAndClose():
                await self._stream.finish(step.reply)
                return False
            case ReceiveData():
                return await self._receive_message(dialogue)
            case StartTls():
                return await self._start_tls(dialogue)
            case Authenticate():
                return await self._perform(dialogue, await self._log_in(dialogue, step))
            case _:
                assert_never(step)

    async def _log_in(self, dialogue: Dialogue, step: Authenticate) -> Step:
        progress = step.exchange.start(step.initial)
        while isinstance(progress, Challenge):
            self._stream.write_octets(progress.render())
            line = await self._input.next_line(dialogue, self.drain, is_command=False)
            if line is None:
                return ReplyAndClose(replies.AUTH_LINE_TOO_LONG)
            progress = step.exchange.handle_response(line.rstrip(b"\r\n"))
        if isinstance(progress, Reply):
            return dialogue.login_failed(progress)
        self._stream.flush()
        result = await self._state.auth.verify(self._peer.host, progress)
        if isinstance(result, User):
            self._state.table.mark_known(self)
            return dialogue.logged_in(result.name, result.senders)
        return dialogue.login_failed(result)

    async def _start_tls(self, dialogue: Dialogue) -> bool:
        """Send 220 and encrypt. The dialogue made sure that no input in clear waits when the handshake begins."""
        self._stream.write(replies.START_TLS)
        if not await self._encrypt():
            return False
        dialogue.tls_started()
        return True

    async def _encrypt(self) -> bool:
        stream, context = self._stream, self._state.tls
        assert stream.transport is not None
        assert context is not None
        stream.flush()
        stream.input.attach(None)
        self._secure = True  # a failed handshake ends the connection
        self._handshaking = True
        try:
            secured = await self._stream.loop.start_tls(
                stream.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._state.timeouts.handshake,
                ssl_shutdown_timeout=_TLS_SHUTDOWN,
            )
        except OSError as error:
            _tls_failed(self._state, self._peer, error)
            forget_traceback(error)
            secured = None
        if secured is None:
            stream.abort()
            self.connection_lost(None)  # asyncio does not call it for a connection that ends in its handshake
            return False
        self._handshaking = False
        self.transport = secured
        stream.attach(secured)
        return True

    async def _receive_message(self, dialogue: Dialogue) -> bool:
        """Receive a message and reply to it; False where the conversation is over."""
        phase = DataPhase(self._stream, self._state, dialogue, self._input.take_begun())
        try:
            received = await phase.receive()
        except ClientTimeout:
            await self._stream.finish(replies.FALSE_END if phase.false_end else replies.TOO_SLOW)
            return False
        if isinstance(received, Message):
            envelope = self.envelope
            assert isinstance(envelope, CompleteEnvelope)
            envelope.fill(self._state.clock.new_id(), dialogue.client, dialogue.envelope(), received)
            self._transaction = self._stream.loop.create_task(self._call_handler_hook("DATA"))
            try:
                reply = await reply_of(self._transaction, envelope, self._state)
            finally:
                self._transaction = None
            self.envelope = self._create_envelope()
        else:
            reply = received
        self._state.message_answered(self, dialogue, reply)
        if phase.ended and reply.code != CLOSING:
            self._stream.write(reply)
            return True
        await self._stream.finish(reply)
        return False

    @property
    def must_close(self) -> bool:
        """True if no further command is read."""
        return self._input.closing_reply is not None and not self.in_transaction


def _new_dialogue(state: ListenerState, peer: Peer, admission: Admission, *, secure: bool = False) -> Dialogue:
    offer, quota = state.offer(peer.host, admission), state.quota(admission)
    return Dialogue(offer, peer.host, senders=admission.senders, secure=secure, quota=quota)


def _log_rejected(state: ListenerState, peer: Peer, reply: Reply) -> None:
    if not peer.is_check:
        state.events.log(log_events.CLIENT_REJECTED, client=peer.host, reply=reply)


def _tls_failed(state: ListenerState, peer: Peer, error: OSError) -> None:
    """Log and count a failed handshake; a check may end with the connection alone."""
    if peer.is_check:
        return
    settings = state.settings
    why, hint = explain_client_tls_failure(error, implicit=settings.tls == "implicit", old_tls=settings.old_tls)
    event(_log, log_events.CLIENT_TLS_FAILED, client=peer.host, why=why, hint=hint)
    fix = f"; {hint}" if hint else ""
    state.auth.count_turned_away(
        peer.host, TurnedAway.TLS_FAILED, f"{log_events.CLIENT_TLS_FAILED.sentence}: {why}{fix}"
    )
