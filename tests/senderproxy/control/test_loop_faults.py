"""An event loop that cannot go on ends the process, so that systemd starts it again."""

import os
import subprocess
import sys

import pytest

_CHILD = """
import asyncio
from senderproxy.control.loop_faults import end_after, end_without_memory
from senderproxy.log import set_up_logging

def fails():
    raise {error}

async def main():
    end_without_memory(asyncio.get_running_loop())
    asyncio.get_running_loop().call_soon(fails)
    await asyncio.sleep(0.01)
    print("alive")

set_up_logging("info", "text", under_journald=False)
asyncio.run(main())
"""

_STOP = """
import asyncio
from senderproxy.control.loop_faults import end_after
from senderproxy.log import set_up_logging

async def lost():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def main():
    {task}
    await asyncio.sleep(0)
    print("stopped", flush=True)
    end_after(asyncio.get_running_loop(), {seconds})

set_up_logging("info", "text", under_journald=False)
asyncio.run(main())
"""


def run(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_callback_without_memory_ends_the_process() -> None:
    done = run(_CHILD.format(error="MemoryError"))
    assert (done.returncode, done.stdout) == (os.EX_SOFTWARE, "")
    assert "no memory" in done.stderr


@pytest.mark.parametrize("error", ["ValueError('x')", "OSError(12, 'Cannot allocate memory')"])
def test_another_error_of_a_callback_is_logged_and_the_process_goes_on(error: str) -> None:
    done = run(_CHILD.format(error=error))
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert error[:5] in done.stderr


def test_a_task_that_does_not_end_does_not_hold_up_the_end_of_the_process() -> None:
    done = run(_STOP.format(seconds=0.1, task="task = asyncio.create_task(lost())"))
    assert (done.returncode, done.stdout) == (os.EX_SOFTWARE, "stopped\n")
    assert "tasks=lost" in done.stderr


def test_a_stop_that_ends_in_time_has_no_error() -> None:
    done = run(_STOP.format(seconds=60, task="pass"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
