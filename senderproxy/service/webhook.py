"""Alerts by webhook: one POST for each, repeated with growing pauses until it is taken.

Guarantees: alerts arrive in their order; each has the same `webhook-id` in all attempts, so that a receiver can drop a
double. One that the server refuses for good, or cannot take for a day, is given up and logged. Memory is bounded.
Nothing wakes the process while no alert waits. No error contains the URL beyond its host.
Not here: the bodies (alerts.webhook_body), HTTP itself (http_client), the decision about alerts (alerts.policy).
Headers and signature: https://www.standardwebhooks.com, version 1.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from senderproxy import __version__, log_events
from senderproxy.alerts.record import Alert, AlertItem, AlertNotSent
from senderproxy.alerts.webhook_body import WebhookBody, WebhookFormat, webhook_body
from senderproxy.clock import Clock
from senderproxy.errors import SenderproxyError
from senderproxy.http_client.client import HttpClient
from senderproxy.http_client.message import Answer, Request
from senderproxy.http_client.url import Url, parse_url
from senderproxy.log import event
from senderproxy.service.secrets import SecretReader
from senderproxy.translation import _

_log: Final = logging.getLogger("senderproxy.service")

_FIRST_PAUSE: Final = 10.0  # seconds before the second attempt; it doubles with each further one
_LONGEST_PAUSE: Final = 600.0  # seconds; also for what Retry-After asks
_GROWTHS: Final = 10  # times that the pause doubles; beyond the longest one
_KEPT: Final = 86400.0  # seconds; an older alert says nothing that the next one does not
_WAITING_LIMIT: Final = 100  # alerts; ten hours of the default `max_per_hour`
_PASS: Final = 30.0  # seconds for one pass through what waits
_LATER: Final = frozenset({408, 425, 429})  # the only statuses of 4xx that another attempt may change
_FORBIDDEN: Final = frozenset({401, 403})
_UNKNOWN: Final = frozenset({404, 410})
_ENCODED_SECRET: Final = "whsec_"  # begins a secret in base64


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The settings of the webhook. `url` and `secret`: places of secrets (service.secrets)."""

    url: str
    form: WebhookFormat = WebhookFormat.JSON
    secret: str | None = None
    ca_file: str | None = None
    language: str = "en"


