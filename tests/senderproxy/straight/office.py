"""A whole relay in memory and in virtual time: clients, listener, intake, runner, courier, and a provider's sessions.

Real are all parts of the program between the two transports. In memory are the transports, the spool (which keeps the
contract of tests/ports) and the accounts; sessions are opened without TLS and login.
"""

import asyncio
import logging
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from senderproxy import log
from senderproxy.config.model import ClientSettings
from senderproxy.control.crash_journal import CrashJournalFile
from senderproxy.delivery.account_health import LimitReached
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.login_gate import LoginGates
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.protocol import UpstreamProtocol
from senderproxy.delivery.resolver import Resolver
from senderproxy.delivery.session import EhloExtensions, Session, SessionTimeouts
from senderproxy.listener.relay_smtp import RelaySMTP
from senderproxy.listener.server import Listener
from senderproxy.mail.address import parse_address
from senderproxy.mail.reply import reply
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Rules
from senderproxy.relay.dsn_queueing import ReportBuilder
from senderproxy.relay.intake import Handling, Mode, RelayIntake
from senderproxy.relay.ports import Arrival
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.runner import Runner
from senderproxy.retry import RetryPolicy
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.provider import Limits, Provider, Security, SenderRule, Smarthost
from senderproxy.routing.route import RoutingPolicy
from senderproxy.straight.path import StraightPath
from tests.fakes.memory_spool import MemorySpool
from tests.senderproxy.delivery.office import MemoryAccounts
from tests.senderproxy.listener.smtp_client import HOSTNAME, settings
from tests.senderproxy.straight.conversations import ClientPlan, Mail, draw_clients
from tests.senderproxy.straight.virtual_loop import VirtualLoop
from tests.senderproxy.straight.wires import MemoryTransport, ProviderScript, ProviderSession

SMARTHOST = Smarthost("smtp.provider.example", 465, Security.IMPLICIT_TLS, None)
PEOPLE = ("anna", "bert", "carl")
START = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
_ID = re.compile(r"ID\d{10}")


