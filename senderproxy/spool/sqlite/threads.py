"""Worker threads of the spool: a call that finds no place is a SpoolError, which becomes a 4xx reply.

Not here: the threads (worker_threads).
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from senderproxy.relay.ports import SpoolError
from senderproxy.translation import _
from senderproxy.worker_threads import QueueFull, Stopped, WorkerThreads

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SpoolThreads(WorkerThreads):
    """Threads for calls that access the spool's disk."""

    def do(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_T]":
        """Call it on a thread, as WorkerThreads does. Raises SpoolError if the call is not accepted."""
        try:
            return super().do(call, *args, **kwargs)
        except Stopped:
            raise SpoolError(_("The spool is closed.")) from None
        except QueueFull:
            raise SpoolError(
                _("Too many calls wait for the disk of the spool."), hint=_("Look for errors of the disk: dmesg")
            ) from None
