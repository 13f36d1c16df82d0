"""The smarthost in Python: `benchmarks/c/smarthost.c` must give the same replies and counts.

python -m tests.benchmarks.reference.smarthost certificate=x.pem key=x.key pipelining=0 rtt=0.02
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.benchmarks.reference.smarthost.dialogue import Dialogue, SmarthostState
from tests.benchmarks.reference.smarthost.wire import Distance, Wire

BACKLOG = 1024
LOOPBACK = "127.0.0.1"


class Smarthost:
    """Two ports, one ledger."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._state = SmarthostState(pipelining=settings["pipelining"] == "1")
        self._distance = Distance(float(settings["rtt"]))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(settings["certificate"], settings["key"])
        self._awaited = 0
        self._arrived = asyncio.Event()
        self._state.taken = self._taken

    async def listen(self) -> dict[str, int]:
        """Open both ports; return them by name."""
        loop = asyncio.get_running_loop()
        ports = {}
        for name, implicit in (("tls", True), ("starttls", False)):
            server = await loop.create_server(
                partial(self._wire, implicit_tls=implicit),
                LOOPBACK, 0, backlog=BACKLOG,
            )  # fmt: skip
            ports[name] = server.sockets[0].getsockname()[1]
        return ports

    def _wire(self, *, implicit_tls: bool) -> Wire:
        return Wire(lambda wire: Dialogue(wire, self._state), self._context, self._distance, implicit_tls=implicit_tls)

    async def execute(self, order: str) -> dict[str, Any]:
        """Carry out an order; return the counts."""
        match order.split():
            case ["forget"]:
                self._state.ledger = self._state.ledger.fresh()
            case ["busy", busy]:
                self._state.busy = busy == "1"
            case ["wait", deliveries, patience]:
                await self._wait(int(deliveries), float(patience))
            case _:  # "count": the counts are the answer to every order
                pass
        return {**self._state.ledger.counts(), "now": time.monotonic()}

    async def _wait(self, deliveries: int, patience: float) -> None:
        """Return when this many deliveries have arrived, or nothing has arrived for `patience` seconds."""
        self._awaited = deliveries
        self._arrived.clear()
        before = -1
        while self._state.ledger.deliveries < deliveries and self._state.ledger.octets != before:
            before = self._state.ledger.octets
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                continue

    def _taken(self) -> None:
        if self._awaited and self._state.ledger.deliveries >= self._awaited:
            self._arrived.set()


async def serve(settings: Mapping[str, str]) -> None:
    """Open the ports and carry out orders until standard input ends."""
    smarthost = Smarthost(settings)
    print(json.dumps(await smarthost.listen()), flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await smarthost.execute(line.decode())), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(dict(word.split("=", 1) for word in sys.argv[1:])))
