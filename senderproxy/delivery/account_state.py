"""State of one account while the service runs: health, session pool, hourly quota, counters, and their changes.

Guarantees: every change of the health passes through `record`, which logs a change of its kind once. An account that
is paused or suspended makes no connection: `request().blocked` is evaluated before each step of the pool.
Not here: the transitions of the health (delivery.account_health), the transactions (delivery.courier), the parts that
outlive a restart (delivery.learned_accounts).
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery import account_health
from senderproxy.delivery.account_health import (
    PROVEN_FOR,
    FailedLogin,
    Health,
    HealthEvent,
    Healthy,
    LimitReached,
    LoggedIn,
    MessageAccepted,
)
from senderproxy.delivery.causes import Cause, ClassifiedReply
from senderproxy.delivery.classify import limit_in
from senderproxy.delivery.hints import Login
from senderproxy.delivery.observed_limits import ObservedLimit
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool, SessionRequest
from senderproxy.delivery.quota import Quota, QuotaExceeded, Reservation
from senderproxy.delivery.reuse import PoolLimits, SessionKey
from senderproxy.delivery.session import Session
from senderproxy.learned import Fact, Instant, Notify, duration, ignore_change
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.mail.reply import Reply
from senderproxy.relay.ports import DeliveryObserver, Outcomes
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import Provider
from senderproxy.translation import _, translated

NO_SESSION: Final = "no session"  # the state of an account whose last attempt to open a session failed

_log: Final = logging.getLogger("senderproxy.delivery")


@dataclass(frozen=True, slots=True)
class ProvenLogin:
    """The last login that worked: version of its secret, time."""

    version: str
    at: datetime

    def fact(self, at: Instant) -> Fact | None:
        """Return the login in values for JSON; None if it is no proof any more."""
        age = at.age(self.at)
        return {"version": self.version, "age": age} if age < PROVEN_FOR.total_seconds() else None

    @classmethod
    def read(cls, fact: Fact, written: Instant) -> "ProvenLogin":
        """Return the login that was written at that moment. Raises KeyError, TypeError or ValueError."""
        return cls(str(fact["version"]), written.before(duration(fact, "age", PROVEN_FOR.total_seconds())).now)


OpenSession: TypeAlias = "Callable[[AccountState, Provider, Credential], Awaitable[Session | OpenFailed]]"
LoginWaits: TypeAlias = "Callable[[AccountState, Provider, Credential], OpenFailed | None]"


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account in `senderproxy status`, in values for JSON. One attribute for each fact; counts are recipients."""

    account: str
    login: str
    state: str  # healthy, no session (the last attempt to open one failed), suspended or paused
    words: str
    since: str | None  # ISO 8601, UTC; None: since the start of the service
    sessions_busy: int = 0
    sessions_idle: int = 0
    waiting: int = 0  # messages that wait for a session
    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    last_reply: str | None = None
    messages_left: int | None = None  # this hour; None: no limit
    recipients_left: int | None = None
    provider: str = ""
    reply: str | None = None  # the reason why it cannot send: the provider's reply, or ours
    cause: str | None = None  # key of the cause of a state that is not healthy
    hint: str = ""  # the fix, without "To fix:"
    until: str | None = None  # ISO 8601, UTC: the end of a pause
    messages_limit: int | None = None  # an hour; None: no limit
    recipients_limit: int | None = None
    address: str = ""  # of its mailbox
    fallback: str | None = None  # the account that may send in its place
    sends_through: str | None = None  # the same, while it does: this one cannot send, and the fallback can
    sends_in_part: bool = False  # the fallback may use only some of its addresses: mail of the others waits

    def entry(self) -> dict[str, object]:
        """Its values for JSON, its texts in the language in force.

        `dataclasses.asdict` would copy each value, and take ten times as long.
        """
        entry: dict[str, object] = {name: getattr(self, name) for name in _STATUS_FIELDS}
        return entry | {"reply": translated(self.reply or "") or None, "hint": translated(self.hint)}


