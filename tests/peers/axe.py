"""axe-core, which looks for barriers in a page: fetched by npm once, kept in the user's cache, held to its checksum."""

import base64
import fcntl
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.oauth_packages import CACHE
from tests.peers.process import PeerFailed

VERSION: Final = "4.14.1"
INTEGRITY: Final = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


def axe_script() -> str:
    """The script, which defines `axe` in a page."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"axe-core-{VERSION}.tgz"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _download(kept)
    with tarfile.open(kept) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode("utf-8")


def _download(kept: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="download-") as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"axe-core@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            raise PeerFailed(f"npm pack ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        (file,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode("ascii")
        if f"sha512-{digest}" != INTEGRITY:
            raise PeerFailed(f"axe-core {VERSION} is not the package that it was")
        file.rename(kept)
