"""Accepts, claims and deliveries a second: of several instances, and of both engines of the spool."""

import asyncio
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, Final

from benchmarks.scale_database import LIMITS, opened, running_database, table
from benchmarks.spool_accept import CLOCK, arrival
from benchmarks.spool_written import delivered
from senderproxy.relay.ports import Claim, Spool, SpoolUpdate
from senderproxy.spool.postgresql import accept_groups
from senderproxy.spool.postgresql.connections import COUNT
from senderproxy.spool.postgresql.store import PostgresqlSpool
from senderproxy.spool.postgresql.target import DatabaseTarget
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Lane

SIZE: Final = 4096  # octets of a message
_CLIENTS: Final = (1, 10, 50)
_INSTANCES: Final = (1, 2, 4)
_CLIENTS_IN_ALL: Final = 48  # shared among the instances
_MOST: Final = 20_000  # messages of one measurement
_AT_ONCE: Final = 10  # messages of one claim
_WORKERS: Final = 8  # claims, and results, of one instance at once
_GROUPS: Final = {  # groups at once, calls in a group
    "PostgreSQL": (accept_groups.AT_ONCE, accept_groups.MOST),
    "PostgreSQL, each accept a transaction": (COUNT, 1),
}
_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")


# ---- both engines ----


async def _accept(spool: Spool, clients: int, seconds: float, accounts: int = 1) -> int:
    """The number of messages that so many clients hand over, each its next one when the last one is stored."""
    numbers = count()
    done = 0
    end = time.monotonic() + seconds

    async def client() -> None:
        nonlocal done
        while time.monotonic() < end and (number := next(numbers)) < _MOST:
            await spool.accept(replace(arrival(SIZE, number), account=f"a{number % accounts}"))
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return done


async def _settle(spool: Spool, claims: Sequence[Claim]) -> None:
    left = list(claims)

    async def worker() -> None:
        while left:
            claim = left.pop()
            state, event = delivered()
            await spool.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, state), events=(event,)))

    async with asyncio.TaskGroup() as group:
        for _ in range(_WORKERS):
            group.create_task(worker())


@dataclass
class _Rates:
    """Of one measurement: messages a second, transactions a second, CPU of the instance's process for a message."""

    accepts: float
    commits: float
    cpu: float
    deliveries: float


async def _one_engine(spool: Any, clients: int, seconds: float) -> _Rates:
    before, cpu, begun = spool.commits, time.process_time(), time.monotonic()
    accepted = await _accept(spool, clients, seconds)
    took, cpu, commits = time.monotonic() - begun, time.process_time() - cpu, spool.commits - before
    begun, done = time.monotonic(), 0
    while claims := await spool.claim(Lane.of_account("a0"), 50):
        await _settle(spool, claims)
        done += len(claims)
    return _Rates(accepted / took, commits / took, cpu / accepted, done / (time.monotonic() - begun))


def engines(rounds: int, seconds: float) -> str:
    """SQLite and PostgreSQL on this machine, in turn."""
    found: dict[tuple[int, str], list[_Rates]] = {}

    async def sqlite(folder: Path, clients: int) -> _Rates:
        spool = SqliteSpool.open(folder, CLOCK, LIMITS)
        try:
            return await _one_engine(spool, clients, seconds)
        finally:
            await spool.close()

    async def postgresql(target: DatabaseTarget, clients: int, groups: tuple[int, int]) -> _Rates:
        accept_groups.AT_ONCE, accept_groups.MOST = groups  # type: ignore[misc]
        spool = await opened(target)
        try:
            return await _one_engine(spool, clients, seconds)
        finally:
            await spool.close()

    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        with running_database() as database:
            for _ in range(rounds):
                for clients in _CLIENTS:
                    run = asyncio.run(sqlite(folder / "spool", clients))
                    found.setdefault((clients, "SQLite"), []).append(run)
                    for name, groups in _GROUPS.items():
                        run = asyncio.run(postgresql(database.target, clients, groups))
                        found.setdefault((clients, name), []).append(run)
    finally:
        shutil.rmtree(folder)
    lines = [
        (
            str(clients), name, *(f"{_median(runs, read):.0f}" for read in (
                lambda run: run.accepts, lambda run: run.commits, lambda run: run.cpu * 1e6, lambda run: run.deliveries,
            )),
        )
        for (clients, name), runs in found.items()
    ]  # fmt: skip
    columns = ("clients", "engine", "accepts/s", "commits/s", "CPU us an accept", "deliveries/s")
    return table("SQLite beside PostgreSQL, one instance", columns, lines)


