"""A whole relay in one process: intake, runner, spool and courier, with the simulator as the provider and a clock that a test sets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from senderproxy.clock import SystemClock
from senderproxy.control.crash_journal import CrashJournalFile
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Body, Message
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Rules
from senderproxy.relay.dsn_queueing import ReportBuilder
from senderproxy.relay.intake import Handling, Mode, RelayIntake
from senderproxy.relay.ports import Courier, Spool
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.runner import Runner
from senderproxy.retry import RetryPolicy
from senderproxy.routing.provider import Limits, Provider
from senderproxy.routing.route import RoutingPolicy
from senderproxy.simulator.faults import FaultScript
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import MessageRecord, Query
from tests.fakes.clock_jumps import between_writes
from tests.senderproxy.delivery.messages import smarthost_of
from tests.senderproxy.delivery.office import MemoryAccounts

PEOPLE = ("anna", "bert", "carl")
SECRET = "geheim-relay"
MAILBOXES = {f"{name}@firma.example": SimulatedMailbox(SECRET) for name in PEOPLE}
SETTINGS = SimulatorSettings(mailboxes=MAILBOXES)
KUNDE = "kunde@kunde.example"

HANDLING: Mapping[str, Handling] = {
    "office": Handling(),
    "keeps": Handling(on_deferral=OnDeferral.QUEUE),
    "devices": Handling(Mode.QUEUE),
    "hasty": Handling(timeout=0.2),
}


class ManualClock:
    """The system clock with an offset: of both clocks (`ahead`, seconds), or of the wall clock alone (`stepped`)."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.stepped = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead) + self.stepped

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def new_id(self) -> str:
        return SystemClock().new_id()

    def chance(self) -> float:
        return 0.5


