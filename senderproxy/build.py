"""Build of the program: a checksum of its modules, to tell builds of one version apart.

Guarantees: the same modules give the same text on every machine. It is read once in a process, so a service has the one
with which it started.
Not here: the comparison of a running service with the installed program (cli.installed_program).
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("senderproxy", "vault")
_LENGTH: Final = 12  # hexadecimal digits; enough to tell builds apart, and short enough to read out


@lru_cache(maxsize=1)
def build_id() -> str:
    """The checksum of the modules' sources; empty if they cannot be read. May block for milliseconds."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    try:
        for package in _PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                octets = path.read_bytes()
                digest.update(f"{path.relative_to(root)} {len(octets)}\n".encode())
                digest.update(octets)
    except OSError:
        return ""
    return digest.hexdigest()[:_LENGTH]
