"""The process keeps its memory to itself."""

import subprocess
import sys

_CHILD = """
from senderproxy.control.hardening import keep_to_itself
import ctypes, resource
assert keep_to_itself()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


def test_no_core_and_nobody_of_the_same_user_attaches() -> None:
    ended = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.strip() == "0"


_SETTLED = """
from senderproxy.control.hardening import settle_down
import gc, sys
settle_down()
print(gc.get_freeze_count() > 1000, gc.get_threshold()[0] > 700, sys.getswitchinterval() < 0.005)
"""


def test_what_stands_by_now_is_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", _SETTLED], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


_IN_PIECES = """
from asyncio import selector_events, sslproto
from senderproxy.control.hardening import settle_down
from senderproxy.aio import PIECE_OCTETS
before = selector_events._SelectorTransport.max_size, sslproto.SSLProtocol.max_size
settle_down()
after = selector_events._SelectorTransport.max_size, sslproto.SSLProtocol.max_size
print(min(before) > PIECE_OCTETS, after == (PIECE_OCTETS, PIECE_OCTETS))
"""


def test_asyncio_is_told_to_read_in_smaller_pieces() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_PIECES], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["True", "True"]  # and it still knows both by these names
