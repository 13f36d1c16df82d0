"""Fixtures for every test: coroutines with a deadline, and the watch over what is logged.

Every password, passphrase and key in the tests starts with `geheim-`. What the program or a test prints or logs, at
whatever level, is searched for it; a test in which it shows has failed, whatever it asserted.
"""

import asyncio
import gc
import inspect
import logging
import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from senderproxy import log_events
from senderproxy.translation import SOURCE, use_language

# Tests compare English texts, whatever the language of the machine; the programs that they start inherit it.
os.environ["LANGUAGE"] = "en"
# Their tables are as wide as their contents. Processes of pytest-xdist have the columns of the terminal here.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")  # without pytest-xdist, readline has set it, and os.environ does not know

# No test waits for longer than this for anything; a hang becomes a failure with a traceback.
DEADLINE = 60.0
SLOW_DEADLINE = 420.0

# Generated examples: the same ones in each run of the suite, and none fails for the speed of the machine. `make fuzz`
# draws new ones.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_LONGEST = ("tests/package/test_life.py", "tests/crash/test_power_cut.py")

CANARY = "geheim-"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while the tests are collected, and look for none among them later: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that no process of a parallel run ends late.

    `make test` hands them out one by one: a module's tests run in several processes, each with fixtures of its own.
    """
    items.sort(key=_place_in_order)


def _place_in_order(item: pytest.Item) -> tuple[bool, ...]:
    return (*(not item.nodeid.startswith(name) for name in _LONGEST), item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in a fresh event loop, bounded in time."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    deadline = SLOW_DEADLINE if pyfuncitem.get_closest_marker("slow") else DEADLINE

    async def bounded() -> None:
        async with asyncio.timeout(deadline):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


class _Watch(logging.Handler):
    """Formats every record of every logger, tracebacks too; keeps those that show a secret or an unlisted field."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.secrets: list[str] = []
        self.unlisted: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) + repr(record.__dict__)
        if CANARY in text:
            self.secrets.append(text)
        kind = _EVENTS.get(getattr(record, "senderproxy_event", ""))
        fields = getattr(record, "senderproxy_fields", {})
        if kind is None:
            return
        strange = [name for name in fields if name not in kind.fields and not name.startswith(kind.prefixes)]
        if strange:
            self.unlisted.append(f"{kind.key}: {', '.join(strange)}")


_EVENTS = {event.key: event for event in log_events.EVENTS}
_watch = _Watch()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-peers", action="store_true", help="a test whose programs are not here fails, and is no skip"
    )


def pytest_configure(config: pytest.Config) -> None:
    logging.getLogger().addHandler(_watch)


@pytest.fixture(autouse=True)
def _everything_is_logged() -> Generator[None]:
    """Our own loggers speak at DEBUG in tests, so that the watch hears what a curious admin would."""
    ours = logging.getLogger("senderproxy")
    before = ours.level
    ours.setLevel(logging.DEBUG)
    root = logging.getLogger()
    if _watch not in root.handlers:
        root.addHandler(_watch)
    yield
    ours.setLevel(before)


@pytest.fixture(autouse=True)
def _texts_are_english() -> None:
    """A command that an earlier test called may have chosen another language for the process."""
    use_language(SOURCE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--all-peers") and " not here" in str(report.longrepr):
        report.outcome, report.longrepr = "failed", str(report.longrepr)
    secrets = [*_watch.secrets, *(f"{title}: {text}" for title, text in report.sections if CANARY in text)]
    for heading, found in (("a secret shows", secrets), ("fields not in log_events", [*_watch.unlisted])):
        if found and report.outcome == "passed":
            report.outcome = "failed"
            report.longrepr = f"{heading}:\n" + "\n".join(found)
    _watch.secrets.clear()
    _watch.unlisted.clear()
    return report
