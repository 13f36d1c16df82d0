"""Health of an account: healthy, paused or suspended, and the events that change it. PURE.

Guarantees: one refused password suspends the account until its secret changes or the operator resumes it, so a wrong
password costs one failed login. A login that fails for another reason is tried again after 5, 15 and 60 minutes; a
temporary reply never suspends. A rate limit pauses the account, for one minute at first, doubled each time up to
thirty. A new secret ends every state. A reply about one recipient (greylisting, a full mailbox) never changes the
health.
Not here: the causes of replies (delivery.causes), hints (delivery.hints), the clock and the replies, which are
arguments, the state itself (delivery.account_state).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from senderproxy.delivery.causes import CONSEQUENCES, FAILED_LOGINS, Cause, Effect, effect_of, is_temporary
from senderproxy.delivery.hints import Login, hint
from senderproxy.learned import Fact, Instant, duration
from senderproxy.mail.outcome import Unavailable
from senderproxy.mail.reply import Reply, reply
from senderproxy.tracking.serialize import read_reply, reply_entry
from senderproxy.translation import N_, _, in_english

FIRST_PAUSE: Final = 60.0  # seconds; a limit for a burst of messages ends within a minute
LONGEST_PAUSE: Final = 1800.0  # seconds; a limit for a whole day then costs two attempts an hour
FIX: Final = " To fix:"  # in replies, before the fix
LOGIN_WAITS: Final = (300.0, 900.0, 3600.0)  # seconds after the first, second and third failed login
PROVEN_FOR: Final = timedelta(hours=24)  # a login that worked in this time is not doubted because of one refusal

_LONGEST_HINT: Final = 500  # characters of a stored hint
_LONGEST_AGE: Final = 10 * 365 * 86_400.0  # seconds; ten years, so that no date is out of range

_ENDS_SUSPENDED: Final = frozenset({Cause.PASSWORD_RETRY, Cause.BACKEND, Cause.CUT, Cause.METHOD})


@dataclass(frozen=True, slots=True)
class Healthy:
    """The account can send."""

    since: datetime | None = None  # end of the last pause or suspension; None if there was none


@dataclass(frozen=True, slots=True)
class Suspended:
    """The login was refused. No login until the secret changes or the operator resumes the account."""

    cause: Cause
    upstream_reply: Reply
    version: str  # of the refused secret
    since: datetime
    hint: str = ""  # the fix, where the cause alone does not name it


@dataclass(frozen=True, slots=True)
class Paused:
    """The upstream reported a limit, or a login failed. No new connection until the pause ends."""

    cause: Cause
    upstream_reply: Reply
    version: str  # of the secret
    until: float  # monotonic clock
    since: datetime
    length: float  # seconds
    failures: int = 0  # failed logins in a row


Health: TypeAlias = Healthy | Suspended | Paused


@dataclass(frozen=True, slots=True)
class FailedLogin:
    """A login failed. `proven`: a login with this very secret worked within PROVEN_FOR."""

    cause: Cause
    upstream_reply: Reply  # our own if the connection was cut
    version: str
    proven: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The upstream accepted a login with this secret."""

    version: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The upstream reported a limit of the account, or replied 421 on a new session."""

    upstream_reply: Reply
    version: str
    cause: Cause = Cause.LIMIT


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """The upstream accepted a message on a session of this secret."""

    version: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The operator resumed the account."""


HealthEvent: TypeAlias = FailedLogin | LoggedIn | LimitReached | MessageAccepted | Resumed


def next_health(health: Health, occurred: HealthEvent, *, now: datetime, monotonic: float) -> Health:
    """Return the health after the event."""
    match occurred:
        case Resumed():
            return health if isinstance(health, Healthy) else Healthy(now)
        case FailedLogin():
            return _after_failed_login(health, occurred, now, monotonic)
        case LoggedIn() if isinstance(health, Paused) and health.cause in FAILED_LOGINS:
            return Healthy(now)
        case LoggedIn():
            return health
        case _ if _blocks(health, occurred.version, monotonic):
            return health  # from a session opened before: it adds nothing to what blocks the account
        case LimitReached(upstream_reply, version, cause):
            earlier = health.length if isinstance(health, Paused) and health.cause not in FAILED_LOGINS else 0.0
            length = min(max(earlier * 2, FIRST_PAUSE), LONGEST_PAUSE)
            return Paused(cause, upstream_reply, version, monotonic + length, now, length)
        case MessageAccepted():
            return health if isinstance(health, Healthy) else Healthy(now)


