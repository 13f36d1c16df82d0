"""aiosmtpd's hook -> our types -> Intake -> the reply to the final dot.

Promises: whatever happens behind it, `handle_DATA` gives a reply a client may be given: nothing of ours shows in it,
every fault is in the log with its traceback and the message's id, once.
Leaves to others: receiving the message (listener.relay_smtp), what becomes of it (relay).
"""

import logging
from dataclasses import replace

from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as EngineEnvelope

from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Intake
from senderproxy.wire import replies

_log = logging.getLogger("senderproxy.listener")


class Letter(EngineEnvelope):
    """aiosmtpd's envelope, carrying ours: one message, complete, on its way to the intake."""

    def __init__(self) -> None:
        super().__init__()
        self.id = ""
        self.client: Client | None = None
        self.paths: Envelope | None = None
        self.message: Message | None = None


class Handler:
    """The object whose hooks aiosmtpd calls. There is one hook, and its name is checked at start."""

    def __init__(self, intake: Intake, listener: str, clock: Clock) -> None:
        self._intake = intake
        self._listener = listener
        self._clock = clock
        self.faults = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, letter: Letter) -> Reply:  # noqa: N802
        """Hand a complete message over; the answer is the client's."""
        assert letter.client is not None
        assert letter.paths is not None
        assert letter.message is not None
        submission = Submission(
            letter.id, self._listener, letter.client, letter.paths, letter.message, self._clock.now()
        )
        try:
            return _fit_for_a_client(await self._intake.accept(submission))
        except Exception as fault:  # noqa: BLE001  the message stays with the client, which tries again
            self.faults += 1
            event(_log, logging.ERROR, "fault while a message was handled", fault=fault, id=letter.id)
            return replies.fault_with(letter.id)


def _fit_for_a_client(answer: Reply) -> Reply:
    """With an enhanced status; and without a 421 of the upstream's, which would close the client's connection."""
    if answer.code == 421:
        answer = replace(answer, code=451)
    if not (200 <= answer.code < 300 or 400 <= answer.code < 600):
        raise ValueError(f"{answer.code} is no answer to a message")
    return answer.with_default_status(0, 0)
