"""A day of an office in minutes: `python -m tests.soak.day MINUTES [SEED]`, or `make soak`.

200 accounts; clients in both modes, with many messages on a connection or one over STARTTLS; unknown authors, a wrong
password, providers that drop connections, clients that vanish; meanwhile reloads, key changes and commands.
Guarantees: after each round nothing is queued and no session is open, so that two measurements can be compared.
"""

import asyncio
import random
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.faults import Drop, FaultAction, FaultPoint, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.hostile.smtp_connection import SmtpConnection
from tests.peers.certificates import Authority
from tests.peers.probe import Figures, ProbedService
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.random_faults import RandomFaults
from tests.peers.senderproxy import VaultAccount
from tests.soak.ledger import Ledger, Reply

PEOPLE: Final = tuple(f"p{number}@firma.example" for number in range(200))
FORGETFUL: Final = "forgetful@firma.example"  # its password at the provider changes before the one in the vault
NOBODY: Final = "nobody@kunde.example"
SECRET: Final = "geheim-soak"
CLIENTS: Final = 12  # at the same time
ROUND: Final = 2500  # messages of a round of the long run
# Messages after which all that has a bound has reached it: SQLite's pages, parsed addresses, the 512 replies of the spool's
# rows, of which the lists that the operator asks for in each round add two hundred, and Python's table of interned strings.
# That one counts strings that are gone until it is rebuilt, and grew once, by 0.97 MB, between 12,600 and 15,100 messages.
WARM: Final = 20_000
GROWTH: Final = 20 * 1024  # octets of memory in use for each 1,000 messages
GARBAGE: Final = 2 * 2**20  # octets that wait for the garbage collector at most
DISK: Final = 20 * 2**20  # octets: the history's 2 MB and its free pages, the reserve, the write-ahead log
_DEADLINE: Final = 180.0  # seconds until nothing is queued any more
_IDLE_PROVIDER: Final = 2.0  # seconds until an idle session is closed
_FREED: Final = 40.0  # seconds without a client after which memory has been returned to the system
_TIDIED: Final = (
    180.0  # seconds until the spool has returned its space: after a minute without a commit, by housekeeping
)


class Troubles(RandomFaults):
    """Dropped connections and deferred recipients at random; those after the content are recorded."""

    def choose(self, point: FaultPoint, chance: float) -> FaultAction | None:
        match point.stage:
            case FaultStage.MAIL | FaultStage.DATA | FaultStage.BODY if chance < 0.005:
                return Drop()
            case FaultStage.RCPT if chance < 0.01:
                return ReplyWith(server_reply(450, "4.2.1 mailbox busy"))
            case FaultStage.DOT if chance < 0.005:
                return Drop()
            case FaultStage.DOT if chance < 0.01:
                return Drop(after_storing=True)
            case _:
                return None


@dataclass(frozen=True)
class Round:
    """The figures at the end of one round."""

    messages: int  # since the start
    figures: Figures
    disk: int  # octets of the spool's folder

    def __str__(self) -> str:
        return f"{self.messages} messages: {self.figures}, {self.disk / 2**20:.1f} MiB on disk"


