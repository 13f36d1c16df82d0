"""The ways of alerts by mail that the configuration names; those by HTTP are in service.http_ways."""

from collections.abc import Callable, Sequence

from senderproxy.alerts.policy import AlertRules
from senderproxy.alerts.record import Way
from senderproxy.alerts.weekly import WeekTime
from senderproxy.clock import Clock
from senderproxy.config.model import AlertSettings
from senderproxy.config.values import split_weekly
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition
from senderproxy.relay.ports import Accounts, Outcomes
from senderproxy.service.alert_mail import MailWay
from senderproxy.wiring import Components


def alert_ways(
    settings: AlertSettings,
    components: Components,
    accounts: Accounts,
    conditions: Callable[[], Sequence[Condition]],
    clock: Clock,
    count: Callable[[str, Outcomes], None],
) -> tuple[Way, ...]:
    """The ways by mail that are set. For `conditions` and `count` see service.alert_mail."""
    ways: list[Way] = []
    if settings.to:
        ways.append(MailWay(settings, components, accounts, conditions, clock, count))
    return tuple(ways)


def alert_rules(settings: AlertSettings) -> AlertRules:
    """The settings for alerts.policy."""
    return AlertRules(
        Severity[settings.level.upper()],
        settings.error_delay_seconds,
        settings.warning_delay_seconds,
        settings.over_delay_seconds,
        settings.max_at_once,
        settings.max_per_hour,
        settings.reminder_hours * 3600,
    )


def week_time(settings: AlertSettings) -> WeekTime | None:
    """The time of the weekly alert."""
    return None if settings.weekly is None else split_weekly(settings.weekly)