class VirtualClock:
    """The clock of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ids = 0

    def now(self) -> datetime:
        return START + timedelta(seconds=round(self._loop.time(), 5))

    def monotonic(self) -> float:
        return round(self._loop.time(), 5)  # a timer that is early lets a microsecond pass

    def new_id(self) -> str:
        self._ids += 1
        return f"ID{self._ids:010d}"

    def chance(self) -> float:
        return 0.5


@dataclass(slots=True)
class MemoryOpener(SessionOpener):
    """Opens sessions in memory; one in twenty fails if there are faults at all."""

    sessions: dict[str, ProviderSession] = field(default_factory=dict)
    script: ProviderScript = field(default_factory=lambda: ProviderScript(0, 0.0, pipelining=False))
    tries: Counter[str] = field(default_factory=Counter)

    async def open_for(
        self, account: Any, provider: Any, credential: Any, *, proven: bool = False
    ) -> Session | OpenFailed:
        self.tries[account.id] += 1
        name = f"{account.id}{self.tries[account.id]}"  # drawn for each account: two may open one at the same time
        draw = random.Random(f"open/{self.script.seed}/{name}").random()
        await asyncio.sleep(0.01)
        if draw < self.script.fault_rate / 4:
            return OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", "no connection"))
        session = self.sessions[name] = ProviderSession(self.script, name)
        protocol = UpstreamProtocol(session.transport, SMARTHOST)
        extensions = EhloExtensions(self.script.pipelining, self.script.eight_bit, size=True, size_limit=30_000)
        return Session(protocol, SMARTHOST, extensions, self.timeouts, "PLAIN")


class RecordingSpool(MemorySpool):
    """The spool in memory, with a record of what it is told."""

    def __init__(self, clock: VirtualClock, record: list[tuple[float, str]]) -> None:
        super().__init__(clock)
        self._record = record

    def note(self, arrival: Arrival) -> None:
        self._record.append((round(self._clock.monotonic(), 5), f"note {_words(arrival)}"))
        super().note(arrival)

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Any:
        for arrival in arrivals:
            self._record.append((round(self._clock.monotonic(), 5), f"accept {leased} {_words(arrival)}"))
        await asyncio.sleep(0.0021)  # the time of a sync
        return await super().accept(*arrivals, leased=leased)

    async def settle(self, claim: Any, verdict: Any) -> None:
        record = f"settle {claim.submission.id} {verdict.states} {verdict.events} {[_words(each) for each in verdict.reports]}"
        self._record.append((round(self._clock.monotonic(), 5), record))
        await super().settle(claim, verdict)


def _words(arrival: Arrival) -> str:
    message = arrival.submission
    body = b"".join(message.message.blocks())
    decision = arrival.decision and arrival.decision.decision
    rest = (
        message.id,
        message.listener,
        message.client,
        message.envelope,
        message.received_at,
        arrival.account,
        arrival.author,
    )
    # Not the whole of a report: its boundary is random.
    content = body if message.report_on is None else len(body) > 0
    return f"{rest} {content!r} {arrival.states} {list(arrival.events)} {decision} {arrival.lanes}"


class _Events(logging.Handler):
    def __init__(self, record: list[tuple[float, str]]) -> None:
        super().__init__()
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            name: str(value) for name, value in getattr(record, "senderproxy_fields", {}).items() if value is not None
        }
        fault = repr(record.exc_info[1]) if record.exc_info else ""
        key = getattr(record, "senderproxy_event", record.getMessage())
        self._record.append((round(asyncio.get_running_loop().time(), 5), f"{key} {fields} {fault}"))


@contextmanager
def _logged(record: list[tuple[float, str]]) -> Iterator[None]:
    logger, handler = logging.getLogger("senderproxy"), _Events(record)
    writer, level, log._writer = log._writer, logger.level, None
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        log._writer = writer


@dataclass
class Observed:
    """All that one variant has done, ids replaced by their rank. `taken`: messages of the straight path."""

    upstream: list[str]
    replies: list[str]
    events: list[str]
    stored: list[str]
    states: list[str]
    taken: int = 0
    finished: int = 0  # of these, without the general path
    ties: int = 0  # inputs at the same time


class ClientEnd:
    """A client that follows its plan."""

    def __init__(self, office: "StraightOffice", plan: ClientPlan) -> None:
        self._office = office
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._ended = False
        self._news = asyncio.Event()
        self.seen: list[tuple[float, bytes]] = []
        self.transport = MemoryTransport(plan.way, self._receive, (plan.host, 50000))

    def _receive(self, data: bytes | None) -> None:
        self.seen.append((round(self._loop.time(), 5), b"(end)" if data is None else data))
        self._buffer += data or b""
        self._ended = self._ended or data is None
        self._news.set()

    async def run(self) -> None:
        state, handler = self._office.listener._state, self._office.listener._handler
        protocol = RelaySMTP(handler, state, self._loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        self._come_early(protocol)
        if await self._code() != 220 or await self._ask(self._plan.greeting) != 250:
            return
        for step in self._plan.steps:
            if self._ended:
                return
            if step in ("pause", "long pause"):
                await asyncio.sleep(20 if step == "pause" else 400)
            elif isinstance(step, str) and step.startswith("!"):
                self._office.happen(step[1:], self.transport)
                await asyncio.sleep(0.05)
            elif isinstance(step, str):
                await self._ask(step)
            else:
                await self._mail(step)

    def _come_early(self, protocol: RelaySMTP) -> None:
        """Send or do something in the pass of the loop after the connection: before the greeting."""
        match self._plan.early:
            case b"(end)":
                self._loop.call_soon(protocol.eof_received)
            case b"(reset)":
                self._loop.call_soon(self.transport.reset_now)
            case b"(stop)":
                self._loop.call_soon(self._office.happen, "stop", self.transport)
            case b"":
                pass
            case early:
                self._loop.call_soon(protocol.data_received, early)

    async def _mail(self, mail: Mail) -> None:
        commands = [
            f"MAIL FROM:<{mail.path}>{mail.parameters}",
            *(f"RCPT TO:<{path}>" for path in mail.recipients),
            "DATA",
        ]
        if mail.pipelined:
            self.transport.feed("".join(f"{command}\r\n" for command in commands).encode())
            codes = [await self._code() for _ in commands]
        else:
            codes = [await self._ask(command) for command in commands]
        if codes[-1] != 354:
            return
        rest = mail.octets + b".\r\n"
        for length in mail.pieces:
            self.transport.feed(rest[:length])
            rest = rest[length:]
            await asyncio.sleep(mail.pause)
        self.transport.feed(rest)
        if mail.happening:
            when = self._loop.time() + max(0.0002, self._plan.way + mail.happens_after)
            self._loop.call_at(when, self._office.happen, mail.happening, self.transport)
        await self._code()

    async def _ask(self, command: str) -> int:
        *pieces, last = f"{command}\r\n".encode().split(b"|")
        for piece in pieces:
            self.transport.feed(piece)
            await asyncio.sleep(0.5)
        self.transport.feed(last)
        return [await self._code() for _ in range(command.count("\r\n") + 1)][-1]

    async def _code(self) -> int:
        """The code of the next reply; 0: there is none."""
        while True:
            found = re.match(rb"(?:\d{3}-[^\n]*\n)*(\d{3}) [^\n]*\n", self._buffer)
            if found:
                self._buffer = self._buffer[found.end() :]
                return int(found[1])
            if self._ended:
                return 0
            self._news.clear()
            try:
                async with asyncio.timeout(3000):
                    await self._news.wait()
            except TimeoutError:
                return 0


class StraightOffice:
    """The relay of one case. `straight`: with the straight path."""

    def __init__(self, seed: int, folder: Path, events: list[tuple[float, str]], *, straight: bool) -> None:
        draw = random.Random(f"office/{seed}")
        self._seed = seed
        self._straight = straight
        self.events = events
        self.stored: list[tuple[float, str]] = []
        self.clock = VirtualClock()
        self.accounts = MemoryAccounts()
        for name in PEOPLE:
            self.accounts.add(name, f"{name}@firma.example", "geheim-x")
        self.accounts.add("dora", "dora@andere.example", "geheim-x", fallback="anna")
        rule = draw.choice((SenderRule.ANY, SenderRule.DOMAIN, SenderRule.ADDRESS))
        limits = Limits(
            draw.choice((1, 2)),
            draw.choice((None, None, 3)),
            draw.choice((30.0, 1000.0)),
            draw.choice((*[None] * 8, 1, 2)),
            draw.choice((*[None] * 5, 4)),
            draw.choice((*[None] * 5, 6)),
            draw.choice((None, None, 20_000)),
        )
        provider = Provider("simulator", (SMARTHOST,), sender_rule=rule, from_rule=rule, limits=limits)
        foreign = draw.choice((ForeignAuthorPolicy.REJECT, ForeignAuthorPolicy.REWRITE))
        senders = AuthorPolicy(
            foreign, "anna" if foreign is ForeignAuthorPolicy.REWRITE else None, remove_bcc=draw.random() < 0.3
        )
        default = draw.choice((None, None, "carl"))
        rules = Rules(HOSTNAME, {"simulator": provider}, RoutingPolicy(default_account=default), senders)
        timeouts = SessionTimeouts()
        self.courier = SmtpCourier(self.accounts, timeouts, HOSTNAME, self.clock)
        script = ProviderScript(seed, draw.choice((0.0, 0.0, 0.04, 0.12)), pipelining=draw.random() < 0.4)
        self.opener = MemoryOpener(
            timeouts, HOSTNAME, Resolver(self.clock), gates=LoginGates(self.clock.monotonic), script=script
        )
        self.courier._opener = self.opener
        self.courier.use_providers(rules.providers)
        self.relay = MessageRelay(self.accounts, self.courier, self.clock, rules)
        self.spool = RecordingSpool(self.clock, self.stored)
        reports = ReportBuilder(self.relay, self.accounts, self.clock)
        journal = CrashJournalFile(folder / "under-way", lambda: "")
        self.journal = journal
        self.runner = Runner(
            self.spool,
            self.relay,
            reports,
            self.accounts,
            self.courier,
            self.clock,
            RetryPolicy(),
            journal,
        )
        self.courier.observers.healthy = self.runner.account_can_send
        deferral = draw.choice((OnDeferral.DEFER, OnDeferral.QUEUE))
        mode = Mode.QUEUE if random.Random(f"mode/{seed}").random() < 0.3 else Mode.PASS_THROUGH
        handling = Handling(mode, deferral, 240.0)
        self.intake = RelayIntake(self.relay, self.spool, self.runner, reports, self.clock, {"office": handling})
        self.path = StraightPath(self.accounts, self.courier, self.relay, self.intake, self.clock)
        self.path.is_on = self.courier.is_direct = straight
        clients = (ClientSettings(networks=("192.168.1.66/32",), senders=("bert@firma.example",)),)  # type: ignore[arg-type]
        chosen = settings(
            name="office",
            allow=("192.168.1.0/24",),
            idle_seconds=300,
            max_message_size=20_000,
            max_connections_per_client=draw.choice((50, 50, 2, 1)),
        )
        self.listener = Listener(
            chosen, clients, HOSTNAME, self.intake, self.clock, straight=self.path if straight else None
        )
        self._stops: set[asyncio.Task[None]] = set()

    async def run(self) -> Observed:
        await self.runner.start()
        clients = [ClientEnd(self, plan) for plan in draw_clients(self._seed)]
        await asyncio.gather(*(client.run() for client in clients))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ties = loop.ties
        await asyncio.sleep(900)
        await asyncio.gather(*self._stops)
        in_progress = self.listener.in_progress
        await self.listener.stop(5)
        await self.runner.stop(5)
        await self.courier.close(5)
        self.journal.close()
        await asyncio.sleep(60)
        now = [state.status() for _, state in sorted(self.courier._states.items())]
        states = [str(self.listener.counters), f"in progress: {in_progress}", *map(str, now)]
        states += [str(entry) for entry in self.relay.rejected_senders.entries()]
        states += [f"dialogues {self.courier._dialogues.count}", f"begun {len(self.courier._begun)}"]
        observed = _observed(
            {name: session.seen for name, session in sorted(self.opener.sessions.items())},
            [client.seen for client in clients],
            self.events,
            self.stored,
            states,
            self.path.counts.taken,
            self.path.counts.taken - self.path.counts.handed_over,
        )
        observed.ties = ties
        return observed

    def happen(self, what: str, transport: MemoryTransport) -> None:
        """Something beside the message of a client."""
        rules = self.relay.rules
        match what:
            case "reload":
                self.relay.rules = replace(rules, returned_size=rules.returned_size + 1)
                self.courier.drop_stale()
            case "no-account" if "bert" in self.accounts.accounts:
                self.accounts.remove("bert")
                self.courier.drop_stale()
            case "new-password":
                self.accounts.set_password("anna", "geheim-y")
                self.courier.drop_stale()
            case "map":
                mapped = AuthorMap({"anna@firma.example": parse_address("carl@firma.example")})
                self.relay.rules = replace(rules, senders=replace(rules.senders, mapped=mapped))
            case "queue-mode":
                self.intake.handling = {"office": Handling(Mode.QUEUE)}
            case "keep-deferrals":
                self.intake.handling = {"office": Handling(on_deferral=OnDeferral.QUEUE, timeout=0.03)}
            case "footers-off":
                self.relay.rules = replace(rules, senders=replace(rules.senders, srs=not rules.senders.srs))
            case "stop" | "stop-at-once" if what == "stop-at-once" or not self._stops:
                self._note_tie_with_eviction()
                self._stops.add(asyncio.ensure_future(self.listener.stop(100 if what == "stop" else 0)))
            case "reset":
                transport.reset()
            case "half-close":
                transport.feed_end()
            case "switch":
                self.path.is_on = self.courier.is_direct = self._straight and not self.path.is_on
            case "pause-account" if (state := self.courier._states.get("anna")) is not None:
                state.record(LimitReached(reply(450, "4.7.1", "limit"), "v1"))

    def _note_tie_with_eviction(self) -> None:
        """Count a stop at the time of an eviction as a tie: which of the two replies the client gets is open."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.ties += any(time == round(loop.time(), 3) and "client_evicted" in text for time, text in self.events)


