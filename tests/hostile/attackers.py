"""The process of the hostile clients and of the hostile provider.

A process of their own, with a low priority: what they compute must not delay the polite clients, or the times would
measure the test. The parent writes one line of JSON for each command, and reads one for its result.
"""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.hostile.elements import ELEMENTS, EVIL, SECRET, Target
from tests.hostile.faulty_calls import FaultSwitches
from tests.peers.packages import PROJECT

_PRIORITY: Final = 10  # nice(2)
_DEADLINE: Final = 180.0  # seconds for one command, longer than the beginning of an element takes


class Attackers:
    """The process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.provider_port = 0  # of the hostile provider, with TLS from the first octet
        self.provider_ca = ""  # path

    async def greet(self) -> None:
        """Wait until the hostile provider is there."""
        hello = await self._result()
        self.provider_port, self.provider_ca = hello["port"], hello["ca"]

    @asynccontextmanager
    async def in_force(self, element: str, ports: Mapping[str, int]) -> AsyncIterator[None]:
        """One of ELEMENTS, against the service at these ports, until the end of the block."""
        await self._ask({"enter": element, "ports": dict(ports)})
        try:
            yield
        finally:
            await self._ask({"leave": element})

    async def _ask(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        result = await self._result()
        assert "error" not in result, result["error"]

    async def _result(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(_DEADLINE):
            line = await self._process.stdout.readline()
        assert line, "the process of the attackers has ended"
        return dict(json.loads(line))

    async def end(self) -> None:
        """End the process; it ends by itself when its parent does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DEADLINE):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def attackers(switches: Path) -> AsyncIterator[Attackers]:
    """The process, gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.attackers", str(switches),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=PROJECT,
    )  # fmt: skip
    them = Attackers(process)
    try:
        await them.greet()
        yield them
    finally:
        await them.end()


# ---- in the process ----


def _say(**result: object) -> None:
    print(json.dumps(result), flush=True)


async def _serve(switches: Path) -> None:
    settings = SimulatorSettings(mailboxes={EVIL: SimulatedMailbox(SECRET)}, raise_violations=False)
    stacks: dict[str, AsyncExitStack] = {}
    async with Simulator(settings) as evil:
        _say(port=evil.port_tls, ca=str(evil.ca_file))
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            try:
                if element := command.get("enter"):
                    stacks[element] = AsyncExitStack()
                    ports = command["ports"]
                    target = Target(ports, evil, FaultSwitches(switches), metrics_port=ports.pop("metrics"))
                    await stacks[element].enter_async_context(ELEMENTS[element](target))
                else:
                    await stacks.pop(command["leave"]).aclose()
            except Exception:
                _say(error=traceback.format_exc())
            else:
                _say()


if __name__ == "__main__":
    os.nice(_PRIORITY)
    asyncio.run(_serve(Path(sys.argv[1])))
