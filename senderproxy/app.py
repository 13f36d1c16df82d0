"""The service: start, stop and reload of all components, in order.

Guarantees: the listeners open last and close first. A reload takes effect as a whole or not at all; until it does, the
previous configuration stays in force. A stop is bounded in time and waits for transactions in progress.
Not here: construction of the components (wiring), their parts in the service (service).
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from senderproxy import __version__, log_events
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config, LogSettings
from senderproxy.config.restart import needs_restart
from senderproxy.control.crash_journal import CrashTraceback
from senderproxy.control.hardening import protect_memory
from senderproxy.control.interpreter import return_memory, tune_interpreter
from senderproxy.control.loop_faults import end_after, end_without_loop, end_without_memory
from senderproxy.control.protocol import Answer, Request, Verb
from senderproxy.control.run_marker import RunMarker
from senderproxy.control.server import ControlServer, Handler
from senderproxy.control.socket_store import SocketStore
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.control.thread_faults import end_with_a_dead_thread
from senderproxy.delivery.aiosmtplib_adapter import check_aiosmtplib
from senderproxy.delivery.mx.spf_gate import SpfGate
from senderproxy.delivery.resolver import LookUp, look_up
from senderproxy.dkim.choice import KeyRing
from senderproxy.dns_client.client import DnsClient
from senderproxy.errors import SenderproxyError
from senderproxy.listener.server import Listener
from senderproxy.log import event, flush_log, gather_lines, set_up_logging
from senderproxy.monitoring.facts import RefusedConfiguration
from senderproxy.relay.queue_admin import QueueAdmin
from senderproxy.routing.account import AccessToken, Account
from senderproxy.service.alerts import ServiceAlerts
from senderproxy.service.condition_facts import FactCollector
from senderproxy.service.conditions import LEARNED_KIND, ServiceConditions
from senderproxy.service.domain_watch import NewClient
from senderproxy.service.drain import Drain
from senderproxy.service.housekeeping import Housekeeping
from senderproxy.service.idleness import Idleness
from senderproxy.service.listeners import Listeners
from senderproxy.service.loop_lag import LoopLag
from senderproxy.service.loop_monitor import LoopMonitor
from senderproxy.service.mx_spf import require_spf, sender_domains
from senderproxy.service.parts import load_parts
from senderproxy.service.spool import ServiceSpool
from senderproxy.service.status import ServiceStatus
from senderproxy.service.surroundings import Surroundings
from senderproxy.tracking.record import Lane
from senderproxy.tracking.serialize import reply_entry
from senderproxy.translation import SOURCE, _
from senderproxy.wiring import build_components
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

if TYPE_CHECKING:
    from senderproxy.service.metrics import ServiceMetrics
    from senderproxy.service.page import ServicePage
    from senderproxy.service.page_accounts import PageAccounts


class InternalError(SenderproxyError):
    """The running service has ended because of an error in itself."""


_log = logging.getLogger("senderproxy.app")
_VAULT_TIMEOUT: Final = 8.0  # seconds in which a request waits for the vault; its command waits for 10
_CAUSE: Final = 200  # characters of a cause in the line of `systemctl status`
_STOP_MARGIN: Final = 8.0  # seconds beyond `stop_seconds` after which a stop hangs; the unit's limit is 15 beyond
_SPOOL_CLOSE: Final = 1.0  # seconds that the spool has for its close at least, when the stop time is used up


class Service:
    """One running senderproxy. One attribute for each part of it.

    `load` reads the configuration again, `set_up_log` applies its log settings, `crash` returns the cause of the last
    crash, `loop_monitor` measures the loop on which `run` is called, `look_up` resolves the names of smarthosts,
    `new_dns_client` asks for the records of domains, `sockets` are those that systemd passes and keeps.
    Without `load` a reload is refused.
    """

    def __init__(
        self,
        config: Config,
        accounts: VaultAccounts,
        *,
        clock: Clock | None = None,
        notifier: SystemdNotifier | None = None,
        load: Callable[[], Config] | None = None,
        set_up_log: Callable[[LogSettings], None] | None = None,
        crash: Callable[[], str] = str,
        loop_monitor: LoopMonitor | None = None,
        look_up: LookUp = look_up,
        new_dns_client: NewClient = DnsClient,
        sockets: SocketStore | None = None,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._clock = clock or SystemClock()
        self._notifier = notifier or SystemdNotifier(None, None)
        self._load = load
        self._set_up_log = set_up_log
        self._loop_monitor = loop_monitor
        self._new_dns_client = new_dns_client
        self._components = build_components(config, accounts, self._clock, crash, look_up, new_dns_client)
        self._spool = ServiceSpool(Path(config.spool_directory), config.spool, self._components, self._clock)
        self._listeners = Listeners(
            self._components.intake,
            self._clock,
            lambda: self._spool.is_open,
            self._components.login_throttle,
            sockets or SocketStore(self._notifier),
            self._components.straight,
        )
        lag = loop_monitor.lag if loop_monitor is not None else None
        self._surroundings = Surroundings(
            config, accounts, self._listeners, self._clock, new_dns_client, self._use_dkim_keys
        )
        self._surroundings.register(self._components.learned)
        self._facts = FactCollector(
            config,
            self._components,
            accounts,
            self._listeners,
            self._spool,
            self._clock,
            lag,
            self._surroundings,
        )
        self._conditions = ServiceConditions(self._facts, self._clock, self._show_status)
        self._conditions.changed = self._components.learned.register(LEARNED_KIND, self._conditions)
        run_folder = Path(config.service.control_socket).parent
        self._alerts = ServiceAlerts(
            self._components, accounts, self._facts, self._conditions, self._clock, run_folder / "alerts"
        )
        self._alerts.apply(config)
        self._metrics = self._new_metrics(lag) if config.metrics.listen is not None else None
        self._status = ServiceStatus(
            self._components, accounts, self._listeners, self._facts, self._conditions, self._clock, lag, self._metrics
        )
        self._page = self._new_page() if config.web.role != "off" else None
        self._marker = RunMarker(run_folder / "running")
        self._control: ControlServer | None = None
        self._ended = asyncio.Event()
        self._housekeeping = Housekeeping(
            accounts.source[0] if accounts.source is not None else config.vault.files,
            accounts,
            self._spool,
            self._notifier,
            self._conditions,
            self._alerts,
            self._note_rolled_back,
            self._look_around,
            self._ended.set,
        )
        self._reload_lock = asyncio.Lock()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The open listeners, in the order of the configuration."""
        return self._listeners.open

    async def start(self) -> None:
        """Open the control socket, the spool and the listeners. Raises SenderproxyError, with all closed again."""
        try:
            check_aiosmtplib()
            load_parts(self._config)
            self._components.copies.load_if_needed()
            self._accounts.read_in_background()
            self._accounts.on_change = self._apply_accounts
            await self._require_spf(self._config)
            self._control = await self._open_control()
            self._facts.crashes = self._marker.start(self._clock.now())
            self._alerts.start()
            self._surroundings.watch_keys()  # before what was learned about them is restored
            await self._spool.open()
            await self._listeners.start(self._config)
            self._status.started.set()
        except BaseException:
            await self.stop()
            raise
        self._apply_accounts()
        if self._metrics is not None:
            self._metrics.start()
        self._housekeeping.start()
        event(
            _log,
            log_events.SERVICE_STARTED,
            address=self._listeners.addresses,
            accounts=len(self._accounts.directory().accounts),
            version=__version__,
        )
        self._notifier.ready(self._summary())

    async def stop(self) -> None:
        """Close the listeners, let transactions end for `service.stop_seconds` in all, then close the rest."""
        self._notifier.stopping()
        end = self._clock.monotonic() + self._config.service.stop_seconds

        def grace() -> float:
            return max(0.0, end - self._clock.monotonic())

        await self._housekeeping.stop()
        self._surroundings.stop()
        await self._listeners.stop(grace())
        await self._components.runner.stop(grace())
        await self._components.copies.stop(grace())
        await self._components.courier.close(grace())
        self._components.spf_gate.close()
        await self._components.tokens.close(grace())
        self._components.http.close()
        await self._spool.close(max(grace(), _SPOOL_CLOSE))
        self._components.crash_journal.close()
        self._facts.stop()
        if self._metrics is not None:
            await self._metrics.stop()
        if self._page is not None:
            await self._page.stop()
        if self._control is not None:
            if self._housekeeping.fault is None:
                self._marker.stop()
            await self._control.stop()
        event(_log, log_events.SERVICE_STOPPED)

    async def run(self, stopping: Callable[[float], object] = float) -> None:
        """Start, serve until SIGTERM or SIGINT, stop. SIGHUP reloads the configuration.

        `stopping` is called at the beginning of the stop, with the seconds that transactions in progress have.
        Raises SenderproxyError if the start fails, or after the stop if an internal error ended the service.
        """
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[object]] = set()

        def reload_soon() -> None:
            task: asyncio.Task[object] = asyncio.create_task(self._reload_after_signal())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        loop.add_signal_handler(signal.SIGHUP, reload_soon)
        await self.start()
        tune_interpreter()
        if self._loop_monitor is not None:
            self._loop_monitor.start()
        await self._ended.wait()
        stopping(self._config.service.stop_seconds)
        await self.stop()
        if self._housekeeping.fault is not None:
            raise InternalError(
                _("The service stopped because of an internal error; its log has the cause.")
            ) from self._housekeeping.fault

    async def reload(self) -> None:
        """Read the configuration again and apply it. Raises SenderproxyError; then the previous one stays in force."""
        if self._load is None:
            raise SenderproxyError(_("This service has no configuration file to read again."))
        async with self._reload_lock:
            reader = WorkerThreads("config-reader")  # a disk that does not respond does not hold up a stop
            try:
                config = await self._read_configuration(reader, self._load)
                await self._apply(config)
            except SenderproxyError as error:
                self._facts.refused_configuration = RefusedConfiguration(error.message, error.hint, self._clock.now())
                raise
            finally:
                reader.stop()
            with suppress(AccountsError):  # the vault is read later, and `status` shows its problem
                await self._accounts.wait_until_read(_VAULT_TIMEOUT)

    @staticmethod
    async def _read_configuration(reader: WorkerThreads, load: Callable[[], Config]) -> Config:
        def read() -> Config:
            config = load()
            load_parts(config)
            return config

        try:
            return await reader.do(read)
        except WorkerThreadsError:
            raise SenderproxyError(_("The system has no thread to read the configuration.")) from None

    async def _apply(self, config: Config) -> None:
        """Apply a new configuration: addresses first, because only they can fail; the rest without a pause."""
        if moved := needs_restart(self._config, config):
            raise SenderproxyError(
                _("{settings} cannot change while the service runs: needs a restart.").format(
                    settings=", ".join(moved)
                ),
                hint="systemctl restart senderproxy",
            )
        await self._require_spf(config)
        if self._metrics is None:
            await self._listeners.replace(self._config, config)
        else:
            async with self._metrics.replaced(config.metrics):
                await self._listeners.replace(self._config, config)
        self._config = self._facts.config = self._surroundings.config = config
        self._facts.refused_configuration = None
        self._spool.apply(config.spool)
        self._components.apply(config)
        self._alerts.apply(config)
        if self._set_up_log is not None:
            self._set_up_log(config.log)

    async def _require_spf(self, config: Config) -> None:
        """Refuse a start or a reload with `via = "mx"` while a sender domain certainly does not name our addresses."""
        if "mx" not in config.mx_vias:
            return
        domains = sender_domains(self._accounts.directory().accounts)
        if config.mx.public_address == self._config.mx.public_address:
            await require_spf(self._components.spf_gate, domains)
            return
        gate = SpfGate(self._clock, config.mx.public_address, self._new_dns_client)  # the reload may be refused
        try:
            await require_spf(gate, domains)
        finally:
            gate.close()

    def _new_metrics(self, lag: LoopLag | None) -> "ServiceMetrics":
        from senderproxy.service.metrics import ServiceMetrics  # without metrics, its modules are not loaded

        return ServiceMetrics(
            self._config.metrics,
            self._components,
            self._accounts,
            self._listeners,
            self._spool,
            self._facts,
            self._conditions,
            self._clock,
            lag,
        )

    def _new_page(self) -> "ServicePage":
        from senderproxy.service.page import ServicePage  # without the page, its modules are not loaded

        def new_accounts_part(resume: Handler) -> "PageAccounts":
            from senderproxy.service.page_accounts import PageAccounts  # likewise

            opener = self._components.courier.opener_with
            return PageAccounts(lambda: self._config, self._accounts, opener, resume, self._new_dns_client)

        return ServicePage(lambda: self._config, self._components.relay, self._accounts, self._clock, new_accounts_part)

    async def _open_control(self) -> ControlServer:
        components = self._components
        queue = QueueAdmin(
            lambda: components.runner.spool,
            self._clock,
            components.report_builder.report_cancellation,
            self._made_due,
            lambda: components.runner.blocked,
        )
        handlers = {
            Verb.STATUS: self._answer_status,
            Verb.ACCOUNTS: self._answer_accounts,
            Verb.CONDITIONS: self._answer_conditions,
            Verb.AUTOMATIC: self._answer_automatic,
            **self._alerts.handlers(),
            Verb.RESUME: self._answer_resume,
            Verb.RELOAD: self._answer_reload,
            Verb.DRAIN: Drain(
                self._listeners, self._spool, components, self._facts, self._clock, self._show_status
            ).answer,
            Verb.READ_VAULT: self._answer_read_vault,
            Verb.TOKEN: self._answer_token,
            Verb.TOKEN_REFUSED: self._answer_token_refused,
            Verb.DKIM: self._answer_dkim,
            **{Verb(name): handler for name, handler in queue.handlers().items()},
        }
        control = ControlServer(Path(self._config.service.control_socket), handlers)
        await control.start()
        if self._page is not None:
            await self._page.start(handlers)
        return control

    def _made_due(self, lane: Lane) -> None:
        """Attempt the messages of a lane now: the operator asked for it, whatever blocked it."""
        self._components.runner.note_lane_due(lane)

    def _apply_accounts(self) -> None:
        """Follow a change of the vault. Sessions of removed accounts are closed."""
        self._surroundings.watch_keys()
        self._components.courier.drop_stale()
        self._components.tokens.follow_keys()
        self._components.runner.wake()
        self._components.copies.follow_accounts()
        self._show_status()

    def _use_dkim_keys(self, ring: KeyRing | None) -> None:
        self._components.relay.dkim.ring = ring

    async def _reload_and_log(self) -> None:
        """Reload and log the result. Raises the errors of `reload`."""
        try:
            await self.reload()
        except SenderproxyError as error:
            event(_log, log_events.CONFIG_REFUSED, why=error.message, hint=error.hint)
            raise
        except Exception as fault:
            event(_log, log_events.CONFIG_REFUSED, fault=fault)
            raise
        event(_log, log_events.CONFIG_RELOADED)

    async def _reload_after_signal(self) -> None:
        self._notifier.reloading(int(self._clock.monotonic() * 1_000_000))
        with suppress(Exception):  # it is logged, and the previous configuration stays in force
            await self._reload_and_log()
        self._notifier.ready(self._summary())

    def _look_around(self) -> None:
        self._components.intake.forget_old()
        self._components.spf_gate.tick()
        self._surroundings.tick()

    def _show_status(self) -> None:
        self._notifier.status(self._summary())

    def _note_rolled_back(self, why: str) -> None:
        self._facts.rolled_back = why

    def _summary(self) -> str:
        """The line that `systemctl status` shows."""
        text = f"listening on {self._listeners.addresses}, accounts: {len(self._accounts.directory().accounts)}"
        if self._facts.drain is not None:
            text = f"draining, {text}"
        if not self._conditions.current:
            return text
        worst, count = self._conditions.current[0], len(self._conditions.current)
        return f"{text}, conditions: {count}, {worst.severity.name.lower()}: {' '.join(worst.cause.split())[:_CAUSE]}"

    async def _answer_status(self, request: Request) -> Answer:
        return await self._status.answer(request.get("language", SOURCE))

    async def _answer_accounts(self, request: Request) -> Answer:
        return self._status.accounts(request)

    async def _answer_conditions(self, request: Request) -> Answer:
        return await self._status.conditions(request.get("language", SOURCE))

    async def _answer_automatic(self, request: Request) -> Answer:
        return self._status.automatic(request)

    async def _answer_read_vault(self, _request: Request) -> Answer:
        """The problem of the vault, or None: the next message uses its current accounts."""
        await self._accounts.wait_until_read(_VAULT_TIMEOUT)
        return {"problem": self._accounts.problem}

    async def _answer_resume(self, request: Request) -> Answer:
        await self._accounts.wait_until_read(_VAULT_TIMEOUT)
        account = str(request.get("account"))
        if self._accounts.directory().by_id(account) is None:
            raise SenderproxyError(
                _("There is no account {account}.").format(account=account), hint="senderproxy account list"
            )
        self._components.tokens.resume(account)
        self._components.courier.resume(account)
        self._components.runner.wake(account)
        self._components.copies.wake(account)
        return {"account": account}

    async def _answer_token(self, request: Request) -> Answer:
        """The access token of an account, for a command with a login of its own; or the reason for its absence."""
        await self._accounts.wait_until_read(_VAULT_TIMEOUT)  # a consent may have been stored a moment ago
        account = self._account_with_grant(request)
        self._components.tokens.resume(account.id)  # a person asks: the last refusal may be out of date
        found = await self._components.tokens.token(account)
        if isinstance(found, AccessToken):
            return {"token": found.reveal()}
        return {"reply": reply_entry(found.reply), "needs_person": found.needs_person, "hint": found.hint}

    async def _answer_token_refused(self, request: Request) -> Answer:
        """Forget the token that a command's login was refused with. `again`: a new one is worth one more login."""
        account = self._account_with_grant(request)
        return {"again": self._components.tokens.refused(account, AccessToken(str(request.get("token"))))}

    def _account_with_grant(self, request: Request) -> Account:
        account = self._accounts.directory().by_id(str(request.get("account")))
        if account is None or self._accounts.grant(account.id) is None:
            raise SenderproxyError(_("The service knows no account of that id that logs in with OAuth."))
        return account

    async def _answer_dkim(self, request: Request) -> Answer:
        """The DKIM keys with their states, after a look at those of one domain."""
        await self._accounts.wait_until_read(_VAULT_TIMEOUT)
        if domain := request.get("domain"):
            await self._surroundings.dkim.look_now(str(domain))
        return {"keys": self._surroundings.dkim.states()}

    async def _answer_reload(self, _request: Request) -> Answer:
        try:
            await self._reload_and_log()
        finally:
            self._show_status()
        return {}


