"""The package for arm64, emulated: `make test-arm`. What cannot be emulated so is in no test: systemd, apt, other programs."""

from pathlib import Path

import pytest

from senderproxy import __version__
from tests.package.conftest import build
from tests.peers import arm
from tests.peers.process import why_not_here

reason = why_not_here("debootstrap", "unshare", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

_PROGRAM = ("/usr/bin/python3", "-IS", "/usr/bin/senderproxy")


def test_the_package_of_arm64_sends_mail(tmp_path: Path) -> None:
    package = build(__version__, tmp_path, "arm64")
    assert arm.run(package, *_PROGRAM, "--version") == f"senderproxy {__version__}\n"
    shown = arm.run(package, *_PROGRAM, "demo", "--once")
    assert "10 messages needed 5 logins" in shown
