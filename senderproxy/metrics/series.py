"""Series of metrics: the closed list of all series, each with its kind, labels and sentence. PURE.

Guarantees: a name, which is for programs, never changes its meaning. The values of a label are bounded: names of the
configuration and accounts up to a limit, or names of the program; never a word of a client or a provider.
`docs/metrics.md` is generated from this list.
Not here: the values (metrics.counts, service.metrics), the text (metrics.exposition).
https://prometheus.io/docs/practices/naming/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias


class SeriesKind(StrEnum):
    """The kinds of series."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Series:
    """One series. `buckets`: the upper limits of a histogram, in its unit, without infinity."""

    name: str
    kind: SeriesKind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """The value of a histogram: the number in each bucket, the last one without a limit; the sum."""

    counts: Sequence[int]
    total: float


Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = float | HistogramValue


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of a series for these label values."""

    series: Series
    labels: Labels
    value: Value


NONE: Final = "none"  # the account of a message that has none
INTERNAL: Final = "internal"  # the internal server that takes reports
OTHER: Final = "other"  # all names beyond the limit together
ACCOUNTS_LIMIT: Final = 300  # accounts with a label of their own; 20 series each: 6,000 take 40 ms on a thread
NAMES_LIMIT: Final = 50  # listeners and providers, of all configurations since the start

# Bounds of buckets, in seconds. A reply to a client takes milliseconds, and minutes where a provider takes them.
_ACCEPT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 240.0)
_COMMIT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)

# ---- messages ----

MESSAGES: Final = Series(
    "senderproxy_messages_total",
    SeriesKind.COUNTER,
    "Messages by the reply to the client. `delivered`: the provider accepted it; `queued`; `deferred`: 4xx; `refused`:"
    " 5xx; `discarded`: 250 for a message that a setting discards.",
    ("listener", "account", "outcome"),
)
RECIPIENTS: Final = Series(
    "senderproxy_recipients_total",
    SeriesKind.COUNTER,
    "Recipients by the state that the history has. Stage `direct`: known when the client got its reply; stage `queue`:"
    " `queued` when a message is stored, and one final outcome for each of these later. Reports count as messages.",
    ("account", "stage", "outcome"),
)
ACCEPT_SECONDS: Final = Series(
    "senderproxy_accept_seconds",
    SeriesKind.HISTOGRAM,
    "Time from the end of a message to the reply to the client.",
    ("listener",),
    _ACCEPT,
)

# ---- providers ----

UPSTREAM_SECONDS: Final = Series(
    "senderproxy_upstream_seconds",
    SeriesKind.HISTOGRAM,
    "Time of an attempt at a provider, with the wait for a session and its login.",
    ("provider",),
    _ACCEPT,
)
UPSTREAM_RECIPIENTS: Final = Series(
    "senderproxy_upstream_recipients_total",
    SeriesKind.COUNTER,
    "Recipients by the outcome of each attempt: `delivered`, `deferred`, `failed`. A recipient that is retried counts"
    " again.",
    ("account", "outcome"),
)
UPSTREAM_SESSIONS: Final = Series(
    "senderproxy_upstream_sessions", SeriesKind.GAUGE, "Open sessions: `busy` or `idle`.", ("account", "state")
)
UPSTREAM_OPENED: Final = Series(
    "senderproxy_upstream_sessions_opened_total", SeriesKind.COUNTER, "Sessions that were opened.", ("account",)
)
UPSTREAM_REUSED: Final = Series(
    "senderproxy_upstream_sessions_reused_total",
    SeriesKind.COUNTER,
    "Attempts on a session that was open already.",
    ("account",),
)
UPSTREAM_WAITING: Final = Series(
    "senderproxy_upstream_waiting", SeriesKind.GAUGE, "Messages that wait for a session.", ("account",)
)
UPSTREAM_FAILED_LOGINS: Final = Series(
    "senderproxy_upstream_failed_logins_total", SeriesKind.COUNTER, "Logins that the provider refused.", ("account",)
)

# ---- accounts ----

ACCOUNTS: Final = Series("senderproxy_accounts", SeriesKind.GAUGE, "Accounts in the vault.")
ACCOUNT_CAN_SEND: Final = Series(
    "senderproxy_account_can_send",
    SeriesKind.GAUGE,
    "1: the account can send, as far as is known; 0: it is suspended or paused, or no session can be opened.",
    ("account",),
)
ACCOUNT_LIMIT: Final = Series(
    "senderproxy_account_limit", SeriesKind.GAUGE, "Limit of an hour: `messages` or `recipients`.", ("account", "unit")
)
ACCOUNT_LIMIT_LEFT: Final = Series(
    "senderproxy_account_limit_left", SeriesKind.GAUGE, "The part of that limit that is left now.", ("account", "unit")
)
ACCOUNT_LAST_SUCCESS: Final = Series(
    "senderproxy_account_last_success_timestamp_seconds",
    SeriesKind.GAUGE,
    "Time of the last message that the provider accepted, since the start of the service.",
    ("account",),
)

# ---- queue and spool ----

QUEUE_MESSAGES: Final = Series(
    "senderproxy_queue_messages", SeriesKind.GAUGE, "Messages in the queue: `waiting` or `held`.", ("account", "state")
)
QUEUE_BYTES: Final = Series(
    "senderproxy_queue_bytes", SeriesKind.GAUGE, "Size of the messages in the queue.", ("account",)
)
QUEUE_OLDEST: Final = Series(
    "senderproxy_queue_oldest_seconds", SeriesKind.GAUGE, "Age of the oldest message in the queue.", ("account",)
)
QUEUE_AGE: Final = Series(
    "senderproxy_queue_age_messages",
    SeriesKind.GAUGE,
    "Messages in the queue by age, as `senderproxy queue` groups them: older than the limit before, up to this one.",
    ("age",),
)
SPOOL_COMMIT_SECONDS: Final = Series(
    "senderproxy_spool_commit_seconds",
    SeriesKind.HISTOGRAM,
    "Time of a transaction of the spool with its sync to the disk.",
    (),
    _COMMIT,
)
SPOOL_OPEN: Final = Series(
    "senderproxy_spool_accepts_messages",
    SeriesKind.GAUGE,
    "1: the spool takes messages; 0: clients get 4xx in its place.",
)
SPOOL_FREE: Final = Series("senderproxy_spool_free_bytes", SeriesKind.GAUGE, "Free space on the disk of the spool.")

# ---- copies in Sent folders ----

SENT_COPIES: Final = Series(
    "senderproxy_sent_copies_total",
    SeriesKind.COUNTER,
    "Copies for the Sent folder since the start of the service: `stored`, or `given_up` after two days.",
    ("account", "outcome"),
)
SENT_COPIES_WAITING: Final = Series(
    "senderproxy_sent_copies_waiting", SeriesKind.GAUGE, "Copies for the Sent folder that wait.", ("account",)
)

# ---- clients ----

LISTENER_CONNECTIONS: Final = Series(
    "senderproxy_listener_connections_total", SeriesKind.COUNTER, "Clients that were admitted.", ("listener",)
)
LISTENER_CONNECTED: Final = Series(
    "senderproxy_listener_connected", SeriesKind.GAUGE, "Clients that are connected now.", ("listener",)
)
LISTENER_IN_PROGRESS: Final = Series(
    "senderproxy_listener_messages_in_progress",
    SeriesKind.GAUGE,
    "Messages whose reply is not known yet.",
    ("listener",),
)
LISTENER_FAULTS: Final = Series(
    "senderproxy_listener_faults_total", SeriesKind.COUNTER, "Internal errors in a conversation.", ("listener",)
)
TURNED_AWAY: Final = Series(
    "senderproxy_clients_turned_away_total",
    SeriesKind.COUNTER,
    "Clients that got no further: connections, logins (`login_failed`) and messages above a limit.",
    ("reason",),
)

# ---- service ----

CONDITIONS: Final = Series(
    "senderproxy_conditions",
    SeriesKind.GAUGE,
    "Conditions that exist now (conditions.md). Without one there is no series of that key.",
    ("key", "severity"),
)
DRAINING: Final = Series(
    "senderproxy_draining", SeriesKind.GAUGE, "1: the service is draining (`senderproxy drain`); 0: it is in service."
)
LOOP_LONGEST: Final = Series(
    "senderproxy_loop_longest_pass_seconds", SeriesKind.GAUGE, "The longest pass of the event loop since the start."
)
LOOP_BLOCKS: Final = Series(
    "senderproxy_loop_blocks_total", SeriesKind.COUNTER, "Passes of the event loop that took longer than 0.1 seconds."
)
BUILD: Final = Series("senderproxy_build_info", SeriesKind.GAUGE, "Always 1.", ("version", "build", "python"))

# ---- process: names that Prometheus' client libraries have ----

PROCESS_CPU: Final = Series("process_cpu_seconds_total", SeriesKind.COUNTER, "CPU time, of the user and of the system.")
PROCESS_MEMORY: Final = Series("process_resident_memory_bytes", SeriesKind.GAUGE, "Resident memory.")
PROCESS_FDS: Final = Series("process_open_fds", SeriesKind.GAUGE, "Open file descriptors.")
PROCESS_MAX_FDS: Final = Series("process_max_fds", SeriesKind.GAUGE, "Limit of open file descriptors.")
PROCESS_THREADS: Final = Series("process_threads", SeriesKind.GAUGE, "Threads of the interpreter.")
PROCESS_START: Final = Series("process_start_time_seconds", SeriesKind.GAUGE, "Time of the start of the service.")

SERIES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Series))
