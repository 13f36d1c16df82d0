"""Webhook and ping of one service, from its settings.

Guarantees: what waits for the webhook outlives a reload. Without the settings no thread and no timer is started.
Not here: their work (service.webhook, service.ping).
"""

from collections.abc import Callable

from senderproxy.alerts.record import Way
from senderproxy.alerts.webhook_body import WebhookFormat
from senderproxy.clock import Clock
from senderproxy.config.model import AlertSettings
from senderproxy.http_client.client import HttpClient
from senderproxy.service.ping import Ping, PingSettings
from senderproxy.service.secrets import SecretReader
from senderproxy.service.webhook import LaterAttempts, WebhookSettings, WebhookWay


class HttpWays:
    """The webhook and the ping, with the client that both use."""

    def __init__(self, clock: Clock, later: LaterAttempts, problem: Callable[[], str]) -> None:
        """`later` and `problem`: see service.webhook and service.ping."""
        self._clock = clock
        self._later = later
        self._client = HttpClient(clock)
        self._secrets = SecretReader()
        self._webhook: WebhookWay | None = None
        self.ping = Ping(self._client, self._secrets, clock, problem)

    def apply(self, settings: AlertSettings) -> tuple[Way, ...]:
        """Put settings in force; returns the ways of alerts that are set."""
        self.ping.apply(ping_settings(settings))
        wanted = webhook_settings(settings)
        if wanted is None:
            if self._webhook is not None:
                self._webhook.close()
            self._webhook = None
            return ()
        if self._webhook is None:
            self._webhook = WebhookWay(wanted, self._client, self._secrets, self._clock, self._later)
        self._webhook.settings = wanted
        return (self._webhook,)

    async def stop(self) -> None:
        """Send no more. Requests that hang are left to their threads."""
        await self.ping.stop()
        if self._webhook is not None:
            self._webhook.close()
        self._client.close()
        self._secrets.close()


def webhook_settings(settings: AlertSettings) -> WebhookSettings | None:
    """The settings of the webhook; None without one."""
    if settings.webhook is None:
        return None
    return WebhookSettings(
        settings.webhook,
        WebhookFormat(settings.webhook_format),
        settings.webhook_secret,
        settings.ca_file,
        "de" if settings.language == "de" else "en",
    )


def ping_settings(settings: AlertSettings) -> PingSettings | None:
    """The settings of the ping; None without one."""
    if settings.ping is None:
        return None
    return PingSettings(settings.ping, settings.ping_minutes * 60, settings.ping_fail, settings.ca_file)
