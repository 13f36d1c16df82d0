"""Housekeeping of an idle service, on an event loop whose time passes at once."""

import asyncio
import itertools
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import cast

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.service.alert_sender import AlertSender
from senderproxy.service.conditions import ServiceConditions
from senderproxy.service.housekeeping import Housekeeping
from senderproxy.service.spool import ServiceSpool


class QuickSelector(selectors.DefaultSelector):
    """Waits for nothing; the time that the loop wanted to wait has passed. `wake_ups` counts these waits."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.wake_ups = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing would wake the loop"
        self.time += timeout
        self.wake_ups += timeout > 0
        return super().select(0)


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop with the time of its selector."""

    def __init__(self, selector: QuickSelector) -> None:
        self._quick = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._quick.time


class NothingToDo:
    """Accounts without a change, a spool without work, conditions that are not due, no alerts."""

    generation = 0
    is_due = False

    def check(self) -> bool:
        return False

    async def maintain(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class Watchdog(SystemdNotifier):
    """Notes when it is fed."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        super().__init__(None, seconds)
        self.fed: list[float] = []
        self._now = now

    def alive(self) -> None:
        self.fed.append(self._now())


def idle_for(seconds: float, watchdog_seconds: float) -> tuple[int, list[float]]:
    """The wake-ups of the loop in an idle time, and the times at which the watchdog was fed."""
    selector = QuickSelector()
    watchdog = Watchdog(watchdog_seconds, lambda: selector.time)
    accounts, spool = cast("VaultAccounts", NothingToDo()), cast("ServiceSpool", NothingToDo())
    conditions, alerts = cast("ServiceConditions", NothingToDo()), cast("AlertSender", NothingToDo())

    async def serve() -> None:
        housekeeping = Housekeeping(
            Path("vault"), accounts, spool, watchdog, conditions, alerts, lambda _: None, lambda: None, lambda: None
        )
        housekeeping.start()
        await asyncio.sleep(seconds)
        await housekeeping.stop()

    with asyncio.Runner(loop_factory=lambda: QuickLoop(selector)) as runner:
        runner.run(serve())
    return selector.wake_ups, watchdog.fed


def test_an_idle_service_is_woken_every_ten_seconds() -> None:
    wake_ups, _fed = idle_for(600, watchdog_seconds=60)
    assert wake_ups <= 61


def test_a_watchdog_is_fed_twice_in_its_time() -> None:
    for watchdog_seconds in (1.0, 60.0):
        _wake_ups, fed = idle_for(600, watchdog_seconds)
        assert max(after - before for before, after in itertools.pairwise(fed)) <= watchdog_seconds / 2
