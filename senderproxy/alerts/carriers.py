"""Choice of the accounts for an alert by mail. PURE.

Guarantees: never an account that the alert is about, or one that another condition affects; accounts of a provider
without such conditions first.
Not here: the state of an account (delivery.account_state), the sending (service).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from senderproxy.log_events import Severity
from senderproxy.monitoring.record import AffectedKind, Condition


@dataclass(frozen=True, slots=True)
class Carrier:
    """An account, its provider, and True if it could send to all recipients now, as far as is known."""

    account: str
    provider: str
    is_able: bool


def choose_carriers(carriers: Sequence[Carrier], conditions: Iterable[Condition]) -> list[Carrier]:
    """The accounts to try, the best first. `conditions`: those of the alert, and all other present ones."""
    broken = {
        name
        for condition in conditions
        if condition.severity >= Severity.WARNING and condition.affected.kind is AffectedKind.ACCOUNTS
        for name in condition.affected.names
    }
    disturbed = {one.provider for one in carriers if one.account in broken}
    return sorted(
        (one for one in carriers if one.is_able and one.account not in broken),
        key=lambda one: (one.provider in disturbed, one.account),
    )
