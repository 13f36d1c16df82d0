"""Drain of the service: a proxy sends its new clients elsewhere, and nobody is refused.

Guarantees: only a connection without a client's address, such as a health check, is refused. Clients that come are
served, those connected go on, and the queue is sent as before. A drain lasts over a reload and ends with the process.
Not here: the refusal (listener.connections), the wait for the end of the work (cli.drain), the condition
(monitoring.service_conditions).
"""

import logging
from collections.abc import Callable
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.control.protocol import Answer, Request
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.monitoring.facts import DrainFacts
from senderproxy.service.condition_facts import FactCollector
from senderproxy.service.listeners import Listeners
from senderproxy.service.spool import ServiceSpool
from senderproxy.translation import _
from senderproxy.wiring import Components

_log: Final = logging.getLogger("senderproxy.service")


class Drain:
    """The drain of one service; its state is `facts.drain`."""

    def __init__(
        self,
        listeners: Listeners,
        spool: ServiceSpool,
        components: Components,
        facts: FactCollector,
        clock: Clock,
        show_status: Callable[[], None],
    ) -> None:
        """`show_status` is called after the begin and the end."""
        self._listeners = listeners
        self._spool = spool
        self._components = components
        self._facts = facts
        self._clock = clock
        self._show_status = show_status

    async def answer(self, request: Request) -> Answer:
        """Begin or end the drain (`on`), and answer with the state and the work under way. Raises SenderproxyError."""
        wanted, before = request.get("on"), self._facts.drain
        if wanted is not None and not isinstance(wanted, bool):
            raise SenderproxyError(_("The field {name} must be true or false.").format(name="on"))
        if wanted is True and before is None:
            self._begin()
        elif wanted is False and before is not None:
            self._end(before)
        return self._state() | {"changed": self._facts.drain is not before}

    def _begin(self) -> None:
        if not self._checked():
            raise SenderproxyError(
                _("No listener has `proxy_from`: no proxy would see the drain, and its clients would still come here."),
                hint=_("Name the proxy in `proxy_from` (docs/proxy.md), or take this machine out in the proxy itself."),
            )
        self._facts.drain = DrainFacts(self._clock.now())
        self._listeners.drain(on=True)
        self._spool.drain(on=True)
        event(_log, log_events.DRAIN_BEGAN, listeners=", ".join(self._checked()))
        self._show_status()

    def _end(self, drain: DrainFacts) -> None:
        self._facts.drain = None
        self._listeners.drain(on=False)
        self._spool.drain(on=False)
        event(_log, log_events.DRAIN_ENDED, seconds=round((self._clock.now() - drain.since).total_seconds()))
        self._show_status()

    def _state(self) -> Answer:
        """The beginning, the listeners whose checks are refused, the work under way, all connections so far.

        `arrived` changes with each connection: a client may come and go between two requests.
        """
        listeners, work = self._listeners.all, self._components.runner.work
        drain = self._facts.drain
        return {
            "draining_since": drain and drain.since.isoformat(timespec="seconds"),
            "checked": self._checked(),
            "clients": sum(listener.connections for listener in listeners),
            "messages": sum(listener.in_progress for listener in listeners),
            "attempts": work.in_progress,
            "due": work.is_due,
            "shared": self._components.courier.shared_limits is not None,  # other instances send what is in the queue
            "copies": self._components.copies.under_way,
            "arrived": sum(one.counters.connections + one.counters.turned_away for one in listeners),
        }

    def _checked(self) -> list[str]:
        """The names of the listeners behind a proxy: those whose health checks are known as such."""
        return [listener.settings.name for listener in self._listeners.open if listener.settings.proxy_from]