def _after_failed_login(health: Health, failed: FailedLogin, now: datetime, monotonic: float) -> Health:
    cause = in_doubt(failed.cause, proven=failed.proven)
    if effect_of(cause, failed.upstream_reply) is Effect.SUSPEND:
        return Suspended(cause, failed.upstream_reply, failed.version, now, failed.hint)
    if isinstance(health, Suspended) and health.version == failed.version:
        return health
    continued = isinstance(health, Paused) and health.cause in FAILED_LOGINS and health.version == failed.version
    failures = health.failures + 1 if continued and isinstance(health, Paused) else 1
    cut = cause is Cause.CUT  # our own reply to it is temporary
    if failures > len(LOGIN_WAITS) and cause in _ENDS_SUSPENDED and (cut or not is_temporary(failed.upstream_reply)):
        final = Cause.PASSWORD if cause is Cause.PASSWORD_RETRY else cause
        return Suspended(final, failed.upstream_reply, failed.version, now)
    length = LOGIN_WAITS[min(failures, len(LOGIN_WAITS)) - 1]
    return Paused(cause, failed.upstream_reply, failed.version, monotonic + length, now, length, failures)


def in_doubt(cause: Cause, *, proven: bool) -> Cause:
    """Return the cause of a failed login whose secret worked within PROVEN_FOR: the password is probably right."""
    return Cause.PASSWORD_RETRY if proven and cause in (Cause.PASSWORD, Cause.LOCKED) else cause


def _blocks(health: Health, version: str, monotonic: float) -> bool:
    """True while the health blocks the account with this version of its secret."""
    match health:
        case Suspended(version=refused):
            return refused == version
        case Paused(version=paused, until=until):
            return paused in ("", version) and monotonic < until  # "": stored by an older version
        case Healthy():
            return False


def blocks_logins_only(health: Health) -> bool:
    """True if an open session can still carry messages: only logins fail."""
    return isinstance(health, Paused) and health.cause in FAILED_LOGINS


def unavailable(health: Health) -> Unavailable | None:
    """Return what another account may send for; None for a healthy account."""
    match health:
        case Suspended():
            return Unavailable.SUSPENDED
        case Paused():
            return Unavailable.LIMIT if health.cause is Cause.LIMIT else Unavailable.PAUSED
        case Healthy():
            return None


def cause_of_block(health: Health) -> Cause | None:
    """Return the cause of a pause or suspension; None for a healthy account."""
    return None if isinstance(health, Healthy) else health.cause


def blocking_reply(health: Health, version: str, login: Login, *, monotonic: float) -> Reply | None:
    """Return the reply for clients while the account cannot send; None if it can.

    `version` is that of the current secret, `monotonic` the time in seconds on the clock of `Paused.until`.
    """
    if not _blocks(health, version, monotonic):
        return None
    fix = _to_fix(hint_for(health, login))
    match health:
        case Suspended(cause, upstream_reply):
            return login_failed_reply(cause, upstream_reply, login, hint_for(health, login))
        case Paused(cause, upstream_reply, until=until):
            left = format_duration(until - monotonic)
            return reply(
                451,
                _status(cause),
                f"Account {login.account_id} is paused for another {left}: {login.host} {_REPORTS[cause]}: "
                f"{_ended(upstream_reply)}{fix}",
            )
        case Healthy():
            return None


def seconds_left(health: Health, monotonic: float) -> float | None:
    """Return the seconds until the account can send again; None if only the operator can end its state."""
    return max(0.0, health.until - monotonic) if isinstance(health, Paused) else None


