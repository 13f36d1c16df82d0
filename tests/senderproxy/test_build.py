"""The build: a checksum of the modules as they are."""

import shutil
import subprocess
import sys
from pathlib import Path

from senderproxy.build import build_id

ROOT = Path(__file__).parents[2]


def of(folder: Path) -> str:
    """The build of the program in this folder."""
    words = [sys.executable, "-c", "from senderproxy.build import build_id; print(build_id())"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_a_copy_is_the_same_build_and_a_change_of_one_octet_is_another(tmp_path: Path) -> None:
    no_caches = shutil.ignore_patterns("__pycache__")
    for package in ("senderproxy", "vault"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=no_caches)
    assert of(tmp_path) == build_id() != ""
    with (tmp_path / "vault" / "_seal.py").open("a") as module:
        module.write("#\n")
    assert of(tmp_path) != build_id()
