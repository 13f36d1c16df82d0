"""A connection of a browser: uvicorn's HTTP/1.1 with limits of time.

Guarantees: a connection that sends no complete header section within HEADER_SECONDS is closed. One that is answered
before its body has come is closed. When the process ends, a connection that has sent no request yet can still send its
first one for FIRST_REQUEST_SECONDS, which is answered; otherwise a request under way to the old process is lost.
Not here: connections at once, octets of a header section (web.server), requests (web.boundary).
"""

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEADER_SECONDS: Final = 10.0  # for a header section, also from a slow telephone
FIRST_REQUEST_SECONDS: Final = (
    1.0  # at the end of the process; browsers open connections in advance and leave them idle
)
_UNREAD_SECONDS: Final = 1.0  # for the answer to arrive before the connection is closed


class HttpConnection(H11Protocol):
    """HTTP/1.1 with a limit of time for the header section of each request, and an end that loses no first request."""

    _timer: asyncio.TimerHandle | None = None
    _ends = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._ends and self._asked:
            self.cycle.keep_alive = False
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # answered without its body, which may have no end
            self.loop.call_later(_UNREAD_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        """The end of the process: a request under way is answered, and a first one that is still to come."""
        if not self._asked and not self._ends:
            self._ends = True
            self.loop.call_later(FIRST_REQUEST_SECONDS, self._end_without_request)
        else:
            super().shutdown()

    @property
    def _asked(self) -> bool:
        """True from the end of the first header section on."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None

    def _end_without_request(self) -> None:
        if not self._asked:
            self.transport.close()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
