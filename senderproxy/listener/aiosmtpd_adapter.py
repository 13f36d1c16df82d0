"""Adapter to aiosmtpd: its DATA hook converted to our types, and the check of its internals at start.

Guarantees: `handle_DATA` always returns a reply fit for a client: nothing internal shows in it, and every fault is in
the log once, with traceback and message id. A version of aiosmtpd that lacks a private name used here, or that would
call a method of ours as a hook, stops the start with one sentence instead of losing mail.
Not here: receiving the message (listener.relay_smtp), its further way (relay).
"""

import logging
import re
from collections.abc import Set
from dataclasses import replace
from typing import Final

import aiosmtpd
from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as EngineEnvelope

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Intake
from senderproxy.wire import replies

# Overridden, called or read in relay_smtp.py. tests/senderproxy/listener/test_aiosmtpd_adapter.py holds this against
# the code.
PRIVATE_NAMES: Final = frozenset(
    {
        "_call_handler_hook",  # finds the handler's hook by name and awaits it
        "_cb_client_connected",  # stores reader and writer
        "_create_envelope",  # makes the envelope of the next transaction
        "_handle_client",  # the conversation; replaced as a whole
        "_reset_timeout",  # arms the one timer; replaced
        "_timeout_cb",  # what the timer does; replaced
    }
)
PRIVATE_ATTRIBUTES: Final = frozenset(
    {
        "_handler_coroutine",  # the conversation's task; cancelled when the connection is lost
        "_timeout_handle",  # the one timer; cancelled when the connection is lost
        "_writer",  # for its drain()
    }
)

# aiosmtpd calls every method of its handler that starts with `handle_` or `auth_`, whatever we meant by it.
HOOKS: Final = frozenset({"handle_DATA"})
_LOOKS_LIKE_A_HOOK: Final = re.compile(r"(?:handle|auth|ehlo|rset)_", re.IGNORECASE)

_OLDEST: Final = (1, 4, 6)
_TOO_NEW: Final = (1, 5)


class UnsupportedAiosmtpd(SenderproxyError):
    """The installed aiosmtpd is not the one this program was written for."""


def check_aiosmtpd(handler: object, names: Set[str] = PRIVATE_NAMES | PRIVATE_ATTRIBUTES) -> None:
    """Raise EngineError where the engine or the spelling of a hook is not as it must be."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiosmtpd.__version__)[:3])
    if not _OLDEST <= version < _TOO_NEW:
        raise UnsupportedAiosmtpd(
            f"aiosmtpd {aiosmtpd.__version__} is installed; this program needs 1.4.6 or a later 1.4.",
            hint="pip install 'aiosmtpd>=1.4.6,<1.5'",
        )
    missing = sorted(names - set(vars(SMTP)) - _names_in(SMTP))
    if missing:
        raise UnsupportedAiosmtpd(f"aiosmtpd {aiosmtpd.__version__} has no {', '.join(missing)}.")
    strange = {name for name in dir(handler) if _LOOKS_LIKE_A_HOOK.match(name)} ^ HOOKS
    if strange:
        raise UnsupportedAiosmtpd(
            f"The handler's hooks are not spelled as aiosmtpd spells them: {', '.join(sorted(strange))}."
        )


def _names_in(cls: type) -> set[str]:
    """Every name that the methods of a class mention: its attributes are among them."""
    codes = [code for method in vars(cls).values() if (code := getattr(method, "__code__", None))]
    return {name for code in codes for name in code.co_names}


def silence_aiosmtpd() -> None:
    """aiosmtpd logs what clients send, AUTH included, below WARNING; what matters we log ourselves."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


_log = logging.getLogger("senderproxy.listener")


class CompleteEnvelope(EngineEnvelope):
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

    async def handle_DATA(self, _server: SMTP, _session: Session, letter: CompleteEnvelope) -> Reply:  # noqa: N802
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
            event(_log, log_events.MESSAGE_ERROR, fault=fault, id=letter.id)
            return replies.fault_with(letter.id)


def _fit_for_a_client(answer: Reply) -> Reply:
    """With an enhanced status; and without a 421 of the upstream's, which would close the client's connection."""
    if answer.code == 421:
        answer = replace(answer, code=451)
    if not (200 <= answer.code < 300 or 400 <= answer.code < 600):
        raise ValueError(f"{answer.code} is no answer to a message")
    return answer.with_default_status(0, 0)
