"""Mail to mail servers of recipients, by the program itself, on port 25 of public addresses."""

import subprocess
import sys

import pytest

from tests.journeys.mx_network import STEPS
from tests.peers.packages import DOVECOT, POSTFIX, PROJECT
from tests.peers.process import why_not_here

reason = why_not_here("unshare", "ip", "mount", POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def test_an_office_hands_mail_to_mail_servers_of_recipients() -> None:
    command = ["unshare", "--mount", "--net", sys.executable, "-m", "tests.journeys.mx_network"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-20_000:]
    assert done.stdout.splitlines() == [f"ok {step.__name__}" for step in STEPS]
