"""Construction of the relay's objects from the configuration.

Guarantees: each object is derived from the settings here and nowhere else, so the service, `explain` and `send`
decide by the same rules. The only place that connects the packages to each other.
Not here: start, stop and reload (app, service); the settings and their defaults (config.model).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from typing import Final

from senderproxy.accounts.late_oauth import LateTokens
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock, MachineZone
from senderproxy.config.model import Config, SpoolSettings
from senderproxy.config.values import SQLITE_ENGINE, split_address
from senderproxy.control.crash_journal import CrashJournalFile
from senderproxy.delivery import learned_accounts
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.hops.opening import HopOpener
from senderproxy.delivery.mx.courier import MxCourier, MxSettings
from senderproxy.delivery.mx.hosts import Ourselves
from senderproxy.delivery.mx.look_up import MailServerLookUp, NewClient
from senderproxy.delivery.mx.spf_gate import SpfGate
from senderproxy.delivery.resolver import LookUp, Resolver, look_up
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.dns_client.client import DnsClient
from senderproxy.http_client.client import HttpClient
from senderproxy.late_import import late_import
from senderproxy.listener import login_throttle
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.relay import loop_guard, sender_rejected
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.counts_of_others import CountsOfOthers
from senderproxy.relay.decide import Rules
from senderproxy.relay.dsn_queueing import ReportBuilder
from senderproxy.relay.intake import Handling, Mode, RelayIntake
from senderproxy.relay.learned_state import LearnedState
from senderproxy.relay.no_spool import NoSpool
from senderproxy.relay.ports import Spool, SpoolError
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.runner import Runner
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.routing.provider_names import is_mail_server_of
from senderproxy.sent_copy.copies import SentCopies
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.straight.path import StraightPath
from senderproxy.translation import _

_MX_CONNECT: Final = 20.0  # seconds for a connection to a mail server of a recipient
_MX_GREETING: Final = 60.0  # seconds for its greeting, and for EHLO; some delay it by 30, against spam
_ZONE: Final = MachineZone()  # one object, so that rules with the same settings are equal


def rules_of(config: Config) -> Rules:
    """The settings for relay.decide."""
    return Rules(
        config.identity.hostname,
        config.provider_table(),
        config.routing_policy(),
        config.senders.policy(),
        report_server_of(config),
        footers=config.footer_table(),
        returned_size=config.spool.returned_size,
        zone=_ZONE,
        recipient_routes=config.recipient_routes(),
    )


def report_server_of(config: Config) -> Smarthost | None:
    """The server that takes the reports on undelivered mail; None: each report goes through its author's account."""
    if config.spool.reports_to is None:
        return None
    host, port = split_address(config.spool.reports_to)
    return Smarthost(str(host), port, Security.NONE)


def spool_limits_of(settings: SpoolSettings) -> SpoolLimits:
    """The limits of the spool in time and space."""
    return SpoolLimits(
        history=timedelta(days=settings.history_days),
        history_size=settings.history_size,
        min_free=settings.min_free,
        reserve=settings.reserve_size,
        longest_wait=settings.retry_policy().longest,
        keep_subjects=settings.keep_subjects,
    )


def handling_of(config: Config) -> Mapping[str, Handling]:
    """The handling of messages at each listener, by the listener's name."""
    return {
        settings.name: Handling(Mode(settings.mode), OnDeferral(settings.on_deferral), settings.patience_seconds)
        for settings in config.listeners
    }


def session_timeouts_of(config: Config) -> SessionTimeouts:
    """The timeouts of a session with a smarthost, in seconds for each stage."""
    settings = config.delivery
    return SessionTimeouts(
        **{stage.name: getattr(settings, f"{stage.name}_seconds") for stage in fields(SessionTimeouts)}
    )


def same_listener_environment(old: Config, new: Config) -> bool:
    """True if a listener with unchanged settings of its own can stay open: it also depends on these sections."""
    return old.clients == new.clients and old.identity == new.identity


def own_listeners(config: Config) -> frozenset[tuple[str, int]]:
    """The IP addresses and ports of our listeners."""
    own = [split_address(listener.address) for listener in config.listeners]
    return frozenset((str(host), port) for host, port in own)


def configure_hops(courier: SmtpCourier, config: Config) -> None:
    """Tell the courier the servers without a login, and our listeners: none of the servers may be one."""
    courier.hops.opener.own_listeners = own_listeners(config)
    courier.hops.keep(config.hops())


def mx_timeouts_of(config: Config) -> SessionTimeouts:
    """The timeouts of a session with a mail server of a recipient: a dead one must leave time for the next ones."""
    timeouts = session_timeouts_of(config)
    return replace(
        timeouts,
        connect=min(timeouts.connect, _MX_CONNECT),
        greeting=min(timeouts.greeting, _MX_GREETING),
        ehlo=min(timeouts.ehlo, _MX_GREETING),
    )


def mx_settings_of(config: Config) -> MxSettings:
    """The names of this machine for the choice of mail servers, and the test for a provider's servers."""
    addresses = frozenset(map(ip_address, config.mx.public_address))
    ourselves = Ourselves(
        frozenset({config.identity.hostname.lower(), "localhost"}),
        addresses,
        frozenset(address.version for address in addresses),
    )

    def is_providers(host: str, provider: str) -> bool:
        return is_mail_server_of(host, config.preset_of(provider))

    return MxSettings(ourselves, is_providers)


