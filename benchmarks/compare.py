"""CPU time of a message in two versions of senderproxy: an earlier commit and the working tree, in turn.

    make bench-compare BASE=<commit> [ARGS="--case small-10 --rounds 7"]
    make bench-compare BASE=<commit> ARGS=--instructions

The commit is checked out beside the working tree and runs in its environment; load and smarthost are those of the
working tree. Rounds alternate, because the machine's speed drifts, and both versions are started several times, because
two starts of one version differ; the figures are medians, and the ratio is the median of the ratios of the pairs,
beside it the least and the greatest of the starts. `--instructions` counts the instructions of the process in user mode
with valgrind: exact also on a busy machine, without the kernel's part, and fifty times slower.
"""

import argparse
import contextlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.case import MEGABYTE, Case, Flow
from benchmarks.machine import interpreter
from benchmarks.process import Smarthost
from benchmarks.relays.port import Job
from benchmarks.relays.senderproxy import PassThrough, Queue
from benchmarks.run import Place, send
from tests.peers.packages import PROJECT

CASES: Final = {
    "small-1": Case("small-1", (Flow("small", connections=1, messages=1000),)),
    "small-10": Case("small-10", (Flow("small", connections=10, messages=2000),)),
    "small-50": Case("small-50", (Flow("small", connections=50, messages=2000),)),
    "each-10": Case("each-10", (Flow("small", connections=10, messages=1000, each=True),)),
    "large-25": Case("large-25", (Flow("large", connections=1, messages=12, size=25 * MEGABYTE, senders=1),)),
}
WARM_UP: Final = 200  # small messages before the first round
COUNTED: Final = (100, 400)  # small messages of the two runs whose difference is counted
COUNTED_LARGE: Final = (2, 6)
START: Final = 300.0  # seconds until a relay below valgrind is ready
_REFERENCES: Final = re.compile(r"I\s+refs:\s+([\d,]+)")
_RUN: Final = (
    "import runpy, sys; sys.path.insert(0, {folder!r}); "
    "runpy.run_module('senderproxy', run_name='__main__', alter_sys=True)"
)


def version(kind: type[PassThrough], folder: Path, count: Path | None) -> type[PassThrough]:
    """The relay from another folder; `count`: the file for the count of its instructions."""

    class Version(kind):  # type: ignore[valid-type, misc]
        seconds_to_start: ClassVar[float] = START

        def _program_words(self) -> list[str]:
            run = _RUN.format(folder=str(folder))
            return [sys.executable, "-W", "error", "-c", run, "--config", str(self.config_file)]

        def _service_words(self) -> list[str]:
            words: list[str] = super()._service_words()
            if count is None:
                return words
            options = ("--cache-sim=no", "--cachegrind-out-file=/dev/null", f"--log-file={count}")
            return ["valgrind", "--tool=cachegrind", *options, *words]

    return Version


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The folder of a commit."""
    with tempfile.TemporaryDirectory(prefix="bench-base-") as folder:
        tree = Path(folder) / "tree"
        git = ("git", "-C", str(PROJECT), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            # Else its first start alone would compile, which counts as instructions of messages.
            subprocess.run([sys.executable, "-m", "compileall", "-q", "senderproxy", "vault"], cwd=tree, check=True)
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextlib.contextmanager
def running(kinds: Sequence[type[PassThrough]], case: Case) -> Iterator[tuple[Smarthost, list[Place]]]:
    """A smarthost, and relays in front of it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as things:
        smarthost = things.enter_context(Smarthost(Path(folder), pipelining=False, rtt=0.0))
        job = Job(
            senders=case.senders, tls_port=smarthost.tls_port, starttls_port=smarthost.starttls_port,
            ca_file=smarthost.ca_file, per_account=case.per_account, clients=case.connections,
        )  # fmt: skip
        yield smarthost, [Place(kind, job, things) for kind in kinds]


