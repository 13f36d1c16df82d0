"""`python -m tests.field [DIR] [FILE ...]`: run cases and print PASS or FAIL for each.

Guarantees: nothing leaves the machine; exit code 1 if a case does not hold.
Not here: the format of a case (the README beside this module).
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from tests.field.run import Outcome, run_file

CASES = Path(__file__).parent / "cases"


def main(words: list[str] | None = None) -> int:
    """Run the named cases, or all of the directory. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.field", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=CASES, metavar="DIR", help="default: %(default)s")
    parser.add_argument("files", nargs="*", metavar="FILE", help="names of cases in DIR, with or without .toml")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once (default: %(default)s)")
    chosen = parser.parse_args(words)
    names = [f"{name.removesuffix('.toml')}.toml" for name in chosen.files]
    paths = [chosen.directory / name for name in names] or sorted(chosen.directory.glob("*.toml"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such case: {', '.join(missing)}")
    if not paths:
        parser.error(f"no cases in {chosen.directory}")
    outcomes = asyncio.run(_run_all(paths, chosen.jobs))
    holding = sum(outcome.holds for outcome in outcomes)
    print(f"{holding} of {len(outcomes)} cases hold")
    return 0 if holding == len(outcomes) else 1


async def _run_all(paths: list[Path], jobs: int) -> list[Outcome]:
    """Run the cases, so many at once; each is printed when it has ended."""
    slots = asyncio.Semaphore(jobs)

    async def run_one(path: Path) -> Outcome:
        async with slots:
            outcome = await run_file(path)
        print(outcome, flush=True)
        return outcome

    return await asyncio.gather(*map(run_one, paths))


if __name__ == "__main__":
    sys.exit(main())
