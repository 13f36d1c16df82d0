"""Results of runs, their summaries, and their file.

Guarantees: a figure that could not be measured is None and never 0; `trouble` names every error that makes a run
invalid.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

COUNTS: Final = frozenset({"calls", "python_calls", "tasks", "futures", "system_calls"})


@dataclass
class Run:
    """One relay, one case, one run. Seconds, octets, and counts; memory and CPU are those of the relay's whole tree."""

    case: str
    relay: str
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    deliveries: int = 0
    expected: int = 0
    doubled: int = 0
    wrong_login: int = 0
    wrong_sender: int = 0
    damaged: int = 0
    strangers: int = 0
    impatient: int = 0
    per_second: float | None = None  # until the last message is at the smarthost
    accepts_per_second: float | None = None  # until the last reply
    megabytes_per_second: float | None = None
    p50: float | None = None
    p99: float | None = None
    small_p50: float | None = None  # of the small messages beside the large ones
    small_p99: float | None = None
    cpu_per_1000: float | None = None
    load_cpu_per_1000: float | None = None
    smarthost_cpu_per_1000: float | None = None
    busiest_other: float | None = None  # the greater of load's and smarthost's share of a core
    calls: float | None = None  # these six of one message; calls on the main thread, of Python and C
    python_calls: float | None = None
    tasks: float | None = None
    futures: float | None = None
    system_calls: float | None = None
    written: float | None = None  # octets to disks
    memory_idle: int | None = None
    memory_peak: int | None = None
    memory_per_connection: float | None = None
    processes: int | None = None
    wake_ups_per_second: float | None = None
    idle_cpu_per_hour: float | None = None
    start_seconds: float | None = None
    first_delivery_seconds: float | None = None
    drain_seconds: float | None = None
    connections: int = 0
    most_open: int = 0
    handshakes: int = 0
    resumed: int = 0
    logins: int = 0
    failed_logins: int = 0
    transactions: int = 0
    flights_per_message: float | None = None
    counted: bool = False  # its times, memory and sessions mean nothing
    failure: str = ""  # the reason why the run failed

    @property
    def lost(self) -> int:
        """Number of deliveries that a 250 promised and that did not arrive."""
        return max(0, self.expected - self.deliveries)

    def trouble(self) -> str:
        """Return the errors of the run as text; empty if there are none."""
        wrong = {
            "lost": self.lost,
            "doubled": self.doubled,
            "on the wrong login": self.wrong_login,
            "refused for the sender": self.wrong_sender,
            "damaged": self.damaged,
            "bounces": self.strangers,
            "failed logins": self.failed_logins,
            "pipelined unasked": self.impatient,
            "refused": sum(self.refused.values()),
        }
        return ", ".join(
            [f"{count} {what}" for what, count in wrong.items() if count] + [self.failure] * bool(self.failure)
        )


@dataclass
class Summary:
    """The medians of a relay's runs of a case."""

    case: str
    relay: str
    runs: list[Run]

    def median(self, figure: str) -> float | None:
        """Return the median of a figure over the runs that have it."""
        runs = [run for run in self.runs if not run.counted or figure in COUNTS]
        values = [value for run in runs if (value := getattr(run, figure)) is not None]
        return statistics.median(values) if values else None

    def trouble(self) -> str:
        """Return the errors of all runs as text."""
        return "; ".join(dict.fromkeys(said for run in self.runs if (said := run.trouble())))


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """Group runs by case and relay, in the order of their first run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.case, run.relay), []).append(run)
    return [Summary(case, relay, of_both) for (case, relay), of_both in groups.items()]


def save(path: Path, machine: dict[str, Any], runs: Sequence[Run]) -> None:
    """Write everything as JSON."""
    path.write_text(json.dumps({"machine": machine, "runs": [asdict(run) for run in runs]}, indent=1), encoding="utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Run]]:
    """Read a file written by `save`."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept["machine"], [Run(**run) for run in kept["runs"]]