class RelayOffice:
    """The components between a listener and the provider."""

    def __init__(
        self, simulator: Simulator, folder: Path, courier: Callable[[SmtpCourier], Courier], **limits: Any
    ) -> None:
        self.simulator = simulator
        self.folder = folder
        self.clock = ManualClock()
        self.drawer = MemoryAccounts()
        for name in PEOPLE:
            self.drawer.add(name, f"{name}@firma.example", SECRET)
        provider = Provider("simulator", (smarthost_of(simulator),), limits=Limits(**limits))
        rules = Rules("relay.firma.example", {"simulator": provider}, RoutingPolicy())
        self.courier = SmtpCourier(self.drawer, SessionTimeouts(), rules.hostname, self.clock)
        self.relay = MessageRelay(self.drawer, courier(self.courier), self.clock, rules)
        self.report_builder = ReportBuilder(self.relay, self.drawer, self.clock)
        self.spool: SqliteSpool

    @property
    def rules(self) -> Rules:
        return self.relay.rules

    async def open(self) -> None:
        """Open the spool and start the runner."""
        self.spool = SqliteSpool.open(self.folder, self.clock, SpoolLimits(timedelta(days=30)))
        self.journal = CrashJournalFile(
            self.folder.parent / f"{self.folder.name}-under-way", lambda: "Fatal Python error: Aborted"
        )
        self.runner = Runner(
            self.spool,
            self.relay,
            self.report_builder,
            self.drawer,
            self.courier,
            self.clock,
            RetryPolicy(),
            self.journal,
        )
        self.courier.observers.healthy = self.runner.account_can_send
        self.intake = RelayIntake(self.relay, self.spool, self.runner, self.report_builder, self.clock, HANDLING)
        await self.runner.start()

    async def close(self) -> None:
        await self.runner.stop(5)
        self.journal.close()
        await self.spool.close()

    async def restart(self) -> None:
        """Stop in order, and start again."""
        await self.close()
        await self.open()

    def use(self, spool: Spool) -> None:
        """Give the intake another spool."""
        self.intake.spool = spool

    async def submit(
        self,
        *recipients: str,
        by: str = "anna@firma.example",
        at: str = "office",
        text: str = "Guten Tag",
        null_path: bool = False,
        header: str = "",
        host: str = "192.168.1.20",
        body: Body | None = None,
        path: str | None = None,
        forced: str | None = None,
    ) -> tuple[str, Reply]:
        """Submit a message to the intake; its id, and the reply to the client.

        `path`: the reverse-path, if it is not the author; `forced`: the sender that the listener forces.
        """
        recipients = recipients or (KUNDE,)
        head = f"From: <{by}>\r\nTo: x@kunde.example\r\nSubject: {text}\r\n{header}Message-ID: <{text.replace(' ', '.')}@x>\r\n"
        head += "Date: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\n"
        if body is None:
            body = BodyBuffer(10_000_000, SpillDirectory())
            body.append(f"{text}\r\n".encode())
        submission = Submission(
            self.clock.new_id(),
            at,
            Client(host, "pc.firma.example", "ESMTP", forced_sender=parse_address(forced) if forced else None),
            Envelope(
                NULL_PATH if null_path else parse_address(path or by), tuple(parse_address(path) for path in recipients)
            ),
            Message(HeaderSection(head.encode()), body),
            self.clock.now(),
        )
        try:
            return submission.id, await self.intake.accept(submission)
        finally:
            body.close()  # as the listener does after the reply

    # ---- looking ----

    async def record(self, message_id: str) -> MessageRecord:
        [found] = await self.spool.find(Query(id=message_id), limit=2)
        return found

    async def statuses(self, message_id: str) -> dict[str, str]:
        """The status of each recipient."""
        record = await self.record(message_id)
        return {str(path): state.status.value for path, state in record.recipients.items()}

    async def event_kinds(self, message_id: str) -> list[str]:
        """The kinds of events, in order."""
        return [event.kind.value for event in await self.spool.events(message_id)]

    async def waiting(self) -> int:
        return sum(total.waiting for total in await self.spool.totals())

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until the condition, a function or a coroutine function, is true."""
        async with asyncio.timeout(50):
            while True:
                answer = condition()
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.005)
        raise AssertionError(what)

    async def until_all_is_done(self) -> None:
        async def is_empty() -> bool:
            return await self.waiting() == 0

        await self.until(is_empty, "nothing waits")

    async def until_reported(self, count: int) -> None:
        """Wait for so many reports at the provider, with a check for overdue messages each time."""

        def is_reported() -> bool:
            self.runner.check_overdue()
            return len(self.reports()) >= count

        await self.until(is_reported, f"{count} reports")

    async def advance(self, seconds: float) -> None:
        """Advance both clocks."""

        def jump() -> None:
            self.clock.ahead += seconds

        await between_writes(self.spool, jump)

    async def pass_time(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Advance both clocks, check for overdue messages and wake the runner."""
        await self.advance(hours * 3600 + seconds)
        self.runner.check_overdue()
        self.runner.wake()

    def taken(self, recipient: str | None = None) -> list[str]:
        """The subjects of the messages that the provider accepted, for one recipient or all, without reports."""
        return [
            subject(received.content)
            for received in self.simulator.received
            if (recipient is None or recipient in received.recipients) and b"multipart/report" not in received.content
        ]

    def reports(self) -> list[Any]:
        return [received for received in self.simulator.received if b"multipart/report" in received.content]


def subject(content: bytes) -> str:
    return content.split(b"\r\nSubject: ", 1)[1].split(b"\r\n", 1)[0].decode()


@asynccontextmanager
async def relay_office(
    folder: Path,
    settings: SimulatorSettings = SETTINGS,
    script: FaultScript | None = None,
    courier: Callable[[SmtpCourier], Courier] = lambda courier: courier,
    **limits: Any,
) -> AsyncIterator[RelayOffice]:
    async with Simulator(settings, script) as simulator:
        office = RelayOffice(simulator, folder / "spool", courier, **limits)
        await office.open()
        try:
            yield office
        finally:
            await office.close()
            await office.courier.close(5)


def answering(settings: SimulatorSettings, **answers: Any) -> SimulatorSettings:
    """The provider's settings with a reply for some recipients, by the part before `@kunde.example`."""
    return replace(settings, recipient_replies={f"{name}@kunde.example": said for name, said in answers.items()})
