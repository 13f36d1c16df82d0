"""Health of an account: healthy, paused or suspended, and the events that change it. PURE.

Guarantees: one refused password suspends the account until its secret changes or the operator resumes it, so a wrong
password costs one failed login. A rate limit pauses it, for one minute at first, doubled each time up to thirty. A
reply about one recipient (greylisting, a full mailbox) never changes the health of the account.
Not here: the clock and the upstream's replies (both are arguments), the state itself (delivery.account_state).
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from senderproxy.learned import Fact, Instant, duration
from senderproxy.mail.reply import EnhancedStatus, Reply, reply
from senderproxy.tracking.serialize import read_reply, reply_entry

FIRST_PAUSE: Final = 60.0  # seconds; a limit for a burst of messages ends within a minute
LONGEST_PAUSE: Final = 1800.0  # seconds; a limit for a whole day then costs two attempts an hour

_LONGEST_AGE: Final = 10 * 365 * 86_400.0  # seconds; ten years, so that no date is out of range

# The phrases of providers for too many messages. Sources: IONOS' help pages (450 Mail send limit exceeded; 421 Rate
# limit reached), Microsoft 365 (432 4.3.2 sender thread limit; SubmissionQuotaExceededException), Gmail (550 5.4.5
# Daily user sending limit exceeded), Postfix's anvil (too much mail from, too many connections).
_ACCOUNT_LIMIT: Final = re.compile(
    r"(?:send|sending|submission|relay|thread|rate)[ -]*(?:limit|quota)s?\b"
    r"|(?:hourly|daily)\b.{0,40}\b(?:limit|quota)\b"
    r"|SubmissionQuotaExceeded"
    r"|\btoo much mail\b|\btoo many recipients from\b"
    r"|\btoo many (?:messages|mails|e-?mails|connections|concurrent|sessions|log-?ins)\b"
    r"|\bthrottl(?:ed|ing)\b",
    re.IGNORECASE,
)
# IONOS: 451 Mails per session limit. Exim and sendmail use other phrases.
_SESSION_LIMIT: Final = re.compile(
    r"\b(?:mails?|messages?|e-?mails?) per (?:session|connection)\b"
    r"|\btoo many (?:messages|mails|transactions) (?:in|on|per|for|during) (?:this|one|a|the) (?:session|connection)\b",
    re.IGNORECASE,
)


def is_session_limit(upstream_reply: Reply) -> bool:
    """True if the upstream requires a new session for the next message. The account stays healthy."""
    return upstream_reply.code >= 400 and any(_SESSION_LIMIT.search(line) for line in upstream_reply.lines)


def is_account_limit(upstream_reply: Reply) -> bool:
    """True if the upstream limits this account, whatever the class of the reply."""
    if upstream_reply.code < 400 or is_session_limit(upstream_reply):
        return False
    return upstream_reply.code in (421, 432) or any(_ACCOUNT_LIMIT.search(line) for line in upstream_reply.lines)


def as_transient(upstream_reply: Reply) -> Reply:
    """Convert a limit sent as a 5xx into a 4xx: Gmail's 550 5.4.5 ends after a day."""
    if not upstream_reply.is_permanent:
        return upstream_reply
    status = upstream_reply.status or EnhancedStatus(5, 7, 1)
    return replace(upstream_reply, code=451, status=replace(status, klass=4))


@dataclass(frozen=True, slots=True)
class Healthy:
    """The account can send."""

    since: datetime | None = None  # end of the last pause or suspension; None if there was none


@dataclass(frozen=True, slots=True)
class Suspended:
    """The password was refused. No login until it changes."""

    upstream_reply: Reply
    version: str  # of the refused secret
    since: datetime


@dataclass(frozen=True, slots=True)
class Paused:
    """The upstream reported a limit. No connection until the pause ends."""

    upstream_reply: Reply
    until: float  # monotonic clock
    since: datetime
    length: float  # seconds


Health: TypeAlias = Healthy | Suspended | Paused


@dataclass(frozen=True, slots=True)
class PasswordRefused:
    """The upstream refused one AUTH."""

    upstream_reply: Reply
    version: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The upstream reported a rate limit, or replied 421 on a new session."""

    upstream_reply: Reply
    version: str


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """The upstream accepted a message on a session of this secret."""

    version: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The operator resumed the account."""


HealthEvent: TypeAlias = PasswordRefused | LimitReached | MessageAccepted | Resumed


