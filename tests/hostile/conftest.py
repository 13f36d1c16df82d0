"""One office for all tests of a module; a test that fails leaves none to the next one."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.hostile.office import HostileOffice, hostile_office

Scenario = Callable[[HostileOffice], Coroutine[Any, Any, None]]
_DEADLINE = 600.0  # seconds for one scenario; a hang becomes a failure with a traceback


class OfficeRunner:
    """Runs scenarios one after another in one office, whose providers live in the same event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack: AsyncExitStack | None = None
        self._office: HostileOffice | None = None

    def run(self, scenario: Scenario) -> None:
        """Run one scenario; print the figures of the office."""
        self._runner.run(self._bounded(scenario))

    async def _bounded(self, scenario: Scenario) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                office = await self._opened()
                await scenario(office)
                print(await office.report(), *office.blocks(), sep="\n")
        except BaseException:
            if self._office is not None:
                print(self._office.service.log()[-20_000:])
            await self._close()
            raise

    async def _opened(self) -> HostileOffice:
        if self._office is None:
            self._stack = AsyncExitStack()
            folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="hostile-")))
            self._office = await self._stack.enter_async_context(hostile_office(folder))
        return self._office

    async def _close(self) -> None:
        stack, self._stack, self._office = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    def close(self) -> None:
        """Stop the service. Raises PeerFailed if it does not end cleanly."""
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()


@pytest.fixture(scope="module")
def offices() -> Iterator[OfficeRunner]:
    """Skipped without a compiler, which builds the faults of the disk and of the name server."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: apt-get install gcc libc6-dev")
    runner = OfficeRunner()
    try:
        yield runner
    finally:
        runner.close()