def _median(runs: Sequence[Any], read: Callable[[Any], float]) -> float:
    return statistics.median(read(run) for run in runs)


# ---- several instances ----


@dataclass
class _InstanceWork:
    """The orders that the process of an instance carries out. Each returns a count of messages, and its time."""

    spool: PostgresqlSpool
    claims: list[Claim] = field(default_factory=list)
    look: float = 0.0  # seconds of the last question for the due times of all lanes

    async def accept(self, clients: int, seconds: float, accounts: int) -> int:
        return await _accept(self.spool, clients, seconds, accounts)

    async def claim(self) -> int:
        """Lease all that is due, lane after lane, as far as other instances leave it."""
        begun = time.monotonic()
        lanes = list(await self.spool.due())
        self.look = time.monotonic() - begun

        async def worker() -> None:
            while lanes:
                lane = lanes.pop()
                while found := await self.spool.claim(lane, _AT_ONCE):
                    self.claims += found

        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(worker())
        return len(self.claims)

    async def settle(self) -> int:
        claims, self.claims = self.claims, []
        await _settle(self.spool, claims)
        return len(claims)


def _instance(pipe: Connection, target: DatabaseTarget) -> None:
    """The process of an instance."""

    async def serve() -> None:
        work = _InstanceWork(await opened(target))
        pipe.send(None)
        try:
            while (order := await asyncio.to_thread(pipe.recv)) is not None:
                begun = time.monotonic()
                done = await getattr(work, order[0])(*order[1:])
                pipe.send((done, begun, time.monotonic(), work.look))
        finally:
            await work.spool.close()

    asyncio.run(serve())


@contextmanager
def _running_instances(target: DatabaseTarget, number: int) -> Iterator[list[Connection]]:
    pipes = [_SPAWN.Pipe() for _ in range(number)]
    processes = [_SPAWN.Process(target=_instance, args=(theirs, target), daemon=True) for _ours, theirs in pipes]
    try:
        for process in processes:
            process.start()
        for ours, _theirs in pipes:
            ours.recv()
        yield [ours for ours, _theirs in pipes]
        for ours, _theirs in pipes:
            ours.send(None)
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.kill()


def _all(pipes: Sequence[Connection], *order: object) -> tuple[int, float, float]:
    """Give an order to all instances: messages, seconds from the first beginning to the last end, longest look."""
    for pipe in pipes:
        pipe.send(order)
    answers = [pipe.recv() for pipe in pipes]
    seconds = max(answer[2] for answer in answers) - min(answer[1] for answer in answers)
    return sum(answer[0] for answer in answers), seconds, max(answer[3] for answer in answers)


def instances(rounds: int, seconds: float, accounts: Sequence[int]) -> str:
    """1, 2 and 4 instances over one database, in turn."""
    found: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
    with running_database() as database:
        for _ in range(rounds):
            for many in accounts:
                for number in _INSTANCES:
                    with _running_instances(database.target, number) as pipes:
                        accepted, took, _ = _all(pipes, "accept", _CLIENTS_IN_ALL // number, seconds, many)
                        claimed, to_claim, look = _all(pipes, "claim")
                        settled, to_settle, _ = _all(pipes, "settle")
                    assert accepted == claimed == settled, "a message was lost or claimed twice"
                    rates = accepted / took, claimed / to_claim, settled / to_settle, look * 1000
                    found.setdefault((many, number), []).append(rates)
    lines = [
        (f"{many:,}", str(number), *(f"{statistics.median(values):.0f}" for values in zip(*runs, strict=True)))
        for (many, number), runs in found.items()
    ]
    columns = ("accounts", "instances", "accepts/s", "claims/s", "results/s", "ms for all due times")
    return table(f"Several instances, {_CLIENTS_IN_ALL} clients in all", columns, lines)
