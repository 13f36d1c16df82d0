"""The OAuth server's packages, fetched by npm once and kept in the user's cache, for all clones of this project.

Guarantees: a folder that is there is complete, and each package in it is the one of the table, by its SHA-512. No script
of a package runs. Two test runs do not fetch them together.
Not here: the server (oauth_server).
The table `oauth_server.packages` has a line for each: its folder below node_modules, its version, its checksum.
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers.packages import PROJECT
from tests.peers.process import PeerFailed

TABLE: Final = PROJECT / "tests" / "peers" / "oauth_server.packages"
_USER: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE: Final = _USER / "senderproxy-tests" / "npm"
_FETCH_SECONDS: Final = 300.0  # a slow registry


@dataclass(frozen=True)
class Package:
    """One line of the table."""

    folder: str  # below node_modules
    version: str
    integrity: str  # sha512-BASE64, as npm writes it

    @property
    def name(self) -> str:
        """Its name in the registry: two versions of one package are in different folders."""
        return self.folder.rpartition("node_modules/")[2]

    @property
    def tarball(self) -> str:
        """The name that npm gives to its file."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def table() -> list[Package]:
    """Return the lines of the table."""
    return [Package(*line.split()) for line in TABLE.read_text(encoding="ascii").splitlines()]


def oauth_packages() -> Path:
    """Return the folder with node_modules, made now if it is not there yet. Nobody writes there afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"oidc-provider-{hashlib.sha256(TABLE.read_bytes()).hexdigest()[:8]}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="download-") as downloads:
        _download(Path(downloads))
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for package in table():
            file = Path(downloads) / package.tarball
            digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode("ascii")
            if package.integrity != f"sha512-{digest}":
                raise PeerFailed(f"{package.name} {package.version} is not the package that it was")
            _unpack(file, unfinished / "node_modules" / package.folder)
        unfinished.rename(folder)


def _download(downloads: Path) -> None:
    wanted = sorted({f"{package.name}@{package.version}" for package in table()})
    words = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(downloads), *wanted]
    done = subprocess.run(
        words,
        cwd=downloads,
        capture_output=True,
        text=True,
        check=False,
        timeout=_FETCH_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise PeerFailed(f"npm pack ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _unpack(file: Path, folder: Path) -> None:
    """Unpack the files of a package; its outermost folder has any name."""
    with tarfile.open(file) as archive:
        for name, content in _files(archive):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if not member.isfile():
            continue
        name = member.name.partition("/")[2]
        if not name or re.search(r"(^|/)\.\.(/|$)", name):
            raise PeerFailed(f"{archive.name!r} has a file {member.name}")
        content = archive.extractfile(member)
        assert content is not None
        yield name, content.read()
