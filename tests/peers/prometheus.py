"""Prometheus and promtool, with the configuration of deploy/prometheus."""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.peers.packages import PROJECT, PROMETHEUS, PROMTOOL
from tests.peers.process import LOOPBACK, Program, private_folder, reserved_ports, wait_until

DEPLOY: Final = PROJECT / "deploy" / "prometheus"
_TARGET: Final = "127.0.0.1:9464"
_ASKS: Final = 30.0  # seconds for an answer
_SCRAPED: Final = 60.0  # seconds until a scrape has an answer in time


def promtool(*words: str | Path, standard_input: bytes = b"", folder: Path = DEPLOY) -> str:
    """What promtool printed; fails if it found something."""
    done = subprocess.run(
        [PROMTOOL, *words],
        input=standard_input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
        cwd=folder,
    )
    printed = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, f"promtool {' '.join(map(str, words))} ended with {done.returncode}:\n{printed}"
    return printed


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; None while it does not answer."""
        url = f"http://{LOOPBACK}:{self._port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_ASKS) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def values(self, query: str) -> dict[tuple[str, ...], float]:
        """The value of each series, by its labels' values in the order of their names, without instance and job.

        Those of the last scrape: one that had no answer in time leaves no series until the next.
        """
        found = {}
        at = wait_until(self._scraped_at, "a scrape with an answer", _SCRAPED)
        for one in self._answer("/api/v1/query", query=query, time=at)["result"]:
            labels = {
                name: value for name, value in one["metric"].items() if name not in ("__name__", "instance", "job")
            }
            found[tuple(labels[name] for name in sorted(labels))] = float(one["value"][1])
        return found

    def _scraped_at(self) -> str:
        """The time of the last scrape; empty if it had no answer."""
        answer = self.ask("/api/v1/query", query="timestamp(up) and (up == 1)")
        return str(answer["result"][0]["value"][1]) if answer is not None and answer["result"] else ""

    def alerts(self) -> set[str]:
        """The names of the alerts that are pending or fire."""
        return {one["labels"]["alertname"] for one in self._answer("/api/v1/alerts")["alerts"]}

    def _answer(self, path: str, **parameters: str) -> Any:
        """The data of an answer, asked for again until there is one."""
        return wait_until(lambda: self.ask(path, **parameters), f"an answer about {path}", 2 * _ASKS)

    def is_up(self) -> bool:
        """True if its last scrape had an answer."""
        targets = self.ask("/api/v1/targets")
        return targets is not None and [one["health"] for one in targets["activeTargets"]] == ["up"]


@contextlib.contextmanager
def running_prometheus(target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes this address every two seconds, with our rules."""
    with private_folder("prometheus") as folder, reserved_ports(1) as [port]:
        configuration = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
        assert _TARGET in configuration
        configuration = configuration.replace(_TARGET, target).replace("scrape_interval: 30s", "scrape_interval: 2s")
        configuration = configuration.replace("scrape_timeout: 10s", "scrape_timeout: 2s")
        configuration = f"global:\n  evaluation_interval: 1s\n{configuration}"
        (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
        (folder / "senderproxy-rules.yml").write_bytes((DEPLOY / "senderproxy-rules.yml").read_bytes())
        program = Program(
            "prometheus",
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={LOOPBACK}:{port}",
                "--log.level=warn",
            ],
            folder / "prometheus.log",
        )
        try:
            prometheus = Prometheus(port)
            program.wait_until(prometheus.is_up, "Prometheus has scraped the service", 60.0)
            yield prometheus
        finally:
            program.kill()
