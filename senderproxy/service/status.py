"""The answers to `status`, `conditions` and `automatic` on the control socket.

Guarantees: an answer within seconds, also while the disk of the spool does not respond. During the start it waits for
the listeners, for a few seconds at most. The list of conditions has everything that needs an operator; all else are
counts.
Not here: the conditions (service.conditions), their presentation (cli.status), the health of an account
(delivery.account_health).
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from senderproxy import __version__
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.build import build_id
from senderproxy.clock import Clock
from senderproxy.control.protocol import Answer, Request
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import AddressError, parse_address
from senderproxy.monitoring.facts import SpoolFacts, SpoolState
from senderproxy.monitoring.record import ConditionKey, condition_entry, translated_condition
from senderproxy.service.condition_facts import FactCollector
from senderproxy.service.conditions import ServiceConditions
from senderproxy.service.listeners import Listeners
from senderproxy.service.loop_lag import LoopLag
from senderproxy.tracking.record import Lane
from senderproxy.translation import LANGUAGES, SOURCE, _, language
from senderproxy.wiring import Components

if TYPE_CHECKING:
    from senderproxy.service.metrics import ServiceMetrics

_START: Final = 5.0  # seconds; a start takes longer only with a disk or database that does not respond
_REFUSALS: Final = 20  # entries in one answer; more than an operator reads
_BLOCKED: Final = 200  # blocked accounts in one answer; their number is beside them
_UNKNOWN: Final = 100  # unknown records in one answer; a line of each
_PAGE: Final = 250  # accounts in one answer: a few milliseconds of the event loop


class ServiceStatus:
    """The state of one running service."""

    def __init__(
        self,
        components: Components,
        accounts: VaultAccounts,
        listeners: Listeners,
        facts: FactCollector,
        conditions: ServiceConditions,
        clock: Clock,
        loop_lag: LoopLag | None,
        metrics: "ServiceMetrics | None" = None,
    ) -> None:
        self._components = components
        self._accounts = accounts
        self._listeners = listeners
        self._facts = facts
        self._conditions = conditions
        self._clock = clock
        self._loop_lag = loop_lag
        self._metrics = metrics
        self.started = asyncio.Event()  # set by the service, when its listeners are open
        self._started_at = clock.now()
        build_id()  # of the modules that this process has; an update changes the files

    async def conditions(self, code: object = SOURCE) -> Answer:
        """The list of conditions, the worst first. `code`: the language of the reader; English if it is unknown."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START):
                await self.started.wait()
        found = await self._conditions.ask()
        with language(str(code) if code in LANGUAGES else SOURCE):
            return {"conditions": [condition_entry(translated_condition(one)) for one in found]}

    def automatic(self, request: Request) -> Answer:
        """The loop guard's counts for an author and some recipients, and the author's pairs above the limit.

        Raises SenderproxyError for a request without addresses.
        """
        guard, now = self._components.intake.loop_guard, self._clock.monotonic()
        try:
            author = parse_address(str(request.get("author")))
            recipients = [parse_address(str(text)) for text in request.get("recipients") or ()]
        except (AddressError, TypeError) as error:
            raise SenderproxyError(_("Invalid address: {error}.").format(error=error)) from error
        return {
            "limit": self._components.relay.rules.senders.automatic_per_hour,
            "sent": [{"recipient": one.key, "count": guard.count(author, one, now)} for one in recipients],
            "limited": [
                {"recipient": pair.recipient, "refused": pair.refused, "deferred": pair.deferred, "limit": pair.limit}
                for pair in guard.limited(now)
                if pair.author == author.key
            ],
        }

    async def answer(self, code: object = SOURCE) -> Answer:
        """The whole state, ready for JSON. `code`: see `conditions`."""
        conditions, drain = await self.conditions(code), self._facts.drain
        await self._facts.count_queue()  # the conditions may be a second old
        return {
            "version": __version__,
            "build": build_id(),
            "process": os.getpid(),
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "draining_since": drain and drain.since.isoformat(timespec="seconds"),
            **conditions,
            "listeners": [listener.status() for listener in self._listeners.open],
            **self._accounts_after("", code),
            "servers": [
                one.entry() for one in (*self._components.courier.hops.statuses(), *self._components.mx.statuses())
            ],
            "reused_addresses": [asdict(entry) for entry in self._components.courier.reused_addresses()],
            "vault_problem": self._accounts.problem,
            "unknown_records": [record.describe() for record in self._accounts.unknown[:_UNKNOWN]],
            "sender_rules": [asdict(entry) for entry in self._components.relay.rejected_senders.entries()],
            "queue": self._queue(self._facts.spool_facts),
            "refusals": self._refusals(),
            "loop": self._loop(),
            "sent_copies": self._components.copies.status(),
            "metrics": self._metrics_address(),
        }

    def _metrics_address(self) -> Answer | None:
        """The address of the metrics, and the accounts behind labels; None: metrics are off."""
        if self._metrics is None:
            return None
        return {"address": self._metrics.address, "accounts": self._metrics.labels()}

    def accounts(self, request: Request) -> Answer:
        """The accounts after the id `after`. `language`: as in `conditions`."""
        return self._accounts_after(str(request.get("after", "")), request.get("language"))

    def _accounts_after(self, last: str, code: object) -> Answer:
        """A page of accounts. `accounts_following`: its last id, if more follow; else None."""
        providers = self._components.relay.rules.providers
        with language(str(code) if code in LANGUAGES else SOURCE):
            found = self._components.courier.status(providers, after=last, limit=_PAGE + 1)
            page = found[:_PAGE]
            entries = [one.entry() for one in page]
        return {
            "accounts": entries,
            "accounts_following": page[-1].account if len(found) > _PAGE else None,
        }

    def _loop(self) -> Answer | None:
        """The longest pass of the event loop since the start, and the passes over 0.1 s; None: not measured."""
        if self._loop_lag is None:
            return None
        return {"longest_pass_seconds": round(self._loop_lag.maximum, 4), "blocks": self._loop_lag.blocks}

    def _refusals(self) -> list[Answer]:
        """Equal refusals in the last hour, the most frequent first."""
        now = self._clock.monotonic()
        counts = [(key, count.total(now)) for key, count in self._components.intake.refusals.entries(now)]
        return [
            {"client": client, "reverse_path": path, "reply": answer, "count": count}
            for (client, path, answer), count in sorted(counts, key=lambda item: -item[1])[:_REFUSALS]
        ]

    def _queue(self, spool: SpoolFacts) -> Answer:
        """The number of waiting messages and the age of the oldest; or the problem that prevents an answer."""
        if spool.state is SpoolState.CLOSED:
            return {"problem": spool.why, "hint": spool.hint}
        totals, blocked, now = self._facts.totals, self._components.runner.blocked, self._clock.now()
        oldest = min((total.oldest for total in totals), default=None)
        waiting = [
            (total, reason)
            for total in totals
            if total.waiting and (reason := blocked.get(Lane.of_account(total.account))) is not None
        ]
        return {
            "problem": None,
            "durability": spool.durability or None,
            "instances": [
                {
                    "name": one.name,
                    "this": one.is_this,
                    "silent_seconds": round(one.silent),
                    "messages": one.messages,
                    "draining": one.is_draining,
                }
                for one in spool.instances
            ],
            "refusing": None if spool.is_open else {"why": spool.why, "hint": spool.hint},
            "waiting": sum(total.waiting for total in totals),
            "held": sum(total.held for total in totals),
            "oldest": oldest.isoformat(timespec="seconds") if oldest else None,
            "late": any(one.key is ConditionKey.QUEUE_LATE for one in self._conditions.current),
            "blocked": [
                {
                    "account": total.account,
                    "waiting": total.waiting,
                    "why": reason.why,
                    "seconds": max(0, round((reason.until - now).total_seconds())) if reason.until else None,
                }
                for total, reason in waiting[:_BLOCKED]
            ],
            "blocked_count": len(waiting),
        }
