"""Clients that got no further, of all listeners: how often in the last hour, and how often since the start. PURE.

Guarantees: memory is bounded: the counts of clients are those of recent_counts, and there are as many reasons as names
here. A key of a reason never changes its meaning.
Not here: the replies to these clients (wire.replies), the condition (monitoring.client_conditions).
"""

from enum import StrEnum

from senderproxy.recent_counts import RecentCounts


class TurnedAway(StrEnum):
    """Reasons to turn a client away. The values are labels of a metric (docs/metrics.md)."""

    NOT_ALLOWED = "not_allowed"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    EVICTED = "evicted"
    CONNECTION_RATE = "connection_rate"
    MESSAGE_RATE = "message_rate"
    LOGIN_FAILED = "login_failed"
    LOGIN_LOCKED = "login_locked"
    TLS_FAILED = "tls_failed"
    TLS_AT_PLAIN_PORT = "tls_at_plain_port"
    FALSE_END = "false_end"
    PROXY_HEADER = "proxy_header"
    STOPPING = "stopping"


class TurnedAwayClients(RecentCounts):
    """The counts by client and by reason. `by_reason`: since the start."""

    def __init__(self) -> None:
        super().__init__()
        self.by_reason = dict.fromkeys(TurnedAway, 0)

    def turn_away(self, client: str, reason: TurnedAway, why: str, now: float) -> None:
        """Count a client. `why`: for the operator; `now`: monotonic seconds."""
        self.by_reason[reason] += 1
        self.add((client,), why, now)