def cpu_times(kinds: Sequence[type[PassThrough]], case: Case, rounds: int) -> list[list[float]]:
    """Start the relays; for each its CPU time of a message in each round, in milliseconds."""
    times: list[list[float]] = [[] for _ in kinds]
    with running(kinds, case) as (smarthost, places):
        warm_up = Case("warm", (Flow("warm", connections=10, messages=WARM_UP, senders=case.senders),))
        for place in places:
            cost(warm_up, place, smarthost)
        for number in range(rounds):
            in_turn = list(zip(times, places, strict=True))
            for found, place in in_turn if number % 2 == 0 else reversed(in_turn):
                found.append(cost(case, place, smarthost))
    return times


def compared(
    kinds: Sequence[type[PassThrough]], case: Case, rounds: int, instances: int
) -> tuple[float, float, float, str]:
    """Before, after, ratio, and the span of the ratios of the instances."""
    starts = [cpu_times(kinds, case, rounds) for _ in range(instances)]
    pairs = [list(zip(*times, strict=True)) for times in starts]
    ratios = [statistics.median(after / before for before, after in of_one) for of_one in pairs]
    every = [pair for of_one in pairs for pair in of_one]
    return (
        statistics.median(before for before, _ in every), statistics.median(after for _, after in every),
        statistics.median(after / before for before, after in every), f"{min(ratios):.3f} to {max(ratios):.3f}",
    )  # fmt: skip


def cost(case: Case, place: Place, smarthost: Smarthost) -> float:
    """The CPU time of a message, in milliseconds."""
    run = send(case, place, smarthost)
    if run.trouble() or run.cpu_per_1000 is None:
        raise SystemExit(f"{place.name}: {run.trouble()}\n{place.relay.log()[-2000:]}")
    return run.cpu_per_1000


def instructions(kind: type[PassThrough], folder: Path, case: Case) -> float:
    """Millions of instructions of a message: the difference of two runs, without the start."""
    totals = []
    counts = COUNTED if case.flows[0].size < MEGABYTE else COUNTED_LARGE
    for messages in counts:
        with tempfile.TemporaryDirectory(prefix="bench-count-") as log:
            count = Path(log) / "count"
            flow = Flow("counted", 1, messages, case.flows[0].size, case.senders)
            with running([version(kind, folder, count)], case) as (smarthost, [place]):
                cost(Case("counted", (flow,)), place, smarthost)
            found = _REFERENCES.search(count.read_text(encoding="utf-8"))
            assert found is not None
            totals.append(int(found[1].replace(",", "")))
    return (totals[1] - totals[0]) / (counts[1] - counts[0]) / 1e6


def main() -> None:
    arguments = _arguments()
    print(f"{interpreter()}; {arguments.instances} starts of {arguments.rounds} pairs")
    print(f"{'case':<10} {'relay':<18} {'before':>9} {'after':>9} {'ratio':>6}")
    with checked_out(arguments.base) as base:
        for name in arguments.case.split(","):
            for kind in (PassThrough, Queue):
                if arguments.instructions:
                    before, after = (instructions(kind, folder, CASES[name]) for folder in (base, PROJECT))
                    ratio, unit = after / before, "M instructions"
                else:
                    kinds = [version(kind, folder, None) for folder in (base, PROJECT)]
                    before, after, ratio, span = compared(kinds, CASES[name], arguments.rounds, arguments.instances)
                    unit = f"ms  ({span})"
                print(f"{name:<10} {kind.name:<18} {before:9.3f} {after:9.3f} {ratio:6.3f}  {unit}", flush=True)


def _arguments() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="make bench-compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--case", default="small-10", help=f"names, separated by commas: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of each start; default: 3")
    parser.add_argument("--instances", type=int, default=3, help="starts of both versions; default: 3")
    parser.add_argument("--instructions", action="store_true", help="count instructions with valgrind")
    return parser.parse_args()


def _end(_number: int, _frame: object) -> None:
    raise SystemExit("ended")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)  # so that the relays and the checked out commit are removed
    main()
