"""Facts about the running service, for its conditions.

Guarantees: what is in memory is taken as it is; the disk is asked on threads, at most once a second, and for five
seconds at most: a disk that does not respond is a fact. The queue is counted only if the spool has written something
since. No connection is made: certificates of smarthosts are those of the last sessions.
Not here: the conditions themselves (monitoring.conditions), the times of the looks (service.conditions).
"""

import ipaddress
import math
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from senderproxy.accounts.oauth_application import UsableApplication
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.delivery.account_state import AccountStatus
from senderproxy.delivery.hops.courier import HopStatus
from senderproxy.listener.server import Listener
from senderproxy.monitoring.certificate_times import read_validity
from senderproxy.monitoring.facts import (
    AccountsFacts,
    AccountSnapshot,
    AccountTrouble,
    AlertWayFacts,
    ApplicationFacts,
    AutomaticMail,
    CertificateFacts,
    CertificateOwner,
    ClientFacts,
    ClockFacts,
    CrashFacts,
    DrainFacts,
    Facts,
    HopFacts,
    LimitUse,
    LookUpFacts,
    LoopFacts,
    MetricsFacts,
    MxStoppedFacts,
    QueueFacts,
    RefusedConfiguration,
    RefusedMessages,
    SenderRuleFacts,
    SpoolFacts,
)
from senderproxy.recent_counts import RecentCount
from senderproxy.relay.ports import Totals
from senderproxy.service.listeners import Listeners
from senderproxy.service.loop_lag import LoopLag
from senderproxy.service.spool import ServiceSpool
from senderproxy.service.surroundings import Surroundings
from senderproxy.wiring import Components
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_DISK_INTERVAL: Final = 1.0  # seconds between two questions to the disk
_FILES_LIMIT: Final = 100  # certificate files that wait for a thread

_TROUBLES: Final = {
    "suspended": AccountTrouble.SUSPENDED,
    "paused": AccountTrouble.PAUSED,
    "no session": AccountTrouble.NO_SESSION,
}


