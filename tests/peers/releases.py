"""Fresh releases of Debian, made by debootstrap once and kept below `.cache/peers/releases`.

Guarantees: a folder that is there is complete; two test runs do not make the same one together. Each has what senderproxy's
package depends on, so that its installation needs no network.
Not here: booting one (machine).
Needs root.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.peers.packages import CACHE
from tests.peers.process import PeerFailed

RELEASES: Final = ("bookworm", "trixie")
_FOLDER: Final = CACHE / "releases"
_PACKAGES: Final = ("ca-certificates", "python3", "systemd")
_PATIENCE: Final = 600.0  # seconds; a slow mirror


def release(name: str) -> Path:
    """Return the folder of the release's files, made now if it is not there yet. Nobody writes there afterwards."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    folder = _FOLDER / name
    with (_FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(name, folder)
    return folder


def _make(name: str, folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", name, str(unfinished)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode != 0:
        raise PeerFailed(
            f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    unfinished.rename(folder)