class Day:
    """The office, its clients, its operator and its provider."""

    def __init__(
        self,
        service: ProbedService,
        ports: dict[str, int],
        trust: ssl.SSLContext,
        simulator: Simulator,
        troubles: Troubles,
        settings: Callable[[int], str],
        rng: random.Random,
    ) -> None:
        """`settings` gives the configuration after the n-th reload."""
        self.ledger = Ledger()
        self.rounds: list[Round] = []
        self.troubles = troubles
        self._service = service
        self._ports = ports
        self._trust = trust
        self._simulator = simulator
        self._settings = settings
        self._rng = rng
        self._numbers = count(1)
        self._authors = cycle(PEOPLE)
        self._reloads = count(1)
        self._taken = 0  # messages of the simulator in the ledger

    async def round(self, messages: int) -> Round:
        """So many messages, and the operator's work once; then wait until nothing is queued, and measure."""
        end = len(self.ledger.submitted) + messages
        operator = asyncio.create_task(self._operate())

        def is_over() -> bool:
            return operator.done() and len(self.ledger.submitted) >= end

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client(is_over))
        await operator
        await self._settle()
        figures = await asyncio.to_thread(self._service.measure)
        measured = Round(len(self.ledger.submitted), figures, self._disk())
        self.rounds.append(measured)
        return measured

    async def _settle(self) -> None:
        """Wait until nothing is queued and nobody is connected; enter what the provider received."""

        def is_quiet(status: dict[str, Any]) -> bool:
            connected = sum(listener["connected"] for listener in status["listeners"])
            return status["queue"].get("waiting") == 0 and not connected and not self._simulator.open_connections

        async with asyncio.timeout(_DEADLINE):
            while not is_quiet(await self.status()):
                await asyncio.sleep(0.1)
        received = self._simulator.received
        self.ledger.receive(received[self._taken :], self.troubles.lost_replies)
        self._taken = len(received)

    async def status(self) -> dict[str, Any]:
        return await self._command(Verb.STATUS)

    async def _command(self, verb: Verb, **fields: object) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self._service.folder / "control", new_request(verb, **fields))

    def _disk(self) -> int:
        """Octets of all files of the spool."""
        return sum(file.stat().st_size for file in (self._service.folder / "spool").rglob("*") if file.is_file())

    # ---- clients ----

    async def _client(self, is_over: Callable[[], bool]) -> None:
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._talk_at_length, 30),
            (self._one_message_over_starttls, 40),
            (self._unknown_author, 10),
            (self._vanish_in_data, 5),
            (self._vanish_before_the_reply, 5),
            (self._vanish_early, 5),
            (self._nonsense, 5),
        ]
        actions, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        while not is_over():
            [action] = self._rng.choices(actions, weights)
            await action()

    @asynccontextmanager
    async def _connection(self, listener: str) -> AsyncIterator[SmtpConnection]:
        connection = await SmtpConnection.to(self._ports[listener])
        try:
            assert await connection.reply() == 220
            assert await connection.command(b"EHLO pc.firma.example\r\n") == 250
            yield connection
        finally:
            connection.close()

    async def _talk_at_length(self) -> None:
        async with self._connection(self._rng.choice(("pass-through", "queue"))) as connection:
            for _ in range(self._rng.randrange(1, 6)):
                code = await self._submit(connection, next(self._authors), "session")
                if code == 421:
                    return
            assert await connection.command(b"QUIT\r\n") == 221

    async def _one_message_over_starttls(self) -> None:
        async with self._connection("starttls") as connection:
            assert await connection.command(b"STARTTLS\r\n") == 220
            await connection.start_tls(self._trust)
            assert await connection.command(b"EHLO pc.firma.example\r\n") == 250
            if await self._submit(connection, next(self._authors), "starttls") != 421:
                assert await connection.command(b"QUIT\r\n") == 221

    async def _unknown_author(self) -> None:
        author = f"x{self._rng.randrange(50)}@unknown.example"
        async with self._connection(self._rng.choice(("pass-through", "queue"))) as connection:
            assert await self._submit(connection, author, "unknown author") in (421, 550)

    async def _vanish_in_data(self) -> None:
        number, author, content = self._message(next(self._authors))
        async with self._connection(self._rng.choice(("pass-through", "queue"))) as connection:
            await self._begin_data(connection, author)
            await connection.send(content[: self._rng.randrange(len(content))])
        self.ledger.submit(number, author, (f"r{number}@kunde.example",), Reply.REFUSED, "vanished in DATA")

    async def _vanish_before_the_reply(self) -> None:
        number, author, content = self._message(next(self._authors))
        async with self._connection(self._rng.choice(("pass-through", "queue"))) as connection:
            recipient = await self._begin_data(connection, author, number)
            await connection.send(content + b".\r\n")
        self.ledger.submit(number, author, (recipient,), Reply.NONE, "vanished before the reply")

    async def _begin_data(self, connection: SmtpConnection, author: str, number: int = 0) -> str:
        recipient = f"r{number}@kunde.example"
        for command in (f"MAIL FROM:<{author}>", f"RCPT TO:<{recipient}>", "DATA"):
            assert await connection.command(command.encode() + b"\r\n") in (250, 354)
        return recipient

    async def _vanish_early(self) -> None:
        async with self._connection("starttls") as connection:
            if self._rng.random() < 0.5:
                assert await connection.command(b"STARTTLS\r\n") == 220
                await connection.send(b"\x16\x03\x01")

    async def _nonsense(self) -> None:
        async with self._connection("queue") as connection:
            for command in (b"NONSENSE\r\n", b"RCPT TO:<a@b.example>\r\n", b"MAIL FROM:<\r\n", b"RSET\r\n"):
                await connection.command(command)

    def _message(self, author: str) -> tuple[int, str, bytes]:
        number = next(self._numbers)
        text = (
            f"From: {author}\r\nTo: bert@kunde.example\r\nDate: Tue, 24 Nov 2026 10:29:00 +0100\r\n"
            f"Message-ID: <{number}.soak@firma.example>\r\nSubject: Angebot {number}\r\n\r\n"
        )
        lines = 20_000 if self._rng.random() < 0.005 else self._rng.randrange(1, 80)
        return number, author, text.encode() + b"Guten Tag, anbei das Angebot.\r\n" * lines

    async def _submit(self, connection: SmtpConnection, author: str, kind: str) -> int:
        """Submit a message and enter it in the ledger; the code of the last reply."""
        number, author, content = self._message(author)
        recipients = [f"r{number}@kunde.example"]
        recipients += [extra for extra in (f"s{number}@kunde.example", NOBODY) if self._rng.random() < 0.05]
        code = await connection.command(f"MAIL FROM:<{author}>\r\n".encode())
        for command in (*(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"):
            if code < 400:
                code = await connection.command(command.encode() + b"\r\n")
        if code < 400:
            code = await connection.command(content + b".\r\n")
        reply = Reply.ACCEPTED if code == 250 else Reply.REFUSED
        self.ledger.submit(number, author, tuple(recipients), reply, kind)
        return code

    # ---- the operator ----

    async def _operate(self) -> None:
        """Every command once, a reload, a key change, and an account whose password is wrong for a while."""
        service = self._service
        await self.status()
        for verb in (Verb.QUEUE_LIST, Verb.TRACK):
            await self._command(verb, query={})
        await asyncio.to_thread(service.configure, self._settings(next(self._reloads)))
        secret = f"{SECRET}-{len(self.rounds)}"
        self._simulator.settings = replace(
            self._simulator.settings,
            mailboxes={**self._simulator.settings.mailboxes, FORGETFUL: SimulatedMailbox(secret)},
        )
        async with self._connection("queue") as connection:
            for _ in range(2):
                assert await self._submit(connection, FORGETFUL, "wrong password") == 250
        async with self._connection("pass-through") as connection:
            assert await self._submit(connection, FORGETFUL, "wrong password") >= 400
        await asyncio.to_thread(service.command, "vault", "rekey")
        await asyncio.to_thread(service.set_password, FORGETFUL, secret)
        await asyncio.to_thread(service.command, "queue", "list")
        await asyncio.to_thread(service.reload)

    # ---- results ----

    async def idle(self) -> Round:
        """Wait until the service has returned what it does not need, and measure."""
        await asyncio.sleep(_FREED)
        with suppress(TimeoutError):  # `not_returned` reports it
            async with asyncio.timeout(_TIDIED):
                while self._disk() > self.rounds[0].disk:
                    await asyncio.sleep(1)
        figures = await asyncio.to_thread(self._service.measure)
        return Round(len(self.ledger.submitted), figures, self._disk())

    def problems(self, idle: Round, warm: int) -> list[str]:
        """Everything that is not as it must be; the first `warm` messages fill the caches, which are bounded."""
        after = [each for each in self.rounds if each.messages >= warm]
        found = self.ledger.problems()
        first, last = after[0], after[-1]
        growth = (last.figures.in_use - first.figures.in_use) * 1000 / max(1, last.messages - first.messages)
        if len(after) < 2 or growth >= GROWTH:
            found.append(f"memory in use grows by {growth / 1024:.0f} KiB for each 1,000 messages")
        garbage = max(each.figures.garbage for each in after)
        if garbage >= GARBAGE:
            found.append(f"{garbage / 2**20:.1f} MiB wait for the garbage collector")
        if any(each.disk > max(first.disk, DISK) for each in after):
            found.append("the spool grows on disk")
        return found + self.not_returned(idle)

    def not_returned(self, idle: Round) -> list[str]:
        """Everything that an idle service holds and did not hold after the first round, when nothing was queued."""
        first, now = self.rounds[0], idle.figures
        most_threads = max(each.figures.threads for each in self.rounds)
        return [
            what
            for what, is_so in {
                f"{now.descriptors} descriptors, first {first.figures.descriptors}": now.descriptors
                > first.figures.descriptors,
                f"{now.tasks} tasks, first {first.figures.tasks}": now.tasks > first.figures.tasks,
                f"{now.threads} threads, before at most {most_threads}": now.threads > most_threads,
                f"{idle.disk} octets on disk, first {first.disk}": idle.disk > first.disk,
                f"{now.resident} octets resident, at most {self.most_resident()}": now.resident > self.most_resident(),
            }.items()
            if is_so
        ]

    def most_resident(self) -> int:
        return max(each.figures.resident for each in self.rounds)


@asynccontextmanager
async def office_day(seed: int) -> AsyncIterator[Day]:
    """Everything, gone afterwards."""
    rng = random.Random(seed)
    troubles = Troubles(rng)
    people = (*PEOPLE, FORGETFUL)
    simulated = SimulatorSettings(
        mailboxes={person: SimulatedMailbox(SECRET) for person in people},
        recipient_replies={NOBODY: UNKNOWN_USER},
        raise_violations=False,
    )
    async with Simulator(simulated, troubles) as simulator:
        with reserved_ports(2) as [queue_port, tls_port], TemporaryDirectory(prefix="soak-") as folder:
            authority = Authority(Path(folder))
            certificate = authority.issue(LOOPBACK)

            def settings(reload: int) -> str:
                return f"""
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"
max_recipients = {900 + reload % 2}

[[listeners]]
name = "secure"
address = "{LOOPBACK}:{tls_port}"
mode = "{("queue", "pass-through")[reload % 2]}"
tls = "starttls"
certificate = "{certificate.chain}"
key = "{certificate.key}"

[spool]
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"
history_days = {20 + reload % 2}
history_size = "2 MB"
"""

            provider = f"""
host = "{LOOPBACK}"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "address"
messages_per_hour = 0
recipients_per_hour = 0
idle_seconds = {_IDLE_PROVIDER}
"""
            service = ProbedService(
                [VaultAccount(person, SECRET) for person in people], provider, more_settings=settings(0)
            )
            await asyncio.to_thread(service.__enter__)
            try:
                ports = {"pass-through": service.port, "queue": queue_port, "starttls": tls_port}
                trust = ssl.create_default_context(cafile=str(authority.ca_file))
                yield Day(service, ports, trust, simulator, troubles, settings, rng)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)


async def _soak(minutes: float, seed: int) -> list[str]:
    """The long run, of twice WARM messages at least: print all figures, return the problems."""
    started = time.monotonic()
    async with office_day(seed) as day:
        while time.monotonic() - started < minutes * 60 or len(day.ledger.submitted) < 2 * WARM:
            measured = await day.round(ROUND)
            print(f"{time.monotonic() - started:.0f} s, {measured}", flush=True)
        idle = await day.idle()
        print(f"idle: {idle}")
        print(day.ledger)
        print(f"faults of the provider: {dict(day.troubles.counts)}")
        return day.problems(idle, WARM)


if __name__ == "__main__":
    minutes, *more = sys.argv[1:]
    seed = int(more[0]) if more else random.randrange(1_000_000)
    print(f"seed {seed}")
    problems = asyncio.run(_soak(float(minutes), seed))
    print(*problems, sep="\n")
    sys.exit(bool(problems))