def next_health(health: Health, occurred: HealthEvent, *, now: datetime, monotonic: float) -> Health:
    """Return the health after the event."""
    match occurred:
        case PasswordRefused(upstream_reply, version):
            return Suspended(upstream_reply, version, now)
        case Resumed():
            return health if isinstance(health, Healthy) else Healthy(now)
        case _ if _blocks(health, occurred.version, monotonic):
            return health  # from a session opened before: it adds nothing to what blocks the account
        case LimitReached(upstream_reply):
            length = min(health.length * 2, LONGEST_PAUSE) if isinstance(health, Paused) else FIRST_PAUSE
            return Paused(upstream_reply, monotonic + length, now, length)
        case MessageAccepted():
            return health if isinstance(health, Healthy) else Healthy(now)


def _blocks(health: Health, version: str, monotonic: float) -> bool:
    """True while the health blocks the account with this version of its secret."""
    match health:
        case Suspended(version=refused):
            return refused == version
        case Paused(until=until):
            return monotonic < until
        case Healthy():
            return False


def blocking_reply(
    health: Health, version: str, *, account_id: str, login: str, smarthost: str, monotonic: float
) -> Reply | None:
    """Return the reply for clients while the account cannot send; None if it can.

    `version` is that of the current secret, `monotonic` the time in seconds on the clock of `Paused.until`.
    """
    if not _blocks(health, version, monotonic):
        return None
    match health:
        case Suspended(upstream_reply):
            return login_refused_reply(upstream_reply, account_id, login, smarthost)
        case Paused(upstream_reply, until):
            return reply(
                451,
                "4.7.1",
                f"Account {account_id} is paused for another {format_duration(until - monotonic)}: "
                f"{smarthost} reported a sending limit: {upstream_reply}",
            )
        case Healthy():
            return None


def seconds_left(health: Health, monotonic: float) -> float | None:
    """Return the seconds until the account can send again; None if only the operator can end its state."""
    return max(0.0, health.until - monotonic) if isinstance(health, Paused) else None


def login_refused_reply(upstream_reply: Reply, account_id: str, login: str, smarthost: str) -> Reply:
    """Return the reply for clients after a refused login, with the command to type.

    One line: many clients show the last line of a reply only.
    """
    return reply(
        451,
        "4.7.8",
        f"{smarthost} refused the login of account {account_id} ({login}): {upstream_reply}. "
        f"To fix: senderproxy account set-password {account_id}",
    )


def describe(health: Health, *, monotonic: float) -> str:
    """Describe the health in a few words, for `senderproxy status`."""
    match health:
        case Healthy():
            return "healthy"
        case Suspended(upstream_reply):
            return f"suspended, password refused: {upstream_reply}"
        case Paused(upstream_reply, until):
            left = until - monotonic
            if left > 0:
                return f"paused for another {format_duration(left)}: {upstream_reply}"
            return f"pause over, next message tries again: {upstream_reply}"


# ---- beyond a restart ----


def health_fact(health: Health, at: Instant) -> Fact | None:
    """Return the health in values for JSON; None if the account is healthy."""
    match health:
        case Suspended(upstream_reply, version, since):
            return {
                "state": "suspended",
                "reply": reply_entry(upstream_reply),
                "version": version,
                "since": at.age(since),
            }
        case Paused(upstream_reply, until, since, length):
            return {
                "state": "paused",
                "reply": reply_entry(upstream_reply),
                "left": max(0.0, until - at.monotonic),
                "length": length,
                "since": at.age(since),
            }
        case Healthy():
            return None


def read_health(fact: Fact, written: Instant) -> Health:
    """Return the health that was written at that moment. A state of another version reads as healthy.

    Raises KeyError, TypeError or ValueError for a fact of another form.
    """
    match fact["state"]:
        case "suspended":
            since = written.before(duration(fact, "since", _LONGEST_AGE)).now
            return Suspended(read_reply(fact["reply"]), str(fact["version"]), since)
        case "paused":
            since = written.before(duration(fact, "since", _LONGEST_AGE)).now
            left, length = (duration(fact, name, LONGEST_PAUSE) for name in ("left", "length"))
            return Paused(read_reply(fact["reply"]), written.monotonic + left, since, max(length, FIRST_PAUSE))
        case _other:
            return Healthy()


def format_duration(seconds: float) -> str:
    """Format a duration for a person: 45 s, 2 min, 1.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
