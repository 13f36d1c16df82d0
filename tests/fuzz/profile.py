"""Number of examples of the fuzz tests: few and always the same in the test command, many and random in `make fuzz`.

`make fuzz EXAMPLES=100000` sets FUZZ_EXAMPLES, the number of examples of each test. A failure prints its input, and
Hypothesis tries it first in the next run of `make fuzz`.
"""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

_EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "0"))
_Test = TypeVar("_Test", bound=Callable[..., Any])


def fuzzed(examples: int) -> Callable[[_Test], _Test]:
    """Run the test with so many examples in the test command."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    if _EXAMPLES:
        return settings(
            max_examples=_EXAMPLES,
            deadline=None,
            suppress_health_check=checks,
            derandomize=False,
            database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
        )
    # The same inputs in every run: a failure of the test command is never by chance.
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks, derandomize=True, database=None)