_STATUS_FIELDS: Final = tuple(field.name for field in fields(AccountStatus))


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """The figures of one account since the start, for a monitoring system. One attribute for each figure."""

    account: str
    can_send: bool
    sessions_opened: int
    sessions_busy: int
    sessions_idle: int
    waiting: int  # messages that wait for a session
    failed_logins: int
    delivered: int  # recipients, of all attempts
    deferred: int
    failed: int
    limits: Sequence[tuple[str, int, int]]  # messages or recipients; an hour; left


@dataclass(frozen=True, slots=True)
class _CachedRequest:
    """A session request, and the objects it was created from."""

    account: Account
    provider: Provider
    credential: Credential
    request: SessionRequest


@dataclass(slots=True)
class AccountObservers:
    """The functions that are called with an account's id after a change. They do not wait, and may be replaced."""

    healthy: Notify = ignore_change  # it can send
    state: Notify = ignore_change  # its health or an observed limit has changed
    use: Notify = ignore_change  # its use of the hour has changed
    attempts: DeliveryObserver | None = None  # None: attempts are not observed


class AccountState:
    """State of one account. One attribute for each thing that is known about it.

    `open_session` opens a session; `login_waits` returns why no login may be tried at its server now.
    """

    def __init__(
        self,
        account: Account,
        clock: Clock,
        open_session: OpenSession,
        login_waits: LoginWaits,
        observers: AccountObservers,
        quota: Quota,
    ) -> None:
        self.account = account
        self.provider: Provider | None = None  # of the last message
        self.application = ""  # of its access tokens; empty: it logs in with a password
        self.health: Health = Healthy()
        self.pool = Pool(account.id, clock, on_observed=self._note_state)
        self.observed_recipient_limit = ObservedLimit()  # for one transaction
        self.no_session: tuple[OpenFailed, datetime] | None = None  # the last attempt to open one failed, since when
        self.proven: ProvenLogin | None = None  # the last login that worked
        self.quota = quota
        self._counts: Counter[type] = Counter()  # recipients by kind of outcome
        self._failed_logins = 0
        self._last_reply: Reply | None = None
        self._request: _CachedRequest | None = None
        self._clock = clock
        self._open_session = open_session
        self._login_waits = login_waits
        self.observers = observers

    # --- before a transaction ---

    def recipient_limit(self, provider: Provider) -> int | None:
        """Return the number of recipients that one transaction may have; None: no limit.

        A message to more recipients than an hour allows is split: it is sent within several hours.
        """
        limit, hourly = provider.limits.recipients_per_message, self._hourly_limits(provider)[1]
        if hourly is not None and (limit is None or hourly < limit):
            limit = hourly
        return self.observed_recipient_limit.narrow(limit, self._clock.monotonic())

    def record_recipient_limit(self, recipients: int) -> None:
        """Record that the upstream accepts only so many recipients in one transaction."""
        self.observed_recipient_limit.record(recipients, self._clock.monotonic())
        self._note_state()

    def is_proven(self, version: str) -> bool:
        """True if a login with this version of the secret worked within PROVEN_FOR."""
        proven = self.proven
        return proven is not None and proven.version == version and self._clock.now() - proven.at < PROVEN_FOR

    def request(self, provider: Provider, credential: Credential, wait_seconds: float) -> SessionRequest:
        """Return the session request: the one of the last message, unless the settings changed since."""
        cached = self._request
        if (
            cached is None
            or cached.account is not self.account
            or cached.provider is not provider
            or cached.credential is not credential
            or cached.request.wait_seconds != wait_seconds
        ):
            request = self._new_request(provider, credential, wait_seconds)
            cached = self._request = _CachedRequest(self.account, provider, credential, request)
        return cached.request

    def reserve(self, provider: Provider, recipients: int) -> Reservation | QuotaExceeded:
        """Reserve the quota for one message."""
        messages_per_hour, recipients_per_hour = self._hourly_limits(provider)
        self.observers.use(self.account.id)
        return self.quota.reserve(
            recipients,
            messages_per_hour=messages_per_hour,
            recipients_per_hour=recipients_per_hour,
            now=self._clock.monotonic(),
        )

    async def draw(self, provider: Provider, recipients: int, exceeded: QuotaExceeded) -> Reservation | QuotaExceeded:
        """Reserve the quota for a message that `reserve` has refused, if other instances have some left."""
        messages_per_hour, recipients_per_hour = self._hourly_limits(provider)
        found = await self.quota.draw(
            recipients, messages_per_hour=messages_per_hour, recipients_per_hour=recipients_per_hour
        )
        return exceeded if found is None else found

    def release(self, reservation: Reservation) -> None:
        """Return the quota of a message that was not accepted."""
        self.quota.release(reservation)
        self.observers.use(self.account.id)

    def quota_exceeded(self, provider: Provider) -> QuotaExceeded | None:
        """Return the refusal of a message to one recipient; None if the quota allows it."""
        messages_per_hour, recipients_per_hour = self._hourly_limits(provider)
        return self.quota.check(
            1,
            messages_per_hour=messages_per_hour,
            recipients_per_hour=recipients_per_hour,
            now=self._clock.monotonic(),
        )

    def seconds_left(self) -> float | None:
        """Return the seconds until a pause ends; None: only the operator can end the state."""
        return account_health.seconds_left(self.health, self._clock.monotonic())

    # --- after it ---

    def record(self, occurred: HealthEvent) -> None:
        """Change the health. A change of its kind is logged."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        before, self.health = (
            self.health,
            account_health.next_health(self.health, occurred, now=now, monotonic=monotonic),
        )
        if (type(before), account_health.cause_of_block(before)) != (
            type(self.health),
            account_health.cause_of_block(self.health),
        ):
            self._log_health(monotonic)
        if before is not self.health:
            self._note_state()
        if isinstance(self.health, Healthy):
            self.observers.healthy(self.account.id)

    def follow(self, health: Health) -> None:
        """Take over the health that another instance has found. A change of its kind is logged."""
        before, self.health = self.health, health
        if type(before) is not type(health):
            self._log_health(self._clock.monotonic())
        if isinstance(health, Healthy):
            self.observers.healthy(self.account.id)

    def record_login(self, version: str) -> None:
        """Record a login that worked."""
        self.proven = ProvenLogin(version, self._clock.now())
        self._note_state()
        if not isinstance(self.health, Healthy):
            self.record(LoggedIn(version))

    def record_open_failure(self, version: str, result: OpenFailed) -> None:
        """Change the state after a session could not be opened with this version of the secret."""
        self._last_reply = upstream_reply = result.upstream_reply or result.reply
        self._failed_logins += result.kind is FailureKind.LOGIN
        if result.kind is FailureKind.LOGIN and result.cause is not None:
            proven, own_hint = self.is_proven(version), result.hint if result.cause is Cause.TOKEN else ""
            self.record(FailedLogin(result.cause, upstream_reply, version, proven=proven, hint=own_hint))
        elif result.kind is FailureKind.LIMIT:
            self.record(LimitReached(upstream_reply, version, result.cause or Cause.LIMIT))
        elif result.kind is not FailureKind.LOCAL:
            self._record_no_session(result)

    def record_replies(self, replies: Sequence[ClassifiedReply], outcomes: Outcomes, version: str) -> None:
        """Change the health after a transaction with these replies, on a session of this version of the secret."""
        if replies and (limit := limit_in(replies)):
            self.record(LimitReached(limit.reply, version, limit.cause))
        elif any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            self._accepted(version)

    def _accepted(self, version: str) -> None:
        if isinstance(self.health, Healthy):
            self.observers.healthy(self.account.id)
        else:
            self.record(MessageAccepted(version))

    def record_last_reply(self, last: Reply) -> None:
        """Record the last reply, for `status`."""
        self._last_reply = last

    def count(self, outcomes: Outcomes) -> None:
        """Add the outcomes to the counters."""
        for outcome in outcomes.values():
            self._counts[type(outcome)] += 1

    # --- for the operator ---

    @property
    def trouble(self) -> str:
        """The kind of the state that prevents sending; empty if the account can send."""
        if isinstance(self.health, Healthy):
            return "" if self.no_session is None else NO_SESSION
        return type(self.health).__name__

    def status(self, provider: Provider | None = None) -> AccountStatus:
        """Return the account's status. `provider`: the one in the configuration, for an account without a message."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        state, since = type(self.health).__name__.lower(), self.health.since
        words = account_health.describe(self.health, monotonic=monotonic)
        reply = None if isinstance(self.health, Healthy) else account_health.reason(self.health)
        blocked = account_health.cause_of_block(self.health)
        cause, hint = blocked.value if blocked else None, self._hint()
        until = None
        if isinstance(self.health, account_health.Paused):
            until = now + timedelta(seconds=self.health.until - monotonic)
        if isinstance(self.health, Healthy) and self.no_session is not None:
            failed, since = self.no_session
            words = _("no session: {reply}").format(reply=failed.reply)
            state, cause, hint = NO_SESSION, failed.kind.value, failed.hint
            reply = failed.words or account_health.without_fix(failed.reply.text)  # the hint stands by itself
            cause = "certificate" if failed.about_certificate else cause
        messages, recipients = hourly_limits(self.account, provider or self.provider)
        left = self.quota.remaining(messages_per_hour=messages, recipients_per_hour=recipients, now=monotonic)
        return AccountStatus(
            account=self.account.id,
            login=self.account.login,
            state=state,
            words=words,
            since=since.isoformat(timespec="seconds") if since else None,
            sessions_busy=self.pool.busy,
            sessions_idle=self.pool.idle,
            waiting=self.pool.waiting,
            delivered=self._counts[Delivered],
            deferred=self._counts[Deferred],
            failed=self._counts[Failed],
            last_reply=str(self._last_reply) if self._last_reply else None,
            messages_left=left.messages,
            recipients_left=left.recipients,
            provider=self.account.provider,
            reply=reply,
            cause=cause,
            hint=hint,
            until=until.isoformat(timespec="seconds") if until else None,
            messages_limit=messages,
            recipients_limit=recipients,
            address=str(self.account.address),
            fallback=self.account.fallback,
        )

    def figures(self, provider: Provider | None) -> AccountFigures:
        """Return the account's figures. `provider`: the one in the configuration."""
        messages, recipients = hourly_limits(self.account, provider or self.provider)
        left = self.quota.remaining(
            messages_per_hour=messages, recipients_per_hour=recipients, now=self._clock.monotonic()
        )
        limits = [("messages", messages, left.messages), ("recipients", recipients, left.recipients)]
        busy = self.pool.busy
        return AccountFigures(
            account=self.account.id,
            can_send=not self.trouble,
            sessions_opened=self.pool.opened,
            sessions_busy=busy,
            sessions_idle=self.pool.idle,
            waiting=self.pool.waiting,
            failed_logins=self._failed_logins,
            delivered=self._counts[Delivered],
            deferred=self._counts[Deferred],
            failed=self._counts[Failed],
            limits=[(unit, limit, free) for unit, limit, free in limits if limit is not None and free is not None],
        )

    # --- parts ---

    def _note_state(self) -> None:
        self.observers.state(self.account.id)

    def _new_request(self, provider: Provider, credential: Credential, wait_seconds: float) -> SessionRequest:
        account, limits = self.account, provider.limits
        self.application = credential.application
        login = _login(account, provider, credential.login, self.application)

        def blocked() -> OpenFailed | None:
            return None if account_health.blocks_logins_only(self.health) else login_blocked()

        def login_blocked() -> OpenFailed | None:
            reply = account_health.blocking_reply(
                self.health, credential.version, login, monotonic=self._clock.monotonic()
            )
            if reply is not None:
                return OpenFailed(FailureKind.LOCAL, reply, unavailable=account_health.unavailable(self.health))
            if (waits := self._login_waits(self, provider, credential)) is not None:
                self._record_no_session(waits)
            return waits

        return SessionRequest(
            SessionKey(account.id, credential.login, credential.version, provider.smarthosts, provider.mechanisms),
            PoolLimits(account.connections or limits.connections, limits.messages_per_connection, limits.idle_seconds),
            open=lambda: self._open_session(self, provider, credential),
            blocked=blocked,
            login_blocked=login_blocked,
            open_failed=lambda result: self.record_open_failure(credential.version, result),
            wait_seconds=wait_seconds,
        )

    def _log_health(self, monotonic: float) -> None:
        text = account_health.describe(self.health, monotonic=monotonic)
        fields: dict[str, object] = {"account": self.account.id, "health": text}
        if not isinstance(self.health, Healthy):
            fields |= {"cause": self.health.cause.value, "hint": self._hint()}
        event(_log, _EVENT_OF[type(self.health)], fault=None, **fields)

    def _record_no_session(self, result: OpenFailed) -> None:
        since = self.no_session[1] if self.no_session else self._clock.now()
        self.no_session = result, since

    def _hint(self) -> str:
        """Return the fix for the state of the account; empty if it is healthy."""
        if self.provider is None:
            return ""
        login = _login(self.account, self.provider, self.account.login, self.application)
        return account_health.hint_for(self.health, login)

    def _hourly_limits(self, provider: Provider) -> tuple[int | None, int | None]:
        return hourly_limits(self.account, provider)


