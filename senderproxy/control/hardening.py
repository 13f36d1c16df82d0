"""What the process keeps to itself, and how it keeps house.

Guarantees: after `keep_to_itself` no core dump is written and no other process of the same user can attach and read our
memory, where the passwords are. Root still can. prctl(2) PR_SET_DUMPABLE, core(5), ptrace(2).
"""

import ctypes
import gc
import resource
import sys
from asyncio import selector_events, sslproto
from typing import Final

from senderproxy.aio import PIECE_OCTETS

_PR_SET_DUMPABLE: Final = 4  # <linux/prctl.h>


def keep_to_itself() -> bool:
    """No core, no attaching. False where the kernel does not offer it; the limit on cores holds anyway."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return False
    refused = int(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    return not refused


_NEW_OBJECTS: Final = 20_000  # before the youngest are looked through; Python's own 700 is a dozen messages
_TURN: Final = 0.0005  # seconds a thread may compute while another waits; the spool's writer must not hold up the mail


def read_in_pieces() -> None:
    """asyncio reads a quarter of a megabyte from a connection at a time, and keeps as much for each one under TLS.

    With fifty of them that is one long turn of the event loop, and a dozen megabytes. Should asyncio rename what is set
    here, it is so again, and nothing else happens.
    """
    for kind in (getattr(selector_events, "_SelectorTransport", None), getattr(sslproto, "SSLProtocol", None)):
        if kind is not None:
            kind.max_size = PIECE_OCTETS


def settle_down() -> None:
    """What stands by now stays for good: the collector need not look through it again and again while mail waits.

    A message leaves no cycles behind, so there is little to find; without this, each full collection walks over every
    module there is and stops all clients for as long.
    """
    read_in_pieces()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
    sys.setswitchinterval(_TURN)
