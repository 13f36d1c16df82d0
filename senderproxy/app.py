"""COMPOSITION ROOT: builds every room from the configuration, starts and stops them in order.

Guarantees: the door opens last and closes first. A configuration read again takes effect as a whole or not at all; the
old one stays in force until the new one stands. A stop is bounded in time and cuts no transaction that can still end.
The only place where the rooms are introduced to each other.
"""

import asyncio
import logging
import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from senderproxy import __version__, log_events
from senderproxy.accounts.rollback import note_generation
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config, ListenerSettings, LogSettings
from senderproxy.control.crash_journal import CrashJournalFile, CrashNote
from senderproxy.control.hardening import keep_to_itself, settle_down
from senderproxy.control.protocol import Answer, Request
from senderproxy.control.server import ControlServer
from senderproxy.control.systemd import Notifier
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.errors import SenderproxyError
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.server import Listener
from senderproxy.log import event, set_up_logging
from senderproxy.relay.attempt import Attempts
from senderproxy.relay.dsn_queueing import Reporter
from senderproxy.relay.intake import RelayIntake
from senderproxy.relay.no_spool import NoSpool
from senderproxy.relay.ports import SpoolError
from senderproxy.relay.queue_admin import QueueAdmin, telling_with
from senderproxy.relay.runner import Runner
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.spool.sqlite.threads import WorkerThreads
from senderproxy.wiring import handling_of, rules_of, same_listener_environment, session_timeouts_of

_log = logging.getLogger("senderproxy.app")
_HOUSEKEEPING: Final = 2.0  # seconds between looks at the vault when no mail asks for it
_SPOOL_AGAIN: Final = 30.0  # seconds between tries to open a spool that could not be opened
_LATE: Final = timedelta(hours=1)  # what waits longer is worth a look
_SWEEP: Final = 600.0  # seconds between looks for old stories
_ANSWER: Final = 5.0  # seconds the spool has to say what waits
_LAST_WORDS: Final = 1.0  # seconds the spool has to close, however little of the grace is left


