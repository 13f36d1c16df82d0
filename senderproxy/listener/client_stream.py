"""Byte stream of one client: buffered input, collected replies, and a deadline for each wait.

Guarantees: replies that were written together leave together, in the order of the commands; a wait for the client ends
at its deadline, even where single octets keep arriving; a last reply is not lost: the client has a moment to read it
before the connection is closed (a socket closed on unread input discards what was sent, RFC 1122 section 4.2.2.13).
Not here: commands and replies (listener.relay_smtp), message data (listener.data_phase).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from senderproxy.aio import fair_share
from senderproxy.listener.connections import ListenerTimeouts
from senderproxy.listener.read_buffer import ClientGone, ReadBuffer
from senderproxy.mail.reply import Reply

_CLOSE_TIMEOUT: Final = 30.0  # seconds for a client to read its last replies; then the connection is dropped


class ClientTimeout(Exception):
    """The client did not send what was due before the deadline."""


class CloseRequested(Exception):
    """The listener wants to close the connection, and no message of this client is in progress."""


class ClientStream:
    """Input, output and deadlines of one connection.

    `deadline` times are those of the event loop's clock, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: ListenerTimeouts) -> None:
        self.input = ReadBuffer(loop)
        self.timeouts = timeouts
        self.transport: asyncio.Transport | None = None
        self.command_timeout = timeouts.before_mail  # seconds; longer once a message has begun
        self.commands = 0  # read
        self.stop_requested = False  # the stop time of the service is over: no further input is waited for
        self.fair_share = fair_share()
        self.loop = loop
        self._output = bytearray()
        self.lost = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # 0: the timer does not run
        self._abort_at_deadline = False  # the wait is for the client to read, not to write

    def attach(self, transport: asyncio.Transport) -> None:
        """Use this transport from now on."""
        self.transport = transport
        self.input.attach(transport)

    def connection_lost(self) -> None:
        """End the input and the timer; release the transport, whose TLS objects take 100 KB."""
        self.lost = True
        self.input.end()
        self.input.attach(None)
        self.transport = None
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def unread(self) -> int:
        """Octets of replies that the client has not read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    # Input

    async def more(self) -> None:
        """Wait for input. Raises ClientTimeout after the deadline, ClientGone at the end of the input."""
        if self._deadline is not None and self.loop.time() >= self._deadline:
            raise ClientTimeout
        await self.input.more()

    # Output

    def write(self, reply: Reply) -> None:
        """Add a reply to the output; it leaves with the next `flush`."""
        self._output += reply.octets

    def write_octets(self, octets: bytes) -> None:
        """Add a line that is not a Reply, such as an AUTH challenge."""
        self._output += octets

    def flush(self) -> None:
        """Send the output."""
        if self._output and self.transport is not None and not self.transport.is_closing():
            self.transport.write(bytes(self._output))
        self._output.clear()

    def close(self) -> None:
        """Send the output and close; drop a client that does not read it within 30 seconds."""
        self.flush()
        if self.transport is None or self.lost:
            return
        self.transport.close()
        self.abort_at(self.loop.time() + min(self.timeouts.idle, _CLOSE_TIMEOUT))

    def abort(self) -> None:
        """Drop the connection."""
        if self.transport is not None:
            self.transport.abort()

    async def finish(self, reply: Reply) -> None:
        """Send a last reply and read on for a moment: closing on unread input would discard the reply."""
        if not self.write_last(reply):
            return
        try:
            while True:
                self.input.take()
                await self.more()
        except (ClientGone, ClientTimeout, CloseRequested, OSError):
            pass
        finally:
            self.set_deadline(None)

    def write_last(self, reply: Reply) -> bool:
        """Send a last reply and start the time for reading on; False where the client cannot be waited for."""
        self.write(reply)
        self.flush()
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        try:
            transport.write_eof()
        except OSError:
            return False
        self.set_deadline(self.loop.time() + self.timeouts.linger)
        return True

    # Deadlines

    def set_deadline(self, deadline: float | None) -> None:
        """Limit the wait for the client; None: no limit. One timer serves all waits; it is seldom restarted."""
        self._deadline = deadline
        if deadline is not None and (self._timer_due == 0.0 or deadline < self._timer_due):
            self._start_timer(deadline)

    def abort_at(self, deadline: float | None) -> None:
        """Limit the time in which the client reads; the connection is dropped at the deadline. None: no limit."""
        self._abort_at_deadline = deadline is not None
        self.set_deadline(deadline)

    async def wait_until_read(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Wait for a client that sends commands but does not read the replies."""
        self.abort_at(self.loop.time() + self.timeouts.idle)
        await drain()
        self.abort_at(None)

    def _start_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_due = 0.0
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._start_timer(self._deadline)
        elif self._abort_at_deadline:
            self.abort()
        else:
            self.input.interrupt(ClientTimeout())