class FactCollector:
    """Collects the facts of one service. One attribute for each part of it, and for each fact that has no other place.

    `config`, `refused_configuration`, `rolled_back`, `metrics`, `drain`, `crashes` and `alert_ways` are set by the
    service.
    """

    def __init__(
        self,
        config: Config,
        components: Components,
        accounts: VaultAccounts,
        listeners: Listeners,
        spool: ServiceSpool,
        clock: Clock,
        loop_lag: LoopLag | None,
        surroundings: Surroundings,
    ) -> None:
        self.config = config
        self.refused_configuration: RefusedConfiguration | None = None
        self.rolled_back = ""
        self.metrics: MetricsFacts | None = None
        self.drain: DrainFacts | None = None
        self.crashes: Sequence[datetime] = ()
        self.alert_ways: Sequence[AlertWayFacts] = ()  # those that fail
        self.totals: Sequence[Totals] = ()  # of the queue, at the last look
        self.spool_facts = SpoolFacts()  # at the last look
        self._components = components
        self._accounts = accounts
        self._listeners = listeners
        self._spool = spool
        self._clock = clock
        self._loop_lag = loop_lag
        self._surroundings = surroundings
        self._blocks = RecentCount()
        self._counted_blocks = 0  # of the lag's, so far
        self._files = WorkerThreads("certificates", queue_limit=_FILES_LIMIT)
        self._disk_asked_at = -math.inf  # monotonic seconds
        self._on_disk: dict[str, tuple[datetime, datetime] | str] = {}  # certificate files: validity, or the problem

    def signature(self) -> tuple[object, ...]:
        """A value that changes when something in memory did. Cheap: compared by the housekeeping."""
        components = self._components
        return (
            components.courier.troubles(),
            components.courier.hops.troubles(),
            components.mx.outage() is None,
            components.spf_gate.changes,
            len(components.courier.certificates),
            len(components.courier.reused_addresses()),
            len(components.relay.rejected_senders),
            components.intake.refusals.changes,
            len(components.intake.limited_pairs()),
            self._spool.last_clock_step,
            self._listeners.turned_away.changes,
            self._listeners.open,
            self._accounts.problem,
            self._accounts.generation,
            self._spool.is_open,
            self._spool.is_disturbed,
            self._loop_lag.blocks if self._loop_lag is not None else 0,
            self.refused_configuration,
            self.rolled_back,
            self.alert_ways,
            self.metrics,
            self.drain,
            self._surroundings.domains.changes,
            self._surroundings.dkim.changes,
            components.copies.changes,
        )

    async def count_queue(self) -> None:
        """Count the messages in the queue, if something was written since the last time."""
        if self.spool_facts.is_readable and (totals := await self._spool.totals()) is not None:
            self.totals = totals

    def inability(self) -> str:
        """The reason why the service cannot take or send mail now; empty if it can. Cheap."""
        if self._spool.is_disturbed:
            return "the spool is not available"
        names = {listener.settings.name for listener in self._listeners.open}
        closed = [settings.name for settings in self.config.listeners if settings.name not in names]
        return f"listener {closed[0]} is not open" if closed else ""

    async def collect(self, *, ask_disk: bool) -> Facts:
        """All facts at this moment. With `ask_disk`, those on the disk too; else those of the last time."""
        monotonic = self._clock.monotonic()
        if ask_disk and monotonic - self._disk_asked_at >= _DISK_INTERVAL:
            self.spool_facts = await self._spool.facts()
            with suppress(WorkerThreadsError):  # the system has no thread left: those of the last time
                self._on_disk = await self._read_certificates()
            self._disk_asked_at = self._clock.monotonic()
        if self._spool.is_disturbed == self.spool_facts.is_open:  # it changed since the disk was asked
            self.spool_facts = await self._spool.facts()
        await self.count_queue()
        components = self._components
        step = self._spool.last_clock_step
        return Facts(
            now=self._clock.now(),
            accounts=[_account(entry) for entry in components.courier.used_accounts(components.relay.rules.providers)],
            hops=[_hop(entry) for entry in self._failing_hops()],
            mx_stopped=self._mx_stopped(),
            queues=[QueueFacts(one.account, one.waiting, one.held, one.oldest) for one in self.totals],
            spool=self.spool_facts,
            vault=accounts_facts(self.config, self._accounts, self._accounts.problem or "", self.rolled_back),
            certificates=[
                *self._listener_certificates(),
                *self._smarthost_certificates(),
                *self._client_certificates(),
            ],
            applications=application_facts(self._accounts),
            sender_rules=[
                SenderRuleFacts(
                    rule.provider,
                    rule.account,
                    rule.address,
                    rule.words,
                    rule.said,
                    rule.hint,
                    datetime.fromisoformat(rule.since),
                )
                for rule in components.relay.rejected_senders.entries()
            ],
            look_ups=[
                LookUpFacts(one.host, one.why, datetime.fromisoformat(one.since), datetime.fromisoformat(one.found))
                for one in components.courier.reused_addresses()
            ],
            loop=self._loop(monotonic),
            clock=None if step is None else ClockFacts(step[0].total_seconds(), step[1]),
            crash=self._crash(),
            configuration=self.refused_configuration,
            alert_ways=self.alert_ways,
            metrics=self.metrics,
            drain=self.drain,
            clients=list(self._clients(monotonic)),
            automatic=[
                AutomaticMail(pair.author, pair.recipient, pair.refused, pair.deferred, pair.limit)
                for pair in components.intake.limited_pairs()
            ],
            refusals=[
                RefusedMessages(client, path, answer, count.total(monotonic), self._since(count, monotonic))
                for (client, path, answer), count in components.intake.refusals.entries(monotonic)
            ],
            domains=self._surroundings.domains.facts(),
            dkim_keys=tuple(self._surroundings.dkim.facts()),
            mail_gap=self._surroundings.mail_gap(),
            copies=tuple(self._components.copies.facts()),
        )

    def stop(self) -> None:
        """Read no more files."""
        self._files.stop()

    # ---- parts ----

    def _loop(self, monotonic: float) -> LoopFacts | None:
        lag = self._loop_lag
        if lag is None:
            return None
        if (new := lag.blocks - self._counted_blocks) > 0:
            self._blocks.add(new, monotonic)
            self._counted_blocks = lag.blocks
        return LoopFacts(self._blocks.total(monotonic), lag.maximum, self._since(self._blocks, monotonic))

    def _crash(self) -> CrashFacts | None:
        if not self.crashes:
            return None
        return CrashFacts(self.crashes, self._components.crash_journal.crash_cause)

    def _clients(self, monotonic: float) -> Iterator[ClientFacts]:
        for (client,), count in self._listeners.turned_away.entries(monotonic):
            network = ipaddress.ip_network(client, strict=False)
            since = self._since(count, monotonic)
            yield ClientFacts(client, count.total(monotonic), count.detail, since, network.is_private)

    def _since(self, count: RecentCount, monotonic: float) -> datetime:
        return self._clock.now() - timedelta(seconds=monotonic - count.first_at(monotonic))

    def _smarthost_certificates(self) -> Iterator[CertificateFacts]:
        in_use = {host for provider in self._components.relay.rules.providers.values() for host in provider.smarthosts}
        for smarthost, (start, end) in self._components.courier.certificates.items():
            if smarthost in in_use:
                yield CertificateFacts(CertificateOwner.SMARTHOST, str(smarthost), start, end)

    def _listener_certificates(self) -> Iterator[CertificateFacts]:
        for listener in self._listeners.open:
            if (file := _certificate_file(listener)) is None or listener.certificate_validity is None:
                continue
            start, end = listener.certificate_validity
            on_disk = self._on_disk.get(file, "")
            problem = on_disk if isinstance(on_disk, str) else ""
            renewed = not isinstance(on_disk, str) and on_disk[1] > end
            yield CertificateFacts(
                CertificateOwner.LISTENER, listener.settings.name, start, end, file, problem, renewed
            )

    def _failing_hops(self) -> list[HopStatus]:
        components = self._components
        outage = components.mx.outage()
        failing = [entry for entry in components.courier.hops.statuses() if entry.since is not None]
        return failing if outage is None else [*failing, outage]

    def _mx_stopped(self) -> list[MxStoppedFacts]:
        """The sender domains with waiting mail to mail servers; with `via = "provider-mx"` alone there are none."""
        if "mx" not in self.config.mx_vias:
            return []
        stopped = self._components.spf_gate.stopped()
        return [
            MxStoppedFacts(domain, verdict.address, verdict.record, verdict.why, is_wrong=verdict.is_wrong)
            for domain, verdict in stopped.items()
        ]

    def _client_certificates(self) -> Iterator[CertificateFacts]:
        for name, smarthost in self.config.smarthosts.items():
            if (file := smarthost.certificate) is not None and (found := self._on_disk.get(file)) is not None:
                yield _client_certificate(name, file, found)

    async def _read_certificates(self) -> dict[str, tuple[datetime, datetime] | str]:
        files = {
            file: listener.settings.key
            for listener in self._listeners.open
            if (file := _certificate_file(listener)) is not None
        }
        for smarthost in self.config.smarthosts.values():
            if smarthost.certificate is not None:
                files[smarthost.certificate] = smarthost.key
        return {file: await self._files.do(certificate_on_disk, file, key) for file, key in files.items()}


