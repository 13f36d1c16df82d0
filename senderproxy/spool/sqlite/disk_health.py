"""Health of the disk: the reason why the spool takes no messages now.

Guarantees: the report neither blocks nor raises, whatever the state of the disk.
Not here: refusals themselves (spool.sqlite.writer, spool.sqlite.free_space), their words in `status` (service.status).
"""

from typing import Final, Self

from senderproxy.clock import Clock
from senderproxy.relay.ports import SpoolError, SpoolFull
from senderproxy.spool.sqlite.spool_folder import disk_error
from senderproxy.spool.sqlite.stall import not_responding
from senderproxy.spool.sqlite.threads import SpoolThreads
from senderproxy.spool.sqlite.writer import Writer
from senderproxy.translation import _

_HANGS: Final = 5.0  # seconds of one write after which the disk is reported as not responding
_FULL: Final = 600.0  # seconds for which a full disk is reported after the last error of it


class DiskHealth:
    """The last error of a write, and the state of the disk."""

    def __init__(self, writer: Writer, thread: SpoolThreads, clock: Clock) -> None:
        """`thread`: for calls that may block."""
        self._writer = writer
        self._thread = thread
        self._clock = clock
        self._error: SpoolError | None = None  # of the last write
        self._error_at = 0.0  # monotonic seconds

    def watch(self) -> Self:
        """A context for one write: its outcome is noted, and its error raised as it is."""
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._error = None
        elif isinstance(error, SpoolError):
            self._error, self._error_at = error, self._clock.monotonic()

    def is_disturbed(self) -> bool:
        """True if the last write failed or takes too long. Cheap, for a frequent look."""
        return self._error is not None or self._writer.stall.seconds() >= _HANGS

    async def trouble(self) -> SpoolError | None:
        """The reason why a new message would be refused, as far as known; None if none is known."""
        if (seconds := self._writer.stall.seconds()) >= _HANGS:
            return not_responding(seconds)
        try:
            await self._thread.do(self._writer.identity.check)
            await self._thread.do(self._writer.free_space.claim, 0)
        except SpoolError as error:
            return error
        except OSError as error:
            return disk_error(_("The free space of the spool's disk is unknown"), error)
        if isinstance(self._error, SpoolFull) and self._clock.monotonic() - self._error_at >= _FULL:
            self._error = None  # there is free space again, and no message has come since that would show it
        return self._error
