"""Records of conditions: a state of the service that an operator should know, with its cause and its remedy. PURE.

Guarantees: key and subject identify a condition; a key never changes its meaning. Texts are bounded in length.
Not here: the rules by which conditions are found (monitoring.conditions), their facts (monitoring.facts).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from senderproxy.log_events import Severity
from senderproxy.translation import translated

_TEXT: Final = 1000  # characters of a cause or a hint; a provider's reply of five lines fits
_NAMES: Final = 200  # names in JSON, about those of an office; `count` has the number of all


class ConditionKey(StrEnum):
    """The kinds of conditions. docs/conditions.md has a section on each."""

    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_PAUSED = "account_paused"
    NO_SESSION = "no_session"
    HOURLY_LIMIT = "hourly_limit"
    SENDER_RULE_STRICTER = "sender_rule_stricter"
    LOOK_UP_FAILING = "look_up_failing"
    SMARTHOST_CERTIFICATE = "smarthost_certificate"
    LISTENER_CERTIFICATE = "listener_certificate"
    ROUTE_UNREACHABLE = "route_unreachable"
    MX_STOPPED = "mx_stopped"
    CLIENT_CERTIFICATE = "client_certificate"
    APPLICATION_EXPIRES = "application_expires"
    QUEUE_LATE = "queue_late"
    MESSAGE_HELD = "message_held"
    DISK_LOW = "disk_low"
    DISK_FULL = "disk_full"
    DISK_SILENT = "disk_silent"
    DISK_BROKEN = "disk_broken"
    SPOOL_CLOSED = "spool_closed"
    SPOOL_FILE_LOST = "spool_file_lost"
    VAULT_UNREADABLE = "vault_unreadable"
    VAULT_ROLLED_BACK = "vault_rolled_back"
    VAULT_RECORD_UNUSABLE = "vault_record_unusable"
    NO_ACCOUNT = "no_account"
    UNKNOWN_PROVIDER = "unknown_provider"
    UNKNOWN_ACCOUNT = "unknown_account"
    CONFIGURATION_REFUSED = "configuration_refused"
    CLIENT_TURNED_AWAY = "client_turned_away"
    MESSAGES_REFUSED = "messages_refused"
    MAIL_LOOP = "mail_loop"
    LOOP_BLOCKED = "loop_blocked"
    CLOCK_STEPPED = "clock_stepped"
    SERVICE_CRASHED = "service_crashed"
    PROGRAM_OUTDATED = "program_outdated"
    ALERTS_FAILING = "alerts_failing"
    METRICS_UNAVAILABLE = "metrics_unavailable"
    NO_MAIL = "no_mail"
    DRAINING = "draining"
    SPF_WRONG = "spf_wrong"
    DKIM_WRONG = "dkim_wrong"
    DKIM_RECORD = "dkim_record"
    DMARC_WRONG = "dmarc_wrong"
    MX_WRONG = "mx_wrong"
    SENT_COPY_WAITING = "sent_copy_waiting"
    SENT_COPY_GIVEN_UP = "sent_copy_given_up"


class AffectedKind(StrEnum):
    """The kind of names that a condition affects."""

    ACCOUNTS = "accounts"
    SENDERS = "senders"
    CLIENTS = "clients"
    DOMAINS = "domains"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Affected:
    """The accounts, senders or clients that a condition affects; all of them if there are no names."""

    kind: AffectedKind
    names: tuple[str, ...] = ()


EVERYBODY: Final = Affected(AffectedKind.EVERYBODY)

ConditionId: TypeAlias = tuple[str, str]  # key, subject


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that exists now. `since` is aware, in UTC; `hint` has the fix, or is empty if it ends by itself."""

    key: ConditionKey
    subject: str  # the account, provider, domain, listener, host, client or path; empty if there is only one
    severity: Severity  # INFO: mail is not affected; WARNING: it is, or soon; ERROR: an operator must act; CRITICAL
    since: datetime
    cause: str
    hint: str
    affected: Affected = EVERYBODY

    @property
    def id(self) -> ConditionId:
        """Its identity: the same in two lists if it went on between them."""
        return self.key.value, self.subject


def translated_condition(condition: Condition) -> Condition:
    """The condition with its texts in the language in force."""
    return replace(condition, cause=translated(condition.cause), hint=translated(condition.hint))


def condition_entry(condition: Condition) -> dict[str, Any]:
    """The condition in values for JSON."""
    return {
        "key": condition.key.value,
        "subject": condition.subject,
        "severity": condition.severity.name.lower(),
        "since": condition.since.isoformat(timespec="seconds"),
        "cause": condition.cause[:_TEXT],
        "hint": condition.hint[:_TEXT],
        "affected": {
            "kind": condition.affected.kind.value,
            "count": len(condition.affected.names),
            "names": list(condition.affected.names[:_NAMES]),
        },
    }


def read_condition(entry: Mapping[str, Any]) -> Condition:
    """The condition of a `condition_entry`, with the names in it. Raises ValueError or KeyError for another value."""
    affected = entry["affected"]
    return Condition(
        ConditionKey(entry["key"]),
        entry["subject"],
        Severity[str(entry["severity"]).upper()],
        datetime.fromisoformat(entry["since"]),
        entry["cause"],
        entry["hint"],
        Affected(AffectedKind(affected["kind"]), tuple(affected["names"])),
    )
