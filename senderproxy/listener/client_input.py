"""Input of one connection: lines for the conversation; usual commands and messages are handled as they arrive.

Guarantees: the conversation's own rules: `wire.dialogue` judges each command, replies leave in the order of the
commands, the same deadlines. Everything but a usual message goes to the conversation with all of its octets, whatever
part of it has arrived, and before anything was done about it.
Not here: the conversation (listener.relay_smtp), which messages are usual and what becomes of them (StraightWay).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from senderproxy import log_events
from senderproxy.listener.aiosmtpd_adapter import Handler, StraightMail, StraightWay
from senderproxy.listener.client_stream import ClientStream, CloseRequested
from senderproxy.listener.connections import Connection, ListenerState
from senderproxy.listener.data_phase import BegunData, data_deadline
from senderproxy.listener.read_buffer import HIGH, ClientGone
from senderproxy.listener.turned_away import TurnedAway
from senderproxy.log import event
from senderproxy.mail.reply import Reply
from senderproxy.wire import replies
from senderproxy.wire.command import AUTH_LIMIT
from senderproxy.wire.data_decoder import undecided
from senderproxy.wire.dialogue import Dialogue, ReceiveData, ReplyAndClose, SendReply, Step

_log = logging.getLogger("senderproxy.listener")

UNREAD_LIMIT: Final = 64 * 1024  # octets of replies that a client may leave unread before it must read
BATCH: Final = 100  # commands of one client in a row; then its replies leave and other clients are served
CLOSING: Final = 421  # the code after which the connection is closed, RFC 5321 section 3.8
TLS_RECORD: Final = b"\x16\x03"  # the start of a handshake record, RFC 8446 section 5.1
_MESSAGE_LIMIT: Final = 60 * 1024  # octets; with our Received field it is one write
_END: Final = b"\r\n.\r\n"
_TAIL: Final = 6  # octets in which the end of data is looked for

Drain: TypeAlias = Callable[[], Awaitable[None]]


class CommandedConnection(Connection, Protocol):
    """The connection, as it is needed here."""

    @property
    def must_close(self) -> bool:
        """True if no further command is read."""
        ...

    def step_of(self, dialogue: Dialogue, line: bytes) -> Step:
        """The dialogue's step for a command."""
        ...

    def leave(self, reply: Reply) -> bool:
        """Send a last reply and close; False if the conversation does it."""
        ...


