"""One usual transaction on a session as a small state machine: no task, no future and no timer of its own.

Guarantees: the octets and time limits of `Session.transact`. A command is sent after all replies of one read of the
socket: a reply that nothing asked for ends the session before the next command, as everywhere. The first reply that is
not usual, the end of the session, and a caller that waits no longer end the machine; `Session.transact` goes on from
there and decides about everything that is not a success.
Not here: the choice of the session (delivery.pool), the meaning of replies that are no success (delivery.session).
RFC 5321 section 4.1.1, RFC 2920.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from senderproxy.delivery.causes import Stage
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.protocol import ExpectedReply, UpstreamProtocol
from senderproxy.mail.reply import Reply
from senderproxy.value_class import value_class

_GO_AHEAD: Final = 354  # RFC 5321 section 4.1.1.4


@value_class
class DirectStep:
    """Octets to send, and the limit of time for the reply to them."""

    octets: bytes
    seconds: float
    stage: Stage


class DirectTransaction:
    """The machine. `ended` is called once, with the final reply or with None, unless `hand_over` comes before."""

    __slots__ = ("_checked", "_ended", "_pipelining", "_protocol", "_results", "_sent", "_steps")

    def __init__(
        self,
        protocol: UpstreamProtocol,
        steps: Sequence[DirectStep],
        ended: Callable[[Reply | None], None],
        *,
        pipelining: bool,
    ) -> None:
        """`steps`: MAIL, each RCPT, DATA, and the message with its final dot. `pipelining`: RFC 2920 section 3.1."""
        self._protocol = protocol
        self._steps = steps
        self._ended: Callable[[Reply | None], None] | None = ended  # until it is called: it may refer to this object
        self._pipelining = pipelining
        self._sent = 0  # steps
        self._results: list[Reply | SessionEnded] = []
        self._checked = 0  # of the results

    @property
    def dot_written(self) -> bool:
        """True if the upstream may have the message."""
        return self._sent == len(self._steps)

    def start(self) -> None:
        """Send the first command, or all commands. Raises SessionEnded if the session has ended."""
        self._protocol.on_replies = self._advance
        self._send(len(self._steps) - 1 if self._pipelining else 1)

    def hand_over(self) -> Sequence[ExpectedReply]:
        """Stop, and return a future for the reply to each step that was sent.

        The time limit of a reply that is waited for goes on.
        """
        protocol = self._protocol
        protocol.on_replies = None
        if len(self._results) > self._checked or not self._is_waiting:
            protocol.stop_waiting()
        loop = asyncio.get_running_loop()
        futures: list[ExpectedReply] = []
        for result in self._results:
            future: ExpectedReply = loop.create_future()
            future.set_result(result)
            futures.append(future)
        return [*futures, *protocol.expect_futures()]

    def stop(self) -> None:
        """Send nothing more. Replies are kept for `hand_over`; the time limit of the next one goes on."""
        self._protocol.on_replies = self._ended = None

    # --- the receiver of all its replies: delivery.protocol.ReplyReceiver ---

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False

    def set_result(self, result: Reply | SessionEnded, /) -> None:
        self._results.append(result)

    # --- the states ---

    @property
    def _is_waiting(self) -> bool:
        return len(self._results) < self._sent

    def _advance(self) -> None:
        """Go on after the replies of one read, or after the end of the session."""
        protocol, steps, results = self._protocol, self._steps, self._results
        before, received = self._checked, len(results)
        for index in range(before, received):
            if not _is_usual(results[index], steps[index].stage):
                self._checked = index
                self._end(None)
                return
        self._checked = received
        if received == len(steps):
            last = results[-1]
            assert isinstance(last, Reply)
            protocol.stage = Stage.IDLE
            self._end(last)
        elif protocol.end is not None:
            self._end(None)
        elif received == self._sent:
            self._send(self._sent + 1)
        elif received > before:
            step = steps[received]
            protocol.await_next(step.seconds, step.stage)

    def _send(self, until: int) -> None:
        """Send the steps up to this one; there is nothing between the last write and `dot_written`."""
        first, start = self._steps[self._sent], self._sent
        octets = first.octets if until == start + 1 else b"".join(step.octets for step in self._steps[start:until])
        self._protocol.send_for(self, octets, until - start, first.seconds, first.stage)
        self._sent = until

    def _end(self, reply: Reply | None) -> None:
        self._protocol.on_replies = None
        self._protocol.stop_waiting()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(reply)


def _is_usual(result: Reply | SessionEnded, stage: Stage) -> bool:
    if isinstance(result, SessionEnded):
        return False
    return result.code == _GO_AHEAD if stage is Stage.DATA else 200 <= result.code < 300
