"""Only what every test may use: coroutines as tests, and a deadline for each of them."""

import asyncio
import inspect
from typing import Any

import pytest

# No test waits for longer than this for anything; a hang becomes a failure with a traceback.
DEADLINE = 60.0
SLOW_DEADLINE = 420.0


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
