"""The Debian package, built once for all tests of a run."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.bench import bench, pytest_runtest_makereport
from tests.peers.packages import CACHE, PROJECT

__all__ = ["bench", "pytest_runtest_makereport"]


def build(version: str, folder: Path) -> Path:
    """Build the package of this machine's architecture with a version of its own; returns its path."""
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "package.lock").open("w") as lock:  # the wheels are fetched once
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "deploy.debian",
                f"--architecture={architecture}",
                f"--version={version}",
                f"--dist={folder}",
            ],
            cwd=PROJECT,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1790000000"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return folder / f"senderproxy_{version}_{architecture}.deb"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed first."""
    return build("0.1.0", tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="session")
def newer_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program with a higher version."""
    folder = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(folder / "tree")], check=True)
    control = folder / "tree/DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0\n", "Version: 0.1.1\n"))
    newer = folder / package.name.replace("0.1.0", "0.1.1")
    words = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(folder / "tree"), str(newer)]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    links = "senderproxy-mta_0.1.0_all.deb"
    shutil.copyfile(package.with_name(links), folder / links)
    return newer
