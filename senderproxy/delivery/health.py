"""An account's health: whether we may knock at the upstream's door with it at all.

Guarantees: one refused password suspends the account until its secret changes or a person resumes it, so a wrong
password costs one failed login. A rate limit pauses it, from one minute doubling to thirty. What an upstream says
about one recipient (a greylist, a full mailbox) never stops an account.
Not here: what the time is, which reply came (both are arguments); telling a person (courier.status).
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from senderproxy.mail.reply import EnhancedStatus, Reply, reply

FIRST_PAUSE: Final = 60.0  # seconds
LONGEST_PAUSE: Final = 1800.0  # seconds; a limit may end at any time, so an account is tried twice an hour

# What providers say when an account has sent too much or too fast. Sources: IONOS' help pages (450 Mail send limit
# exceeded; 421 Rate limit reached), Microsoft 365 (432 4.3.2 sender thread limit; SubmissionQuotaExceededException),
# Gmail (550 5.4.5 Daily user sending limit exceeded), Postfix's anvil (too much mail from, too many connections).
_ACCOUNT_LIMIT = re.compile(
    r"(?:send|sending|submission|relay|thread|rate)[ -]*(?:limit|quota)s?\b"
    r"|(?:hourly|daily)\b.{0,40}\b(?:limit|quota)\b"
    r"|SubmissionQuotaExceeded"
    r"|\btoo much mail\b|\btoo many recipients from\b"
    r"|\btoo many (?:messages|mails|e-?mails|connections|concurrent|sessions|log-?ins)\b"
    r"|\bthrottl(?:ed|ing)\b",
    re.IGNORECASE,
)
# IONOS: 451 Mails per session limit. Exim and sendmail have words of their own.
_SESSION_LIMIT = re.compile(
    r"\b(?:mails?|messages?|e-?mails?) per (?:session|connection)\b"
    r"|\btoo many (?:messages|mails|transactions) (?:in|on|per|for|during) (?:this|one|a|the) (?:session|connection)\b",
    re.IGNORECASE,
)


def is_session_limit(said: Reply) -> bool:
    """True where the upstream wants a new session before the next message; nothing is wrong with the account."""
    return said.code >= 400 and any(_SESSION_LIMIT.search(line) for line in said.lines)


def is_account_limit(said: Reply) -> bool:
    """True where the upstream slows this account down, whatever the class of its code."""
    if said.code < 400 or is_session_limit(said):
        return False
    return said.code in (421, 432) or any(_ACCOUNT_LIMIT.search(line) for line in said.lines)


def softened(said: Reply) -> Reply:
    """A limit that came as a 5xx, as the deferral it means (Gmail's 550 5.4.5 is over tomorrow)."""
    if not said.is_permanent:
        return said
    status = said.status or EnhancedStatus(5, 7, 1)
    return replace(said, code=451, status=replace(status, klass=4))


@dataclass(frozen=True, slots=True)
class Healthy:
    """Nothing known against it."""

    since: datetime | None = None  # when it became so, where it had not been


@dataclass(frozen=True, slots=True)
class Suspended:
    """The password was refused. No login until it changes."""

    said: Reply
    version: str  # of the secret that was refused
    since: datetime


@dataclass(frozen=True, slots=True)
class Paused:
    """The upstream asked for less. No connection until then."""

    said: Reply
    until: float  # on the monotonic clock
    since: datetime
    length: float  # seconds


Health: TypeAlias = Healthy | Suspended | Paused


@dataclass(frozen=True, slots=True)
class PasswordRefused:
    """One AUTH was answered with a refusal."""

    said: Reply
    version: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A rate limit, or a 421 from a fresh session."""

    said: Reply
    version: str


@dataclass(frozen=True, slots=True)
class Worked:
    """A message was taken, on a session of this secret."""

    version: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person says: go on."""


Occurrence: TypeAlias = PasswordRefused | LimitReached | Worked | Resumed


def after(health: Health, what: Occurrence, *, now: datetime, monotonic: float) -> Health:
    """The health after something happened."""
    match what:
        case PasswordRefused(said, version):
            return Suspended(said, version, now)
        case Resumed():
            return health if isinstance(health, Healthy) else Healthy(now)
        case _ if _holds(health, what.version, monotonic):
            return health  # a session opened before is still at it: what it hears is no news
        case LimitReached(said):
            length = min(health.length * 2, LONGEST_PAUSE) if isinstance(health, Paused) else FIRST_PAUSE
            return Paused(said, monotonic + length, now, length)
        case Worked():
            return health if isinstance(health, Healthy) else Healthy(now)


def _holds(health: Health, version: str, monotonic: float) -> bool:
    """True while it stops the account that has this secret."""
    match health:
        case Suspended(_, refused):
            return refused == version
        case Paused(_, until):
            return monotonic < until
        case Healthy():
            return False


def objection(
    health: Health, version: str, *, account_id: str, login: str, smarthost: str, monotonic: float
) -> Reply | None:
    """Why nothing goes out on this account now, as the answer for the client; None where nothing is against it."""
    if not _holds(health, version, monotonic):
        return None
    match health:
        case Suspended(said):
            return refused_password(said, account_id, login, smarthost)
        case Paused(said, until):
            return reply(
                451,
                "4.7.1",
                f"Account {account_id} is paused for another {in_words(until - monotonic)}, "
                f"because {smarthost} asked for less: {said}",
            )
        case Healthy():
            return None


def seconds_left(health: Health, monotonic: float) -> float | None:
    """How long what stands against the account lasts; None where only a person can end it."""
    return max(0.0, health.until - monotonic) if isinstance(health, Paused) else None


def refused_password(said: Reply, account_id: str, login: str, smarthost: str) -> Reply:
    """What the client is told of a refused password: whose it is, and what to type. One line: clients show the last."""
    return reply(
        451,
        "4.7.8",
        f"{smarthost} refused the login of account {account_id} ({login}): {said}. "
        f"To mend: senderproxy account set-password {account_id}",
    )


def words(health: Health, *, monotonic: float) -> str:
    """The health in a few words, for `senderproxy status`."""
    match health:
        case Healthy():
            return "healthy"
        case Suspended(said):
            return f"suspended, its password was refused: {said}"
        case Paused(said, until):
            left = until - monotonic
            return f"paused for another {in_words(left)}: {said}" if left > 0 else f"may be tried again after: {said}"


def in_words(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
