"""The vault as a library of its own: it and its tests need no senderproxy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WITHOUT_SENDERPROXY = """
import sys, pytest
sys.modules["senderproxy"] = None  # makes its import fail
sys.exit(pytest.main(sys.argv[1:]))
"""


# Those of tests/conftest.py, which is not there: no example fails for the speed of the machine.
HYPOTHESIS = """
from hypothesis import HealthCheck, settings
settings.register_profile("alone", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("alone")
"""


@pytest.mark.slow
def test_all_tests_of_the_vault_pass_where_senderproxy_cannot_be_imported(tmp_path: Path) -> None:
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vault", tmp_path / "vault", ignore=no_caches)
    shutil.copytree(ROOT / "tests" / "vault", tmp_path / "tests" / "vault", ignore=no_caches)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\npythonpath = .\n")
    (tmp_path / "conftest.py").write_text(HYPOTHESIS)
    options = ["-q", "-x", "--import-mode=importlib", "-p", "no:cacheprovider", "-m", "not slow", "tests/vault"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SENDERPROXY, *options],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert str(ROOT) not in done.stdout
