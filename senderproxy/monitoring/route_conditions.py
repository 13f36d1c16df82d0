"""Conditions of the servers without a login that routes name, and of mail to mail servers of recipients. PURE.

Not here: the state of a server (delivery.hops), client certificates (monitoring.service_conditions).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.account_conditions import SEPARATE
from senderproxy.monitoring.facts import Facts, MxStoppedFacts
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.translation import _, ngettext, translated

_ERROR: Final = timedelta(minutes=10)  # a restart of a server takes less


def mx_conditions(facts: Facts) -> Iterator[Condition]:
    """Sender domains that cannot send by `via = "mx"`. More than SEPARATE of one kind are one condition."""
    for is_wrong in (True, False):
        found = [one for one in facts.mx_stopped if one.is_wrong is is_wrong]
        groups = [found] if len(found) > SEPARATE else [[one] for one in found]
        yield from (_stopped(some, facts.now) for some in groups)


def _stopped(some: Sequence[MxStoppedFacts], now: datetime) -> Condition:
    first = some[0]
    if not first.is_wrong:
        text = _('Mail of {domain} by via = "mx" waits: its SPF record could not be evaluated yet ({why}).')
        hint = _("Look whether the name servers of this machine reply; it is tried again each minute")
    elif first.why:
        text = _('Mail of {domain} by via = "mx" waits: its SPF record is invalid ({why}).')
        hint = _("Correct the record: {record}").format(record=first.record)
    else:
        text = _('Mail of {domain} by via = "mx" waits: its SPF record does not name {address}.')
        kind = "ip6" if ":" in first.address else "ip4"
        hint = _("Add {term} to the record, before its end.").format(term=f"{kind}:{first.address}")
    cause = text.format(domain=first.domain, address=first.address, why=first.why)
    if len(some) > 1:
        more = len(some) - 1
        again = ngettext(
            "{cause} The same holds for {count} more domain.", "{cause} The same holds for {count} more domains.", more
        )
        cause = again.format(cause=cause, count=more)
    return Condition(
        ConditionKey.MX_STOPPED,
        first.domain if len(some) == 1 else "mx",
        Severity.ERROR if first.is_wrong else Severity.WARNING,
        now,
        cause,
        hint,
        Affected(AffectedKind.DOMAINS, tuple(one.domain for one in some)),
    )


def route_conditions(facts: Facts) -> Iterator[Condition]:
    """Unreachable servers, and servers with an invalid certificate. Only their messages wait."""
    for hop in facts.hops:
        text = _("No mail can be handed to {way} ({server}): {reply}").format(
            way=hop.way, server=hop.server, reply=translated(hop.words)
        )
        hint = translated(hop.hint) or _("Look whether it runs and can be reached from this machine: {server}").format(
            server=hop.server
        )
        severity = Severity.ERROR if hop.about_certificate or facts.now - hop.since >= _ERROR else Severity.WARNING
        yield Condition(ConditionKey.ROUTE_UNREACHABLE, hop.way, severity, hop.since, text, hint)
