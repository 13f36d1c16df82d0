"""Download of the relays that the tests do not need: unpacked below `.cache/bench`, not installed.

Guarantees: no output if everything is present. A missing package is named with the command to get it, and the benchmark
continues without it. Postfix and Exim come with the tests' peers.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import compiled
from tests.peers import packages as peers

CACHE: Final = peers.PROJECT / ".cache" / "bench"
OPENSMTPD: Final = CACHE / "opensmtpd"  # would replace Postfix as the machine's mail transport agent
MSMTPD: Final = CACHE / "msmtp-mta" / "usr" / "bin" / "msmtpd"
HARAKA: Final = CACHE / "haraka" / "node_modules" / "Haraka" / "bin" / "haraka"
HARAKA_VERSION: Final = "3.3.4"
LIBRARIES: Final = ("libevent-2.1-7", "libdb5.3", "libsecret-1-0")


def main() -> None:
    """Download every available relay."""
    for bring in (peers.ensure, _tools, _libraries, _unpack_all, _haraka):
        try:
            bring()
        except peers.PackagesMissing as missing:
            print(f"A relay or a count is left out without it. To install it:\n{missing}", file=sys.stderr)


def _tools() -> None:
    if missing := peers.absent((*compiled.PACKAGES, "strace")):
        peers.install(missing)


def _libraries() -> None:
    if missing := peers.absent(LIBRARIES):
        peers.install(missing)


def _unpack_all() -> None:
    for package in ("opensmtpd", "msmtp-mta"):
        if not (CACHE / package).exists():
            _unpack(package)


def _unpack(package: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        Path(folder).chmod(0o777)  # apt downloads as a user of its own
        command = ["apt-get", "download", "-qq", package]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise peers.PackagesMissing(f"sudo apt-get update    ({' '.join(command)}: {done.stderr.strip()})")
        [archive] = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), f"{folder}/unpacked"], check=True)
        Path(folder, "unpacked").rename(CACHE / package)


def _haraka() -> None:
    if HARAKA.exists():
        return
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise peers.PackagesMissing("Haraka: Node.js with npm, 20 or later")
    folder = CACHE / "haraka"
    folder.mkdir(parents=True, exist_ok=True)
    # no install scripts: they only build optional parts
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"]
    command += ["--prefix", str(folder), f"Haraka@{HARAKA_VERSION}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise peers.PackagesMissing(f"Haraka: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


if __name__ == "__main__":
    main()