def _status(cause: Cause) -> str:
    """Return the enhanced status of the reply to clients: 4.7.8 only if a person has to act on the login."""
    if cause in FAILED_LOGINS:
        return "4.7.0" if CONSEQUENCES[cause].effect is Effect.RETRY else "4.7.8"
    return "4.7.1"


def hint_for(health: Health, login: Login) -> str:
    """Return the fix for the state of the account; empty for a healthy one."""
    if isinstance(health, Healthy):
        return ""
    own = health.hint if isinstance(health, Suspended) else ""
    return own or hint(health.cause, login)


def login_failed_words(cause: Cause, upstream_reply: Reply, login: Login) -> str:
    """Return a sentence about a failed login in the language in force, without its fix and its period."""
    return _(_FAILURES[cause]).format(
        host=login.host, account=login.account_id, login=login.login, reply=str(upstream_reply)
    )


def login_failed_reply(cause: Cause, upstream_reply: Reply, login: Login, fix: str) -> Reply:
    """Return the reply for clients after a failed login, with its fix.

    One line: many clients show the last line of a reply only.
    """
    return reply(451, _status(cause), f"{in_english(login_failed_words(cause, upstream_reply, login))}{_to_fix(fix)}")


def without_fix(text: str) -> str:
    """Return the text of a reply for clients without its fix: commands and the page show that apart."""
    return text.partition(FIX)[0].removesuffix(".")


def _to_fix(fix: str) -> str:
    return f".{FIX} {in_english(fix)}" if fix else ""


def _ended(upstream_reply: Reply) -> str:
    """Return the reply without a final period: a sentence follows."""
    return str(upstream_reply).removesuffix(".")


_FAILURES: Final = {
    Cause.PASSWORD: N_("{host} refused the login of account {account} ({login}): {reply}"),
    Cause.PASSWORD_RETRY: N_(
        "{host} refused the login, which worked within the last day, of account {account} ({login}): {reply}"
    ),
    Cause.LOCKED: N_("{host} has locked the mailbox of account {account} ({login}): {reply}"),
    Cause.SMTP_OFF: N_("{host} does not allow access by SMTP to account {account} ({login}): {reply}"),
    Cause.APP_PASSWORD: N_("{host} wants a password for mail programs of account {account} ({login}): {reply}"),
    Cause.PASSWORDS_OFF: N_("{host} accepts no passwords, only OAuth, of account {account} ({login}): {reply}"),
    Cause.METHOD: N_("{host} refused the login method, not the password, of account {account} ({login}): {reply}"),
    Cause.BACKEND: N_("{host} could not check the login of account {account} ({login}): {reply}"),
    Cause.CUT: N_("{host} gave no reply to the login of account {account} ({login}): {reply}"),
    Cause.LOGIN_LIMIT: N_("{host} limits the logins of account {account} ({login}): {reply}"),
    Cause.TOKEN: N_("{host} needs an access token, and there is none, for account {account} ({login}): {reply}"),
}
# In a sentence about a pause, for clients: "Account anna is paused ...: HOST reported a sending limit: ...".
_REPORTS: Final = {
    Cause.PASSWORD: "refused the password",
    Cause.PASSWORD_RETRY: "refused the login, which worked within the last day",
    Cause.LOCKED: "has locked the mailbox",
    Cause.SMTP_OFF: "does not allow access by SMTP",
    Cause.APP_PASSWORD: "wants a password for mail programs",
    Cause.PASSWORDS_OFF: "accepts no passwords, only OAuth",
    Cause.METHOD: "refused the login method, not the password",
    Cause.BACKEND: "could not check the login",
    Cause.CUT: "gave no reply to the login",
    Cause.LOGIN_LIMIT: "limits the logins",
    Cause.TOKEN: "needs an access token, and there is none",
    Cause.LIMIT: "reported a sending limit",
    Cause.CLOSING: "closed the session",
    Cause.CONNECTIONS: "reported too many connections",
    Cause.ADDRESS_BLOCKED: "blocks the IP address of this machine",
    Cause.OWN_MAILBOX: "reported that the mailbox is full or disabled",
}


