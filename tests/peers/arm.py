"""Programs of an arm64 Debian 12 on a machine of another architecture, by qemu's emulation of a user process.

Guarantees: nothing is installed or registered on this machine (no binfmt_misc), so an emulated program cannot start
another one. The files are made once and kept in the user's cache.
Not here: a booted arm64 machine.
Needs root.
"""

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.process import PeerFailed
from tests.peers.releases import CACHE

_ROOT: Final = CACHE / "arm64-bookworm"
_EMULATOR: Final = "usr/bin/qemu-aarch64-static"
_PATIENCE: Final = 900.0  # seconds; a slow mirror, a slow emulation
# In namespaces of its own: the files of ROOT, changed in memory only, with the unpacked package.
_INSIDE: Final = """\
set -eu
root=$1 package=$2 folder=$3
shift 3
mount -t tmpfs arm64 "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay arm64 -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
dpkg-deb --extract "$package" "$folder/root"
mount -t proc arm64 "$folder/root/proc"
for device in null urandom random; do
    : > "$folder/root/dev/$device"
    mount --bind "/dev/$device" "$folder/root/dev/$device"
done
exec chroot "$folder/root" "/usr/bin/qemu-aarch64-static" "$@"
"""


def run(package: Path, *words: str) -> str:
    """Run a program of arm64 beside the unpacked package; what it prints."""
    root = _arm64()
    with tempfile.TemporaryDirectory(prefix="peer-arm64-") as folder:
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            [*spaces, "sh", "-c", _INSIDE, "sh", str(root), str(package), folder, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    if done.returncode != 0:
        raise PeerFailed(f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _arm64() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "arm64.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _ROOT.exists():
            _make()
    return _ROOT


def _make() -> None:
    unfinished = _ROOT.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _do("debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3", "bookworm", unfinished)
    for package in sorted((unfinished / "var/cache/apt/archives").glob("*.deb")):
        _do("dpkg-deb", "--extract", package, unfinished)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # root's apt hands the download to the user _apt
        _do("apt-get", "download", "-qq", "qemu-user-static", cwd=folder)
        (package,) = Path(folder).glob("*.deb")
        _do("dpkg-deb", "--extract", package, Path(folder) / "qemu")
        shutil.copy(Path(folder) / "qemu" / _EMULATOR, unfinished / _EMULATOR)
    unfinished.rename(_ROOT)


def _do(*words: str | Path, cwd: str | None = None) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE, cwd=cwd)
    if done.returncode != 0:
        raise PeerFailed(f"`{' '.join(map(str, words))}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
