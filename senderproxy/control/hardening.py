"""Protection of the process's memory, which holds passwords.

Guarantees: after `protect_memory` no core dump is written, and no other process of the same user can attach or read the
memory. Root still can. prctl(2) PR_SET_DUMPABLE, core(5), ptrace(2).
"""

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # <linux/prctl.h>


def protect_memory() -> bool:
    """Forbid core dumps and ptrace. False if the kernel cannot forbid ptrace; core dumps are forbidden anyway."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return False
    refused = int(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    return not refused
