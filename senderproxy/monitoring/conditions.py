"""The list of conditions of the service, for an operator, the worst first. PURE.

Guarantees: the only judgement of these facts; `status`, `check`, systemd's status line and the log show this list. One
cause is one condition: forty accounts of a provider that does not respond are one, and so are their waiting messages.
The length is bounded by the configuration, whatever clients and providers do.
Not here: the observation of the facts (service, cli), the words for each part (the other modules here).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from types import MappingProxyType
from typing import Final

from senderproxy.monitoring.account_conditions import account_conditions, queue_conditions
from senderproxy.monitoring.client_conditions import client_conditions
from senderproxy.monitoring.copy_conditions import copy_conditions
from senderproxy.monitoring.domain_conditions import dkim_conditions, domain_conditions
from senderproxy.monitoring.facts import Facts
from senderproxy.monitoring.record import Condition, ConditionId
from senderproxy.monitoring.route_conditions import mx_conditions, route_conditions
from senderproxy.monitoring.service_conditions import (
    application_conditions,
    certificate_conditions,
    service_conditions,
)
from senderproxy.monitoring.storage_conditions import spool_conditions, vault_conditions

_RULES: Final = (
    account_conditions,
    queue_conditions,
    route_conditions,
    mx_conditions,
    client_conditions,
    domain_conditions,
    dkim_conditions,
    copy_conditions,
    certificate_conditions,
    application_conditions,
    service_conditions,
    spool_conditions,
    vault_conditions,
)
_NONE: Final[Mapping[ConditionId, datetime]] = MappingProxyType({})


def find_conditions(facts: Facts, known: Mapping[ConditionId, datetime] = _NONE) -> tuple[Condition, ...]:
    """The conditions, the most severe first, and of equal ones the oldest.

    `known`: the beginning of those in the previous list. A fact without a time of its own began then, or now.
    """
    found = [
        replace(one, since=min(one.since, known.get(one.id, one.since)))
        for one in chain.from_iterable(rule(facts) for rule in _RULES)
    ]
    return tuple(sorted(found, key=lambda one: (-one.severity, one.since, one.id)))


@dataclass(frozen=True, slots=True)
class ConditionChanges:
    """The differences between two lists. `changed`: with another severity than before."""

    begun: Sequence[Condition] = ()
    changed: Sequence[Condition] = ()
    ended: Sequence[ConditionId] = ()


def compare(
    before: Sequence[Condition], after: Sequence[Condition], known: Mapping[ConditionId, datetime] = _NONE
) -> ConditionChanges:
    """The changes from one list to the next.

    A condition that became part of a wider one, or comes out of it, neither ends nor begins. `known`: conditions that
    existed before and are not in the list, as after a restart.
    """
    old, new = {one.id: one for one in before}, {one.id: one for one in after}
    return ConditionChanges(
        begun=[one for one in after if one.id not in old and one.id not in known and not _is_part(one, before)],
        changed=[one for one in after if one.id in old and old[one.id].severity is not one.severity],
        ended=[
            *(one.id for one in before if one.id not in new and not _is_part(one, after)),
            *(id_ for id_ in known if id_ not in new and id_ not in old),
        ],
    )


def _is_part(one: Condition, others: Sequence[Condition]) -> bool:
    """True if one of the others has the same key and affects all that this one affects."""
    names = frozenset(one.affected.names)
    return bool(names) and any(
        other.key is one.key and other.affected.kind is one.affected.kind and names <= frozenset(other.affected.names)
        for other in others
    )
