"""Instances over one database, their provider, and mail through all of them.

Guarantees: as tests.crash.traffic. A message that came twice has a reason: its first reply was lost, or no instance had
written down that it was delivered. Everything is gone afterwards.
Not here: what happens to them (tests.crash.cluster, and the modules that it names).
"""

import asyncio
import random
import re
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from senderproxy.control.client import ask_status
from senderproxy.log_events import SPOOL_LEASES_LOST
from senderproxy.simulator.server import Simulator
from tests.crash.traffic import (
    ACCOUNTS,
    SETTINGS,
    Copy,
    Door,
    Reckoning,
    Traffic,
    Weather,
    provider_section,
    until_nothing_waits,
)
from tests.peers.packages import PROJECT
from tests.peers.postgresql import OWNER, PostgresqlServer
from tests.peers.process import LOOPBACK, reserved_ports, wait_until
from tests.peers.senderproxy import Senderproxy

TAKEN_OVER_WITHIN: Final = 120.0  # seconds; fifteen on an idle machine, forty behind a silent link
_LOST: Final = re.compile(rf"{re.escape(SPOOL_LEASES_LOST.sentence)} seconds=(\S+)")


@dataclass(frozen=True)
class Place:
    """Where an instance runs. The default is this machine, with its clock, its program and its network."""

    address: str = LOOPBACK
    prefix: Sequence[str] = ()  # of its command: into another network
    environment: Mapping[str, str] = field(default_factory=dict)  # another clock


class Member(Senderproxy):
    """One instance. The first one makes the tables."""

    makes_tables = False

    def migrate(self) -> str:
        """Make the tables, or bring them up to date."""
        return self.command("spool", "migrate", "--owner", OWNER, "--no-password")

    def _import_accounts(self) -> None:
        super()._import_accounts()
        if self.makes_tables:
            self.migrate()


class StormMember(Member):
    """One with two listeners, for pass-through and for the queue, at its place. `tree`: the sources that it runs."""

    def __init__(self, number: int, section: str, place: Place, queue_port: int, listener_settings: str) -> None:
        self.hostname = f"relay{number}.office.test"
        super().__init__(ACCOUNTS, section, listener_settings=listener_settings, hostname=self.hostname)
        self.tree = PROJECT
        self.address = place.address
        self.environment = dict(place.environment)
        self._prefix = place.prefix
        self._queue_port = queue_port
        self._losses = 0

    @property
    def doors(self) -> tuple[Door, Door]:
        """Its listeners: for pass-through, for the queue."""
        return (self.address, self.port), (self.address, self._queue_port)

    def status(self) -> dict[str, Any]:
        """The answer of the service."""
        return dict(ask_status(self.folder / "control"))

    def wait_for_new_loss(self) -> str:
        """Return when it stops because it cannot renew its leases: what the log says since when it could not."""
        wait_until(lambda: len(_LOST.findall(self.log())) > self._losses, "its leases are lost", 60, peer=self)
        found: list[str] = _LOST.findall(self.log())
        self._losses = len(found)
        return f"{found[-1]} s after the last heartbeat"

    def _program_words(self) -> list[str]:
        moved = [] if self.tree == PROJECT else ["env", "-C", str(self.tree)]  # -m looks there first
        return [*self._prefix, *moved, *super()._program_words()]


class Cluster:
    """The instances, the mail through them, and its count."""

    def __init__(
        self, simulator: Simulator, weather: Weather, members: Sequence[StormMember], rng: random.Random
    ) -> None:
        self.simulator = simulator
        self.weather = weather
        self.members = members
        self.rng = rng
        self.traffic = Traffic(simulator, weather, rng)

    @property
    def doors(self) -> list[Door]:
        """All listeners."""
        return [door for mode in (0, 1) for door in (member.doors[mode] for member in self.members)]

    async def settle(self, reason: str, seconds: float = TAKEN_OVER_WITHIN) -> Reckoning:
        """Let what waits go out, and count. `reason`: why a delivery may not have been written down."""
        await self.traffic.stop()
        self.weather.is_fair = True
        for member in self.members:
            await asyncio.to_thread(member.resume_accounts)
        first = self.members[0]
        await until_nothing_waits(first, self.traffic.reckoning, seconds)
        return await self.traffic.count(first.folder, reason=reason, is_one_process=_is_one_transaction)


def _is_one_transaction(earlier: Copy, later: Copy) -> bool:
    """Sessions of several instances cannot be told apart: what is written down decides."""
    return earlier == later


@asynccontextmanager
async def cluster(
    seed: int,
    database: PostgresqlServer,
    *,
    places: Sequence[Place] = (Place(), Place(), Place()),
    engine: str = "",
    simulator_address: str = LOOPBACK,
    listener_settings: str = "",
    more_spool_settings: str = "",
    is_fair: bool = False,
) -> AsyncIterator[Cluster]:
    """Instances at these places. `engine`: where they find the database; its socket if nothing is said."""
    rng = random.Random(seed)
    weather = Weather(rng)
    weather.is_fair = is_fair
    settings = (
        SETTINGS if simulator_address == LOOPBACK else replace(SETTINGS, host=simulator_address)
    )  # its certificate
    async with Simulator(settings, weather, address=simulator_address) as simulator, AsyncExitStack() as things:
        await asyncio.to_thread(database.make_database)
        ports = things.enter_context(reserved_ports(len(places)))
        members: list[StormMember] = []
        for place, port in zip(places, ports, strict=True):
            section = f"""{provider_section(simulator)}
[[listeners]]
name = "devices"
address = "{place.address}:{port}"
mode = "queue"
{listener_settings}

[spool]
engine = "{engine or database.engine}"
first_retry_seconds = 1
longest_retry_seconds = 2
{more_spool_settings}
"""
            member = StormMember(len(members), section, place, port, listener_settings)
            member.makes_tables = not members
            await asyncio.to_thread(member.__enter__)
            things.push_async_callback(asyncio.to_thread, member.__exit__, None, None, None)
            members.append(member)
        yield Cluster(simulator, weather, members, rng)


def build_other_clock(folder: Path) -> Path:
    """The library that moves the time of day of a program, built with the machine's compiler."""
    library = folder / "other_clock.so"
    source = Path(__file__).with_name("other_clock.c")
    words = ["gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(words, check=True, timeout=60)
    return library


def other_clock(library: Path, seconds: int) -> Mapping[str, str]:
    """The environment of a program whose time of day is so far off. Timers are not touched."""
    return {"LD_PRELOAD": str(library), "OTHER_CLOCK": str(seconds)}
