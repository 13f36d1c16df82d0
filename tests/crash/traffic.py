"""Mail through a service that is in trouble: clients that submit without a pause, a provider that fails at random, and an
exact count of what came of it.

Guarantees: every message has an id of its own and is submitted once, so what is acknowledged, delivered, reported and
doubled can be counted exactly; the same seed gives the same faults for the same course of events.
Not here: the trouble (tests.crash.storm, tests.crash.cluster).
"""

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import aiosmtplib

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.faults import Drop, FaultAction, FaultPoint, FaultStage, ReplyWith, Silence
from senderproxy.simulator.provider_replies import SEND_LIMIT, UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.tracking.record import EventKind
from senderproxy.tracking.serialize import read_event
from tests.peers.random_faults import RandomFaults, read_report
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.peers.simulated_provider import provider_settings

PEOPLE: Final = [f"p{number}@firma.example" for number in range(6)]
HELD: Final = "held@firma.example"  # whose attempts get no reply to DATA while the weather holds them
NOBODY: Final = "nobody@kunde.example"
BUSY: Final = "busy@kunde.example"
CLIENTS: Final = 3  # of each kind
ACKNOWLEDGED_PER_KILL: Final = 10  # messages acknowledged before the n-th kill, at least n times as many
_ACKNOWLEDGED_WITHIN: Final = 120.0  # seconds; one is enough on an idle machine
_PAUSE: Final = 0.05  # seconds after a connection that broke: a service that starts needs the processor, too
SECRET: Final = "geheim-sturm"
ACCOUNTS: Final = [VaultAccount(person, SECRET) for person in (*PEOPLE, HELD)]
SETTINGS: Final = SimulatorSettings(
    mailboxes={person: SimulatedMailbox(SECRET) for person in (*PEOPLE, HELD)},
    recipient_replies={NOBODY: UNKNOWN_USER, BUSY: SEND_LIMIT},
)
_ID: Final = re.compile(rb"<(\d+)\.sturm@firma\.example>")

Door: TypeAlias = tuple[str, int]  # address and port of a listener
Copy: TypeAlias = tuple[int, int]  # session and transaction in which a message arrived


def provider_section(simulator: Simulator) -> str:
    """The settings of the provider, without limits."""
    return f"""{provider_settings(simulator)}messages_per_hour = 0
recipients_per_hour = 0
"""


