"""DkimSigner: signs messages with the keys in force, small ones at once and large ones on a thread.

Guarantees: the event loop waits neither for the disk nor for the hash of a large body, and memory is bounded whatever
its size. A body that cannot be read now raises OSError; after an internal error the message leaves unsigned, with a
line in the log.
Not here: the choice of the key and the signature (dkim), the state of the keys (service.dkim_watch).
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.disk_threads import DiskThreads, DiskTimeout
from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.sign import sign
from senderproxy.log import event
from senderproxy.mail.dot_stuffing import remove_dots
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.decision_thread import has_large_header

_AT_ONCE: Final = 32 * 1024  # octets of a message that is signed on the event loop: 0.2 ms beside the signature's 0.7
_TIMEOUT: Final = 60.0  # seconds for one message; 100 MB take some seconds

_T = TypeVar("_T")
_log: Final = logging.getLogger("senderproxy.relay")


class DkimSigner:
    """The signatures of one relay. `ring` may be replaced at any time; None: no key signs."""

    def __init__(self, clock: Clock, timeout_seconds: float = _TIMEOUT) -> None:
        self.ring: KeyRing | None = None
        self._clock = clock
        self._disk = DiskThreads("dkim", timeout_seconds=timeout_seconds)

    async def will_sign(self, submission: Submission, message: Message) -> bool:
        """True if a key is there for the message as it is now. Raises OSError if there is no thread."""
        ring = self.ring
        if ring is None:
            return False
        if not has_large_header(submission):
            return self._key(ring, submission, message) is not None
        return await self._on_thread(message, lambda: self._key(ring, submission, message)) is not None

    async def signed(self, submission: Submission, message: Message) -> Message:
        """The message with a signature, or as it is if no key is there for it. Raises OSError."""
        ring = self.ring
        if ring is None:
            return message
        is_small = message.body.disk is None and message.size <= _AT_ONCE
        if is_small and not has_large_header(submission):
            return self._sign(ring, submission, message)
        return await self._on_thread(message, lambda: self._sign(ring, submission, message))

    async def _on_thread(self, message: Message, call: Callable[[], _T]) -> _T:
        working = self._disk.do(call)
        message.body.retain()
        working.add_done_callback(lambda _: message.body.close())
        await wait_done(working, self._disk.timeout_seconds)
        if not working.done():
            raise DiskTimeout
        return working.result()

    def _key(self, ring: KeyRing, submission: Submission, message: Message) -> SigningKey | None:
        try:
            return ring.key_for(message.header)
        except Exception as fault:  # noqa: BLE001  the message leaves without a signature
            event(_log, log_events.DKIM_FAILED, fault=fault, id=submission.id)
            return None

    def _sign(self, ring: KeyRing, submission: Submission, message: Message) -> Message:
        key = self._key(ring, submission, message)
        if key is None:
            return message
        received: HeaderSection = submission.message.header
        try:
            body = remove_dots(message.body.blocks())
            return Message(sign(key, ring, message.header, received, body, self._clock.now()), message.body)
        except OSError:
            raise
        except Exception as fault:  # noqa: BLE001
            event(_log, log_events.DKIM_FAILED, fault=fault, id=submission.id)
            return message
