"""Adapter to aiosmtpd: its DATA hook converted to our types, and the check of its internals at start.

Guarantees: `handle_DATA` always returns a reply fit for a client: nothing internal shows in it, and every internal
error is in the log once, with traceback and message id. A version of aiosmtpd that lacks a private name used here, or
that would call a method of ours as a hook, stops the start with one sentence instead of losing mail.
Not here: the conversation (listener.relay_smtp), reception of the message (listener.data_phase), routing and delivery
(relay).
"""

import logging
import re
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Final, Protocol

import aiosmtpd
from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as AiosmtpdEnvelope

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.listener.body import BodyBuffer
from senderproxy.listener.connections import Transaction
from senderproxy.log import event
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.ports import Intake
from senderproxy.translation import _
from senderproxy.wire import replies

_log = logging.getLogger("senderproxy.listener")

# Overridden, called or read in relay_smtp.py and late_smtp.py, the modules that use any. A test compares the lists with
# the syntax tree of this package (tests/senderproxy/listener/test_aiosmtpd_adapter.py).
PRIVATE_NAMES: Final = frozenset(
    {
        "_call_handler_hook",  # finds the handler's hook by name and awaits it
        "_cb_client_connected",  # stores reader and writer
        "_create_envelope",  # makes the envelope of the next transaction; replaced
        "_handle_client",  # the conversation; replaced as a whole
        "_reset_timeout",  # starts the timer of a new connection; replaced by nothing
    }
)
PRIVATE_ATTRIBUTES: Final = frozenset(
    {
        "_client_connected_cb",  # asyncio's; a bound method of the connection; cleared when it has been called
        "_handler_coroutine",  # the conversation's task; cancelled, then cleared, when the connection is lost
        "_reader",  # not used here; cleared when the connection is lost
        "_timeout_handle",  # the timer; must be there, and is cancelled, when the connection is lost
        "_writer",  # for its drain(); cleared when the connection is lost
    }
)

# aiosmtpd calls every method of its handler that starts with `handle_` or `auth_`, whatever its purpose.
HOOKS: Final = frozenset({"handle_DATA"})
_HOOK_NAME: Final = re.compile(r"(?:handle|auth|ehlo|rset)_", re.IGNORECASE)

_MIN_VERSION: Final = (1, 4, 6)
_FIRST_UNSUPPORTED: Final = (1, 5)


class UnsupportedAiosmtpd(SenderproxyError):
    """The installed aiosmtpd lacks an internal that this program relies on."""


def check_aiosmtpd(handler: object, names: Set[str] = PRIVATE_NAMES | PRIVATE_ATTRIBUTES) -> None:
    """Check the version of aiosmtpd, its private `names` and the spelling of the handler's hooks.

    Raises UnsupportedAiosmtpd.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", aiosmtpd.__version__)[:3])
    if not _MIN_VERSION <= version < _FIRST_UNSUPPORTED:
        raise UnsupportedAiosmtpd(
            _("aiosmtpd {version} is installed; this program needs 1.4.6 or a later 1.4.").format(
                version=aiosmtpd.__version__
            ),
            hint="pip install 'aiosmtpd>=1.4.6,<1.5'",
        )
    missing = sorted(names - set(vars(SMTP)) - set[str]().union(*map(_names_in, SMTP.__mro__)))
    if missing:
        raise UnsupportedAiosmtpd(
            _("aiosmtpd {version} has no {names}.").format(version=aiosmtpd.__version__, names=", ".join(missing))
        )
    unexpected = {name for name in object.__dir__(handler) if _HOOK_NAME.match(name)} ^ HOOKS
    if unexpected:
        raise UnsupportedAiosmtpd(
            _("The handler's hooks are not spelled as aiosmtpd spells them: {names}.").format(
                names=", ".join(sorted(unexpected))
            )
        )


def _names_in(cls: type) -> set[str]:
    """All names in the methods of a class, its attributes included."""
    codes = [code for method in vars(cls).values() if (code := getattr(method, "__code__", None))]
    return {name for code in codes for name in code.co_names}


def silence_aiosmtpd() -> None:
    """Switch off aiosmtpd's log: below WARNING it has what clients send, AUTH included. Events are logged here."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class NoTimer:
    """What aiosmtpd cancels in place of its timer."""

    def cancel(self) -> None:
        """Cancel nothing."""