def reason(health: Suspended | Paused) -> str:
    """Return the reason of a pause or suspension in a few words, and the upstream's reply."""
    return _("{state}: {reply}").format(state=_(_STATES[health.cause]), reply=health.upstream_reply)


def describe(health: Health, *, monotonic: float) -> str:
    """Describe the health in a few words, for `senderproxy status`."""
    match health:
        case Healthy():
            return _("healthy")
        case Suspended():
            return _("suspended, {reason}").format(reason=reason(health))
        case Paused(until=until):
            left = until - monotonic
            if left > 0:
                text = _("paused for another {duration}, {reason}")
                return text.format(duration=format_duration(left), reason=reason(health))
            return _("pause over, next message tries again ({state}): {reply}").format(
                state=_(_STATES[health.cause]), reply=health.upstream_reply
            )


_STATES: Final = {
    Cause.PASSWORD: N_("password refused"),
    Cause.PASSWORD_RETRY: N_("login refused that worked within the last day"),
    Cause.LOCKED: N_("mailbox locked by the provider"),
    Cause.SMTP_OFF: N_("access by SMTP switched off"),
    Cause.APP_PASSWORD: N_("password for mail programs wanted"),
    Cause.PASSWORDS_OFF: N_("no passwords accepted, only OAuth"),
    Cause.METHOD: N_("login method refused"),
    Cause.BACKEND: N_("provider could not check the login"),
    Cause.CUT: N_("no reply to the login"),
    Cause.LOGIN_LIMIT: N_("too many logins"),
    Cause.TOKEN: N_("no access token"),
    Cause.LIMIT: N_("sending limit"),
    Cause.CLOSING: N_("session closed by the server"),
    Cause.CONNECTIONS: N_("too many connections"),
    Cause.ADDRESS_BLOCKED: N_("IP address of this machine blocked"),
    Cause.OWN_MAILBOX: N_("mailbox full or disabled"),
}


# ---- beyond a restart ----


def health_fact(health: Health, at: Instant) -> Fact | None:
    """Return the health in values for JSON; None if the account is healthy."""
    match health:
        case Suspended(cause, upstream_reply, version, since, own_hint):
            state: dict[str, object] = {"state": "suspended"}
            if own_hint:
                state["hint"] = own_hint
        case Paused(cause, upstream_reply, version, until, since, length, failures):
            left = max(0.0, until - at.monotonic)
            state = {"state": "paused", "left": left, "length": length, "failures": failures}
        case Healthy():
            return None
    reply_values = reply_entry(upstream_reply)
    return state | {"cause": cause.value, "reply": reply_values, "version": version, "since": at.age(since)}


def read_health(fact: Fact, written: Instant) -> Health:
    """Return the health that was written at that moment. A state or cause of another version reads as healthy.

    Raises KeyError, TypeError or ValueError for a fact of another form.
    """
    suspended = fact["state"] == "suspended"
    cause = _CAUSES.get(str(fact.get("cause", Cause.PASSWORD.value if suspended else Cause.LIMIT.value)))
    if fact["state"] not in ("suspended", "paused") or cause is None:
        return Healthy()
    since = written.before(duration(fact, "since", _LONGEST_AGE)).now
    said, version = read_reply(fact["reply"]), str(fact.get("version", ""))
    if suspended:
        return Suspended(cause, said, version, since, str(fact.get("hint", ""))[:_LONGEST_HINT])
    shortest, longest = FIRST_PAUSE, LONGEST_PAUSE
    if cause in FAILED_LOGINS:
        shortest, longest = LOGIN_WAITS[0], LOGIN_WAITS[-1]
    left, length = (duration(fact, name, longest) for name in ("left", "length"))
    failures = min(int(fact.get("failures", 0)), len(LOGIN_WAITS) + 1)
    return Paused(cause, said, version, written.monotonic + left, since, max(length, shortest), failures)


_CAUSES: Final = {cause.value: cause for cause in Cause}


def format_duration(seconds: float) -> str:
    """Format a duration for a person: 45 s, 2 min, 1.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
