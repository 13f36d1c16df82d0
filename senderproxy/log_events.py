"""Log events, a closed list: each with a stable key, its level, sentence and fields. PURE.

Guarantees: a key, which is for programs, never changes its meaning; a sentence, which is for people, may be reworded.
Usage: `event(_log, log_events.VAULT_RELOADED, accounts=12)`. `docs/log-events.md` is generated from this list.
Not here: formatting and output (log).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """The levels in use, with the numbers of logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of log line. `prefixes`: how the names of further fields begin, as in `changed_from`."""

    key: str
    level: Severity
    sentence: str
    fields: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


# ---- service (app, service) ----

SERVICE_STARTED: Final = LogEvent("service_started", Severity.INFO, "listening", ("address", "accounts", "version"))
SERVICE_STOPPED: Final = LogEvent("service_stopped", Severity.INFO, "stopped")
DRAIN_BEGAN: Final = LogEvent(
    "drain_began", Severity.INFO, "draining: health checks are refused, clients are served", ("listeners",)
)
DRAIN_ENDED: Final = LogEvent("drain_ended", Severity.INFO, "not draining any more", ("seconds",))
CONFIG_RELOADED: Final = LogEvent("config_reloaded", Severity.INFO, "configuration reloaded")
CONFIG_REFUSED: Final = LogEvent(
    "config_refused", Severity.ERROR, "configuration refused, the previous one stays in force", ("why", "hint")
)
SPOOL_OPEN_FAILED: Final = LogEvent("spool_open_failed", Severity.ERROR, "cannot open the spool", ("why", "hint"))
SPOOL_CLOSE_TIMEOUT: Final = LogEvent(
    "spool_close_timeout", Severity.ERROR, "spool not closed: the disk does not respond", ("seconds", "hint")
)
METRICS_STARTED: Final = LogEvent("metrics_started", Severity.INFO, "metrics can be read", ("address",))
METRICS_UNAVAILABLE: Final = LogEvent(
    "metrics_unavailable", Severity.WARNING, "metrics cannot be read, mail is not affected", ("address", "why", "hint")
)
METRICS_FAILED: Final = LogEvent("metrics_failed", Severity.ERROR, "internal error in an answer with metrics")
PAGE_AVAILABLE: Final = LogEvent("page_available", Severity.INFO, "the page can ask the service", ("role", "folder"))
PAGE_UNAVAILABLE: Final = LogEvent(
    "page_unavailable", Severity.WARNING, "the page cannot ask the service, mail is not affected", ("why", "hint")
)
PAGE_STARTED: Final = LogEvent("page_started", Severity.INFO, "the page can be opened", ("address",))
PAGE_LOGIN: Final = LogEvent("page_login", Severity.INFO, "login on the page", ("user", "role", "way"))
PAGE_LOGIN_FAILED: Final = LogEvent(
    "page_login_failed", Severity.WARNING, "refused login on the page", ("known", "way")
)
LOG_LINES_LOST: Final = LogEvent(
    "log_lines_lost", Severity.WARNING, "log lines are lost: their reader was too slow, or the disk is full", ("lines",)
)
PAGE_FAILED: Final = LogEvent("page_failed", Severity.ERROR, "internal error in a request of the page", ("kind",))
PAGE_PROCESS_ENDS: Final = LogEvent(
    "page_process_ends", Severity.INFO, "the page's process ends because it has read a password of a mailbox"
)
PAGE_ACCOUNT_CHANGED: Final = LogEvent(
    "page_account_changed", Severity.INFO, "account changed on the page", ("account", "change", "user")
)
HISTORY_CLEANUP_FAILED: Final = LogEvent(
    "history_cleanup_failed", Severity.ERROR, "cannot delete old history from the spool", ("why", "hint")
)

THREAD_FAILED: Final = LogEvent(
    "thread_failed", Severity.CRITICAL, "internal error in a thread, the service ends at once", ("thread",)
)
CALLBACK_WITHOUT_MEMORY: Final = LogEvent(
    "callback_without_memory", Severity.CRITICAL, "no memory for a callback, the service ends at once"
)
LOOP_FAILED: Final = LogEvent(
    "loop_failed", Severity.CRITICAL, "internal error of the event loop itself, the service ends at once"
)
STOP_HANGS: Final = LogEvent(
    "stop_hangs", Severity.ERROR, "the stop does not end, the process ends at once", ("tasks",)
)
HOUSEKEEPING_FAILED: Final = LogEvent(
    "housekeeping_failed", Severity.CRITICAL, "internal error in the housekeeping, the service stops"
)
LOOP_BLOCKED: Final = LogEvent(
    "loop_blocked", Severity.WARNING, "event loop blocked, all clients waited", ("seconds", "unlogged", "stack")
)

_CONDITION_FIELDS: Final = ("condition", "subject", "severity", "cause", "hint")
CONDITION_BEGAN: Final = LogEvent("condition_began", Severity.WARNING, "condition began", _CONDITION_FIELDS)
CONDITION_CHANGED: Final = LogEvent(
    "condition_changed", Severity.WARNING, "condition has another severity", _CONDITION_FIELDS
)
CONDITION_ENDED: Final = LogEvent("condition_ended", Severity.INFO, "condition ended", ("condition", "subject"))
DOMAIN_LOOK_FAILED: Final = LogEvent(
    "domain_look_failed", Severity.ERROR, "internal error while DNS records of a domain are judged", ("domain",)
)
DKIM_STATE_CHANGED: Final = LogEvent(
    "dkim_state_changed",
    Severity.INFO,
    "DKIM key and its DNS record: another state",
    ("domain", "selector", "state", "signs"),
)

ALERT_SENT: Final = LogEvent("alert_sent", Severity.INFO, "alert sent", ("kind", "condition", "items", "ways"))
ALERT_NOT_SENT: Final = LogEvent(
    "alert_not_sent", Severity.ERROR, "no way could send an alert", ("kind", "condition", "items")
)
ALERT_WAY_FAILED: Final = LogEvent(
    "alert_way_failed", Severity.WARNING, "a way of alerts failed", ("way", "why", "hint")
)
ALERTS_FAILED: Final = LogEvent("alerts_failed", Severity.ERROR, "internal error in the alerts")
ALERT_STATE_FAILED: Final = LogEvent(
    "alert_state_failed", Severity.WARNING, "cannot store the state of the alerts", ("file", "why")
)

# ---- ways of alerts beside mail (service.webhook, service.ping) ----

ALERT_GIVEN_UP: Final = LogEvent("alert_given_up", Severity.WARNING, "alert given up", ("way", "id", "kind", "why"))
PING_FAILED: Final = LogEvent("ping_failed", Severity.WARNING, "the ping failed", ("why", "hint"))
PING_RECOVERED: Final = LogEvent("ping_recovered", Severity.INFO, "the ping succeeds again")

# ---- copies in Sent folders (relay, sent_copy) ----

SENT_COPY_STORED: Final = LogEvent(
    "sent_copy_stored",
    Severity.INFO,
    "copy stored in the Sent folder",
    ("id", "account", "folder", "seconds", "there_before"),
)
SENT_COPY_WAITS: Final = LogEvent(
    "sent_copy_waits",
    Severity.WARNING,
    "copy for the Sent folder waits",
    ("id", "account", "kind", "why", "server", "retry_in", "hint"),
)
SENT_COPY_GIVEN_UP: Final = LogEvent(
    "sent_copy_given_up", Severity.ERROR, "copy for the Sent folder given up", ("id", "account", "kind", "why", "hint")
)
SENT_COPY_LOST: Final = LogEvent(
    "sent_copy_lost", Severity.ERROR, "message sent, copy for the Sent folder lost", ("id", "account", "why")
)
SENT_COPY_DROPPED: Final = LogEvent(
    "sent_copy_dropped",
    Severity.INFO,
    "copy for the Sent folder dropped: the account has no copies any more",
    ("id", "account"),
)
SENT_COPIES_FAILED: Final = LogEvent(
    "sent_copies_failed", Severity.ERROR, "internal error in the work on a copy", ("id", "account")
)
SENT_COPIES_UNREADABLE: Final = LogEvent(
    "sent_copies_unreadable", Severity.WARNING, "cannot read the jobs of copies", ("why", "hint")
)

# ---- accounts ----

VAULT_RELOADED: Final = LogEvent("vault_reloaded", Severity.INFO, "accounts reloaded from the vault", ("accounts",))
VAULT_UNREADABLE: Final = LogEvent(
    "vault_unreadable", Severity.ERROR, "cannot read the vault, the accounts in memory stay in force", ("why", "hint")
)
VAULT_READ_ERROR: Final = LogEvent("vault_read_error", Severity.ERROR, "internal error while reading the vault")
VAULT_READABLE_AGAIN: Final = LogEvent("vault_readable_again", Severity.INFO, "vault readable again")
VAULT_ROLLED_BACK: Final = LogEvent(
    "vault_rolled_back", Severity.ERROR, "vault older than the one used before", ("why", "hint")
)
VAULT_RECORD_UNKNOWN: Final = LogEvent(
    "vault_record_unknown",
    Severity.INFO,
    "record of a kind that this version does not know, left as it is",
    ("record", "kind"),
)
GRANT_NOT_STORED: Final = LogEvent(
    "grant_not_stored",
    Severity.ERROR,
    "refresh token only in memory: the disk refused it, and a crash now would end the consent",
    ("account", "why"),
)
GRANTS_STORED: Final = LogEvent("grants_stored", Severity.INFO, "refresh tokens stored that the disk had refused")
GRANT_LEASE_ENDED: Final = LogEvent(
    "grant_lease_ended",
    Severity.WARNING,
    "new refresh token not stored: another instance has taken over; its account may need a new consent",
    ("grant",),
)
GRANT_FILE_UNREADABLE: Final = LogEvent(
    "grant_file_unreadable",
    Severity.ERROR,
    "grant file put aside: the refresh tokens in it are lost, and their accounts need a new consent",
    ("file", "why"),
)
GRANT_FILE_NOT_SEALED: Final = LogEvent(
    "grant_file_not_sealed", Severity.WARNING, "grant file not sealed yet with the new key of the vault", ("why",)
)
ACCOUNT_UNUSABLE: Final = LogEvent("account_unusable", Severity.ERROR, "account record not usable", ("why",))

# ---- control ----

CRASH_DETECTED: Final = LogEvent("crash_detected", Severity.ERROR, "previous process crashed", ("cause",))
CRASH_JOURNAL_FAILED: Final = LogEvent(
    "crash_journal_failed",
    Severity.WARNING,
    "cannot write the list of attempts: a message that crashes the process would not be recognised",
    ("file", "why"),
)
CRASH_NOTE_FAILED: Final = LogEvent("crash_note_failed", Severity.WARNING, "cannot record a crash", ("file", "why"))
CONTROL_USER_REFUSED: Final = LogEvent(
    "control_user_refused", Severity.WARNING, "user refused on the control socket", ("uid",)
)
CONTROL_REQUEST_FAILED: Final = LogEvent(
    "control_request_failed", Severity.ERROR, "control request failed", ("request", "kind")
)

# ---- listener ----

ACCEPT_PAUSED: Final = LogEvent(
    "accept_paused",
    Severity.ERROR,
    "cannot accept connections for a moment: no descriptor or no memory is free",
    ("why", "hint", "repeated"),
)
ACCEPT_FAILED: Final = LogEvent("accept_failed", Severity.WARNING, "cannot accept a connection", ("why", "repeated"))
# `repeated`: the number of equal events in the minute after the first of them.
CLIENT_REJECTED: Final = LogEvent(
    "client_rejected", Severity.WARNING, "client rejected", ("client", "reply", "repeated")
)
PROXY_HEADER_MISSING: Final = LogEvent(
    "proxy_header_missing",
    Severity.WARNING,
    "connection from a proxy without a valid PROXY header refused",
    ("proxy", "why", "hint", "repeated"),
)
CLIENT_EVICTED: Final = LogEvent(
    "client_evicted", Severity.WARNING, "idle client disconnected to make room", ("client", "repeated")
)
_RATE_FIELDS: Final = ("client", "limit", "repeated")
CLIENT_CONNECTION_RATE: Final = LogEvent(
    "client_connection_rate", Severity.WARNING, "client opens too many connections a minute", _RATE_FIELDS
)
CLIENT_MESSAGE_RATE: Final = LogEvent(
    "client_message_rate", Severity.WARNING, "client sends too many messages a minute", _RATE_FIELDS
)
CLIENT_RECIPIENT_RATE: Final = LogEvent(
    "client_recipient_rate", Severity.WARNING, "client names too many recipients a minute", _RATE_FIELDS
)
CLIENT_DISCONNECTED: Final = LogEvent("client_disconnected", Severity.DEBUG, "client disconnected", ("client",))
CLIENT_LEFT_BEFORE_REPLY: Final = LogEvent(
    "client_left_before_reply",
    Severity.WARNING,
    "client left before the reply to its message",
    ("id", "client", "reply"),
)
CLIENT_LOGIN_REFUSED: Final = LogEvent(
    "client_login_refused", Severity.WARNING, "client login refused", ("client", "user", "user_known")
)
CLIENT_TLS_FAILED: Final = LogEvent(
    "client_tls_failed", Severity.WARNING, "TLS with a client failed", ("client", "why", "hint")
)
CONNECTION_ERROR: Final = LogEvent("connection_error", Severity.ERROR, "internal error in a connection", ("client",))
COMMAND_ERROR: Final = LogEvent("command_error", Severity.ERROR, "internal error in a command", ("client",))
MESSAGE_ERROR: Final = LogEvent("message_error", Severity.ERROR, "internal error while handling a message", ("id",))
MESSAGE_NOT_BUFFERED: Final = LogEvent(
    "message_not_buffered", Severity.ERROR, "cannot buffer a message on disk", ("client", "why")
)
MESSAGE_BUFFERED_IN_MEMORY: Final = LogEvent(
    "message_buffered_in_memory",
    Severity.WARNING,
    "the disk for temporary files takes no more, a large message is buffered in memory",
    ("why", "repeated"),
)
_RECEPTION_FIELDS: Final = ("client", "reverse_path", "size", "reply")
MESSAGE_CUT_BY_CLIENT: Final = LogEvent(
    "message_cut_by_client", Severity.WARNING, "client left during its message, nothing stored", _RECEPTION_FIELDS
)
MESSAGE_CUT_BY_STOP: Final = LogEvent(
    "message_cut_by_stop", Severity.WARNING, "message cut by the stop, nothing stored", _RECEPTION_FIELDS
)
MESSAGE_TOO_SLOW: Final = LogEvent(
    "message_too_slow", Severity.WARNING, "message too slow, nothing stored", _RECEPTION_FIELDS
)
MESSAGE_DATA_REFUSED: Final = LogEvent(
    "message_data_refused", Severity.WARNING, "message refused during DATA", _RECEPTION_FIELDS
)
MESSAGE_INTERRUPTED: Final = LogEvent(
    "message_interrupted", Severity.WARNING, "message interrupted by the stop", ("id",)
)
MESSAGE_FALSE_END: Final = LogEvent(
    "message_false_end",
    Severity.WARNING,
    "message ends in LF.LF and not in CRLF.CRLF, nothing stored",
    (*_RECEPTION_FIELDS, "hint"),
)
CLIENT_TLS_AT_PLAIN_PORT: Final = LogEvent(
    "client_tls_at_plain_port",
    Severity.WARNING,
    "client began with TLS where the listener expects plain text, connection closed",
    ("client", "hint", "repeated"),
)
BARE_CR_CONVERTED: Final = LogEvent("bare_cr_converted", Severity.INFO, "bare CR converted to CRLF", ("client",))
BARE_LF_CONVERTED: Final = LogEvent("bare_lf_converted", Severity.INFO, "bare LF converted to CRLF", ("client",))
LISTENER_GRACE_EXCEEDED: Final = LogEvent(
    "listener_grace_exceeded", Severity.WARNING, "stop time exceeded, connections closed", ("connections", "messages")
)

# ---- delivery ----

SESSION_OPENED: Final = LogEvent(
    "session_opened", Severity.INFO, "session opened", ("account", "login", "smarthost", "mechanism")
)
SESSION_FAILED: Final = LogEvent(
    "session_failed", Severity.WARNING, "session failed", ("account", "login", "smarthost", "reason", "reply", "hint")
)
LOGIN_METHOD_REFUSED: Final = LogEvent(
    "login_method_refused",
    Severity.WARNING,
    "login method refused, the next one is tried",
    ("smarthost", "method", "next"),
)
SERVER_LIMIT_OBSERVED: Final = LogEvent(
    "server_limit_observed",
    Severity.WARNING,
    "server takes no more connections, idle sessions make room",
    ("provider", "connections", "reply"),
)
SESSION_REPLACED: Final = LogEvent("session_replaced", Severity.INFO, "session replaced", ("id", "account", "reply"))
LOOK_UP_FAILED: Final = LogEvent(
    "look_up_failed",
    Severity.WARNING,
    "address look-up failed, last good addresses in use",
    ("host", "port", "why", "age_seconds"),
)
LOOK_UP_ABANDONED: Final = LogEvent(
    "look_up_abandoned",
    Severity.WARNING,
    "a look-up does not return, its thread is replaced",
    ("host", "port", "count"),
)
LOOK_UP_RECOVERED: Final = LogEvent(
    "look_up_recovered", Severity.INFO, "address look-up succeeds again", ("host", "port")
)
CA_CERTIFICATES_RELOADED: Final = LogEvent(
    "ca_certificates_reloaded", Severity.INFO, "CA certificates changed, read again for new sessions", ("file",)
)
SESSIONS_CUT: Final = LogEvent("sessions_cut", Severity.WARNING, "stop time exceeded, sessions closed", ("count",))
_ATTEMPT_FIELDS: Final = ("id", "account", "login", "smarthost", "session", "warm", "sessions", "seconds")
_OUTCOME_FIELDS: Final = (*_ATTEMPT_FIELDS, "recipients", "reply", "maybe_taken")
# DEBUG: after a success `message_delivered` is the line for people.
ATTEMPT_DELIVERED: Final = LogEvent("attempt_delivered", Severity.DEBUG, "accepted by the smarthost", _OUTCOME_FIELDS)
ATTEMPT_PARTIAL: Final = LogEvent(
    "attempt_partial", Severity.INFO, "accepted by the smarthost for some recipients", _OUTCOME_FIELDS
)
ATTEMPT_FAILED: Final = LogEvent("attempt_failed", Severity.INFO, "not accepted by the smarthost", _OUTCOME_FIELDS)
ATTEMPT_INTERRUPTED: Final = LogEvent(
    "attempt_interrupted",
    Severity.WARNING,
    "attempt interrupted",
    _ATTEMPT_FIELDS,
)
ACCOUNT_HEALTHY: Final = LogEvent("account_healthy", Severity.INFO, "account can send again", ("account", "health"))
ACCOUNT_SUSPENDED: Final = LogEvent(
    "account_suspended", Severity.WARNING, "account suspended", ("account", "health", "cause", "hint")
)
ACCOUNT_PAUSED: Final = LogEvent(
    "account_paused", Severity.WARNING, "account paused", ("account", "health", "cause", "hint")
)
RECIPIENT_LIMIT_LEARNED: Final = LogEvent(
    "recipient_limit_learned", Severity.INFO, "recipient limit recorded", ("account", "recipients")
)
REPORT_HANDED_IN: Final = LogEvent(
    "report_handed_in", Severity.INFO, "report handed to the internal server", ("id", "server", "reply")
)
_HOP_FIELDS: Final = ("id", "way", "server", "encrypted", "seconds")
_HOP_OUTCOME_FIELDS: Final = (*_HOP_FIELDS, "recipients", "reply", "maybe_taken", "handed_back")
HOP_ATTEMPT_DELIVERED: Final = LogEvent(
    "hop_attempt_delivered", Severity.DEBUG, "accepted by a server without a login", _HOP_OUTCOME_FIELDS
)
HOP_ATTEMPT_PARTIAL: Final = LogEvent(
    "hop_attempt_partial",
    Severity.INFO,
    "accepted by a server without a login for some recipients",
    _HOP_OUTCOME_FIELDS,
)
HOP_ATTEMPT_FAILED: Final = LogEvent(
    "hop_attempt_failed", Severity.INFO, "not accepted by a server without a login", _HOP_OUTCOME_FIELDS
)
HOP_ATTEMPT_INTERRUPTED: Final = LogEvent(
    "hop_attempt_interrupted", Severity.WARNING, "attempt at a server without a login interrupted", _HOP_FIELDS
)
HOP_FAILED: Final = LogEvent(
    "hop_failed",
    Severity.WARNING,
    "no session at a server without a login",
    ("way", "server", "reason", "reply", "hint"),
)
HOP_RESUMED: Final = LogEvent(
    "hop_resumed", Severity.INFO, "server without a login takes mail again", ("way", "server")
)

# ---- relay ----

_MESSAGE_FIELDS: Final = (
    "id",
    "client",
    "reverse_path",
    "recipients",
    "size",
    "seconds",
    "reply",
    "author",
    "account",
    "chosen_by",
    "ways",
    "hint",
)
MESSAGE_DELIVERED: Final = LogEvent("message_delivered", Severity.INFO, "delivered", _MESSAGE_FIELDS, ("changed_",))
MESSAGE_QUEUED: Final = LogEvent("message_queued", Severity.INFO, "queued", _MESSAGE_FIELDS, ("changed_",))
MESSAGE_KEPT_DURING_ATTEMPT: Final = LogEvent(
    "message_kept_during_attempt", Severity.INFO, "queued, first attempt in progress", _MESSAGE_FIELDS, ("changed_",)
)
REPORT_DELAYED: Final = LogEvent(
    "report_delayed",
    Severity.WARNING,
    "queued, above the hourly limit of automatic messages",
    _MESSAGE_FIELDS,
    ("changed_",),
)
MESSAGE_TAKEN_OVER: Final = LogEvent(
    "message_taken_over",
    Severity.INFO,
    "delivered in part, the rest queued or reported",
    _MESSAGE_FIELDS,
    ("changed_",),
)
MESSAGE_DEFERRED: Final = LogEvent("message_deferred", Severity.WARNING, "deferred", _MESSAGE_FIELDS, ("changed_",))
MESSAGE_REFUSED: Final = LogEvent("message_refused", Severity.WARNING, "refused", _MESSAGE_FIELDS, ("changed_",))
MESSAGE_DISCARDED: Final = LogEvent("message_discarded", Severity.WARNING, "discarded", _MESSAGE_FIELDS, ("changed_",))
REFUSALS_REPEATED: Final = LogEvent(
    "refusals_repeated",
    Severity.WARNING,
    "further equal refusals, neither logged nor stored each on its own",
    ("client", "reverse_path", "reply", "count"),
)
FALLBACK_USED: Final = LogEvent(
    "fallback_used",
    Severity.INFO,
    "account cannot send, fallback tried",
    ("id", "account", "fallback", "sent_as", "cause", "why", "delivered", "recipients", "reply"),
)
FALLBACK_UNFIT: Final = LogEvent(
    "fallback_unfit", Severity.INFO, "account cannot send, fallback may not send this message", ("id", "account", "why")
)
MESSAGE_NOT_QUEUED: Final = LogEvent(
    "message_not_queued", Severity.ERROR, "cannot queue a message, the client got 4xx", ("id", "why", "hint")
)
_QUEUE_FIELDS: Final = ("id", "account", "ways", "delivered", "deferred", "failed", "seconds", "reply")
QUEUE_ATTEMPT_DELIVERED: Final = LogEvent(
    "queue_attempt_delivered", Severity.INFO, "delivered from the queue", _QUEUE_FIELDS
)
QUEUE_ATTEMPT_PARTIAL: Final = LogEvent(
    "queue_attempt_partial", Severity.WARNING, "delivered from the queue to some recipients", _QUEUE_FIELDS
)
QUEUE_ATTEMPT_FAILED: Final = LogEvent(
    "queue_attempt_failed", Severity.WARNING, "not delivered from the queue", _QUEUE_FIELDS
)
WAY_HANDED_BACK: Final = LogEvent(
    "way_handed_back", Severity.INFO, "not taken by its route, sent by the author's account", ("id", "way", "reply")
)
WAY_FAILED: Final = LogEvent(
    "way_failed", Severity.ERROR, "internal error for the recipients of one route, retried later", ("id",)
)
QUEUE_ATTEMPT_ERROR: Final = LogEvent("queue_attempt_error", Severity.ERROR, "internal error in an attempt", ("id",))
QUEUE_READ_FAILED: Final = LogEvent(
    "queue_read_failed", Severity.ERROR, "cannot read the queue", ("account", "why", "hint")
)
CRASH_SUSPECTS_RETRIED: Final = LogEvent(
    "crash_suspects_retried",
    Severity.WARNING,
    "messages in progress at the crash are tried first, one by one",
    ("messages",),
)
SPOOL_WRITE_FAILED: Final = LogEvent(
    "spool_write_failed", Severity.ERROR, "cannot write to the spool, queue paused", ("id", "messages", "why", "hint")
)
SPOOL_WRITE_RESUMED: Final = LogEvent("spool_write_resumed", Severity.INFO, "spool writable again", ("id",))
RESULT_REFUSED: Final = LogEvent(
    "result_refused", Severity.ERROR, "the spool refuses the result of an attempt, message held", ("id", "why")
)
RESULT_ABANDONED: Final = LogEvent(
    "result_abandoned",
    Severity.CRITICAL,
    "the spool refuses the result of an attempt, message left alone until the service stops",
    ("id", "why"),
)
RESULT_TOO_LATE: Final = LogEvent(
    "result_too_late",
    Severity.WARNING,
    "another instance took the message over, it may have been sent twice",
    ("id",),
)
CLOCK_STEPPED: Final = LogEvent(
    "clock_stepped", Severity.WARNING, "system clock stepped, due times moved with it", ("seconds",)
)
CLOCK_SHIFT_FAILED: Final = LogEvent(
    "clock_shift_failed", Severity.ERROR, "cannot move due times after a clock step", ("why",)
)

# ---- spool ----

SPOOL_MIGRATED: Final = LogEvent("spool_migrated", Severity.INFO, "spool migrated", ("format", "backup"))
SPOOL_DAMAGED: Final = LogEvent("spool_damaged", Severity.CRITICAL, "spool damaged", ("why", "hint"))
SPOOL_STALLED: Final = LogEvent(
    "spool_stalled", Severity.ERROR, "spool's disk does not respond, new mail for the queue gets 451", ("why", "hint")
)
SPOOL_STALL_ENDED: Final = LogEvent("spool_stall_ended", Severity.INFO, "spool's disk responds again")
SPOOL_LEASES_LOST: Final = LogEvent(
    "spool_leases_lost",
    Severity.CRITICAL,
    "the spool's database does not answer: attempts ended before other instances take over",
    ("seconds",),
)
SPOOL_LEASES_REGAINED: Final = LogEvent(
    "spool_leases_regained", Severity.INFO, "the spool's database answers again, delivery from the queue continues"
)
SPOOL_LEASES_TAKEN: Final = LogEvent(
    "spool_leases_taken",
    Severity.WARNING,
    "an instance is gone, its messages in progress are attempted again: a recipient may get one twice",
    ("instance", "messages", "why"),
)
SPOOL_FILE_LOST: Final = LogEvent(
    "spool_file_lost", Severity.CRITICAL, "a file of the spool was deleted, replaced or moved", ("why", "hint")
)
SPOOL_FILE_LINKED: Final = LogEvent(
    "spool_file_linked", Severity.WARNING, "a file of the spool has a second name", ("why", "hint")
)
SPOOL_CHECK_FAILED: Final = LogEvent("spool_check_failed", Severity.WARNING, "cannot check the spool", ("why",))
SPOOL_WRITER_ERROR: Final = LogEvent("spool_writer_error", Severity.ERROR, "internal error in the spool writer")
MESSAGE_UNREADABLE: Final = LogEvent(
    "message_unreadable", Severity.ERROR, "cannot read a message in the spool, message held", ("id", "why")
)
JOB_UNREADABLE: Final = LogEvent(
    "job_unreadable", Severity.ERROR, "cannot read a job or its message in the spool, job kept", ("kind", "why")
)
HISTORY_LOST: Final = LogEvent(
    "history_lost", Severity.WARNING, "history of pass-through messages lost", ("why", "count")
)
HISTORY_UNREADABLE: Final = LogEvent(
    "history_unreadable", Severity.WARNING, "cannot read a part of the history, left out of a search", ("why",)
)
CONTENT_UNCHANGED: Final = LogEvent(
    "content_unchanged", Severity.WARNING, "content of a message sent as it is, without the change", ("id", "why")
)
CONTENT_CHANGE_OMITTED: Final = LogEvent(
    "content_change_omitted",
    Severity.INFO,
    "content of a message sent as it is, by the rules of the change",
    ("id", "why"),
)
CONTENT_CHANGE_FAILED: Final = LogEvent(
    "content_change_failed",
    Severity.ERROR,
    "content of a message cannot be read or changed now, message deferred",
    ("id", "why"),
)
DKIM_FAILED: Final = LogEvent(
    "dkim_failed", Severity.ERROR, "internal error while a message is signed, message sent unsigned", ("id",)
)
LEARNED_RESTORED: Final = LogEvent(
    "learned_restored", Severity.INFO, "facts learned before the restart restored", ("count",)
)
LEARNED_FAILED: Final = LogEvent(
    "learned_failed", Severity.WARNING, "learned facts cannot be read or written, kept in memory", ("why", "hint")
)
HISTORY_SHORTENED: Final = LogEvent(
    "history_shortened", Severity.INFO, "oldest history deleted: size limit or lack of space", ("count",)
)
SPOOL_RESERVE_TAKEN: Final = LogEvent("spool_reserve_taken", Severity.INFO, "spool's reserve file allocated", ("size",))
SPOOL_RESERVE_RELEASED: Final = LogEvent(
    "spool_reserve_released",
    Severity.ERROR,
    "disk full, spool's reserve file released for results of deliveries",
    ("size", "hint"),
)
SPOOL_RESERVE_UNSUPPORTED: Final = LogEvent(
    "spool_reserve_unsupported", Severity.WARNING, "disk cannot allocate the spool's reserve file", ("why",)
)
ORPHANS_REMOVED: Final = LogEvent("orphans_removed", Severity.INFO, "content without a message removed", ("files",))
WAL_CHECKPOINT_FAILED: Final = LogEvent(
    "wal_checkpoint_failed", Severity.WARNING, "cannot truncate the spool's WAL", ("why",)
)

EVENTS: Final = tuple(value for value in list(globals().values()) if isinstance(value, LogEvent))