NO_TIMER: Final = NoTimer()


class CompleteEnvelope(AiosmtpdEnvelope):
    """aiosmtpd's envelope with our types: one complete message for the intake."""

    def __init__(self) -> None:
        super().__init__()
        self.id = ""
        self.client: Client | None = None
        self.paths: Envelope | None = None
        self.message: Message | None = None

    def fill(self, message_id: str, client: Client, paths: Envelope, message: Message) -> None:
        """Set all that belongs to the message."""
        self.id, self.client, self.paths, self.message = message_id, client, paths, message


class StraightMail(Transaction, Protocol):
    """A message on the straight path."""

    @property
    def submission(self) -> Submission:
        """The message as received."""
        ...


class StraightWay(Protocol):
    """The straight path for the messages of one client."""

    @property
    def is_open(self) -> bool:
        """False if no message is usual now."""
        ...

    def take(
        self,
        envelope: Envelope,
        raw: bytes,
        rest: bytes,
        field_limit: int,
        new_body: Callable[[], BodyBuffer],
        ended: Callable[[Reply | Exception | None], None],
    ) -> StraightMail | None:
        """Take a message, given with its header section and the octets of its body; None: the intake takes it.

        `ended` is called once, later: with the reply, an internal error, or None for an interruption by a stop.
        """
        ...


class StraightWays(Protocol):
    """The straight path."""

    @property
    def is_on(self) -> bool:
        """False if it is switched off."""
        ...

    def of_client(self, listener: str, client: Client) -> StraightWay | None:
        """The path for the messages of this client; None if none of them is usual."""
        ...


class Handler:
    """aiosmtpd's handler object: its only hook passes complete messages to the intake.

    `straight`: takes usual messages before the hook; None: there is no such path.
    """

    def __init__(self, intake: Intake, listener: str, clock: Clock, straight: StraightWays | None = None) -> None:
        self.straight = straight
        self._intake = intake
        self._listener = listener
        self._clock = clock
        self.faults = 0

    def __dir__(self) -> tuple[str, ...]:
        """The hooks: aiosmtpd searches the names here for methods, twice for each connection."""
        return tuple(HOOKS)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: CompleteEnvelope) -> Reply:  # noqa: N802
        """Pass a complete message to the intake; the result is the reply to the client."""
        assert envelope.client is not None
        assert envelope.paths is not None
        assert envelope.message is not None
        submission = Submission(
            envelope.id, self._listener, envelope.client, envelope.paths, envelope.message, self._clock.now()
        )
        try:
            reply = await self._intake.accept(submission)
        except Exception as fault:  # noqa: BLE001  the client keeps the message and tries again
            return self.answer(fault, envelope.id)
        return self.answer(reply, envelope.id)

    def answer(self, result: Reply | Exception, message_id: str) -> Reply:
        """The reply to the client for the intake's reply, or for an internal error, which is logged."""
        if isinstance(result, Reply):
            try:
                return _client_reply(result)
            except ValueError as fault:
                result = fault
        self.faults += 1
        event(_log, log_events.MESSAGE_ERROR, fault=result, id=message_id)
        return replies.internal_error(message_id)


def _client_reply(reply: Reply) -> Reply:
    """The reply with an enhanced status, and as 451 where the upstream said 421: that would close our connection."""
    if reply.code == 421:
        reply = replace(reply, code=451)
    if not (200 <= reply.code < 300 or 400 <= reply.code < 600):
        raise ValueError(f"{reply.code} is not a reply to message data")
    return reply.with_default_status(0, 0)
