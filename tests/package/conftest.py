"""The Debian package and the container image, built once for all tests of a run."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from deploy.container.__main__ import make_image
from senderproxy import __version__
from tests.peers.bench import bench, pytest_runtest_makereport
from tests.peers.packages import PROJECT
from tests.peers.releases import release

__all__ = ["bench", "pytest_runtest_makereport"]

FIRST: Final = __version__
NEWER: Final = f"{__version__}+later"
MOMENT: Final = "1790000000"  # of all files, in seconds since 1970
# dpkg-deb packs with xz as it always does, but quickly: half a minute less for each package. `make test-package` sets 6.
_COMPRESSION: Final = {"DPKG_DEB_COMPRESSOR_LEVEL": "0"}


def build(version: str, folder: Path, architecture: str = "", **environment: str) -> Path:
    """Build the package with a version of its own; returns its path. The architecture: by default this machine's."""
    architecture = architecture or this_architecture()
    cache = PROJECT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "package.lock").open("w") as lock:  # the wheels are fetched once
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
            env={**_COMPRESSION, **os.environ, "SOURCE_DATE_EPOCH": MOMENT, **environment},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return folder / f"senderproxy_{version}_{architecture}.deb"


def this_architecture() -> str:
    """The architecture of this machine, as Debian names it."""
    return subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of a test run fills, while the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the packages."""
    return made_once(tmp_path_factory, "packages", lambda folder: _make_newer(build(FIRST, folder), folder))


@pytest.fixture(scope="session")
def image(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the container image."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SOURCE_DATE_EPOCH", MOMENT)
            make_image(release("bookworm"), package, this_architecture(), folder)

    (path,) = made_once(tmp_path_factory, "image", make).glob("*.oci.tar")
    return path


@pytest.fixture(scope="session")
def package(packages: Path) -> Path:
    """The package as it is installed first."""
    (path,) = packages.glob(f"senderproxy_{FIRST}_*.deb")
    return path


@pytest.fixture(scope="session")
def newer_package(packages: Path) -> Path:
    """The package of a later version, which has another format of the spool."""
    (path,) = packages.glob(f"senderproxy_{NEWER}_*.deb")
    return path


def _make_newer(package: Path, folder: Path) -> None:
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {FIRST}\n", f"Version: {NEWER}\n"))
    program = tree / "usr/lib/senderproxy/program/senderproxy"
    (program / "__init__.py").write_text(f'__version__ = "{NEWER}"\n')
    schema = program / "spool/sqlite/schema"
    number = len(list(schema.iterdir())) + 1
    preinst = tree / "DEBIAN/preinst"
    preinst.write_text(preinst.read_text().replace(f"known={number - 1}\n", f"known={number}\n"))
    (schema / f"{number:04}_later.sql").write_text("CREATE TABLE of_a_later_version (number INTEGER PRIMARY KEY);\n")
    newer = folder / package.name.replace(FIRST, NEWER)
    words = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(newer)]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
