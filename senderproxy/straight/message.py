"""One message on the straight path, from the first octet to its upstream, or to the spool, until its reply.

Guarantees: `ended` is called once, whatever happens: with the reply, with the internal error, or with None for a
message that was interrupted by a stop. What is not a success, and a wait that is too long for the client, becomes a
task of the general path, which goes on with the same transaction; to the spool, each message is a task.
Not here: the choice of the messages (straight.path), the transaction (delivery.direct_transaction), what a client gets
(listener).
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeAlias

from senderproxy.clock import Clock
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.courier import BegunAttempt
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import CachedDecision, Decision
from senderproxy.relay.intake import Handling, RelayIntake
from senderproxy.straight.decisions import for_message
from senderproxy.straight.patience import PatienceSweeper

Ended: TypeAlias = Callable[["Reply | Exception | None"], None]


@dataclass(slots=True)
class StraightCounts:
    """Messages since the start."""

    taken: int = 0
    handed_over: int = 0  # of these, to the general path, which went on with them


class StraightMessage:
    """The message; listener.connections.Transaction."""

    __slots__ = (
        "_clock", "_counts", "_decision", "_ended", "_handling", "_intake", "_is_cancellable", "_message", "_patience",
        "_relay", "_started", "_task", "attempt", "submission",
    )  # fmt: skip

    def __init__(
        self,
        relay: MessageRelay,
        intake: RelayIntake,
        patience: PatienceSweeper,
        clock: Clock,
        counts: StraightCounts,
        submission: Submission,
        decision: Decision,
        message: Message,
        handling: Handling,
        ended: Ended,
    ) -> None:
        """`decision`: may be one that was made for another message; `message`: as it leaves."""
        self._relay = relay
        self._intake = intake
        self._patience = patience
        self._clock = clock
        self._counts = counts
        self.submission = submission
        self._decision = decision
        self._message = message
        self._handling = handling
        self._ended = ended
        self._started = clock.monotonic()
        self._task: asyncio.Task[Reply] | None = None
        self._is_cancellable = False  # the task: nothing depends on its beginning
        self.attempt: BegunAttempt | None = None

    def start(self, attempt: BegunAttempt) -> None:
        """Send the first octets."""
        self.attempt = attempt
        self._patience.add(self, self._handling.timeout)
        try:
            attempt.transaction.start()
        except SessionEnded:
            self._go_on()

    def queue(self) -> None:
        """Store the message, in a task."""
        made = self._relay.cached(for_message(self._decision, self.submission.envelope))
        self._is_cancellable = True
        self._run(self._queue(made))

    def answered(self, accepting: Reply | None) -> None:
        """The end of the transaction: see `delivery.session.Session.begin`."""
        if accepting is None:
            self._go_on()
            return
        self._patience.remove(self)
        assert self.attempt is not None
        try:
            outcomes = self._relay.explained(self._decision, self._message, self.attempt.delivered(accepting))
            seconds = self._clock.monotonic() - self._started
            reply = self._intake.delivered(self.submission, self._decision, self._handling, outcomes, seconds)
        except Exception as fault:  # noqa: BLE001  the listener logs it, as one of the general path
            self._ended(fault)
        else:
            self._ended(reply)

    def on_over(self) -> None:
        """The client has waited long enough: the general path queues the message during the attempt."""
        self._go_on()

    def cancel(self) -> None:
        """Interrupt the message before its final dot; after it, wait for its reply as long as that takes."""
        if self._task is not None:
            self._cancel_task()
            return
        self._patience.remove(self)
        assert self.attempt is not None
        if not self.attempt.transaction.dot_written:
            self.attempt.transaction.stop()
            self.attempt.abort()
            self._ended(None)

    # --- the general path ---

    def _go_on(self) -> None:
        """Go on in a task of the general path."""
        self._patience.remove(self)
        self._counts.handed_over += 1
        assert self.attempt is not None
        self.attempt.continue_in_deliver()
        self._run(self._continue())

    def _run(self, ending: Coroutine[object, object, Reply]) -> None:
        self._task = asyncio.get_running_loop().create_task(ending)
        self._task.add_done_callback(self._task_ended)

    async def _queue(self, made: CachedDecision) -> Reply:
        decision = self._relay.valid_decision(made)
        if decision is None:  # the accounts or rules have changed before the task began
            return await self._intake.accept(self.submission)
        return await self._intake.queue_decided(self.submission, decision, self._started)

    async def _continue(self) -> Reply:
        self._is_cancellable = True
        assert self.attempt is not None
        decision = for_message(self._decision, self.submission.envelope)
        try:
            return await self._intake.continue_attempt(self.submission, decision, self._handling, self._started)
        finally:
            self.attempt.abandon()

    def _cancel_task(self) -> None:
        """Cancel the task, but not before it has taken over the transaction: that needs somebody who ends it."""
        assert self._task is not None
        if self._is_cancellable:
            self._task.cancel()
        else:
            asyncio.get_running_loop().call_soon(self._cancel_task)

    def _task_ended(self, task: "asyncio.Task[Reply]") -> None:
        if task.cancelled():
            self._ended(None)
        elif isinstance(fault := task.exception(), Exception):
            self._ended(fault)
        else:
            self._ended(task.result())
