"""Protection of the process's memory."""

import subprocess
import sys

_CHILD = """
from senderproxy.control.hardening import protect_memory
import ctypes, resource
assert protect_memory()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


def test_core_dumps_and_ptrace_are_forbidden() -> None:
    ended = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.strip() == "0"