class Weather(RandomFaults):
    """Faults at random, until the sun comes out."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.is_fair = False
        self.holds = False

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        """See RandomFaults; none in fair weather."""
        if self.holds and point.login == HELD and point.stage is FaultStage.DATA:
            return Silence()
        return None if self.is_fair else super().next_action(point)

    def choose(self, point: FaultPoint, chance: float) -> FaultAction | None:
        """Drop before, in and after DATA and before the final reply; 421; 450 for some recipients."""
        match point.stage:
            case FaultStage.MAIL | FaultStage.DATA | FaultStage.BODY if chance < 0.02:
                return Drop()
            case FaultStage.MAIL if chance < 0.022:
                return ReplyWith(server_reply(421, "4.3.2 closing for maintenance"), then_drop=True)
            case FaultStage.RCPT if chance < 0.02:
                return Drop()
            case FaultStage.RCPT if chance < 0.06:
                return ReplyWith(server_reply(450, "4.2.1 mailbox busy"))
            case FaultStage.DOT if chance < 0.02:
                return Drop()
            case FaultStage.DOT if chance < 0.05:
                return Drop(after_storing=True)
            case _:
                return None


@dataclass
class Reckoning:
    """What came of a storm."""

    submitted: int = 0
    acknowledged: dict[int, tuple[str, ...]] = field(default_factory=dict)
    arrived: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    reported: set[tuple[int, str]] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)  # what a client got in place of 250, in words
    doubled: Counter[str] = field(default_factory=Counter)  # by reason
    unexplained: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    left_waiting: int = -1
    left_held: int = -1

    @property
    def lost(self) -> list[str]:
        """Acknowledged, and neither delivered nor reported."""
        return [
            f"{number} to {recipient}"
            for number, recipients in self.acknowledged.items()
            for recipient in recipients
            if not self.arrived[number, recipient] and (number, recipient) not in self.reported
        ]

    @property
    def is_kept(self) -> bool:
        """True if nothing is lost, left, or doubled without a reason."""
        return not (self.lost or self.unexplained or self.left_waiting or self.left_held)

    def __str__(self) -> str:
        return (
            f"{self.submitted} submitted, {len(self.acknowledged)} acknowledged,"
            f" {len(self.reported)} recipients reported, {sum(self.doubled.values())} doubled {dict(self.doubled)},"
            f" {len(self.lost)} lost,"
            f" {len(self.unexplained)} doubled without a reason, {self.left_waiting} left waiting, {self.left_held} held;"
            f" upstream faults: {dict(self.faults)}"
        )


class Traffic:
    """The clients, and the count of what they and the provider saw."""

    def __init__(self, simulator: Simulator, weather: Weather, rng: random.Random) -> None:
        self.reckoning = Reckoning()
        self._simulator = simulator
        self._weather = weather
        self._rng = rng
        self._numbers = 0
        self._over = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    def start(self, doors: Sequence[Door], *, each: int = CLIENTS, messages: int | None = None) -> None:
        """So many clients at each door. `messages`: on one connection; None: any number."""
        self._clients = [asyncio.create_task(self._submit(door, messages)) for door in doors for _ in range(each)]

    async def stop(self) -> None:
        """Let each client end its message."""
        self._over.set()
        await asyncio.gather(*self._clients)

    async def until_acknowledged(self, count: int) -> None:
        """Wait until more than so many messages were acknowledged: a slow machine needs longer for them."""
        async with asyncio.timeout(_ACKNOWLEDGED_WITHIN):
            while len(self.reckoning.acknowledged) <= count:
                await asyncio.sleep(0.01)

    async def until_faults(self, count: int) -> None:
        """Wait until the provider has failed more than so often: by chance, few messages may meet no fault."""
        async with asyncio.timeout(_ACKNOWLEDGED_WITHIN):
            while sum(self._weather.counts.values()) <= count:
                await asyncio.sleep(0.01)

    async def until_more_acknowledged(self, count: int) -> None:
        """The same, from now on."""
        await self.until_acknowledged(len(self.reckoning.acknowledged) + count)

    async def _submit(self, door: Door, messages: int | None) -> None:
        """One client: message after message, a new connection where the old one broke."""
        host, port = door
        while not self._over.is_set():
            left = messages
            try:
                async with aiosmtplib.SMTP(
                    hostname=host, port=port, timeout=20, local_hostname="pc.firma.example", start_tls=False
                ) as client:
                    while not self._over.is_set() and left != 0:
                        await self._submit_one(client)
                        left = None if left is None else left - 1
            except (OSError, aiosmtplib.SMTPException) as error:
                self.reckoning.refused.append(repr(error))
                await asyncio.sleep(_PAUSE)

    async def _submit_one(self, client: aiosmtplib.SMTP) -> None:
        self._numbers += 1
        number, author = self._numbers, self._rng.choice(PEOPLE)
        recipients = [f"r{number}@kunde.example"]
        recipients += [extra for extra in (NOBODY, f"s{number}@kunde.example") if self._rng.random() < 0.15]
        self._rng.shuffle(recipients)
        size = 200_000 if self._rng.random() < 0.03 else self._rng.randrange(200, 4000)
        text = (
            f"From: <{author}>\r\nTo: x@kunde.example\r\nSubject: Sturm {number}\r\n"
            f"Message-ID: <{number}.sturm@firma.example>\r\nDate: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\n"
        ).encode()
        text += b"Zeile, sehr lang\r\n" * (size // 18)
        self.reckoning.submitted += 1
        try:
            refused, _ = await client.sendmail(author, recipients, text)
        except aiosmtplib.SMTPResponseException as refusal:
            if refusal.code == 421:
                raise
            self.reckoning.refused.append(repr(refusal))
            return
        except aiosmtplib.SMTPRecipientsRefused as refusal:
            self.reckoning.refused.append(repr(refusal))
            return
        assert not refused
        self.reckoning.acknowledged[number] = tuple(recipients)

    # ---- counting ----

    async def count(self, folder: Path, *, reason: str, is_one_process: Callable[[Copy, Copy], bool]) -> Reckoning:
        """Count. `folder`: of a service that tells what is written down. `reason`: why a copy may not be."""
        reckoning = self.reckoning
        reckoning.faults = self._weather.counts
        copies: dict[tuple[int, str], list[Copy]] = defaultdict(list)
        for taken in self._simulator.received:
            if taken.content.find(b"multipart/report") >= 0:
                self._count_report(taken.content)
                continue
            if HELD.encode() in taken.content:  # counted where it was sent
                continue
            found = _ID.search(taken.content)
            assert found is not None, taken.content[:300]
            for recipient in taken.recipients:
                copies[int(found.group(1)), recipient].append((taken.session, taken.transaction))
        for (number, recipient), each in copies.items():
            reckoning.arrived[number, recipient] = len(each)
            for earlier, later in pairwise(each):
                if earlier in self._weather.lost_replies:
                    reckoning.doubled["the reply was lost"] += 1
                    continue
                reckoning.doubled[reason] += 1
                if is_one_process(earlier, later):
                    reckoning.unexplained.append(
                        f"{number} to {recipient}: sent twice by one process, {earlier}, {later}"
                    )
                elif (written := await _written(folder, number, recipient)) > 1:
                    reckoning.unexplained.append(f"{number} to {recipient}: written down as delivered {written} times")
        return reckoning

    def _count_report(self, content: bytes) -> None:
        returned, recipients = read_report(content)
        found = _ID.search(returned)
        assert found is not None
        self.reckoning.reported |= {(int(found.group(1)), recipient) for recipient in recipients}


async def _written(folder: Path, number: int, recipient: str) -> int:
    """How often it is written down as delivered: once, where trouble came before the first could be."""
    request = new_request(Verb.TRACK, query={"id": f"<{number}.sturm@firma.example>"})
    answer = await asyncio.to_thread(ask, folder / "control", request)
    events = [read_event(event) for message in answer["messages"] for event in message["events"]]
    return sum(
        event.kind is EventKind.ATTEMPTED
        and event.facts["outcome"] == "delivered"
        and recipient in (event.recipients or [recipient])
        for event in events
    )


async def until_nothing_waits(service: Senderproxy, reckoning: Reckoning, seconds: float = 120.0) -> None:
    """Until the queue is empty, or only holds what nobody sends."""
    async with asyncio.timeout(seconds):
        while True:
            queue = await asyncio.to_thread(service.queue)
            if not queue["problem"] and not queue["waiting"]:
                break
            await asyncio.sleep(0.1)
    reckoning.left_waiting, reckoning.left_held = queue["waiting"], queue["held"]
