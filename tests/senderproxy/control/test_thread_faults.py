"""A thread that dies ends the process, so that systemd starts it again."""

import os
import subprocess
import sys

import pytest

_CHILD = """
import threading, sys
from senderproxy.control.thread_faults import end_with_a_dead_thread
from senderproxy.log import set_up_logging

def dies():
    raise {error}

set_up_logging("info", "text", under_journald=False)
end_with_a_dead_thread()
thread = threading.Thread(target=dies, name="disk")
thread.start()
thread.join()
print("alive")
threading.Event().wait(30 if "{error}" != "SystemExit" else 0)
"""


@pytest.mark.parametrize("error", ["MemoryError", "OSError(5, 'Input/output error')", "RuntimeError('x')"])
def test_an_error_that_ends_a_thread_ends_the_process(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(error=error)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == os.EX_SOFTWARE
    assert "internal error in a thread" in done.stderr
    assert "thread=disk" in done.stderr


def test_a_thread_may_end_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(error="SystemExit")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


_BEFORE_RUN = """
import threading
from senderproxy.control.thread_faults import end_with_a_dead_thread
from senderproxy.log import set_up_logging

class Bad:
    def __del__(self):
        raise ValueError("of a finalizer")

def fails(self):
    raise MemoryError

set_up_logging("info", "text", under_journald=False)
end_with_a_dead_thread()
Bad()
print("alive", flush=True)
threading.Thread._set_ident = fails
threading.Thread(target=print, args=["run"]).start()
print("started")
"""


def test_a_thread_that_fails_before_it_runs_does_not_stop_the_one_that_started_it_for_ever() -> None:
    """`Thread.start` waits for the new thread without a limit, on the event loop."""
    done = subprocess.run([sys.executable, "-c", _BEFORE_RUN], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (os.EX_SOFTWARE, "alive\n"), done.stderr
    assert "of a finalizer" in done.stderr
    assert "internal error in a thread" in done.stderr
