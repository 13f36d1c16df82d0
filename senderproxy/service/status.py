"""The answer to `status` on the control socket: the state of listeners, accounts and queue.

Guarantees: an answer within seconds, also while the disk of the spool does not respond.
Not here: its presentation (cli.status), the health of an account (delivery.account_health).
"""

import asyncio
import os
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from senderproxy import __version__
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock
from senderproxy.control.protocol import Answer
from senderproxy.relay.ports import SpoolError
from senderproxy.service.listeners import Listeners
from senderproxy.service.loop_lag import LoopLag
from senderproxy.service.spool import ServiceSpool
from senderproxy.translation import _
from senderproxy.wiring import Components

_LATE: Final = timedelta(hours=1)  # the age of a waiting message from which `status` warns
_SPOOL_TIMEOUT: Final = 5.0  # seconds for the spool's totals; the operator waits for the answer


class ServiceStatus:
    """The state of one running service."""

    def __init__(
        self,
        components: Components,
        accounts: VaultAccounts,
        listeners: Listeners,
        spool: ServiceSpool,
        clock: Clock,
        loop_lag: LoopLag | None,
    ) -> None:
        self._components = components
        self._accounts = accounts
        self._listeners = listeners
        self._spool = spool
        self._clock = clock
        self._loop_lag = loop_lag
        self._started_at = clock.now()

    async def answer(self) -> Answer:
        """The whole state, ready for JSON."""
        return {
            "version": __version__,
            "process": os.getpid(),
            "started_at": self._started_at.isoformat(timespec="seconds"),
            "listeners": [listener.status() for listener in self._listeners.open],
            "accounts": [asdict(entry) for entry in self._components.courier.status()],
            "reused_addresses": [asdict(entry) for entry in self._components.courier.reused_addresses()],
            "vault_problem": self._accounts.problem,
            "unknown_records": [record.describe() for record in self._accounts.unknown],
            "sender_rules": [asdict(entry) for entry in self._components.relay.rejected_senders.entries()],
            "queue": await self._queue(),
            "loop": self._loop(),
        }

    def _loop(self) -> Answer | None:
        """The longest pass of the event loop since the start, and the passes over 0.1 s; None: not measured."""
        if self._loop_lag is None:
            return None
        return {"longest_pass_seconds": round(self._loop_lag.maximum, 4), "blocks": self._loop_lag.blocks}

    async def _queue(self) -> Answer:
        """The number of waiting messages and the age of the oldest; or the problem that prevents an answer."""
        runner = self._components.runner
        try:
            async with asyncio.timeout(_SPOOL_TIMEOUT):
                totals = await runner.spool.totals()
                trouble = await self._spool.trouble()
        except SpoolError as error:
            return {"problem": error.message, "hint": error.hint}
        except TimeoutError:
            problem = _("The disk of the spool does not respond.")
            return {"problem": problem, "hint": _("Look for errors of the disk: dmesg")}
        oldest = min((total.oldest for total in totals), default=None)
        blocked, now = runner.blocked, self._clock.now()
        return {
            "problem": None,
            "refusing": {"why": trouble.message, "hint": trouble.hint} if trouble else None,
            "waiting": sum(total.waiting for total in totals),
            "held": sum(total.held for total in totals),
            "oldest": oldest.isoformat(timespec="seconds") if oldest else None,
            "late": oldest is not None and now - oldest > _LATE,
            "blocked": [
                {
                    "account": total.account,
                    "waiting": total.waiting,
                    "why": reason.why,
                    "seconds": max(0, round((reason.until - now).total_seconds())) if reason.until else None,
                }
                for total in totals
                if total.waiting and (reason := blocked.get(total.account))
            ],
        }
