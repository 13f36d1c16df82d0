"""Fresh releases of Debian and Ubuntu, made by debootstrap once and kept in the user's cache, for all clones of this project.

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
import urllib.request
from pathlib import Path
from typing import Final

from tests.peers.process import PeerFailed

RELEASES: Final = ("bookworm", "trixie")  # Debian 12 and 13
UBUNTU: Final = "noble"  # Ubuntu 24.04
_USER: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE: Final = _USER / "senderproxy-tests" / "releases"
_PACKAGES: Final = ("ca-certificates", "python3", "systemd")
_UBUNTU_MIRROR: Final = "http://archive.ubuntu.com/ubuntu"
_UBUNTU_SCRIPT: Final = "/usr/share/debootstrap/scripts/gutsy"  # that of all later ones; Debian 12 does not know noble
# Debian 12 has no package with Ubuntu's keys. This one is from Ubuntu's archive.
_UBUNTU_KEYS: Final = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
_UBUNTU_KEYS_SHA256: Final = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
_PATIENCE: Final = 600.0  # seconds; a slow mirror


def release(name: str) -> Path:
    """Return the folder of the release's files, made now if it is not there yet. Nobody writes there afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    contents = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:8]  # other packages are another folder
    folder = CACHE / f"{name}-{contents}"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(name, folder)
    return folder


def _make(name: str, folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # A mount namespace of its own: what debootstrap mounts in the folder ends with it, however it ends.
    words = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    if name == UBUNTU:
        words += [
            f"--keyring={_ubuntu_keys()}",
            "--components=main,universe",
            name,
            str(unfinished),
            _UBUNTU_MIRROR,
            _UBUNTU_SCRIPT,
        ]
    else:
        words += [name, str(unfinished)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode != 0:
        raise PeerFailed(
            f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    unfinished.rename(folder)


def _ubuntu_keys() -> Path:
    """Return the keyring of Ubuntu's archive."""
    with urllib.request.urlopen(f"{_UBUNTU_MIRROR}/{_UBUNTU_KEYS}", timeout=60) as answer:
        package = answer.read()
    if hashlib.sha256(package).hexdigest() != _UBUNTU_KEYS_SHA256:
        raise PeerFailed(f"{_UBUNTU_KEYS} is not the file that it was")
    folder = CACHE / "ubuntu-keys"
    folder.mkdir(exist_ok=True)
    (folder / "keys.deb").write_bytes(package)
    subprocess.run(["dpkg-deb", "--extract", str(folder / "keys.deb"), str(folder)], check=True)
    return folder / "usr/share/keyrings/ubuntu-archive-keyring.gpg"
