"""The process keeps its memory to itself."""

import subprocess
import sys

_CHILD = """
from senderproxy.control.process import keep_to_itself
import ctypes, resource
assert keep_to_itself()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


def test_no_core_and_nobody_of_the_same_user_attaches() -> None:
    ended = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.strip() == "0"
