"""A key in a real Secret Service: gnome-keyring on a D-Bus session of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def in_session(folder: Path, state: str) -> str:
    for program, package in (("gnome-keyring-daemon", "gnome-keyring"), ("dbus-run-session", "dbus")):
        assert shutil.which(program), f"{program} is missing: apt-get install gnome-keyring dbus ({package} has it)"
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    environment = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_DATA_HOME": str(folder / "data"),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, "-m", "tests.vault.in_session", str(folder), state],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "geheim" not in done.stdout + done.stderr
    return done.stdout


def test_a_vault_opens_with_the_key_in_an_unlocked_keyring(tmp_path: Path) -> None:
    output = in_session(tmp_path, "unlocked")
    assert "made Keyring('office', service='vault-test')" in output
    assert "opened UnlockInfo(kind='keyring', label='keyring')" in output
    assert "the keyring has no key for 'vault-test', 'other'" in output
    assert "keyring del vault-test office" in output


def test_a_locked_keyring_on_a_headless_machine_is_refused_and_nobody_waits_for_a_prompt(tmp_path: Path) -> None:
    output = in_session(tmp_path, "locked")
    assert output.startswith("refused ")
    assert "Use a key file, a systemd credential" in output
