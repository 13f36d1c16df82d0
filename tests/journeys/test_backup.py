"""The drill of docs/backup.md: a backup under load, the machine lost, a restore elsewhere, every message accounted for."""

import asyncio
import json
import random
import re
from contextlib import suppress
from pathlib import Path

import aiosmtplib
import pytest

from senderproxy.simulator.faults import FaultAction, FaultPoint, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.queueing import devices
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy, VaultAccount

pytestmark = pytest.mark.slow

PEOPLE = [f"p{number}@firma.example" for number in range(3)]
SECRET = "geheim-sicherung"
PASSPHRASE = "geheim-satz der Sicherung\n"
CLIENTS = 3
SECONDS = 150  # for a command that reads all messages; clients submit meanwhile
_ID = re.compile(rb"<(\d+)\.drill@firma\.example>")


class Greylisting(FaultScript):
    """Defers this part of all recipients."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.share = 1.0
        self._rng = random.Random(seed)

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        """Reply 450 to some."""
        if point.stage is FaultStage.RCPT and self._rng.random() < self.share:
            return ReplyWith(server_reply(450, "4.2.0 greylisted"))
        return None


class Clients:
    """Clients that submit without a pause; one message in five has a body in a file of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = 0
        self._over = asyncio.Event()
        self.acknowledged: set[int] = set()

    async def submit(self) -> None:
        """Submit until the end, also after a refusal; a connection that breaks with the service ends it."""
        with suppress(OSError, aiosmtplib.SMTPException):
            async with aiosmtplib.SMTP(hostname=LOOPBACK, port=self._port, timeout=60, start_tls=False) as client:
                while not self._over.is_set():
                    self._numbers += 1
                    number = self._numbers
                    with suppress(aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):  # a slow disk
                        await client.sendmail(PEOPLE[number % 3], [f"r{number}@kunde.example"], message(number))
                        self.acknowledged.add(number)

    async def until(self, count: int) -> None:
        """Wait for so many acknowledgements."""
        while len(self.acknowledged) < count:
            await asyncio.sleep(0.01)

    def end(self) -> None:
        self._over.set()


def message(number: int) -> bytes:
    head = f"From: <{PEOPLE[number % 3]}>\r\nTo: x@kunde.example\r\nMessage-ID: <{number}.drill@firma.example>\r\n"
    head += "Date: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\n"
    return head.encode() + b"Zeile\r\n" * (30_000 if number % 5 == 0 else 20)


def arrived(simulator: Simulator) -> list[int]:
    return [int(found[1]) for taken in simulator.received if (found := _ID.search(taken.content))]


async def test_a_backup_under_load_a_lost_machine_and_every_message_is_held_or_was_sent(tmp_path: Path) -> None:
    greylisting = Greylisting(random.randrange(1_000_000))
    settings = SimulatorSettings(mailboxes={person: SimulatedMailbox(SECRET) for person in PEOPLE})
    accounts = [VaultAccount(person, SECRET) for person in PEOPLE]
    async with Simulator(settings, greylisting) as simulator:
        with reserved_ports(1) as [port]:
            section = (
                f'host = "127.0.0.1"\nport = {simulator.port_tls}\nsecurity = "tls"\nca_file = "{simulator.ca_file}"\n'
                f"messages_per_hour = 0\nrecipients_per_hour = 0\n{devices(port)}"
            )
            service = Senderproxy(accounts, section)
            await asyncio.to_thread(service.__enter__)
            try:
                await drill(simulator, greylisting, service, Clients(port), tmp_path)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


async def drill(
    simulator: Simulator, greylisting: Greylisting, service: Senderproxy, clients: Clients, folder: Path
) -> None:
    tasks = [asyncio.create_task(clients.submit()) for _ in range(CLIENTS)]
    await clients.until(40)  # all of them wait
    greylisting.share = 0.5  # from now on messages end while the backup reads them
    backup = folder / "drill.backup"
    before = set(clients.acknowledged)
    words = ("backup", str(backup), "--passphrase-stdin")
    printed = await asyncio.to_thread(service.command, *words, standard_input=PASSPHRASE, seconds=SECONDS)
    assert "Note:" not in printed
    await clients.until(len(clients.acknowledged) + 10)  # the service went on
    await asyncio.to_thread(service.kill)
    clients.end()
    await asyncio.gather(*tasks)
    await simulator.wait_until(lambda one: not one.open_connections, SECONDS, "what the service has sent at last")
    sent = arrived(simulator)

    place = folder / "second"
    restored = Senderproxy([VaultAccount(person, SECRET) for person in PEOPLE], "")
    restored.folder = place
    restore = ("restore", str(backup), "--folder", str(place), "--passphrase-stdin")
    printed = await asyncio.to_thread(restored.command, *restore, standard_input=PASSPHRASE, seconds=SECONDS)
    assert "held" in printed
    await asyncio.to_thread(restored.start)
    try:
        listed = json.loads(await asyncio.to_thread(restored.command, "queue", "list", "--json"))
        held = [
            int(path.removeprefix("r").partition("@")[0])
            for entry in listed
            for state in entry["recipients"]
            for path in [state["address"]]
        ]
        assert {state["fate"] for entry in listed for state in entry["recipients"]} == {"held"}
        assert all("may have been sent since" in state["why"] for entry in listed for state in entry["recipients"])
        assert len(held) == len(set(held)), "each once"
        assert before <= {*held, *sent}, "nothing that was acknowledged before the backup is missing"
        assert len(arrived(simulator)) == len(sent), "nothing leaves before it is released"
        greylisting.share = 0.0
        await asyncio.to_thread(restored.command, "queue", "release", "--all", "--yes")
        async with asyncio.timeout(SECONDS):
            while (queue := await asyncio.to_thread(restored.queue))["waiting"] or queue["held"]:
                await asyncio.sleep(0.1)
    finally:
        await asyncio.to_thread(restored.stop)
    after = arrived(simulator)
    assert set(held) <= set(after[len(sent) :]), "each released message arrives"
    assert before <= set(after), "0 lost"
    doubled = len(after) - len(set(after))
    assert doubled <= len(set(held) & set(sent)), "only what was sent after the moment of the backup is sent twice"
