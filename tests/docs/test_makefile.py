"""`make` on a machine without all that it needs: one line says what to type, and nothing is half made."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="apt-get install make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def python(folder: Path, *, has_venv: bool) -> Path:
    """A Python that makes an environment only if it has the module, as Debian's without python3-venv."""
    path = folder / "python"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in "-c "*) exit {0 if has_venv else 1};; "-m venv") ;; *) exit 99;; esac\n'
        'mkdir -p .venv/bin && echo "$@" > .venv/made && printf "#!/bin/sh\\nexit 0\\n" > .venv/bin/python\n'
        "cp .venv/bin/python .venv/bin/pip && chmod +x .venv/bin/*\n"
    )
    path.chmod(0o755)
    return path


def make(checkout: Path, *, has_venv: bool) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", ".venv/.installed", f"PYTHON={python(checkout, has_venv=has_venv)}"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)


def test_without_venv_the_line_to_type_is_printed_and_nothing_is_made(checkout: Path) -> None:
    done = make(checkout, has_venv=False)
    assert done.returncode != 0
    assert done.stdout.splitlines() == [
        "Python 3.11 or later with its module venv is needed. Type: sudo apt install python3-venv"
    ]
    assert not (checkout / ".venv").exists()
    assert make(checkout, has_venv=True).returncode == 0


def test_a_half_made_environment_is_made_anew(checkout: Path) -> None:
    unfinished = checkout / ".venv/bin/python"
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    assert make(checkout, has_venv=False).returncode != 0
    assert make(checkout, has_venv=True).returncode == 0
    assert (checkout / ".venv/made").read_text() == "-m venv --clear .venv\n"
