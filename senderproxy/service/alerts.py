"""The alerts of one service: construction, settings, answers on the control socket.

Not here: when alerts are decided and sent (service.alert_sender), their ways (service.alert_ways).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from senderproxy.alerts import policy, weekly
from senderproxy.clock import Clock
from senderproxy.config.model import Config
from senderproxy.control.protocol import Answer, Request, Verb
from senderproxy.mail.outcome import Delivered, Failed
from senderproxy.monitoring.facts import AlertWayFacts
from senderproxy.relay.ports import Accounts, Outcomes
from senderproxy.service import alert_sender
from senderproxy.service.alert_sender import AlertInputs, AlertSender
from senderproxy.service.alert_state import AlertStateFile
from senderproxy.service.alert_ways import alert_rules, alert_ways, week_time
from senderproxy.service.condition_facts import FactCollector
from senderproxy.service.conditions import ServiceConditions
from senderproxy.service.http_ways import HttpWays
from senderproxy.wiring import Components


class ServiceAlerts:
    """The sender of alerts, connected to the other parts of the service."""

    def __init__(
        self,
        components: Components,
        accounts: Accounts,
        facts: FactCollector,
        conditions: ServiceConditions,
        clock: Clock,
        file: Path,
    ) -> None:
        """`file`: for the state of the alerts, beside the control socket."""
        self._components = components
        self._accounts = accounts
        self._facts = facts
        self._conditions = conditions
        self._clock = clock
        self._own: dict[str, tuple[int, int]] = {}  # recipients of alerts, delivered and refused, by account
        learned = components.learned
        self.sender = AlertSender(
            AlertInputs(
                lambda: conditions.found,
                lambda: sum(one.waiting for one in facts.totals),
                self._recipient_totals,
                self._write,
                self._note_ways,
            ),
            clock,
        )
        self._http = HttpWays(clock, self.sender, facts.inability)
        self.sender.changed = learned.register(alert_sender.LEARNED_KIND, self.sender)
        self._state = AlertStateFile(file, self.sender.policy, clock)
        self._state.changed = learned.register(policy.LEARNED_KIND, self._state)
        self.sender.weekly.changed = learned.register(weekly.LEARNED_KIND, self.sender.weekly, adds=True)

    def apply(self, config: Config) -> None:
        """Put settings in force."""
        settings = config.alerts
        ways = alert_ways(
            settings, self._components, self._accounts, lambda: self._conditions.current, self._clock, self._count
        )
        ways += self._http.apply(settings)
        self.sender.tested_only = (self._http.ping,) if self._http.ping.is_on else ()
        self.sender.apply(config.identity.hostname, ways, alert_rules(settings), week_time(settings))

    def start(self) -> None:
        """Restore the state of the alerts, before the spool is opened."""
        self._state.read()

    def check(self) -> None:
        """Begin to send due alerts and a due ping. Cheap without; called by the housekeeping."""
        if self._components.learned.is_open:
            self._state.store_in_spool()
        self.sender.check()
        self._state.write_soon()
        self._http.ping.check()

    async def stop(self) -> None:
        """Send no more."""
        await self.sender.stop()
        await self._http.stop()
        self._state.stop()

    def handlers(self) -> Mapping[Verb, Callable[[Request], Awaitable[Answer]]]:
        """The answers to `senderproxy alert`."""
        return {Verb.ALERTS: self._answer_alerts, Verb.ALERT_TEST: self._answer_test}

    def _count(self, account: str, outcomes: Outcomes) -> None:
        """Count the recipients of an alert: they are no mail of the office."""
        for outcome in outcomes.values():
            sent_by = account if outcome.by is None else outcome.by.account
            delivered, refused = self._own.get(sent_by, (0, 0))
            is_delivered, is_refused = isinstance(outcome, Delivered), isinstance(outcome, Failed)
            self._own[sent_by] = delivered + is_delivered, refused + is_refused

    def _recipient_totals(self) -> Mapping[str, tuple[int, int]]:
        """The recipients delivered and refused since the start, by account, without those of alerts."""
        providers = self._components.relay.rules.providers
        totals = {}
        for one in self._components.courier.status(providers):
            delivered, refused = self._own.get(one.account, (0, 0))
            totals[one.account] = one.delivered - delivered, one.failed - refused
        return totals

    async def _write(self) -> None:
        """Write the state of the alerts to both places; neither waits for the other."""
        await asyncio.gather(self._components.learned.flush(), self._state.write())

    def _note_ways(self, failing: Sequence[AlertWayFacts]) -> None:
        self._facts.alert_ways = failing

    async def _answer_alerts(self, _request: Request) -> Answer:
        return self.sender.answer()

    async def _answer_test(self, _request: Request) -> Answer:
        return {"ways": [asdict(result) for result in await self.sender.test()]}
