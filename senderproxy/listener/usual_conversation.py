"""Conversation of a usual client, without a coroutine until one is needed.

Guarantees: what waits for the client is one object, in place of the future of a coroutine. The first input, end or
interruption that callbacks do not handle starts the conversation, which goes on as if it had waited itself. A last
reply ends the connection as `ClientStream.finish` does. Nothing here refers to the connection after its end.
Not here: usual commands and messages (listener.client_input), the conversation (listener.relay_smtp).
"""

import asyncio
from collections.abc import Callable

from senderproxy.listener.client_stream import ClientStream
from senderproxy.mail.reply import Reply


class UsualConversation:
    """What waits for the client; read_buffer.InputWaiter. `start`: starts the conversation, once."""

    __slots__ = ("_is_leaving", "_is_starting", "_start", "_stream", "_why")

    def __init__(self, stream: ClientStream, start: Callable[[], None]) -> None:
        self._stream = stream
        self._start: Callable[[], None] | None = start  # None: it is started, or not needed any more
        self._is_starting = False  # the conversation is started, but has not run yet
        self._is_leaving = False  # the last reply is sent
        self._why: type[BaseException] | None = None  # no exception itself: its traceback would refer to the connection

    def skip(self) -> None:
        """Start the conversation, which does everything."""
        self._end()()

    def lost(self, *, is_receiving: bool) -> bool:
        """Note the end of the connection; True if the conversation logs it and must not be cancelled before.

        `is_receiving`: in the data of a message, which the conversation logs as cut.
        """
        if self._is_starting:
            self._why = asyncio.CancelledError
        elif self._start is not None and is_receiving:
            self._begin(asyncio.CancelledError)
        elif self._start is not None:
            self._end()
        return self._is_starting

    def take_reason(self) -> type[BaseException] | None:
        """What ended the wait, for the conversation that runs from now on; None: input, or its end."""
        self._is_starting = False
        why, self._why = self._why, None
        return why

    def leave(self, reply: Reply) -> bool:
        """Send a last reply, and close after a moment in which it can be read; False if the conversation does it."""
        if self._start is None:
            return False
        self._is_leaving = True
        self._stream.input.on_input = None
        if self._stream.write_last(reply):
            self._drop_input()
        else:
            self._close()
        return True

    # --- called for each input, like a future ---

    def done(self) -> bool:
        """True if it waits no more."""
        return self._start is None

    def set_result(self, _result: None, /) -> None:
        """There is input, or its end, that the callbacks do not handle."""
        if self._is_leaving:
            self._drop_input()
        else:
            self._begin(None)

    def set_exception(self, why: BaseException, /) -> None:
        """End the wait."""
        if self._is_leaving:
            self._close()
        else:
            self._begin(type(why))

    def _end(self) -> Callable[[], None]:
        """Wait no more."""
        start, self._start = self._start, None
        assert start is not None
        self._stream.input.wait_with(None)
        self._stream.input.on_input = None
        return start

    def _begin(self, why: type[BaseException] | None) -> None:
        start = self._end()
        self._why, self._is_starting = why, True
        try:
            start()
        except BaseException:  # without memory, too, no client waits for ever
            self._is_starting = False
            self._stream.abort()
            raise

    def _drop_input(self) -> None:
        self._stream.input.take()
        if self._stream.input.has_ended:
            self._close()

    def _close(self) -> None:
        self._end()
        self._stream.set_deadline(None)
        self._stream.close()
