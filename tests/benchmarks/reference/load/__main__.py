"""The load in Python: `benchmarks/c/load.c` must send the same octets and give the same results.

python -m tests.benchmarks.reference.load port=2525 run=r1 name=small connections=10 ...
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import messages
from tests.benchmarks.reference.load.client import Client, NextMessage, Outgoing, Tally, connect

AT_ONCE = 50
CONNECT_SECONDS = 20.0  # until all connections are open


class Flow:
    """Messages of one kind, over their own connections."""

    def __init__(self, run: str, settings: Mapping[str, Any]) -> None:
        self.name: str = settings["name"]
        self.tally = Tally()
        self.beside: bool = settings["beside"]
        self.stopped = False
        self.connections: int = settings["connections"]
        self._run = run
        self._settings = settings
        self._numbers = iter(range(settings["messages"])) if not self.beside else itertools.count()
        self._body = memoryview(messages.body(settings["size"]))

    def next_message(self, only: int | None = None) -> Outgoing | None:
        """Return the next message, its author in turn or always the same one; None when all are sent."""
        number = None if self.stopped else next(self._numbers, None)
        if number is None:
            return None
        author = number % self._settings["senders"] if only is None else only
        name = f"{self._run}.{self.name}.{number}"
        return Outgoing(
            messages.address(author),
            messages.recipients(self._settings["recipients"], name),
            messages.header(name, author),
            self._body,
        )

    def source(self, connection: int, *, straight: bool) -> tuple[NextMessage, tuple[str, str] | None]:
        """Return a connection's source of messages and its login; a direct connection sends for its login only."""
        if not straight:
            return self.next_message, None
        author = connection % self._settings["senders"]
        return (lambda: self.next_message(author)), (messages.address(author), messages.PASSWORD)

    def start(self, clients: list[Client], spread: float) -> None:
        """Start all of them, evenly within so many seconds: far away, clients in step would queue for each other."""
        loop = asyncio.get_running_loop()
        for number, client in enumerate(clients):
            loop.call_later(spread * number / len(clients), client.start)

    def report(self) -> dict[str, Any]:
        """Return what came of it."""
        seconds = sorted(self.tally.seconds)
        cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
        return {
            "accepted": len(seconds),
            "refused": self.tally.refused,
            "p50": cuts[49] if cuts else None,
            "p99": cuts[98] if cuts else None,
            "first_at": self.tally.first_at,
            "last_at": self.tally.last_at,
        }


async def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Connect, wait for the word, send (what goes on beside others: until the next word), report."""
    flow = Flow(job["run"], job)
    clients = await _connect_all(flow, job)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    used = time.process_time()
    flow.start(clients, job["spread"])
    if flow.beside:
        await loop.run_in_executor(None, sys.stdin.readline)
        flow.stopped = True
    await asyncio.gather(*(client.done for client in clients))
    return {**flow.report(), "cpu": time.process_time() - used}


async def _connect_all(flow: Flow, job: Mapping[str, Any]) -> list[Client]:
    straight, clients = job["ca_file"] is not None, []
    for first in range(0, flow.connections, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, flow.connections))
        sources = [flow.source(number, straight=straight) for number in numbers]
        async with asyncio.timeout(CONNECT_SECONDS):
            clients += await asyncio.gather(
                *(connect(job["port"], source, flow.tally, login, job["ca_file"]) for source, login in sources)
            )
    return clients


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    numbers = ("port", "connections", "messages", "size", "senders", "recipients", "beside")
    job = {"ca_file": None, **words, **{name: int(words[name]) for name in numbers}, "spread": float(words["spread"])}
    print(json.dumps(asyncio.run(run(job))), flush=True)
