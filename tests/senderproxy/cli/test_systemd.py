"""The systemd unit, its user and its folders, checked by systemd."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from senderproxy.cli.common import SERVICE_USER

SYSTEMD = Path(__file__).parents[3] / "systemd"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there on every machine."""
    copy = tmp_path / "senderproxy.service"
    copy.write_text((SYSTEMD / "senderproxy.service").read_text().replace("/usr/bin/senderproxy", "/bin/true"))
    return copy


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=30, check=False)


@needs_systemd
def test_systemd_accepts_the_unit_without_a_warning(unit: Path) -> None:
    judged = analyze("verify", "--man=no", str(unit))
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


@needs_systemd
def test_the_sandbox_is_as_tight_as_promised(unit: Path) -> None:
    judged = analyze("security", "--offline=true", "--no-pager", str(unit))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert level is not None, judged.stderr
    assert float(level[1]) <= 1.1


@pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None or os.geteuid() != 0, reason="needs systemd-sysusers, as root"
)
def test_the_user_and_the_folders_are_created_as_the_unit_needs_them(tmp_path: Path) -> None:
    for folder in ("etc", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    for words in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        file = SYSTEMD / ("sysusers.conf" if words[0] == "systemd-sysusers" else "tmpfiles.conf")
        done = subprocess.run(
            [*words, f"--root={tmp_path}", str(file)], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
    user = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith(SERVICE_USER))
    state = (tmp_path / "var/lib/senderproxy").stat()
    assert state.st_uid == int(user.split(":")[2])
    assert state.st_mode & 0o777 == 0o700


def test_unit_setup_and_check_use_the_same_user() -> None:
    assert f"\nUser={SERVICE_USER}\n" in (SYSTEMD / "senderproxy.service").read_text()
