"""Fresh releases of Debian, made by debootstrap once and kept in the user's cache, for all clones of this project.

Guarantees: a folder that is there is complete; two test runs do not make the same one together. Each has what senderproxy's
package depends on, so that its installation needs no network. An interrupted debootstrap leaves no mount behind.
Not here: booting one (machine).
Needs root.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.peers.process import PeerFailed

RELEASES: Final = ("bookworm", "trixie")  # Debian 12 and 13
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_FOLDER: Final = _CACHE / "senderproxy-tests" / "releases"
_PACKAGES: Final = ("ca-certificates", "python3", "systemd")
_PATIENCE: Final = 600.0  # seconds; a slow mirror


def release(name: str) -> Path:
    """Return the folder of the release's files, made now if it is not there yet. Nobody writes there afterwards."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    contents = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:8]  # other packages are another folder
    folder = _FOLDER / f"{name}-{contents}"
    with (_FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(name, folder)
    return folder


def _make(name: str, folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # A mount namespace of its own: what debootstrap mounts in the folder ends with it, however it ends.
    words: list[str | Path] = [
        "unshare",
        "--mount",
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(_PACKAGES)}",
        name,
        unfinished,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode != 0:
        raise PeerFailed(
            f"`{' '.join(map(str, words))}` ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    unfinished.rename(folder)