def run(
    config: Config,
    accounts: VaultAccounts,
    load: Callable[[], Config],
    notifier: SystemdNotifier,
    sockets: SocketStore,
) -> None:
    """Run the service until SIGTERM or SIGINT, for `senderproxy run`. `load` reads the configuration again.

    Raises InternalError; another SenderproxyError if the service cannot start.
    """
    _set_up_log(config.log)
    protect_memory()
    end_with_a_dead_thread()
    monitor = LoopMonitor(idleness=Idleness(return_memory))
    service = Service(
        config,
        accounts,
        notifier=notifier,
        sockets=sockets,
        load=load,
        set_up_log=_set_up_log,
        crash=CrashTraceback(Path(config.service.control_socket).with_name("crash")).read,
        loop_monitor=monitor,
    )
    with asyncio.Runner(loop_factory=monitor.new_event_loop) as runner:
        try:
            runner.run(_serve(service))
        except SenderproxyError:
            raise
        except Exception as fault:
            if not service.listeners and isinstance(fault, OSError):  # of the start: it is printed
                raise
            end_without_loop(fault)
        finally:
            flush_log()  # what is printed about the end comes after the log


async def _serve(service: Service) -> None:
    loop = asyncio.get_running_loop()
    end_without_memory(loop)
    gather_lines()  # not before: until `run` handles SIGTERM, it ends the process at once
    await service.run(stopping=lambda seconds: end_after(loop, seconds + _STOP_MARGIN))


def _set_up_log(settings: LogSettings) -> None:
    set_up_logging(settings.level, settings.format, under_journald="JOURNAL_STREAM" in os.environ)