class _TryLater(AlertNotSent):
    """Another attempt may succeed. `seconds`: the pause that the server asks for."""

    def __init__(self, message: str, *, hint: str = "", seconds: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.seconds = seconds


@dataclass(slots=True)
class _Waiting:
    alert: Alert
    until: float  # monotonic seconds


class LaterAttempts(Protocol):
    """Notes about attempts after the first one."""

    def is_wanted(self, alert: Alert) -> bool:
        """True if the alert still says something."""
        ...

    def sent_later(self, way: str, alert: Alert) -> None:
        """Note that the way has sent an alert after `send` failed."""
        ...


class WebhookWay:
    """The webhook as a way of alerts. `settings` may be replaced at any time, also for alerts that wait."""

    name = "webhook"

    def __init__(
        self,
        settings: WebhookSettings,
        client: HttpClient,
        secrets: SecretReader,
        clock: Clock,
        later: LaterAttempts,
        *,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        """`first_pause`: seconds before the second attempt."""
        self.settings = settings
        self._client = client
        self._secrets = secrets
        self._clock = clock
        self._later = later
        self._first_pause = first_pause
        self._waiting: deque[_Waiting] = deque()
        self._lock = asyncio.Lock()
        self._failures = 0  # in a row
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.Task[None] | None = None

    async def send(self, alert: Alert) -> None:
        """See alerts.record.Way. An alert about conditions that is not taken now is sent later."""
        if not alert.items:
            await self._post(alert)
            return
        self._add(alert)
        async with self._lock:
            if any(one.alert is alert for one in self._waiting):
                await self._send_waiting(alert)

    def close(self) -> None:
        """Send no more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._retry is not None:
            self._retry.cancel()

    # ---- what waits ----

    def _add(self, alert: Alert) -> None:
        """Put it behind the others, in place of those with the same news."""
        news = set(map(_news, alert.items))
        kept = [one for one in self._waiting if one.alert.id != alert.id and not _is_repeated(one.alert, news)]
        kept.append(_Waiting(alert, self._clock.monotonic() + _KEPT))
        for one in kept[:-_WAITING_LIMIT]:
            _give_up(one.alert, "too many alerts wait")
        self._waiting = deque(kept[-_WAITING_LIMIT:])

    async def _send_waiting(self, mine: Alert | None = None) -> None:
        """Send the waiting alerts in order. Raises AlertNotSent if the server takes no more, or refuses `mine`."""
        end = self._clock.monotonic() + _PASS
        refused: AlertNotSent | None = None
        while self._waiting:
            one = self._waiting[0]
            try:
                await self._send_one(one, end)
            except _TryLater as error:
                self._schedule(error.seconds)
                raise
            except AlertNotSent as error:
                _give_up(one.alert, error.message)
                refused = error if one.alert is mine else refused
            else:
                if one.alert is not mine:
                    self._later.sent_later(self.name, one.alert)
            self._failures = 0
            if self._waiting and self._waiting[0] is one:
                self._waiting.popleft()
        if refused is not None:
            raise refused

    async def _send_one(self, one: _Waiting, end: float) -> None:
        now = self._clock.monotonic()
        if now >= one.until:
            raise AlertNotSent("not taken for a day")
        if not self._later.is_wanted(one.alert):
            raise AlertNotSent("its conditions have ended meanwhile")
        if now >= end:
            raise _TryLater(_("Earlier alerts are being sent first, and the server is slow."))
        await self._post(one.alert)

    def _schedule(self, asked_seconds: float) -> None:
        pause = min(_LONGEST_PAUSE, self._first_pause * 2.0 ** min(self._failures, _GROWTHS))
        pause = min(_LONGEST_PAUSE, max(pause, asked_seconds))
        self._failures += 1
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(pause, self._start_retry)

    def _start_retry(self) -> None:
        self._retry = asyncio.create_task(self._send_again())

    async def _send_again(self) -> None:
        try:
            async with self._lock:
                await self._send_waiting()
        except AlertNotSent:
            return  # the next attempt has its timer
        except Exception as fault:  # noqa: BLE001  the service must not depend on it
            event(_log, log_events.ALERTS_FAILED, fault=fault)

    # ---- one attempt ----

    async def _post(self, alert: Alert) -> None:
        """Raises AlertNotSent."""
        settings = self.settings
        try:
            url = parse_url(await self._secrets.read(settings.url))
            secret = None if settings.secret is None else await self._secrets.read(settings.secret)
            body = webhook_body(alert, settings.form, __version__, settings.language)
            request = webhook_request(url, body, alert.id, self._clock.now(), secret)
            answer = await self._client.send(request, ca_file=settings.ca_file)
        except SenderproxyError as error:
            raise _TryLater(error.message, hint=error.hint) from None
        if not answer.is_success:
            raise refusal(answer, url)


def webhook_request(url: Url, body: WebhookBody, id_: str, now: datetime, secret: str | None) -> Request:
    """The request for an alert with this id. `secret`: text, or `whsec_` and base64. Raises AlertNotSent."""
    stamp = str(int(now.timestamp()))
    headers = {**body.headers, "webhook-id": id_, "webhook-timestamp": stamp}
    if secret is not None:
        headers["webhook-signature"] = _signature(secret, id_, stamp, body.content)
    return Request("POST", url, headers, body.content)


def _signature(secret: str, id_: str, stamp: str, content: bytes) -> str:
    if secret.startswith(_ENCODED_SECRET):
        try:
            key = base64.b64decode(secret.removeprefix(_ENCODED_SECRET), validate=True)
        except binascii.Error:
            raise AlertNotSent(_("The webhook's secret begins with whsec_ and is not base64.")) from None
    else:
        key = secret.encode()
    signed = hmac.digest(key, f"{id_}.{stamp}.".encode() + content, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode('ascii')}"


def refusal(answer: Answer, url: Url) -> AlertNotSent:
    """The error for an answer other than success."""
    text = _("{server} answered {status}.").format(server=url, status=f"{answer.status} {answer.reason}".strip())
    if answer.status in _LATER or answer.status >= 500:
        return _TryLater(text, seconds=_retry_after(answer))
    if answer.status in _FORBIDDEN:
        return AlertNotSent(text, hint=_("correct the token in the webhook's URL"))
    if answer.status in _UNKNOWN:
        return AlertNotSent(text, hint=_("make a new webhook at the receiver, and replace its URL"))
    if 300 <= answer.status <= 399:
        return AlertNotSent(text, hint=_("write the URL to which it redirects"))
    return AlertNotSent(text, hint=_("see which webhook_format the receiver takes"))


def _retry_after(answer: Answer) -> float:
    """The seconds that the server asks for; a date is not read."""
    text = answer.headers.get("retry-after", "")
    return float(text[:6]) if text.isascii() and text.isdigit() else 0.0


def _news(item: AlertItem) -> tuple[object, ...]:
    return item.kind, item.condition.id, item.condition.since, item.condition.severity


def _is_repeated(alert: Alert, news: set[tuple[object, ...]]) -> bool:
    """True if the alert has nothing that is not in the news."""
    return bool(alert.items) and news.issuperset(map(_news, alert.items))


def _give_up(alert: Alert, why: str) -> None:
    event(_log, log_events.ALERT_GIVEN_UP, way=WebhookWay.name, id=alert.id, kind=alert.kind.value, why=why)
