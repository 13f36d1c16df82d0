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
