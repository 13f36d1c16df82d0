"""The floor of CPU: a program in C that only takes a message and sends it on over its author's kept session."""

from pathlib import Path

from benchmarks.compiled import compiled
from benchmarks.relays.program import OneProgram


class FloorInC(OneProgram):
    """benchmarks/c/floor.c, running."""

    name: str = "floor-c"

    @staticmethod
    def version() -> str | None:
        """Return a description: it is compiled here."""
        return "a minimal proxy in C"

    def command(self) -> list[str | Path]:
        """Return how it is started."""
        return [
            compiled("floor"), f"port={self.port}", f"upstream={self.job.tls_port}", f"ca_file={self.job.ca_file}",
            f"per_account={self.job.per_account}",
        ]  # fmt: skip
