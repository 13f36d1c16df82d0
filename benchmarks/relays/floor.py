"""The baseline: thirty lines of aiosmtpd and aiosmtplib, as a first version would be written."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.relays.program import OneProgram

PROGRAM: Final = Path(__file__).with_name("floor_program.py")


class Floor(OneProgram):
    """floor_program, running."""

    name: str = "floor"

    @staticmethod
    def version() -> str | None:
        """Return the versions of the two libraries."""
        return f"aiosmtpd {version('aiosmtpd')} + aiosmtplib {version('aiosmtplib')}"

    def command(self) -> list[str | Path]:
        """Return how it is started."""
        return [
            sys.executable, PROGRAM, str(self.port), str(self.job.tls_port), self.job.ca_file,
            str(self.job.message_size), self.job.password,
        ]  # fmt: skip
