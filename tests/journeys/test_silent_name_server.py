"""A silent name server holds up the mail that needs its answer, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys import silent_name_server
from tests.peers.process import why_not_here

PROJECT = Path(__file__).parents[2]
MISSING = why_not_here("unshare", "ip", "mount", root=True)


async def test_mail_logins_and_the_stop_do_not_wait_for_a_silent_name_server(tmp_path: Path) -> None:
    await silent_name_server.run(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_nor_does_the_exit_with_the_resolver_of_the_c_library() -> None:
    command = ["unshare", "--mount", "--net", sys.executable, "-m", "tests.journeys.silent_name_server"]
    done = subprocess.run(command, cwd=PROJECT, timeout=120, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
