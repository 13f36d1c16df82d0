"""A storm: clients that submit without a pause, a provider that fails at random, and a service that is killed again and
again.

Guarantees: every message has an id of its own and is submitted once, so what is acknowledged, delivered, reported and
doubled can be counted exactly; the same seed gives the same faults for the same course of events.
"""

import asyncio
import random
import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from itertools import pairwise
from typing import Final

import aiosmtplib

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.faults import Drop, FaultAction, FaultPoint, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import SEND_LIMIT, UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.tracking.record import EventKind
from senderproxy.tracking.serialize import read_event
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy, VaultAccount

PEOPLE: Final = [f"p{number}@firma.example" for number in range(6)]
NOBODY: Final = "nobody@kunde.example"
BUSY: Final = "busy@kunde.example"
CLIENTS: Final = 3  # of each kind
ACKNOWLEDGED_PER_KILL: Final = 10  # messages acknowledged before the n-th kill, at least n times as many
_ACKNOWLEDGED_WITHIN: Final = 120.0  # seconds; one is enough on an idle machine
SECRET: Final = "geheim-sturm"
_ID = re.compile(rb"<(\d+)\.sturm@firma\.example>")


class Weather(FaultScript):
    """Faults at random, until the sun comes out."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.is_fair = False
        self.counts: Counter[str] = Counter()
        self.lost_replies: set[tuple[int, int]] = set()  # session and transaction

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        """Drop before, in and after DATA and before the final reply; 421; 450 for some recipients."""
        if self.is_fair:
            return None
        chance = self._rng.random()
        action: FaultAction | None = None
        match point.stage:
            case FaultStage.MAIL | FaultStage.DATA | FaultStage.BODY if chance < 0.02:
                action = Drop()
            case FaultStage.MAIL if chance < 0.022:
                action = ReplyWith(server_reply(421, "4.3.2 closing for maintenance"), then_drop=True)
            case FaultStage.RCPT if chance < 0.02:
                action = Drop()
            case FaultStage.RCPT if chance < 0.06:
                action = ReplyWith(server_reply(450, "4.2.1 mailbox busy"))
            case FaultStage.DOT if chance < 0.02:
                action = Drop()
            case FaultStage.DOT if chance < 0.05:
                action = Drop(after_storing=True)
                self.lost_replies.add((point.session, point.transaction))
        if action is not None:
            self.counts[f"{point.stage.value} {type(action).__name__}"] += 1
        return action


@dataclass
class Reckoning:
    """What came of a storm."""

    kills: int = 0
    submitted: int = 0
    acknowledged: dict[int, tuple[str, ...]] = field(default_factory=dict)
    arrived: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    reported: set[tuple[int, str]] = field(default_factory=set)
    doubled: int = 0
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

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.submitted} submitted, {len(self.acknowledged)} acknowledged,"
            f" {len(self.reported)} recipients reported, {self.doubled} doubled, {len(self.lost)} lost,"
            f" {len(self.unexplained)} doubled without a reason, {self.left_waiting} left waiting, {self.left_held} held;"
            f" upstream faults: {dict(self.faults)}"
        )


class Storm:
    """One service with two doors, its clients and its provider."""

    def __init__(
        self, simulator: Simulator, weather: Weather, service: Senderproxy, queue_port: int, rng: random.Random
    ) -> None:
        self._simulator = simulator
        self._weather = weather
        self._service = service
        self._ports = (service.port, queue_port)
        self._rng = rng
        self._numbers = 0
        self._over = asyncio.Event()
        self._sessions_before: list[int] = []  # for each kill: how many sessions the processes until then had opened
        self.reckoning = Reckoning()

    async def rage(self, kills: int) -> Reckoning:
        """Kill it so often while everybody submits; then let what waits go out, and count."""
        clients = [asyncio.create_task(self._submit(port)) for port in self._ports for _ in range(CLIENTS)]
        try:
            for killed in range(kills):
                await self._until_acknowledged(ACKNOWLEDGED_PER_KILL * (killed + 1))
                await asyncio.sleep(self._rng.uniform(0.02, 0.5))  # the moment is the test's subject: any will do
                await asyncio.to_thread(self._service.kill)
                self._sessions_before.append(self._simulator.connections)
                await asyncio.to_thread(self._service.start)
        finally:
            self._over.set()
            await asyncio.gather(*clients)
        self._weather.is_fair = True
        await asyncio.to_thread(self._service.restart)  # pauses that a 421 earned are not kept over a restart
        await self._drain()
        await self._count(kills)
        return self.reckoning

    async def _until_acknowledged(self, count: int) -> None:
        """Wait until more than so many messages were acknowledged: a slow machine needs longer for them."""
        async with asyncio.timeout(_ACKNOWLEDGED_WITHIN):
            while len(self.reckoning.acknowledged) <= count:
                await asyncio.sleep(0.01)

    async def _submit(self, port: int) -> None:
        """One client: message after message, a new connection where the old one broke."""
        while not self._over.is_set():
            with suppress(OSError, aiosmtplib.SMTPException):
                async with aiosmtplib.SMTP(
                    hostname=LOOPBACK, port=port, timeout=20, local_hostname="pc.firma.example", start_tls=False
                ) as client:
                    while not self._over.is_set():
                        await self._submit_one(client)

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
            return
        except aiosmtplib.SMTPRecipientsRefused:
            return
        assert not refused
        self.reckoning.acknowledged[number] = tuple(recipients)

    async def _drain(self) -> None:
        """Until nothing waits any more."""
        async with asyncio.timeout(120):
            while True:
                queue = await asyncio.to_thread(self._service.queue)
                if not queue["problem"] and not queue["waiting"]:
                    break
                await asyncio.sleep(0.1)
        self.reckoning.left_waiting, self.reckoning.left_held = queue["waiting"], queue["held"]

    # ---- counting ----

    async def _count(self, kills: int) -> None:
        reckoning = self.reckoning
        reckoning.kills, reckoning.faults = kills, self._weather.counts
        copies: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)  # session and transaction
        for taken in self._simulator.received:
            if taken.content.find(b"multipart/report") >= 0:
                self._count_report(taken.content)
                continue
            found = _ID.search(taken.content)
            assert found is not None, taken.content[:300]
            for recipient in taken.recipients:
                copies[int(found.group(1)), recipient].append((taken.session, taken.transaction))
        for (number, recipient), each in copies.items():
            reckoning.arrived[number, recipient] = len(each)
            for earlier, later in pairwise(each):
                reckoning.doubled += 1
                if earlier in self._weather.lost_replies:
                    continue
                if self._process_of(earlier) == self._process_of(later):
                    reckoning.unexplained.append(
                        f"{number} to {recipient}: sent twice by one process, {earlier}, {later}"
                    )
                elif (written := await self._written(number, recipient)) > 1:
                    reckoning.unexplained.append(f"{number} to {recipient}: written down as delivered {written} times")

    def _process_of(self, copy: tuple[int, int]) -> int:
        """Which process opened the session on which it came: after how many kills."""
        return bisect_left(self._sessions_before, copy[0])

    async def _written(self, number: int, recipient: str) -> int:
        """How often the service knew it to be delivered: once, where a kill came before it could write down the first."""
        request = new_request(Verb.TRACK, query={"id": f"<{number}.sturm@firma.example>"})
        answer = await asyncio.to_thread(ask, self._service.folder / "control", request)
        events = [read_event(event) for message in answer["messages"] for event in message["events"]]
        return sum(
            event.kind is EventKind.ATTEMPTED
            and event.facts["outcome"] == "delivered"
            and recipient in (event.recipients or [recipient])
            for event in events
        )

    def _count_report(self, content: bytes) -> None:
        parsed = BytesParser().parsebytes(content)
        parts = parsed.get_payload()
        assert isinstance(parts, list)
        _, status, returned = parts
        assert isinstance(status, Message)
        assert isinstance(returned, Message)
        found = _ID.search(returned.as_bytes())
        assert found is not None
        for recipient in re.findall(r"Final-Recipient: rfc822; ?(\S+)", status.as_string()):
            self.reckoning.reported.add((int(found.group(1)), recipient))


@asynccontextmanager
async def storm(seed: int) -> AsyncIterator[Storm]:
    """Everything a storm needs, gone afterwards."""
    rng = random.Random(seed)
    weather = Weather(rng)
    settings = SimulatorSettings(
        mailboxes={person: SimulatedMailbox(SECRET) for person in PEOPLE},
        recipient_replies={NOBODY: UNKNOWN_USER, BUSY: SEND_LIMIT},
    )
    async with Simulator(settings, weather) as simulator:
        with reserved_ports(1) as [queue_port]:
            section = f"""
host = "127.0.0.1"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "domain"
messages_per_hour = 0
recipients_per_hour = 0

[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"

[spool]
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"
"""
            service = Senderproxy([VaultAccount(person, SECRET) for person in PEOPLE], section)
            await asyncio.to_thread(service.__enter__)
            try:
                yield Storm(simulator, weather, service, queue_port, rng)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


def main(kills: int, seed: int) -> Reckoning:
    """The full run, from the command line: python -m tests.crash.storm 100."""

    async def run() -> Reckoning:
        async with storm(seed) as it:
            return await it.rage(kills)

    started = time.monotonic()
    reckoning = asyncio.run(run())
    print(f"{reckoning}; {time.monotonic() - started:.0f} s")
    for what in (*reckoning.lost, *reckoning.unexplained):
        print(what)
    return reckoning


if __name__ == "__main__":
    import sys

    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}")
    result = main(kills, seed)
    sys.exit(bool(result.lost or result.unexplained or result.left_waiting or result.left_held))