@dataclass(frozen=True, slots=True)
class Components:
    """The objects of one relay, connected to each other."""

    courier: SmtpCourier
    relay: MessageRelay
    report_builder: ReportBuilder
    crash_journal: CrashJournalFile
    runner: Runner
    intake: RelayIntake
    login_throttle: LoginThrottle  # of all listeners, also after a reload
    learned: LearnedState
    http: HttpClient
    tokens: LateTokens
    mx: MxCourier
    spf_gate: SpfGate
    copies: SentCopies
    straight: StraightPath

    def use_spool(self, spool: Spool) -> None:
        """Queue into this spool from now on, and deliver from it."""
        self.intake.spool = spool
        self.runner.use_spool(spool)
        self.copies.use_spool(spool)

    def apply(self, config: Config) -> None:
        """Put new settings in force, all in one step of the event loop."""
        self.relay.rules, self.intake.handling = rules_of(config), handling_of(config)
        self.runner.policy = config.spool.retry_policy()
        self.runner.wake()
        self.straight.is_on = self.courier.is_direct = config.delivery.straight_path
        self.courier.configure(session_timeouts_of(config), config.identity.hostname)
        self.courier.use_providers(self.relay.rules.providers)
        self.courier.drop_stale()
        configure_hops(self.courier, config)
        self.mx.configure(mx_settings_of(config), mx_timeouts_of(config), config.identity.hostname)
        self.mx.opener.own_listeners = self.courier.hops.opener.own_listeners
        self.spf_gate.configure(config.mx.public_address)


def build_components(
    config: Config,
    accounts: VaultAccounts,
    clock: Clock,
    crash: Callable[[], str],
    look_up: LookUp = look_up,
    new_dns_client: NewClient = DnsClient,
) -> Components:
    """The components as configured, with a spool that is not open.

    `crash` returns the cause of the last crash; `look_up` resolves the names of smarthosts, `new_dns_client` asks for
    the mail servers of domains and for SPF.
    """
    closed = NoSpool(SpoolError(_("The spool is not open yet.")))
    resolver = Resolver(clock, look_up)
    http = HttpClient(clock)
    tokens = LateTokens(accounts, http, clock, Path(config.vault.files))
    courier = SmtpCourier(accounts, session_timeouts_of(config), config.identity.hostname, clock, resolver, tokens)
    relay = MessageRelay(accounts, courier, clock, rules_of(config))
    courier.use_providers(relay.rules.providers)
    report_builder = ReportBuilder(relay, accounts, clock)
    journal = CrashJournalFile(Path(config.service.control_socket).with_name("under-way"), crash)
    policy = config.spool.retry_policy()
    runner = Runner(closed, relay, report_builder, accounts, courier, clock, policy, journal)
    learned = LearnedState(clock)
    courier.observers.healthy = runner.account_can_send
    courier.hops.on_healthy = runner.lane_can_send
    configure_hops(courier, config)
    gate = SpfGate(clock, config.mx.public_address, new_dns_client)
    mx = _mx_courier(config, resolver, clock, new_dns_client, gate)
    mx.on_healthy, courier.hops.mx = runner.lane_can_send, mx
    mx.opener.own_listeners = courier.hops.opener.own_listeners
    facts = courier.account_facts()
    courier.observers.state = learned.register(learned_accounts.STATE, facts)
    if config.spool.engine == SQLITE_ENGINE:
        courier.observers.use = learned.register(learned_accounts.USE, courier.hourly_use(), adds=True)
    else:  # other instances use the accounts too
        with late_import():
            from senderproxy.accounts.shared_refresh_tokens import SharedRefreshTokens
            from senderproxy.delivery import server_limits
            from senderproxy.delivery.shared_quota import SharedLimits
        tokens.share(SharedRefreshTokens)
        courier.share_limits(SharedLimits(clock))
        limits = courier.servers.common = server_limits.ServerLimits(lambda: relay.rules.providers.values(), clock)
        limits.changed = learned.register(server_limits.STATE, limits)
        learned.share(server_limits.STATE, limits)
        facts.is_shared = True
        learned.share(learned_accounts.STATE, facts)
    intake = RelayIntake(relay, closed, runner, report_builder, clock, handling_of(config))
    others = None if config.spool.engine == SQLITE_ENGINE else CountsOfOthers(token_hex(8))
    throttle = LoginThrottle(ThrottleLimits(), accounts.derive_key("client-login"), others)
    throttle.changed = learned.register(login_throttle.LEARNED_KIND, throttle)
    relay.rejected_senders.changed = learned.register(sender_rejected.LEARNED_KIND, relay.rejected_senders)
    intake.loop_guard.changed = learned.register(loop_guard.LEARNED_KIND, intake.loop_guard)
    if others is not None:
        intake.loop_guard.others = CountsOfOthers(others.own)
        learned.share(login_throttle.LEARNED_KIND, throttle)
        learned.share(loop_guard.LEARNED_KIND, intake.loop_guard)
        learned.share(sender_rejected.LEARNED_KIND, relay.rejected_senders)
    copies = SentCopies(accounts, tokens, relay.contents, lambda: relay.rules, clock)
    intake.copies.on_copy = runner.results.on_copy = copies.stored
    straight = StraightPath(accounts, courier, relay, intake, clock)
    straight.is_on = courier.is_direct = config.delivery.straight_path
    return Components(
        courier,
        relay,
        report_builder,
        journal,
        runner,
        intake,
        throttle,
        learned,
        http,
        tokens,
        mx,
        gate,
        copies,
        straight,
    )


def _mx_courier(
    config: Config, resolver: Resolver, clock: Clock, new_dns_client: NewClient, gate: SpfGate
) -> MxCourier:
    opener = HopOpener(mx_timeouts_of(config), config.identity.hostname, resolver)
    look_up_servers = MailServerLookUp(clock, new_dns_client)
    return MxCourier(opener, look_up_servers, clock, mx_settings_of(config), gate.refusal)
