"""Thread that ends with the process, with a bounded start.

Guarantees: `start` returns or raises within 5 seconds. A thread that begins later than that ends at once.
Not here: a queue of calls for threads (worker_threads).
"""

import threading
from collections.abc import Callable
from typing import Any, Final

_SECONDS: Final = 5.0  # for the beginning of the thread


class _Sign(threading.Event):
    """The sign of a thread that it has begun. `Thread.start` waits for it without a limit."""

    def wait(self, timeout: float | None = None) -> bool:
        """See threading.Event; five seconds at most."""
        return super().wait(_SECONDS if timeout is None else timeout)


class DaemonThread(threading.Thread):
    """A thread for one call."""

    def __init__(self, target: Callable[..., Any], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        self._started = _Sign()
        self._giving_up = threading.Lock()
        self._is_given_up = False

    def start(self) -> None:
        """Start it. Raises RuntimeError if the system has no thread, or no memory for its first steps.

        In the second case the new thread ends without a word (CPython 3.13): a plain thread would never return.
        """
        super().start()
        with self._giving_up:
            self._is_given_up = not self._started.is_set()
        if self._is_given_up:
            raise RuntimeError("the new thread has not begun")

    def run(self) -> None:
        """See threading.Thread."""
        with self._giving_up:
            is_given_up = self._is_given_up
        if not is_given_up:
            super().run()
