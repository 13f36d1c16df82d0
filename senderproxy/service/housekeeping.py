"""Housekeeping of the running service: watchdog of systemd, changes of the vault, spool, conditions, alerts.

Guarantees: the watchdog is fed by the event loop alone. The maintenance and the look for conditions, which may wait for
a disk, run beside it. An internal error in one of them is logged with its traceback and reported to the service, which
stops.
Not here: the reaction to a change of the accounts (app).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from senderproxy import log_events
from senderproxy.accounts.rollback import note_generation
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.log import event
from senderproxy.monitoring.storage_conditions import ROLLED_BACK_HINT
from senderproxy.service.conditions import ServiceConditions
from senderproxy.service.spool import ServiceSpool
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log = logging.getLogger("senderproxy.service")
_INTERVAL: Final = 10.0  # seconds between looks at the vault file while no message arrives: each wakes an idle machine


class PeriodicAlerts(Protocol):
    """The alerts, as the housekeeping sees them."""

    def check(self) -> None:
        """Begin to send what is due. Cheap without."""
        ...

    async def stop(self) -> None:
        """Send no more."""
        ...


class Housekeeping:
    """One task for the watchdog and the vault, one for the maintenance, one for the look for conditions.

    One attribute for each part that it looks after, and for each task.
    """

    def __init__(
        self,
        vault: VaultPlace,
        accounts: VaultAccounts,
        spool: ServiceSpool,
        notifier: SystemdNotifier,
        conditions: ServiceConditions,
        alerts: PeriodicAlerts,
        note_rolled_back: Callable[[str], None],
        tick: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        """`note_rolled_back` gets the sentence on a vault that is older than the one before, or an empty one.

        `tick` is called each time and does not wait; `failed` is called once, after an internal error, and
        `fault` has the error then.
        """
        self.fault: BaseException | None = None
        self._vault = vault
        self._accounts = accounts
        self._spool = spool
        self._notifier = notifier
        self._conditions = conditions
        self._alerts = alerts
        self._note_rolled_back = note_rolled_back
        self._tick = tick
        self._failed = failed
        self._files = WorkerThreads("service-files")
        self._noted_generation = 0  # of the vault
        self._rolled_back = ""  # the sentence on a vault that is older than the one before
        self._task: asyncio.Task[None] | None = None
        self._maintenance: asyncio.Task[None] | None = None
        self._look: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the tasks on the running event loop."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the tasks."""
        for task in (self._task, self._maintenance, self._look):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        await self._alerts.stop()
        self._files.stop()

    async def _run(self) -> None:
        pause = min(_INTERVAL, (self._notifier.watchdog_seconds or _INTERVAL * 2) / 2)
        while True:
            self._notifier.alive()
            self._accounts.check()
            self._tick()
            if _is_over(self._maintenance):
                self._maintenance = asyncio.create_task(self._maintain())
            if _is_over(self._look) and self._conditions.is_due:
                self._look = asyncio.create_task(self._look_and_alert())
            else:
                self._alerts.check()
            await asyncio.sleep(pause)

    async def _look_and_alert(self) -> None:
        """Look for conditions, and decide about alerts at once: the process may not live until the next time."""
        await self._conditions.look()
        self._alerts.check()

    async def _maintain(self) -> None:
        """Note the vault's generation, maintain the spool. A vault older than the one used before is logged."""
        generation = self._accounts.generation
        if self._noted_generation != generation or self._rolled_back:  # the operator may have accepted it meanwhile
            with suppress(WorkerThreadsError):  # the system has no thread left: noted the next time
                older = await self._files.do(note_generation, self._vault, self._accounts.vault_id, generation) or ""
                self._noted_generation = generation
                if older and not self._rolled_back:
                    event(_log, log_events.VAULT_ROLLED_BACK, why=older, hint=ROLLED_BACK_HINT)
                self._rolled_back = older
                self._note_rolled_back(older)
        await self._spool.maintain()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        self.fault = task.exception()
        event(_log, log_events.HOUSEKEEPING_FAILED, fault=self.fault)
        self._failed()


def _is_over(task: "asyncio.Task[None] | None") -> bool:
    """True if a task has ended or was not started. Raises its internal error."""
    if task is None:
        return True
    if task.done():
        task.result()
    return task.done()
