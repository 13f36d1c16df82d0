"""The two processes around a relay, as the one that measures sees them: started, told, asked, ended."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.case import Flow
from tests.peers.certificates import Authority
from tests.peers.packages import PROJECT

MOST_SECONDS: Final = 600.0


class _Talking:
    """A process of ours that speaks JSON, a line at a time."""

    def __init__(self, module: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


class Smarthost(_Talking):
    """The far end."""

    def __init__(self, folder: Path, *, pipelining: bool, rtt: float) -> None:
        authority = Authority(folder)
        certificate = authority.issue("localhost")
        self.ca_file = authority.ca_file
        super().__init__(
            "benchmarks.smarthost",
            {"certificate": str(certificate.chain), "key": str(certificate.key), "pipelining": pipelining, "rtt": rtt},
        )
        ports = json.loads(self.read())
        self.tls_port, self.starttls_port = ports["tls"], ports["starttls"]

    def forget(self) -> dict[str, Any]:
        """Start counting anew."""
        return self._order({"do": "forget"})

    def counts(self) -> dict[str, Any]:
        """Return what it has counted."""
        return self._order({"do": "count"})

    def be_busy(self, *, busy: bool) -> None:
        """Turn everybody away with 421, or no more."""
        self._order({"do": "busy", "busy": busy})

    def wait(self, deliveries: int, patience: float) -> dict[str, Any]:
        """Return the counts when so many have arrived, or when nothing moved for so many seconds."""
        return self._order({"do": "wait", "deliveries": deliveries, "patience": patience})

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        self.say(json.dumps(order))
        return json.loads(self.read())


class Load(_Talking):
    """The near end; entered, all its connections stand and are idle."""

    def __init__(
        self, port: int, run: str, flows: Sequence[Flow], *, ca_file: Path | None = None, spread: float = 0.0
    ) -> None:
        super().__init__(
            "benchmarks.load",
            {"port": port, "run": run, "flows": [asdict(flow) for flow in flows],
             "ca_file": str(ca_file) if ca_file else None, "spread": spread},
        )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self.read()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def go(self) -> dict[str, Any]:
        """Send everything; return what came of it."""
        self.say("go")
        return json.loads(self.read())
