"""Conditions of clients: turned away, or their messages refused, again and again; mail loops. PURE.

Not here: the counts (recent_counts), the limits on clients (listener.connections).
"""

from collections.abc import Iterator
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.account_conditions import SEPARATE
from senderproxy.monitoring.facts import Facts
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.translation import _, ngettext

AGAIN_AND_AGAIN: Final = 10  # times within an hour; a person who tries again does so less often


def client_conditions(facts: Facts) -> Iterator[Condition]:
    """Clients that get no further, the most frequent ones first."""
    yield from _turned_away(facts)
    yield from _refused(facts)
    yield from _loops(facts)


def _turned_away(facts: Facts) -> Iterator[Condition]:
    clients = sorted(
        (one for one in facts.clients if one.count >= AGAIN_AND_AGAIN), key=lambda one: (-one.count, one.client)
    )
    groups = [clients] if len(clients) > SEPARATE else [[one] for one in clients]
    for some in groups:
        first = some[0]
        cause = ngettext(
            "Client {client} was turned away {count} time within an hour: {why}",
            "Client {client} was turned away {count} times within an hour: {why}",
            first.count,
        ).format(client=first.client, count=first.count, why=first.why)
        if len(some) > 1:
            text = ngettext(
                "{cause} So was {count} more client.", "{cause} So were {count} more clients.", len(some) - 1
            )
            cause = text.format(cause=cause, count=len(some) - 1)
        # A stranger on the Internet that gets nowhere is no trouble; a device of the office is.
        severity = Severity.WARNING if any(one.is_local for one in some) else Severity.INFO
        yield Condition(
            ConditionKey.CLIENT_TURNED_AWAY,
            first.client if len(some) == 1 else "",
            severity,
            min(one.since for one in some),
            cause,
            _("If the client is yours, correct its settings, or those of the listener: docs/conditions.md"),
            Affected(AffectedKind.CLIENTS, tuple(one.client for one in some)),
        )


def _refused(facts: Facts) -> Iterator[Condition]:
    refusals = sorted(
        (one for one in facts.refusals if one.count >= AGAIN_AND_AGAIN), key=lambda one: (-one.count, one.client)
    )
    for client in list(dict.fromkeys(one.client for one in refusals))[:SEPARATE]:
        of_client = [one for one in refusals if one.client == client]
        first = of_client[0]
        text = ngettext(
            "{count} message of client {client} from <{reverse_path}> was refused within an hour: {reply}",
            "{count} messages of client {client} from <{reverse_path}> were refused within an hour: {reply}",
            first.count,
        )
        yield Condition(
            ConditionKey.MESSAGES_REFUSED,
            client,
            Severity.WARNING,
            min(one.since for one in of_client),
            text.format(count=first.count, client=client, reverse_path=first.reverse_path, reply=first.reply),
            _("The reply names the fix; the program at {client} repeats the message until then.").format(client=client),
            Affected(AffectedKind.CLIENTS, (client,)),
        )


def _loops(facts: Facts) -> Iterator[Condition]:
    if not facts.automatic:
        return
    latest = facts.automatic[0]
    count = sum(one.refused + one.deferred for one in facts.automatic)
    text = ngettext(
        "{count} automatic message was above the limit of {limit} an hour, the latest one from {author} to"
        " {recipient}.",
        "{count} automatic messages were above the limit of {limit} an hour, the latest one from {author} to"
        " {recipient}.",
        count,
    )
    yield Condition(
        ConditionKey.MAIL_LOOP,
        "",
        Severity.WARNING,
        facts.now,
        text.format(count=count, limit=latest.limit, author=latest.author, recipient=latest.recipient),
        _("Switch off one of the automatic replies; for reports or journals, raise automatic_per_hour in [senders]."),
        Affected(AffectedKind.SENDERS, tuple(dict.fromkeys(one.author for one in facts.automatic))),
    )