def certificate_on_disk(file: str, key: str | None) -> tuple[datetime, datetime] | str:
    """The validity of the certificate in a file, or the reason why it cannot be used with its key. Blocks."""
    try:
        # An empty passphrase: OpenSSL would ask for one on the terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(file, key, password=lambda: "")
        return read_validity(Path(file).read_text(encoding="ascii", errors="replace"))
    except ssl.SSLError as error:
        return f"{file}, {key or file}: {(error.reason or str(error)).replace('_', ' ').lower()}"
    except OSError as error:
        return f"{file}, {key or file}: {error.strerror}"
    except ValueError as error:
        return f"{file}: {error}"


def listener_certificate_facts(settings: ListenerSettings) -> CertificateFacts | None:
    """The facts about the certificate in a listener's file; None without one. Blocks."""
    if settings.tls == "none" or settings.certificate is None:
        return None
    found = certificate_on_disk(settings.certificate, settings.key)
    facts = CertificateFacts(CertificateOwner.LISTENER, settings.name, file=settings.certificate)
    if isinstance(found, str):
        return replace(facts, problem=found)
    return replace(facts, valid_from=found[0], valid_until=found[1])


def client_certificate_facts(config: Config) -> list[CertificateFacts]:
    """The facts about the client certificates of smarthosts. Blocks."""
    return [
        _client_certificate(name, smarthost.certificate, certificate_on_disk(smarthost.certificate, smarthost.key))
        for name, smarthost in config.smarthosts.items()
        if smarthost.certificate is not None
    ]