class Service:
    """One running senderproxy."""

    def __init__(
        self,
        config: Config,
        accounts: VaultAccounts,
        *,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
        load: Callable[[], Config] | None = None,
        set_up_log: Callable[[LogSettings], None] | None = None,
        crash: Callable[[], str] = str,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._clock = clock or SystemClock()
        self._notifier = notifier or Notifier(None, None)
        self._load = load
        self._set_up_log = set_up_log
        self._courier = SmtpCourier(accounts, session_timeouts_of(config), config.identity.hostname, self._clock)
        self._spool: SqliteSpool | None = None
        closed = NoSpool(SpoolError("The spool is not open yet."))
        self._attempts = Attempts(accounts, self._courier, self._clock, rules_of(config))
        self._reporter = Reporter(self._attempts, accounts, self._clock)
        self._under_way = CrashJournalFile(Path(config.service.control_socket).with_name("under-way"), crash)
        self._runner = Runner(
            closed,
            self._attempts,
            self._reporter,
            accounts,
            self._courier,
            self._clock,
            config.spool.retry_policy(),
            self._under_way,
        )
        self._courier.when_able = self._runner.able
        self._intake = RelayIntake(
            self._attempts, closed, self._runner, self._reporter, self._clock, handling_of(config)
        )
        self._spool_problem: SpoolError | None = None
        self._spool_tried = -math.inf
        self._swept = -math.inf
        self._listeners: list[Listener] = []
        self._control: ControlServer | None = None
        self._housekeeper: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._settled_generation = 0
        self._started_at = self._clock.now()
        self._mending = asyncio.Lock()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The open doors, in the order of the configuration."""
        return tuple(self._listeners)

    async def start(self) -> None:
        """Open the operator's socket and the spool, then the doors. Raises SenderproxyError, with all closed again."""
        try:
            self._control = await self._open_control()
            await self._open_spool()
            for settings in self._config.listeners:
                self._listeners.append(await self._open(self._config, settings))
        except BaseException:
            await self.stop()
            raise
        self._settle_accounts()
        self._housekeeper = asyncio.create_task(self._keep_house())
        where = ", ".join(f"{listener.address}" for listener in self._listeners)
        count = len(self._accounts.directory().accounts)
        event(_log, log_events.SERVICE_STARTED, address=where, accounts=count, version=__version__)
        self._notifier.ready(f"listening on {where} for {count} accounts")

    async def stop(self) -> None:
        """Close the doors, let what is under way finish for `service.stop_seconds` in all, then close the rest."""
        self._notifier.stopping()
        end = self._clock.monotonic() + self._config.service.stop_seconds

        def grace() -> float:
            return max(0.0, end - self._clock.monotonic())

        if self._housekeeper is not None:
            self._housekeeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._housekeeper
        await asyncio.gather(*(listener.stop(grace()) for listener in self._listeners), *self._leaving)
        self._listeners.clear()
        await self._runner.stop(grace())
        await self._courier.close(grace())
        if self._spool is not None:
            await self._close_spool(self._spool, max(grace(), _LAST_WORDS))
        self._under_way.close()
        if self._control is not None:
            await self._control.stop()
        event(_log, log_events.SERVICE_STOPPED)

    async def _close_spool(self, spool: SqliteSpool, seconds: float) -> None:
        """A disk that does not answer keeps nobody from ending: what it never confirmed was acknowledged to nobody."""
        closing = asyncio.create_task(spool.close())
        done, _ = await asyncio.wait([closing], timeout=seconds)
        if not done:
            event(
                _log,
                log_events.SPOOL_CLOSE_TIMEOUT,
                seconds=round(seconds, 1),
                hint="See what the system says about the disk: dmesg",
            )

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop. SIGHUP reads the configuration again."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        reloads: set[asyncio.Task[object]] = set()

        def reload_soon() -> None:
            task: asyncio.Task[object] = asyncio.create_task(self._reload_and_log())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, reload_soon)
        await self.start()
        settle_down()
        await ended.wait()
        await self.stop()

    async def reload(self) -> None:
        """Read the configuration again and put it in force. Raises SenderproxyError; then the old one stays."""
        if self._load is None:
            raise SenderproxyError("This service has no configuration file to read again.")
        async with self._mending:
            config = await asyncio.to_thread(self._load)
            await self._apply(config)
            self._accounts.refresh()

    async def _apply(self, config: Config) -> None:
        """Put a new configuration in force: new doors first, so that nothing is closed before all of them stand."""
        fixed = ("vault", "spool_directory")
        moved = any(getattr(config, name) != getattr(self._config, name) for name in fixed)
        if moved or config.service.control_socket != self._config.service.control_socket:
            raise SenderproxyError(
                "The vault, the spool's directory and the control socket cannot change while the service runs.",
                hint="Restart it: systemctl restart senderproxy",
            )
        standing = {listener.settings.address: listener for listener in self._listeners}
        opened: list[Listener] = []
        doors: list[Listener] = []
        try:
            for settings in config.listeners:
                door = standing.get(settings.address)
                if door is not None and door.settings == settings and same_listener_environment(self._config, config):
                    door.renew_certificate()
                else:
                    door = await self._open(config, settings, instead_of=door)
                    opened.append(door)
                doors.append(door)
        except BaseException:
            for door in opened:
                await door.stop(0)
            raise
        gone = [listener for listener in self._listeners if listener not in doors]
        grace = config.service.stop_seconds
        self._config, self._listeners = config, doors
        self._attempts.rules, self._intake.handling = rules_of(config), handling_of(config)
        self._runner.policy = config.spool.retry_policy()
        self._runner.wake()
        self._courier.patience, self._courier.hostname = session_timeouts_of(config), config.identity.hostname
        self._courier.drop_stale()
        if self._set_up_log is not None:
            self._set_up_log(config.log)
        for listener in gone:
            task = asyncio.create_task(listener.stop(grace))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _open(self, config: Config, settings: ListenerSettings, instead_of: Listener | None = None) -> Listener:
        # A large message for the queue is received where it will lie: it is given a name then, and not copied.
        keeps = settings.mode == "queue" and self._spool is not None
        spill = SpillDirectory(folder=Path(config.spool_directory)) if keeps else None
        listener = Listener(settings, config.clients, config.identity.hostname, self._intake, self._clock, spill=spill)
        await listener.start(instead_of.share_socket() if instead_of else None)
        return listener

    async def _open_control(self) -> ControlServer:
        operator = QueueAdmin(
            lambda: self._runner.spool,
            self._clock,
            telling_with(self._reporter, self._attempts),
            self._made_due,
            lambda: self._runner.blocked,
        )
        handlers = {
            "status": self._answer_status,
            "resume": self._answer_resume,
            "reload": self._answer_reload,
            **operator.handlers(),
        }
        control = ControlServer(Path(self._config.service.control_socket), handlers)
        await control.start()
        return control

    def _made_due(self, account: str) -> None:
        """A person wants it tried now, whatever stood in the account's way."""
        self._runner.arrived(account, self._clock.now())
        self._runner.wake(account)

    async def _keep_house(self) -> None:
        """See changes of the vault although no mail comes, and tell systemd that we are alive."""
        pause = min(_HOUSEKEEPING, (self._notifier.watchdog_seconds or _HOUSEKEEPING * 2) / 2)
        while True:
            await asyncio.sleep(pause)
            self._accounts.refresh()
            if self._accounts.generation != self._settled_generation:
                self._settle_accounts()
                self._notifier.status(self._summary())
            await self._keep_spool()
            self._notifier.alive()

    async def _open_spool(self) -> None:
        """What waits is delivered from here on. Where it cannot be opened, what passes through goes on without it."""
        self._spool_tried = self._clock.monotonic()
        settings = self._config.spool
        opener = WorkerThreads("spool-opener")  # a thread that keeps nobody from ending, where the disk does not answer
        try:
            spool = await opener.do(
                SqliteSpool.open,
                Path(self._config.spool_directory),
                self._clock,
                min_free=settings.min_free,
                history=timedelta(days=settings.history_days),
            )
        except SpoolError as error:
            if self._spool_problem is None or self._spool_problem.message != error.message:
                event(_log, log_events.SPOOL_OPEN_FAILED, why=error.message, hint=error.hint)
            self._spool_problem = error
            self._intake.spool = self._runner.spool = NoSpool(error)
            return
        finally:
            opener.stop()
        self._spool, self._spool_problem = spool, None
        self._intake.spool = self._runner.spool = spool
        await self._runner.start()

    async def _keep_spool(self) -> None:
        """Try again to open it where it could not be; take away what is old."""
        now = self._clock.monotonic()
        if self._spool is None:
            if now - self._spool_tried >= _SPOOL_AGAIN:
                await self._open_spool()
        elif now - self._swept >= _SWEEP:
            self._swept = now
            try:
                await self._spool.sweep(self._clock.now())
            except SpoolError as error:
                event(_log, log_events.HISTORY_CLEANUP_FAILED, why=error.message, hint=error.hint)

    def _settle_accounts(self) -> None:
        """What follows a change of the vault, whoever noticed it: a mail or the housekeeper.

        Sessions of accounts that are gone are closed. An older vault than was in use before is said loudly.
        """
        self._settled_generation = self._accounts.generation
        self._courier.drop_stale()
        self._runner.wake()
        if older := note_generation(Path(self._config.vault.path), self._accounts):
            event(_log, log_events.VAULT_ROLLED_BACK, why=older)

    async def _reload_and_log(self) -> None:
        self._notifier.reloading(int(self._clock.monotonic() * 1_000_000))
        try:
            await self.reload()
            event(_log, log_events.CONFIG_RELOADED)
        except SenderproxyError as error:
            event(
                _log,
                log_events.CONFIG_REFUSED,
                why=error.message,
                hint=error.hint,
            )
        except Exception as fault:  # noqa: BLE001  a broken reload must not end the service
            event(_log, log_events.CONFIG_REFUSED, fault=fault)
        self._notifier.ready(self._summary())

    def _summary(self) -> str:
        where = ", ".join(listener.address for listener in self._listeners)
        return f"listening on {where} for {len(self._accounts.directory().accounts)} accounts"

    async def _answer_status(self, _: Request) -> Answer:
        return {
            "version": __version__,
            "process": os.getpid(),
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "listeners": [listener.status() for listener in self._listeners],
            "accounts": [asdict(entry) for entry in self._courier.status()],
            "vault_problem": self._accounts.problem,
            "sender_rules": [asdict(entry) for entry in self._attempts.refused_senders.entries()],
            "queue": await self._queue(),
        }

    async def _queue(self) -> Answer:
        """What waits, and since when; or why nobody can say."""
        try:
            async with asyncio.timeout(_ANSWER):
                totals = await self._runner.spool.totals()
                trouble = await self._spool.trouble() if self._spool is not None else None
        except SpoolError as error:
            return {"problem": error.message, "mend": error.hint}
        except TimeoutError:
            return {"problem": "The disk of the spool does not answer.", "mend": "See what the system says: dmesg"}
        oldest = min((total.oldest for total in totals), default=None)
        blocked, now = self._runner.blocked, self._clock.now()
        return {
            "problem": None,
            "refusing": {"why": trouble.message, "mend": trouble.hint} if trouble else None,
            "waiting": sum(total.waiting for total in totals),
            "held": sum(total.held for total in totals),
            "oldest": oldest.isoformat(timespec="seconds") if oldest else None,
            "late": oldest is not None and now - oldest > _LATE,
            "blocked": [
                {
                    "account": total.account,
                    "waiting": total.waiting,
                    "why": standstill.why,
                    "seconds": max(0, round((standstill.until - now).total_seconds())) if standstill.until else None,
                }
                for total in totals
                if total.waiting and (standstill := blocked.get(total.account))
            ],
        }

    async def _answer_resume(self, request: Request) -> Answer:
        self._accounts.refresh()
        account = str(request.get("account"))
        if self._accounts.directory().by_id(account) is None:
            raise SenderproxyError(f"There is no account {account}.", hint="senderproxy account list")
        self._courier.resume(account)
        self._runner.wake(account)
        return {"account": account}

    async def _answer_reload(self, _: Request) -> Answer:
        await self.reload()
        return {}


def run(config: Config, accounts: VaultAccounts, load: Callable[[], Config]) -> None:
    """Serve until told to stop: what `senderproxy run` does."""
    _set_up_log(config.log)
    keep_to_itself()
    service = Service(
        config,
        accounts,
        notifier=Notifier.from_environment(),
        load=load,
        set_up_log=_set_up_log,
        crash=CrashNote(Path(config.service.control_socket).with_name("crash")).read,
    )
    asyncio.run(service.run())


def _set_up_log(settings: LogSettings) -> None:
    set_up_logging(settings.level, settings.format, under_journald="JOURNAL_STREAM" in os.environ)
