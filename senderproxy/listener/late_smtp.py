"""aiosmtpd's SMTP class, set up for a connection when its conversation starts.

Guarantees: a connection without a conversation has none of aiosmtpd's objects; one that has ended keeps none.
Not here: the connection and its conversation (listener.relay_smtp), the names used here (listener.aiosmtpd_adapter).
"""

import asyncio

from aiosmtpd.smtp import SMTP

from senderproxy.listener.aiosmtpd_adapter import NO_TIMER, CompleteEnvelope, Handler


class LateSMTP(SMTP):  # type: ignore[misc, unused-ignore]  # aiosmtpd's types are loose
    """The class."""

    _handler_coroutine: asyncio.Task[None] | None = None  # until there is a conversation

    def __init__(self, handler: Handler, hostname: str, loop: asyncio.AbstractEventLoop) -> None:
        """Set up nothing yet."""
        self._given = handler, hostname, loop

    def __dir__(self) -> tuple[str, ...]:
        """No names: aiosmtpd would search each connection for methods and keep them, in a cycle of references."""
        return ()

    def start(self, transport: asyncio.Transport) -> None:
        """Start the task of the conversation."""
        self._set_up()
        super().connection_made(transport)
        self._client_connected_cb = None

    def end(self, *, goes_on: bool) -> None:
        """Cancel the conversation, unless it goes on to its end by itself; clear what forms cycles of references."""
        if self._handler_coroutine is not None:
            if goes_on:
                asyncio.StreamReaderProtocol.connection_lost(self, None)
            else:
                super().connection_lost(None)  # an error would be stored in a future that is never awaited
            self.transport = None
            del self._handler_coroutine, self._reader, self._writer
        self._client_connected_cb = None

    async def drain(self) -> None:
        """Wait until the client reads."""
        await self._writer.drain()

    def pause_writing(self) -> None:
        """Note that the client does not read its replies; the conversation waits for it."""
        self._set_up()
        super().pause_writing()

    def _set_up(self) -> None:
        if not hasattr(self, "event_handler"):
            handler, hostname, loop = self._given
            super().__init__(handler, hostname=hostname, loop=loop)

    def _create_envelope(self) -> CompleteEnvelope:
        return CompleteEnvelope()

    def _reset_timeout(self, duration: float | None = None) -> None:  # noqa: ARG002  the name is aiosmtpd's
        """Keep aiosmtpd from starting a timer: each wait has its own deadline."""
        self._timeout_handle = NO_TIMER  # type: ignore[assignment]  # it is only cancelled