def _observed(
    upstream: dict[str, list[tuple[float, bytes]]],
    replies: list[list[tuple[float, bytes]]],
    events: list[tuple[float, str]],
    stored: list[tuple[float, str]],
    states: list[str],
    taken: int,
    finished: int,
) -> Observed:
    """The record with each id replaced by its rank: the variants draw a different number of ids."""
    texts = [
        [f"session {name} at {time}: {octets!r}" for name, seen in upstream.items() for time, octets in seen],
        [
            f"client {number} at {time}: {octets!r}"
            for number, seen in enumerate(replies)
            for time, octets in _joined(seen)
        ],
        [f"{time}: {text}" for time, text in events],
        [f"{time}: {text}" for time, text in stored],
        states,
    ]
    ids = sorted({found for part in texts for text in part for found in _ID.findall(text)})
    rank = {found: f"#{index}" for index, found in enumerate(ids)}
    named = [[_ID.sub(lambda found: rank[found[0]], text) for text in part] for part in texts]
    for record in named[2:4]:
        record.sort(key=_time_and_message)
    upstream_, replies_, events_, stored_, states_ = named
    return Observed(upstream_, replies_, events_, stored_, states_, taken, finished)


def _time_and_message(text: str) -> tuple[float, str]:
    """The order of what is about one message is kept; what happens at the same time to others has none."""
    time, _, rest = text.partition(": ")
    message = re.search(r"#\d+", rest)
    return float(time), message[0] if message else rest


def _joined(seen: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """What arrived at the same time, together."""
    joined: dict[float, bytes] = {}
    for time, octets in seen:
        joined[time] = joined.get(time, b"") + octets
    return list(joined.items())


async def observe(seed: int, *, straight: bool) -> Observed:
    """Run one case."""
    events: list[tuple[float, str]] = []
    with _logged(events), tempfile.TemporaryDirectory() as folder:
        return await StraightOffice(seed, Path(folder), events, straight=straight).run()