class ClientInput:
    """The input. `connection` is cleared when it is lost."""

    # One slot for each thing that lasts from one read to the next.
    __slots__ = (
        "_begun", "_client", "_dialogue", "_fault", "_must_wait", "_searched", "_started", "_state", "_step", "_stream",
        "_way", "closing_reply", "connection", "handler", "message",
    )  # fmt: skip

    def __init__(
        self, connection: CommandedConnection, stream: ClientStream, state: ListenerState, handler: Handler
    ) -> None:
        self.connection: CommandedConnection | None = connection
        self.handler = handler
        self.closing_reply: Reply | None = None  # the listener wants to close the connection with this
        self.message: StraightMail | None = None  # until its reply is known
        self._stream = stream
        self._state = state
        self._dialogue: Dialogue | None = None
        self._client: object = None
        self._way: StraightWay | None = None  # of that client
        self._started: float | None = None  # the time of 354, while the message arrives
        self._searched = 0  # octets in which there is no end of data
        self._must_wait = False  # the time for the next line is to be started
        self._begun: BegunData | None = None
        self._step: Step | None = None
        self._fault: Exception | None = None

    @property
    def takes_usual(self) -> bool:
        """True if usual commands and messages are handled here."""
        straight = self.handler.straight
        return straight is not None and straight.is_on

    @property
    def is_receiving(self) -> bool:
        """True while the data of a message arrives, until the conversation receives it."""
        return self._started is not None or self._begun is not None

    def begin(self, dialogue: Dialogue) -> None:
        """Send the greeting, and handle what follows until the conversation calls `resume`."""
        self._dialogue = dialogue
        self._stream.commands += 1
        self._stream.flush()
        self._start_time(dialogue)
        self._stream.input.on_input = self._on_input

    def resume(self, why: type[BaseException] | None) -> None:
        """End a wait that began without the conversation, and has ended with such an exception; None: with input.

        Raises it, unless a message is being received. The next call is `next_line` with `came`.
        """
        if not self._end_wait(why) and why is not None:
            raise why
        self._raise_fault()

    async def next_line(
        self, dialogue: Dialogue, drain: Drain, *, is_command: bool = True, came: bool = False
    ) -> bytes | None:
        """The next line with its line feed; None where it exceeds every limit, or where there is a step already.

        `drain`: waits until the client reads. `came`: the first wait has ended already.
        Raises ClientTimeout, ClientGone, CloseRequested.
        """
        stream = self._stream
        if not came:
            stream.commands += 1
            if stream.commands % BATCH == 0:
                stream.flush()
                if stream.unread > UNREAD_LIMIT:
                    await stream.wait_until_read(drain)
                await asyncio.sleep(0)
            if (line := self._buffered_line()) is not None or len(stream.input.octets) > AUTH_LIMIT:
                return line
            self._dialogue, self._must_wait = dialogue, True
        while True:
            if not came:
                if self._must_wait:
                    stream.flush()
                    if stream.unread > UNREAD_LIMIT:
                        await stream.wait_until_read(drain)
                    self._start_time(dialogue)
                straight = self.handler.straight if is_command else None
                await (stream.more() if straight is None or not straight.is_on else self._more())
            line, came = None, False
            if self._step is not None:
                break
            check_no_tls(stream, self._state, dialogue.client.host)
            if (line := self._buffered_line()) is not None or len(stream.input.octets) > AUTH_LIMIT:
                break
        stream.set_deadline(None)
        return line

    def _buffered_line(self) -> bytes | None:
        if self.closing_reply is not None and (self.connection is None or self.connection.must_close):
            raise CloseRequested
        return self._stream.input.line()

    async def _more(self) -> None:
        """Wait until there is something for the conversation: a step, input to be read, or what ends the wait."""
        self._stream.input.on_input = self._on_input
        try:
            await self._stream.more()
        except BaseException as why:
            if not self._end_wait(type(why)):
                raise
        else:
            self._end_wait(None)
        self._raise_fault()

    def _end_wait(self, why: type[BaseException] | None) -> bool:
        """End a wait for input; True if DataPhase raises what ended it, because a message is being received."""
        self._stream.input.on_input = None
        if why is None:
            return False
        if self._started is not None:
            self._hand_over(why)
        elif self._begun is not None:  # the end of the input came just before
            self._begun = BegunData(self._begun.started, why)
        else:
            return False
        return True

    def _raise_fault(self) -> None:
        if (fault := self._fault) is not None:
            self._fault = None
            raise fault

    def take_step(self) -> Step | None:
        """The step that the conversation must perform; None: it reads the input."""
        step, self._step = self._step, None
        return step

    def take_begun(self) -> BegunData | None:
        """The data that has begun, for a ReceiveData from here."""
        begun, self._begun = self._begun, None
        return begun

    # --- called for each input ---

    def _on_input(self) -> bool:
        """Handle the input; False: the conversation must."""
        try:
            if self.message is not None:
                return True  # its reply comes first
            if self._step is not None:
                return False
            return self._read_commands() if self._started is None else self._read_data()
        except Exception as fault:  # noqa: BLE001  raised again in the conversation
            self._fault = fault
            return False

    def _read_commands(self) -> bool:
        stream, dialogue, connection = self._stream, self._dialogue, self.connection
        source = stream.input
        assert dialogue is not None
        if connection is None or source.octets.startswith(TLS_RECORD):
            return False
        count, is_closing = 0, self.closing_reply is not None
        while count < BATCH and not (is_closing and connection.must_close) and (line := source.line()) is not None:
            count += 1
            stream.commands += 1
            step = connection.step_of(dialogue, line)
            if type(step) is SendReply:
                stream.write(step.reply)
            elif type(step) is ReceiveData and self._is_open(dialogue):
                self._begin_data()
                return True
            elif type(step) is ReplyAndClose and connection.leave(step.reply):
                return True
            else:
                self._step = step
                return False
        self._must_wait = self._must_wait or count > 0
        if count == BATCH or is_closing or source.has_ended or len(source.octets) > AUTH_LIMIT:
            return False
        if not self._must_wait:
            return True  # a part of a line: its time goes on
        stream.flush()
        if stream.unread > UNREAD_LIMIT:
            return False
        self._start_time(dialogue)
        return True

    def _start_time(self, dialogue: Dialogue) -> None:
        """Start the time for the next line."""
        stream = self._stream
        self._must_wait = False
        if dialogue.mail_seen:
            stream.command_timeout = stream.timeouts.idle
        stream.set_deadline(stream.loop.time() + stream.command_timeout)

    # --- a message ---

    def _is_open(self, dialogue: Dialogue) -> bool:
        client = dialogue.client
        if client is not self._client:
            self._client = client
            path = self.handler.straight
            self._way = None if path is None else path.of_client(self._state.settings.name, client)
        return self._way is not None and self._way.is_open

    def _begin_data(self) -> None:
        stream = self._stream
        stream.write(replies.START_DATA)
        stream.flush()
        self._started = stream.loop.time()
        self._searched = 0
        stream.set_deadline(data_deadline(stream, self._started, 0, b""))

    def _read_data(self) -> bool:
        stream = self._stream
        octets, source = stream.input.octets, stream.input
        assert self._started is not None
        end = octets.find(_END, self._searched)
        if octets.startswith(b".") or source.has_ended or (end < 0 and len(octets) > HIGH):
            return self._hand_over(None)
        if end >= 0:
            return self._take(bytes(octets[: end + 2])) or self._hand_over(None)
        self._searched = max(0, len(octets) - len(_END) + 1)
        tail = bytes(octets[-_TAIL:])
        stream.set_deadline(data_deadline(stream, self._started, len(octets) - undecided(tail), tail))
        return True

    def _take(self, octets: bytes) -> bool:
        """Give a complete message to the straight path; False if it does not take it."""
        dialogue, stream = self._dialogue, self._stream
        assert dialogue is not None
        assert self._way is not None
        offer = dialogue.offer
        size = octets.find(b"\r\n\r\n") + 4  # of the header section
        if size < 4 or size > offer.header_limit or len(octets) > min(offer.size_limit, _MESSAGE_LIMIT):
            return False
        lines = octets.replace(b"\r\n", b"")
        if b"\r" in lines or b"\n" in lines or b"\0" in lines:
            return False
        message = self._way.take(
            dialogue.envelope(), octets[:size], octets[size:], offer.field_limit, self._state.new_body, self._ended
        )
        if message is None:
            return False
        self.message = message
        self._started = None
        self._state.transactions.add(message)
        stream.set_deadline(None)
        stream.input.drop(len(octets) + len(_END) - 2)
        return True

    def _hand_over(self, interruption: type[BaseException] | None) -> bool:
        """Let the conversation receive the message; False, for `_on_input`."""
        assert self._started is not None
        self._begun, self._started = BegunData(self._started, interruption), None
        self._step = ReceiveData()
        return False

    def _ended(self, result: Reply | Exception | None) -> None:
        """The end of the message: reply, internal error, or interruption by a stop."""
        try:
            self._conclude(result)
        except Exception as fault:  # noqa: BLE001  such as missing memory: no client waits for ever
            self._state.counters.faults += 1
            event(_log, log_events.CONNECTION_ERROR, fault=fault, client=self._dialogue and self._dialogue.client)
            self._stream.abort()

    def _conclude(self, result: Reply | Exception | None) -> None:
        message, state, dialogue = self.message, self._state, self._dialogue
        assert message is not None
        assert dialogue is not None
        self.message = None
        message_id, client = message.submission.id, message.submission.client
        reply = None if result is None else self.handler.answer(result, message_id)
        message.submission.message.body.close()
        state.end_transaction(message)
        if self._stream.lost or self.connection is None:
            missed: object = "interrupted by the stop of the service" if reply is None else reply
            event(_log, log_events.CLIENT_LEFT_BEFORE_REPLY, id=message_id, client=client, reply=missed)
            return
        if reply is None:
            event(_log, log_events.MESSAGE_INTERRUPTED, id=message_id)
            reply = replies.stopping(state.hostname)
        state.message_answered(self.connection, dialogue, reply)
        if reply.code == CLOSING:
            self._step = ReplyAndClose(reply)
        else:
            self._stream.write(reply)
            self._must_wait = True
        self._stream.input.check()


def check_no_tls(stream: ClientStream, state: ListenerState, host: str) -> None:
    """Raise ClientGone for input that is a TLS record in place of a command, after logging it: no reply can be read."""
    if state.settings.tls == "implicit" or not stream.input.starts_with(TLS_RECORD):
        return
    offered = "STARTTLS" if state.tls is not None else "no encryption"
    hint = f'choose {offered} in the client, or set tls = "implicit" for this listener'
    state.events.log(log_events.CLIENT_TLS_AT_PLAIN_PORT, client=host, hint=hint)
    state.auth.count_turned_away(
        host, TurnedAway.TLS_AT_PLAIN_PORT, f"{log_events.CLIENT_TLS_AT_PLAIN_PORT.sentence}; {hint}"
    )
    raise ClientGone
