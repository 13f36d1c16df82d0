"""Alerts by mail, through a healthy account.

Guarantees: the mail goes straight to a provider and never into the queue, so an alert neither waits behind the mail
that it is about, nor makes the queue late, and a full disk does not stop it. Several accounts are tried, none twice.
Its reverse-path is null, so no report is ever made about it, by us or by others.
Not here: the text (alerts.mail), the choice of the accounts (alerts.carriers), the order of the ways
(service.alert_sender).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from senderproxy.alerts.carriers import Carrier, choose_carriers
from senderproxy.alerts.mail import Language, MailContext, compose_alert
from senderproxy.alerts.record import Alert, AlertNotSent, Way
from senderproxy.clock import Clock
from senderproxy.config.model import AlertSettings
from senderproxy.delivery.account_state import AccountStatus
from senderproxy.mail.address import NULL_PATH, Address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.outcome import Delivered
from senderproxy.mail.submission import Client, Submission
from senderproxy.monitoring.record import Condition
from senderproxy.relay.decide import Decision
from senderproxy.relay.ports import Accounts, Outcomes
from senderproxy.translation import _
from senderproxy.wiring import Components

_TRIES: Final = 3  # accounts for one alert; if three cannot send, the next one rarely can
_TIMEOUT: Final = 60.0  # seconds for each account


class MailWay(Way):
    """The way `to`: a mail to all its addresses."""

    def __init__(
        self,
        settings: AlertSettings,
        components: Components,
        accounts: Accounts,
        conditions: Callable[[], Sequence[Condition]],
        clock: Clock,
        count: Callable[[str, Outcomes], None],
    ) -> None:
        """`conditions` returns those that exist now; `count` is called with an account and the outcomes of a mail."""
        self._settings = settings
        self._components = components
        self._accounts = accounts
        self._conditions = conditions
        self._clock = clock
        self._count = count

    @property
    def name(self) -> str:
        """See alerts.record.Way."""
        return "mail"

    async def send(self, alert: Alert) -> None:
        """See alerts.record.Way."""
        missing = list(self._settings.to)
        refusals: dict[str, str] = {}  # the last reply, by recipient
        for carrier in self._carriers(alert, len(missing))[:_TRIES]:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    outcomes = await self._offer(alert, carrier, missing)
            except TimeoutError:
                text = _("Account {account}: no reply within {seconds} s.")
                refusals |= dict.fromkeys(
                    map(str, missing), text.format(account=carrier.account, seconds=f"{_TIMEOUT:g}")
                )
                continue
            for path, outcome in outcomes.items():
                refusals[str(path)] = _("Account {account}: {reply}").format(
                    account=carrier.account, reply=str(outcome.reply)
                )
            missing = [to for to in missing if not isinstance(outcomes.get(to), Delivered)]
            if not missing:
                return
        partly = len(missing) < len(self._settings.to)
        if not refusals:
            raise AlertNotSent(
                _("No account can send now."),
                hint=_("Add an account at another provider, or another way of alerts, such as a webhook."),
            )
        raise AlertNotSent(
            _("{address} did not get it. {reply}").format(address=missing[0], reply=refusals[str(missing[0])]),
            hint=_("Check [alerts] to, and the account; then: senderproxy alert test"),
            partly=partly,
        )

    def _carriers(self, alert: Alert, recipients: int) -> list[Carrier]:
        providers = self._components.relay.rules.providers
        known = {account.id for account in self._accounts.directory().accounts if account.provider in providers}
        carriers = [
            Carrier(one.account, one.provider, one.account in known and _is_able(one, recipients))
            for one in self._components.courier.status(providers)
        ]
        broken = [item.condition for item in alert.items if item.ended is None]
        return choose_carriers(carriers, [*broken, *self._conditions()])

    async def _offer(self, alert: Alert, carrier: Carrier, to: Sequence[Address]) -> Outcomes:
        """Send it through this account; the outcome for each recipient, none if it is gone or may not send it."""
        account = self._accounts.directory().by_id(carrier.account)
        if account is None:
            return {}
        context = MailContext(
            account.address,
            to,
            Language(self._settings.language),
            names={one.id: str(one.address) for one in self._accounts.directory().accounts},
        )
        relay = self._components.relay
        submission = Submission(
            alert.id,
            "",
            Client("127.0.0.1", relay.rules.hostname, "local"),
            Envelope(NULL_PATH, tuple(to)),
            compose_alert(alert, context),
            self._clock.now(),
            report_on=alert.id,
            carrier=account.id,
        )
        decision = relay.decide(submission)
        if not isinstance(decision, Decision):
            return {}
        outcomes = await relay.deliver(submission, decision)
        self._count(account.id, outcomes)
        return outcomes


def _is_able(status: AccountStatus, recipients: int) -> bool:
    """True if the account can send one message to so many recipients now."""
    return (
        status.state == "healthy"
        and (status.messages_left is None or status.messages_left > 0)
        and (status.recipients_left is None or status.recipients_left >= recipients)
    )