def hourly_limits(account: Account, provider: Provider | None) -> tuple[int | None, int | None]:
    """Return the limits of messages and recipients. The account's own limits replace the provider's."""
    if provider is None:
        return account.messages_per_hour, account.recipients_per_hour
    limits = provider.limits
    return (
        account.messages_per_hour or limits.messages_per_hour,
        account.recipients_per_hour or limits.recipients_per_hour,
    )


def statuses(
    accounts: Iterable[Account],
    states: Mapping[str, AccountState],
    providers: Mapping[str, Provider],
    *,
    after: str = "",
    limit: int | None = None,
) -> list[AccountStatus]:
    """Return the status of every account, used, unused or removed, in the order of their ids.

    `after`: only those after this id; `limit`: so many at most.
    """
    by_id = {account.id: account for account in accounts if account.id > after}
    by_id |= {id_: state.account for id_, state in states.items() if id_ > after and id_ not in by_id}
    return [
        state.status(provider) if state is not None else _unused_status(account, provider)
        for id_, account in sorted(by_id.items())[:limit]
        for state, provider in [(states.get(id_), providers.get(account.provider))]
    ]


def _unused_status(account: Account, provider: Provider | None) -> AccountStatus:
    messages, recipients = hourly_limits(account, provider)
    return AccountStatus(
        account.id,
        account.login,
        "healthy",
        "healthy",
        None,
        messages_left=messages,
        recipients_left=recipients,
        provider=account.provider,
        messages_limit=messages,
        recipients_limit=recipients,
        address=str(account.address),
        fallback=account.fallback,
    )


def _login(account: Account, provider: Provider, login: str, application: str) -> Login:
    host = provider.smarthosts[0].host if provider.smarthosts else provider.name
    return Login(account.id, login, provider.name, host, provider.mechanisms, provider.preset, application)


_EVENT_OF: Final[Mapping[type[Health], LogEvent]] = {
    Healthy: log_events.ACCOUNT_HEALTHY,
    account_health.Suspended: log_events.ACCOUNT_SUSPENDED,
    account_health.Paused: log_events.ACCOUNT_PAUSED,
}
