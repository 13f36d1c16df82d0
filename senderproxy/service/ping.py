"""A dead-man's ping: a request at a fixed interval while the service is able to take and send mail.

Guarantees: a ping means that the event loop runs, the spool takes messages and all configured listeners are open; the
process alone is not enough. It has no timer of its own: the housekeeping asks. A ping that fails is logged once, and
repeated after a minute. Without the setting nothing happens at all.
Not here: HTTP itself (http_client), the receiver, which alerts when pings stay away.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from senderproxy import log_events
from senderproxy.alerts.record import Alert, AlertNotSent
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.message import Request
from senderproxy.http_client.url import parse_url
from senderproxy.log import event
from senderproxy.service.secrets import SecretReader
from senderproxy.translation import _

_log: Final = logging.getLogger("senderproxy.service")

_RETRY: Final = 60.0  # seconds after a ping that failed; a receiver's grace time is longer
_FAIL: Final = "fail"  # the segment that healthchecks.io and its kin take as a failure


@dataclass(frozen=True, slots=True)
class PingSettings:
    """The settings of the ping. `url`: the place of a secret (service.secrets)."""

    url: str
    interval_seconds: float = 300.0
    signals_failures: bool = False  # a request to `URL/fail` while the service is not able to work
    ca_file: str | None = None


class Ping:
    """The ping of one service. `send` makes it a way of `senderproxy alert test`, and of nothing else."""

    name = "ping"

    def __init__(self, client: HttpClient, secrets: SecretReader, clock: Clock, problem: Callable[[], str]) -> None:
        """`problem` returns why the service cannot work; empty if it can. It is called often, and is cheap."""
        self._settings: PingSettings | None = None
        self._client = client
        self._secrets = secrets
        self._clock = clock
        self._problem = problem
        self._next_at = -math.inf  # monotonic seconds
        self._signalled = False  # the receiver knows that the service cannot work
        self._failed = False  # the last ping
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """True with the setting."""
        return self._settings is not None

    def apply(self, settings: PingSettings | None) -> None:
        """Put settings in force; None: no pings."""
        if settings != self._settings:
            self._settings, self._next_at, self._failed = settings, -math.inf, False

    def check(self) -> None:
        """Send a ping if its time has come. Cheap without."""
        settings = self._settings
        if settings is None or (self._task is not None and not self._task.done()):
            return
        problem, now = self._problem(), self._clock.monotonic()
        is_news = bool(problem) and settings.signals_failures and not self._signalled
        if now < self._next_at and not (is_news and not self._failed):
            return
        if problem and not settings.signals_failures:
            return
        self._next_at = now + settings.interval_seconds
        self._task = asyncio.create_task(self._ping(settings, problem))

    async def send(self, _alert: Alert) -> None:
        """Send a ping now. Raises AlertNotSent."""
        settings, problem = self._settings, self._problem()
        if settings is None:
            return
        if problem and not settings.signals_failures:
            raise AlertNotSent(_("No ping is sent at the moment: {problem}").format(problem=problem))
        await self._request(settings, problem)

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _ping(self, settings: PingSettings, problem: str) -> None:
        try:
            await self._request(settings, problem)
        except AlertNotSent as error:
            self._next_at = min(self._next_at, self._clock.monotonic() + _RETRY)
            if not self._failed:
                event(_log, log_events.PING_FAILED, why=error.message, hint=error.hint)
            self._failed = True
            return
        except Exception as fault:  # noqa: BLE001  the service must not depend on it
            event(_log, log_events.ALERTS_FAILED, fault=fault)
            return
        self._signalled = bool(problem)
        if self._failed:
            event(_log, log_events.PING_RECOVERED)
        self._failed = False

    async def _request(self, settings: PingSettings, problem: str) -> None:
        """Raises AlertNotSent."""
        try:
            url = parse_url(await self._secrets.read(settings.url))
            request = Request("GET", url)
            if problem:
                headers = {"Content-Type": "text/plain; charset=utf-8"}
                request = Request("POST", url.below(_FAIL), headers, problem.encode())
            answer = await self._client.send(request, ca_file=settings.ca_file)
        except SenderproxyError as error:
            raise AlertNotSent(error.message, hint=error.hint) from None
        if not answer.is_success:
            status = f"{answer.status} {answer.reason}".strip()
            raise AlertNotSent(
                _("{server} answered {status}.").format(server=url, status=status),
                hint=_("compare the ping's URL with that of the receiver"),
            )
