"""The load and the smarthost as processes: start, orders, counts, end."""

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.case import Flow
from benchmarks.compiled import compiled
from tests.peers.certificates import Authority
from tests.peers.packages import PROJECT

MOST_SECONDS: Final = 600.0


class Ended(Exception):
    """A process ended before its answer; its standard error has the reason."""


class _Process:
    """A process of the benchmark: settings as NAME=VALUE, orders as lines, answers as lines of JSON."""

    def __init__(self, program: Sequence[str | Path], settings: Mapping[str, object]) -> None:
        self._program = " ".join(map(str, program))
        words = (f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in settings.items())
        self._process = subprocess.Popen(
            [*program, *words], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

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
        raise Ended(f"{self._program} ended with {self._process.wait()}")

    def write_line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self.read())
        return counts


class Smarthost(_Process):
    """The smarthost's process; `program`: another one with the same orders."""

    def __init__(self, folder: Path, *, pipelining: bool, rtt: float, program: Sequence[str | Path] = ()) -> None:
        authority = Authority(folder)
        certificate = authority.issue("localhost")
        self.ca_file = authority.ca_file
        settings = {"certificate": certificate.chain, "key": certificate.key, "pipelining": pipelining, "rtt": rtt}
        super().__init__(program or [compiled("smarthost")], settings)
        ports = json.loads(self.read())
        self.tls_port, self.starttls_port = ports["tls"], ports["starttls"]

    def forget(self) -> dict[str, Any]:
        """Reset the counts."""
        return self._order("forget")

    def counts(self) -> dict[str, Any]:
        """Return the counts."""
        return self._order("count")

    def be_busy(self, *, busy: bool) -> None:
        """Refuse every client with 421, or stop doing so."""
        self._order(f"busy {busy:d}")

    def wait(self, deliveries: int, patience: float) -> dict[str, Any]:
        """Return the counts when this many deliveries have arrived, or nothing has arrived for `patience` seconds."""
        return self._order(f"wait {deliveries} {patience}")

    def _order(self, order: str) -> dict[str, Any]:
        self.write_line(order)
        return self._counts()


class Load(_Process):
    """The load's process for one flow; after entering, all its connections are open and idle."""

    def __init__(
        self,
        port: int,
        run: str,
        flow: Flow,
        *,
        ca_file: Path | None = None,
        spread: float = 0.0,
        program: Sequence[str | Path] = (),
    ) -> None:
        where = {"port": port, "run": run, "spread": spread, **({"ca_file": ca_file} if ca_file else {})}
        super().__init__(program or [compiled("load")], {**where, **asdict(flow)})

    def __enter__(self) -> Self:
        try:
            self.read()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def go(self) -> None:
        """Send all messages."""
        self.write_line("go")

    def stop(self) -> None:
        """Stop a flow that runs beside others."""
        self.write_line("stop")

    def report(self) -> dict[str, Any]:
        """Return the results when all messages are sent."""
        return self._counts()


class Loads:
    """A process for each flow, so that a flow beside large messages waits for the relay and not for other flows."""

    def __init__(
        self, port: int, run: str, flows: Sequence[Flow], *, ca_file: Path | None = None, spread: float = 0.0
    ) -> None:
        self._things = contextlib.ExitStack()
        self._make = [(flow, partial(Load, port, run, flow, ca_file=ca_file, spread=spread)) for flow in flows]
        self._loads: list[tuple[Flow, Load]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as things:
            self._loads = [(flow, things.enter_context(make())) for flow, make in self._make]
            self._things = things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    def send(self) -> dict[str, dict[str, Any]]:
        """Send all messages; return the results of each flow by its name."""
        for _, load in self._loads:
            load.go()
        reports = {flow.name: load.report() for flow, load in self._loads if not flow.beside}
        for flow, load in self._loads:
            if flow.beside:
                load.stop()
                reports[flow.name] = load.report()
        return reports
