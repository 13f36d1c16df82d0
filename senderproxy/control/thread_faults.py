"""End of the process when a thread dies of an error that nothing handles, such as missing memory.

The callers of a dead thread would wait for ever. After the end, systemd starts the service again, and nothing
acknowledged is lost: it is on the disk.
Not here: the errors of a single task, which its caller receives (worker_threads, disk_threads).
"""

import logging
import os
import sys
import threading
from typing import Final

from senderproxy import log_events
from senderproxy.log import event, exit_now

_log = logging.getLogger("senderproxy.control")
_BEFORE_RUN: Final = "thread started by"  # in the interpreter's words on an error before `Thread.run`


def end_with_a_dead_thread() -> None:
    """From now on, an error that ends a thread is logged and ends the process with os.EX_SOFTWARE."""
    threading.excepthook = _end
    sys.unraisablehook = _end_before_run


def _end(dead: threading.ExceptHookArgs) -> None:
    if dead.exc_type is SystemExit:
        return
    try:
        name = dead.thread.name if dead.thread is not None else ""
        event(_log, log_events.THREAD_FAILED, thread=name, fault=dead.exc_value)
    finally:  # there may be no memory for the log either
        exit_now(os.EX_SOFTWARE)


def _end_before_run(error: "sys.UnraisableHookArgs") -> None:
    """A thread that fails before its start is complete: `Thread.start`, called on the event loop, waits for ever."""
    if _BEFORE_RUN not in (error.err_msg or ""):
        sys.__unraisablehook__(error)
        return
    try:
        event(_log, log_events.THREAD_FAILED, thread="", fault=error.exc_value)
    finally:
        exit_now(os.EX_SOFTWARE)
