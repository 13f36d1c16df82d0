"""Conditions of the servers without a login that routes name. PURE.

Not here: the state of a server (delivery.hops), client certificates (monitoring.service_conditions).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.facts import Facts
from senderproxy.monitoring.record import Condition, ConditionKey
from senderproxy.translation import _, translated

_ERROR: Final = timedelta(minutes=10)  # a restart of a server takes less


def route_conditions(facts: Facts) -> Iterator[Condition]:
    """Servers that cannot be reached, or whose certificate is not accepted. Their messages wait, no others."""
    for hop in facts.hops:
        text = _("No mail can be handed to {way} ({server}): {reply}").format(
            way=hop.way, server=hop.server, reply=translated(hop.words)
        )
        hint = translated(hop.hint) or _("Look whether it runs and can be reached from this machine: {server}").format(
            server=hop.server
        )
        severity = Severity.ERROR if hop.about_certificate or facts.now - hop.since >= _ERROR else Severity.WARNING
        yield Condition(ConditionKey.ROUTE_UNREACHABLE, hop.way, severity, hop.since, text, hint)
