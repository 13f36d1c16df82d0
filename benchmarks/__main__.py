"""Comparison of relays: load -> relay -> smarthost on loopback, in interleaved rounds.

    make bench                                                     everything, most of an hour
    make bench ARGS=--quick                                        the main cases, a few minutes
    make bench ARGS="--case small-50 --relays senderproxy,postfix" one case
    make bench ARGS=--list                                         list of cases and relays

Prints the results and saves them as JSON, tables and diagrams below benchmarks/results/. A relay whose package is
missing is reported and left out.
"""

import argparse
import fnmatch
import os
import resource
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import plots, results, table
from benchmarks.case import CASES, Case
from benchmarks.compiled import CannotCompile, compiled
from benchmarks.counts import NO_STRACE
from benchmarks.machine import machine
from benchmarks.process_group import ProcessGroup
from benchmarks.relays.port import Relay
from benchmarks.relays.registry import MISSING, RELAYS
from benchmarks.run import MOST_SECONDS, measure

RESULTS: Final = Path(__file__).with_name("results")
QUICK_SCALE: Final = 0.4
QUICK_SECONDS: Final = 3.0
QUICK_RELAYS: Final = "straight,floor-c,senderproxy*,postfix,postfix-best"


def main() -> int:
    """Run the chosen cases; returns the exit code."""
    arguments = _arguments()
    cases = _chosen_cases(arguments)
    relays, missing = _chosen_relays(arguments.relays or (QUICK_RELAYS if arguments.quick else "*"))
    if arguments.list:
        print("cases: ", ", ".join(case.name for case in CASES), "\nrelays:", ", ".join(kind.name for kind in RELAYS))
        return 0
    _raise_limits()
    _compile()
    if shutil.which("strace") is None:
        missing["system calls"] = NO_STRACE
    about = machine(
        shlex.join(["make", "bench", *([f"ARGS={shlex.join(sys.argv[1:])}"] if sys.argv[1:] else [])]),
        {kind.name: str(kind.version()) for kind in relays}, missing, exact=_exact(),
    )  # fmt: skip
    runs: list[results.Run] = []
    began = time.monotonic()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    most_seconds = QUICK_SECONDS if arguments.quick else MOST_SECONDS
    for case, in_a_row in _in_turn(cases, rounds):
        runs += measure(case, relays, in_a_row, _report, most_seconds, arguments.instances)
        stem = _keep(about, runs, cases, arguments.output, arguments.name)
    print(stem.with_suffix(".md").read_text(encoding="utf-8"))
    _report(f"{time.monotonic() - began:.0f} s; saved as {stem}.json, .md and .svg")
    return 1 if any(run.trouble() for run in runs if run.relay.startswith("senderproxy")) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="", help="names, separated by commas; * is a wildcard")
    parser.add_argument(
        "--relays", help="names, separated by commas; * is a wildcard; default: all, with --quick the main ones"
    )
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 1")
    parser.add_argument(
        "--instances", type=int, default=3, help="starts of each relay, among which the rounds are shared"
    )
    parser.add_argument("--scale", type=float, help="factor for the number of messages of each case")
    parser.add_argument("--quick", action="store_true", help="fewer cases, fewer messages")
    parser.add_argument("--list", action="store_true", help="list the cases and the relays")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--name", help="name of the result files; default: the date")
    return parser.parse_args()


def _chosen_cases(arguments: argparse.Namespace) -> list[Case]:
    patterns = arguments.case.split(",") if arguments.case else ["*"]
    chosen = [case for case in CASES if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]
    if arguments.quick and not arguments.case:
        chosen = [case for case in chosen if case.quick]
    if not chosen:
        raise SystemExit(f"No case is called {arguments.case}. There are: {', '.join(case.name for case in CASES)}")
    scale = arguments.scale or (QUICK_SCALE if arguments.quick else 1.0)
    return [case.scaled(scale) for case in chosen]


def _in_turn(cases: Sequence[Case], rounds: int) -> Iterator[tuple[Case, int]]:
    """Each case with its number of consecutive rounds; compared cases alternate, because the machine's speed drifts."""
    yield from ((case, rounds) for case in cases if not case.compared)
    yield from ((case, 1) for _ in range(rounds) for case in cases if case.compared)


def _chosen_relays(names: str) -> tuple[list[type[Relay]], dict[str, str]]:
    patterns = names.split(",")
    chosen = [kind for kind in RELAYS if any(fnmatch.fnmatchcase(kind.name, pattern) for pattern in patterns)]
    if not chosen:
        raise SystemExit(f"No relay is called {names}. There are: {', '.join(kind.name for kind in RELAYS)}")
    here = [kind for kind in chosen if kind.version()]
    missing = {kind.name: MISSING for kind in chosen if kind not in here}
    return here, missing


def _compile() -> None:
    """Compile load and smarthost before the first relay starts."""
    try:
        for name in ("load", "smarthost", "floor"):
            compiled(name)
    except CannotCompile as reason:
        raise SystemExit(str(reason)) from None


def _raise_limits() -> None:
    """Raise the limit of open files: a thousand connections need as many on both sides."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _exact() -> bool:
    group = ProcessGroup("trial")
    try:
        return group.is_exact
    finally:
        group.close()


def _keep(
    about: dict[str, object], runs: Sequence[results.Run], cases: Sequence[Case], folder: Path, name: str | None
) -> Path:
    """Write the results so far; an interrupted benchmark leaves its finished cases."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / (name or datetime.now(UTC).strftime("%Y-%m-%d"))
    results.save(stem.with_suffix(".json"), about, runs)
    stem.with_suffix(".md").write_text(table.render(about, runs, cases), encoding="utf-8")
    plots.draw(results.summaries(runs), stem)
    return stem


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit("ended")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)  # so that every relay is stopped on the way out
    os.umask(0o022)
    sys.exit(main())
