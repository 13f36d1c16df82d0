"""Several instances over one PostgreSQL: accepts, claims, deliveries, a long queue, large messages, SQLite beside it.

    python -m benchmarks.scale            two to four minutes
    python -m benchmarks.scale --full     1, 2 and 4 instances, 10,000 accounts, a million waiting rows; three rounds

Prints Markdown for docs/scale.md. Each instance is a process with the spool of the service, without SMTP: a delivery
is a claim and its result, which moves the message into the history. The database is a private server on this machine
that syncs each commit. Variants alternate within a round, and figures are medians of the rounds: on a shared machine
compare figures of one table, not of two.
"""

import argparse
import shlex
import sys
from typing import Final

from benchmarks.machine import machine
from benchmarks.scale_long_queue import long_queue
from benchmarks.scale_memory import large_messages
from benchmarks.scale_rates import engines, instances
from tests.peers.packages import POSTGRESQL
from tests.peers.process import why_not_here

FULL: Final = (1, 100, 10_000)  # accounts
SHORT: Final = (1, 100)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int, help="default: 1, with --full 3")
    parser.add_argument("--seconds", type=float, default=2.0, help="of accepting in each measurement")
    parser.add_argument("--waiting", type=int, help="rows of the long queue; default: 100000, with --full a million")
    parser.add_argument("--only", choices=("engines", "instances", "queue", "memory"))
    options = parser.parse_args()
    if why := why_not_here(POSTGRESQL / "postgres"):
        print(why, file=sys.stderr)
        return 1
    rounds = options.rounds or (3 if options.full else 1)
    command = shlex.join(["python", "-m", "benchmarks.scale", *sys.argv[1:]])
    about = machine(command, {}, {}, exact=False)
    print(
        f"`{command}`, {about['date']}, commit {about['commit']}; {about['processor']}, {about['cores']} cores,"
        f" {about['memory_gb']} GB; {about['system']}, PostgreSQL 15, {about['python']}; a synced write of 4 KB takes"
        f" {about['sync_ms']:.2f} ms; load average at the beginning {about['load_average']}; rounds: {rounds}",
        flush=True,
    )
    parts = {
        "engines": lambda: engines(rounds, options.seconds),
        "instances": lambda: instances(rounds, options.seconds, FULL if options.full else SHORT),
        "queue": lambda: long_queue(options.waiting or (1_000_000 if options.full else 100_000)),
        "memory": large_messages,
    }
    for name, part in parts.items():
        if options.only in (None, name):
            print(f"\n{part()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