def _client_certificate(name: str, file: str, found: tuple[datetime, datetime] | str) -> CertificateFacts:
    facts = CertificateFacts(CertificateOwner.CLIENT, name, file=file)
    if isinstance(found, str):
        return replace(facts, problem=found)
    return replace(facts, valid_from=found[0], valid_until=found[1])


def accounts_facts(config: Config, accounts: VaultAccounts, problem: str = "", rolled_back: str = "") -> AccountsFacts:
    """The facts about the accounts in force, and about the settings that name accounts."""
    directory, providers = accounts.directory(), config.provider_table()
    return AccountsFacts(
        accounts=len(directory.accounts),
        problem=problem,
        hint=accounts.problem_hint if problem else "",
        rolled_back=rolled_back,
        unusable=accounts.unreadable,
        unknown_providers=[(one.id, one.provider) for one in directory.accounts if one.provider not in providers],
        unknown_accounts=[
            *((setting, name) for setting, name in config.named_accounts() if not directory.by_id(name)),
            *(
                (f"the fallback of {one.id}", one.fallback)
                for one in directory.accounts
                if one.fallback is not None and not directory.by_id(one.fallback)
            ),
        ],
    )


def application_facts(accounts: VaultAccounts) -> Sequence[ApplicationFacts]:
    """The OAuth applications with a known end of their secret or certificate."""
    users: dict[str, list[str]] = {}
    for account in accounts.directory().accounts:
        if (grant := accounts.grant(account.id)) is not None:
            users.setdefault(grant.application, []).append(account.id)
    return [
        ApplicationFacts(name, one.valid_until, users.get(name, []))
        for name, one in accounts.applications().items()
        if isinstance(one, UsableApplication) and one.valid_until is not None
    ]


def _certificate_file(listener: Listener) -> str | None:
    return None if listener.settings.tls == "none" else listener.settings.certificate


def _hop(entry: HopStatus) -> HopFacts:
    return HopFacts(
        entry.way,
        entry.server,
        entry.reply or entry.words,
        entry.hint,
        datetime.fromisoformat(str(entry.since)),
        about_certificate=entry.cause == "certificate",
    )


def _account(entry: AccountStatus) -> AccountSnapshot:
    return AccountSnapshot(
        account=entry.account,
        provider=entry.provider,
        trouble=_trouble(entry),
        words=entry.reply or "",
        hint=entry.hint,
        since=datetime.fromisoformat(entry.since) if entry.since else None,
        until=datetime.fromisoformat(entry.until) if entry.until else None,
        hourly=list(_hourly(entry)),
        sends_through="" if entry.sends_in_part else entry.sends_through or "",
    )


def _trouble(entry: AccountStatus) -> AccountTrouble:
    trouble = _TROUBLES.get(entry.state, AccountTrouble.NONE)
    if trouble is AccountTrouble.NO_SESSION and entry.cause == "certificate":
        return AccountTrouble.CERTIFICATE
    return trouble


def _hourly(entry: AccountStatus) -> Iterable[LimitUse]:
    for unit, limit, left in (
        ("messages", entry.messages_limit, entry.messages_left),
        ("recipients", entry.recipients_limit, entry.recipients_left),
    ):
        if limit is not None and left is not None:
            yield LimitUse(unit, limit - left, limit)
