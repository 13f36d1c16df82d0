"""The smarthost's process. Orders come in and answers go out as one JSON object a line.

python -m benchmarks.smarthost '{"certificate": "x.pem", "key": "x.key", "pipelining": false, "rtt": 0.02}'
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.smarthost.dialogue import Dialogue, House
from benchmarks.smarthost.wire import Distance, Wire

BACKLOG = 1024
LOOPBACK = "127.0.0.1"


class Smarthost:
    """Two doors, one ledger."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._house = House(pipelining=settings["pipelining"])
        self._distance = Distance(settings["rtt"])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(settings["certificate"], settings["key"])
        self._awaited = 0
        self._arrived = asyncio.Event()
        self._house.taken = self._taken

    async def listen(self) -> dict[str, int]:
        """Open both doors; return their ports."""
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
        return Wire(lambda wire: Dialogue(wire, self._house), self._context, self._distance, implicit_tls=implicit_tls)

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is asked."""
        match order["do"]:
            case "forget":
                self._house.ledger = self._house.ledger.fresh()
            case "busy":
                self._house.busy = order["busy"]
            case "wait":
                await self._wait(order["deliveries"], order["patience"])
            case _:  # "count": the counts are the answer to every order
                pass
        return {**self._house.ledger.counts(), "now": time.monotonic()}

    async def _wait(self, deliveries: int, patience: float) -> None:
        """Return when so many have arrived, or nothing arrived for so long."""
        self._awaited = deliveries
        self._arrived.clear()
        before = -1
        while self._house.ledger.deliveries < deliveries and self._house.ledger.octets != before:
            before = self._house.ledger.octets
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                continue

    def _taken(self) -> None:
        if self._awaited and self._house.ledger.deliveries >= self._awaited:
            self._arrived.set()


async def serve(settings: Mapping[str, Any]) -> None:
    """Open, and obey until standard input ends."""
    smarthost = Smarthost(settings)
    print(json.dumps(await smarthost.listen()), flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await smarthost.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
