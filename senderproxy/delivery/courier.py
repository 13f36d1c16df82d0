"""SmtpCourier: one message to one account's upstream, and what became of it for each recipient.

Guarantees: a message leaves on a session of the account it was routed to, with the secret of this moment, or not at
all. A session lost before the final dot is replaced once, unseen; after the dot nothing is sent again. An account whose
password was refused, or whose provider asked for less, is left alone until that is over. One log line per attempt.
Not here: whose account (routing), what the client is told (relay.recipient_updates).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery import classify, health
from senderproxy.delivery.classify import NotOpened, Trouble
from senderproxy.delivery.connect import TlsContexts
from senderproxy.delivery.health import Health, Healthy, LimitReached, Occurrence, PasswordRefused, Resumed, Worked
from senderproxy.delivery.login_check import Probed, probe_senders
from senderproxy.delivery.pool import Key, Pool, PooledSession, SessionRequest
from senderproxy.delivery.quota import Grant, NoRoom, Quota
from senderproxy.delivery.reuse import PoolLimits
from senderproxy.delivery.session import Answered, Broken, Session, SessionTimeouts, open_session
from senderproxy.log import event
from senderproxy.log_events import LogEvent
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay.ports import Accounts, Availability, Courier
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import Provider, Smarthost
from senderproxy.routing.route import Route

_log: Final = logging.getLogger("senderproxy.delivery")

Outcomes: TypeAlias = Mapping[ForwardPath, Outcome]


@dataclass(frozen=True, slots=True)
class LoginOk:
    """The upstream took the login."""

    smarthost: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """It did not."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It could not be asked, or gave no clear answer: no connection, no TLS, no AUTH that we speak, a limit."""

    reply: Reply


LoginVerdict: TypeAlias = LoginOk | LoginRefused | Unreachable


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """One account as `senderproxy status` shows it; plain values, ready for JSON. Counts are of recipients."""

    account: str
    login: str
    state: str  # healthy, no session (nobody could be reached, or logged in at), suspended or paused
    words: str
    since: str | None  # ISO 8601, UTC; None: since we started
    sessions_busy: int
    sessions_idle: int
    waiting: int  # messages that wait for a session
    delivered: int
    deferred: int
    failed: int
    last_reply: str | None
    messages_left: int | None  # this hour; None: no limit
    recipients_left: int | None


class AccountState:
    """What we know and hold of one account."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self.account = account
        self.provider: Provider | None = None  # the last message's
        self.health: Health = Healthy()
        self.quota = Quota()
        self.pool = Pool(account.id, clock)
        self.ordered: _Ordered | None = None
        self.recipients_learnt: int | None = None  # in one transaction; what the upstream itself said
        self.delivered = self.deferred = self.failed = 0
        self.last_reply: Reply | None = None
        self.no_session: tuple[Reply, datetime] | None = None  # why, and since when none could be opened

    def recipients_in_one(self, provider: Provider) -> int | None:
        """How many recipients one transaction may have."""
        limits = [limit for limit in (provider.limits.recipients_per_message, self.recipients_learnt) if limit]
        return min(limits) if limits else None


@dataclass(frozen=True, slots=True)
class _Ordered:
    """An order, and what it was made of."""

    account: Account
    provider: Provider
    credential: Credential
    order: SessionRequest


@dataclass(slots=True)
class _Attempt:
    """What the log is to say of one attempt."""

    tag: str
    started: float
    sessions: int = 0
    loan: PooledSession | None = None


class SmtpCourier(Courier):
    """relay.ports.Courier over SMTP submission."""

    def __init__(self, accounts: Accounts, patience: SessionTimeouts, hostname: str, clock: Clock) -> None:
        self.patience = patience  # may be changed: holds for sessions opened from then on
        self._accounts = accounts
        self.hostname = hostname
        self._clock = clock
        self._contexts = TlsContexts()
        self._desks: dict[str, AccountState] = {}
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closing = False
        self.when_able: Callable[[str], None] = lambda _: None  # told whose account has sent, or may again

    # --- relay.ports.Courier ---

    async def deliver(self, route: Route, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier. A cancellation that comes after the final dot gives way to the outcomes."""
        desk = self._desk(route.account)
        desk.provider = route.provider
        attempt = _Attempt(tag, self._clock.monotonic())
        outcomes: Outcomes | None = None
        self._begins()
        try:
            outcomes = await self._in_parts(desk, route, envelope, message, attempt)
            return outcomes
        finally:
            self._ends()
            self._report(desk, attempt, outcomes)

    async def deliver_report(self, server: Smarthost, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier. A session of its own: reports are rare."""
        recipients = envelope.recipients
        if self._closing:
            return _all(recipients, Deferred(_SHUTTING_DOWN, of_account=True))
        self._begins()
        try:
            session = await open_session(
                server, (), None, hostname=self.hostname, patience=self.patience, contexts=self._contexts
            )
            if isinstance(session, NotOpened):
                outcomes: Outcomes = _all(recipients, Deferred(session.reply, of_account=True))
            else:
                try:
                    result = await session.transact(envelope, message, warm=False)
                    outcomes = _outcomes_of(result, recipients)
                finally:
                    await session.quit()
        finally:
            self._ends()
        event(_log, log_events.REPORT_HANDED_IN, id=tag, server=server, reply=next(iter(outcomes.values())).reply)
        return outcomes

    def availability(self, account: Account, provider: Provider) -> Availability:
        """See relay.ports.Courier."""
        connections = account.connections or provider.limits.connections
        desk, credential = self._desks.get(account.id), self._accounts.credential(account)
        if desk is None or credential is None:
            return Availability(connections)
        if objection := self._order(desk, provider, credential).objection():
            return Availability(connections, objection.reply, health.seconds_left(desk.health, self._clock.monotonic()))
        messages_per_hour, recipients_per_hour = _hourly(account, provider)
        no_room = desk.quota.refusal(
            1,
            messages_per_hour=messages_per_hour,
            recipients_per_hour=recipients_per_hour,
            now=self._clock.monotonic(),
        )
        if no_room is not None:
            return Availability(connections, _no_room(no_room, account).reply, no_room.seconds)
        return Availability(connections)

    async def _in_parts(
        self, desk: AccountState, route: Route, envelope: Envelope, message: Message, attempt: _Attempt
    ) -> Outcomes:
        """As many transactions as the provider's limit for recipients asks for; nearly always one."""
        outcomes: dict[ForwardPath, Outcome] = {}
        remaining = list(envelope.recipients)
        while remaining:
            part = remaining[: desk.recipients_in_one(route.provider)]
            result = await self._attempt(desk, route, envelope.with_recipients(part), message, attempt)
            outcomes |= result
            remaining = remaining[len(part) :]
            if all(isinstance(outcome, Deferred) and outcome.of_account for outcome in result.values()):
                outcomes |= dict.fromkeys(remaining, result[part[0]])
                break
            if left_over := classify.left_over(result):
                desk.recipients_learnt = taken = len(part) - len(left_over)
                event(_log, log_events.RECIPIENT_LIMIT_LEARNED, account=desk.account.id, recipients=taken)
                remaining = [*left_over, *remaining]
        return {path: outcomes[path] for path in envelope.recipients}

    async def _attempt(
        self, desk: AccountState, route: Route, envelope: Envelope, message: Message, attempt: _Attempt
    ) -> Outcomes:
        """All that may stand against it first, each with its reason; then the dialogue."""
        account, provider, recipients = route.account, route.provider, envelope.recipients
        if self._closing:
            return _all(recipients, Deferred(_SHUTTING_DOWN, of_account=True))
        credential = self._accounts.credential(account)
        if credential is None or credential.login != account.login:
            words = f"Account {account.id} was changed or removed at this moment"
            return _all(recipients, Deferred(reply(451, "4.3.5", words)))
        refusal = _over_the_limits(provider, message)
        if refusal is not None:
            return _all(recipients, Failed(refusal))
        order = self._order(desk, provider, credential)
        objection = order.objection()
        if objection is not None:
            return _all(recipients, Deferred(objection.reply, of_account=True))
        grant = self._ask_quota(desk, provider, len(recipients))
        if isinstance(grant, NoRoom):
            return _all(recipients, _no_room(grant, account))
        outcomes: Outcomes = {}
        try:
            outcomes = await self._transact(desk, order, envelope, message, attempt)
        finally:
            if not any(_may_count(outcome) for outcome in outcomes.values()):
                desk.quota.give_back(grant)
        return outcomes

    async def _transact(
        self, desk: AccountState, order: SessionRequest, envelope: Envelope, message: Message, attempt: _Attempt
    ) -> Outcomes:
        """On a warm session or a new one; and once more on a new one where only the session was at fault."""
        again = False
        while True:
            loan = await desk.pool.borrow(order, fresh=again)
            if isinstance(loan, NotOpened):
                return _all(envelope.recipients, Deferred(loan.reply, of_account=True))
            attempt.sessions += 1
            attempt.loan = loan
            carried = loan.session.carried
            try:
                result = await loan.session.transact(envelope, message, warm=loan.warm)
            except BaseException:
                desk.pool.give_back(loan)
                raise
            worn = carried > 0 and any(health.is_session_limit(said) for said in result.said)
            if worn:
                desk.pool.learn_messages(carried)
            desk.pool.give_back(loan, worn=worn)
            lost = isinstance(result, Broken) and loan.warm
            if again or _may_be_taken(result) or not (worn or lost):
                return self._conclude(desk, envelope, result, loan.key.version)
            again = True
            event(_log, log_events.SESSION_REPLACED, id=attempt.tag, account=desk.account.id, reply=_words(result))

    def _conclude(self, desk: AccountState, envelope: Envelope, result: Answered | Broken, version: str) -> Outcomes:
        """The outcomes, and what the upstream's words mean for the account."""
        limits = [said for said in result.said if health.is_account_limit(said)]
        if limits:
            self._note(desk, LimitReached(limits[0], version))
        if isinstance(result, Broken):
            desk.last_reply = result.reply
        elif result.said:
            desk.last_reply = result.said[-1]
        outcomes = _outcomes_of(result, envelope.recipients)
        if not limits and any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            self._note(desk, Worked(version))
        return outcomes

    # --- what else can be asked of it ---

    def status(self) -> list[AccountHealth]:
        """Every account, used or not, and how it does."""
        accounts = {account.id: account for account in self._accounts.directory().accounts}
        accounts |= {id_: desk.account for id_, desk in self._desks.items() if id_ not in accounts}
        return [self._status(account, self._desks.get(id_)) for id_, account in sorted(accounts.items())]

    def resume(self, account_id: str) -> bool:
        """Forget what stands against an account; False where nothing did."""
        desk = self._desks.get(account_id)
        if desk is None or isinstance(desk.health, Healthy):
            return False
        self._note(desk, Resumed())
        return True

    async def verify(self, account: Account, provider: Provider, credential: Credential) -> LoginVerdict:
        """Try the login: one AUTH on a session of its own, closed again. What comes of it counts for the account."""
        desk = self._desk(account)
        result = await self._open(account, provider, credential)
        if isinstance(result, Session):
            await result.quit()
            if isinstance(desk.health, health.Suspended):
                self._note(desk, Resumed())
            return LoginOk(str(result.smarthost), result.mechanism)
        return self._not_verified(desk, credential, result)

    async def probe(
        self,
        account: Account,
        provider: Provider,
        credential: Credential,
        senders: Sequence[ReversePath],
        recipient: ForwardPath,
    ) -> Probed | LoginRefused | Unreachable:
        """Ask the upstream which senders the account may name (delivery.login_check): one AUTH, one session, no
        message.
        """
        result = await self._open(account, provider, credential)
        if isinstance(result, Session):
            return await probe_senders(result, senders, recipient)
        return self._not_verified(self._desk(account), credential, result)

    def _not_verified(
        self, desk: AccountState, credential: Credential, result: NotOpened
    ) -> LoginRefused | Unreachable:
        self._login_failed(desk, credential.version, result)
        return LoginRefused(result.reply) if result.trouble is Trouble.PASSWORD else Unreachable(result.reply)

    def drop_stale(self) -> None:
        """Close idle sessions of accounts that are gone or have another secret by now; busy ones follow when done."""
        directory = self._accounts.directory()
        for account_id, desk in list(self._desks.items()):
            account = directory.by_id(account_id)
            credential = self._accounts.credential(account) if account else None
            desk.pool.retire(credential.version if credential else None)
            if account is None and desk.pool.is_empty:
                del self._desks[account_id]

    async def close(self, grace: float) -> None:
        """Take nothing new, let what is under way finish within the grace, then cut it. No session is left."""
        self._closing = True
        try:
            async with asyncio.timeout(grace):
                await self._quiet.wait()
        except TimeoutError:
            event(_log, log_events.SESSIONS_CUT, count=self._under_way)
        await asyncio.gather(*(desk.pool.shut() for desk in self._desks.values()))
        await self._quiet.wait()

    # --- sessions ---

    def _order(self, desk: AccountState, provider: Provider, credential: Credential) -> SessionRequest:
        """How a session is wanted; the same as for the last message, where nothing has changed since."""
        account, known = desk.account, desk.ordered
        if (
            known is None
            or known.account is not account
            or known.provider is not provider
            or known.credential is not credential
            or known.order.wait_seconds != self.patience.free_session
        ):
            known = desk.ordered = _Ordered(account, provider, credential, self._new_order(desk, provider, credential))
        return known.order

    def _new_order(self, desk: AccountState, provider: Provider, credential: Credential) -> SessionRequest:
        account = desk.account
        limits = provider.limits
        where = provider.smarthosts[0].host if provider.smarthosts else provider.name

        def objection() -> NotOpened | None:
            against = health.objection(
                desk.health,
                credential.version,
                account_id=account.id,
                login=credential.login,
                smarthost=where,
                monotonic=self._clock.monotonic(),
            )
            return None if against is None else NotOpened(Trouble.LOCAL, against)

        async def opened() -> Session | NotOpened:
            result = await self._open(account, provider, credential)
            if isinstance(result, Session):
                self._reached(provider)
            return result

        return SessionRequest(
            Key(account.id, credential.login, credential.version, provider.smarthosts, provider.mechanisms),
            PoolLimits(account.connections or limits.connections, limits.messages_per_connection, limits.idle_seconds),
            open=opened,
            objection=objection,
            failed=lambda result: self._login_failed(desk, credential.version, result),
            wait_seconds=self.patience.free_session,
        )

    async def _open(self, account: Account, provider: Provider, credential: Credential) -> Session | NotOpened:
        """A session at the first of the provider's smarthosts that can be reached."""
        failures: list[NotOpened] = []
        for smarthost in provider.smarthosts:
            result = await open_session(
                smarthost,
                provider.mechanisms,
                credential,
                hostname=self.hostname,
                patience=self.patience,
                contexts=self._contexts,
            )
            facts = {"account": account.id, "login": credential.login, "smarthost": smarthost}
            if isinstance(result, Session):
                event(_log, log_events.SESSION_OPENED, fault=None, **facts, mechanism=result.mechanism)
                return result
            event(
                _log,
                log_events.SESSION_FAILED,
                fault=None,
                **facts,
                reason=result.trouble.value,
                reply=result.reply,
            )
            if result.trouble is Trouble.PASSWORD and result.said is not None:
                named = health.refused_password(result.said, account.id, credential.login, str(smarthost))
                return NotOpened(result.trouble, named, result.said)
            if result.trouble is not Trouble.UNREACHABLE:
                return result
            failures.append(result)
        if not failures:
            words = f"Provider {provider.name} names no smarthost: set host in [providers.{provider.name}]"
            return NotOpened(Trouble.UNFIT, reply(451, "4.3.5", words))
        return classify.several(failures)

    def _reached(self, provider: Provider) -> None:
        """What kept others of its accounts out is over: they may not have tried since."""
        for desk in self._desks.values():
            if desk.provider is not None and desk.provider.name == provider.name:
                desk.no_session = None

    def _login_failed(self, desk: AccountState, version: str, result: NotOpened) -> None:
        desk.last_reply = result.said or result.reply
        if result.trouble is Trouble.PASSWORD:
            self._note(desk, PasswordRefused(result.said or result.reply, version))
        elif result.trouble is Trouble.LIMIT:
            self._note(desk, LimitReached(result.said or result.reply, version))
        elif result.trouble is not Trouble.LOCAL:
            since = desk.no_session[1] if desk.no_session else self._clock.now()
            desk.no_session = result.reply, since

    def _note(self, desk: AccountState, what: Occurrence) -> None:
        """The account's health follows from what happened; a change of its kind is worth a line in the log."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        before, desk.health = desk.health, health.after(desk.health, what, now=now, monotonic=monotonic)
        if type(before) is not type(desk.health):
            words = health.words(desk.health, monotonic=monotonic)
            event(_log, _EVENT_OF[type(desk.health)], account=desk.account.id, health=words)
        if isinstance(desk.health, Healthy):
            self.when_able(desk.account.id)

    # --- small parts ---

    def _begins(self) -> None:
        """A dialogue is under way: a stop waits for it."""
        self._under_way += 1
        self._quiet.clear()

    def _ends(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._quiet.set()

    def _desk(self, account: Account) -> AccountState:
        desk = self._desks.get(account.id)
        if desk is None:
            desk = self._desks[account.id] = AccountState(account, self._clock)
        desk.account = account
        return desk

    def _ask_quota(self, desk: AccountState, provider: Provider, recipients: int) -> Grant | NoRoom:
        messages_per_hour, recipients_per_hour = _hourly(desk.account, provider)
        return desk.quota.ask(
            recipients,
            messages_per_hour=messages_per_hour,
            recipients_per_hour=recipients_per_hour,
            now=self._clock.monotonic(),
        )

    def _status(self, account: Account, desk: AccountState | None) -> AccountHealth:
        if desk is None:
            return AccountHealth(
                account.id, account.login, "healthy", "healthy", None, 0, 0, 0, 0, 0, 0, None, None, None
            )
        monotonic = self._clock.monotonic()
        state, since = type(desk.health).__name__.lower(), desk.health.since
        words = health.words(desk.health, monotonic=monotonic)
        if isinstance(desk.health, Healthy) and desk.no_session is not None:
            state, words, since = "no session", f"no session: {desk.no_session[0]}", desk.no_session[1]
        messages, recipients = _hourly(account, desk.provider)
        left = desk.quota.left(messages_per_hour=messages, recipients_per_hour=recipients, now=monotonic)
        return AccountHealth(
            account=account.id,
            login=account.login,
            state=state,
            words=words,
            since=since.isoformat(timespec="seconds") if since else None,
            sessions_busy=desk.pool.busy,
            sessions_idle=desk.pool.idle,
            waiting=desk.pool.waiting,
            delivered=desk.delivered,
            deferred=desk.deferred,
            failed=desk.failed,
            last_reply=str(desk.last_reply) if desk.last_reply else None,
            messages_left=left.messages,
            recipients_left=left.recipients,
        )

    def _report(self, desk: AccountState, attempt: _Attempt, outcomes: Outcomes | None) -> None:
        """Count, and write the attempt's line. No outcomes: it was cancelled, or a fault of ours came in between."""
        if outcomes is None:
            event(_log, log_events.ATTEMPT_INTERRUPTED, fault=None, **self._facts(desk, attempt))
            return
        counts = Counter(map(type, outcomes.values()))
        desk.delivered += counts[Delivered]
        desk.deferred += counts[Deferred]
        desk.failed += counts[Failed]
        # Where all went well the relay tells it for people.
        kind = log_events.ATTEMPT_DELIVERED
        if counts[Delivered] != len(outcomes):
            kind = log_events.ATTEMPT_PARTIAL if counts[Delivered] else log_events.ATTEMPT_FAILED
        if not _log.isEnabledFor(kind.level):
            return
        telling = next(
            (o.reply for kind in (Failed, Deferred, Delivered) for o in outcomes.values() if isinstance(o, kind)), None
        )
        event(
            _log,
            kind,
            fault=None,
            **self._facts(desk, attempt),
            recipients=len(outcomes),
            reply=telling,
            maybe_taken=any(isinstance(o, Deferred) and o.maybe_taken for o in outcomes.values()) or None,
        )

    def _facts(self, desk: AccountState, attempt: _Attempt) -> dict[str, object]:
        facts: dict[str, object] = {"id": attempt.tag, "account": desk.account.id}
        if attempt.loan is not None:
            session = attempt.loan.session
            facts |= {"login": attempt.loan.key.login, "smarthost": session.smarthost, "session": attempt.loan.number}
            facts |= {"warm": attempt.loan.warm, "sessions": attempt.sessions}
        return facts | {"seconds": round(self._clock.monotonic() - attempt.started, 3)}


_EVENT_OF: Final[Mapping[type[health.Health], LogEvent]] = {
    Healthy: log_events.ACCOUNT_HEALTHY,
    health.Suspended: log_events.ACCOUNT_SUSPENDED,
    health.Paused: log_events.ACCOUNT_PAUSED,
}
_SHUTTING_DOWN: Final = reply(451, "4.3.2", "senderproxy is shutting down")


def _all(recipients: tuple[ForwardPath, ...], outcome: Outcome) -> Outcomes:
    return dict.fromkeys(recipients, outcome)


def _outcomes_of(result: Answered | Broken, recipients: tuple[ForwardPath, ...]) -> Outcomes:
    if isinstance(result, Answered):
        return result.outcomes
    if not result.dot_written:
        return _all(recipients, Deferred(result.reply))
    unknown = Deferred(classify.unknown_fate(result.reply), maybe_taken=True)
    return {path: result.not_taken.get(path, unknown) for path in recipients}


def _may_be_taken(result: Answered | Broken) -> bool:
    """True where the upstream has the message, or may have it."""
    if isinstance(result, Broken):
        return result.dot_written
    return any(_may_count(outcome) for outcome in result.outcomes.values())


def _may_count(outcome: Outcome) -> bool:
    return isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.maybe_taken)


def _words(result: Answered | Broken) -> Reply:
    return result.said[-1] if result.said else result.reply if isinstance(result, Broken) else reply(451, None)


def _hourly(account: Account, provider: Provider | None) -> tuple[int | None, int | None]:
    """Messages and recipients an hour: the account's own limit before the provider's."""
    if provider is None:
        return account.messages_per_hour, None
    return account.messages_per_hour or provider.limits.messages_per_hour, provider.limits.recipients_per_hour


def _over_the_limits(provider: Provider, message: Message) -> Reply | None:
    """What the provider is known not to take, so that it need not be asked."""
    limits = provider.limits
    if limits.message_size is not None and message.size > limits.message_size:
        return classify.too_large(message.size, limits.message_size, provider.name)
    return None


def _no_room(answer: NoRoom, account: Account) -> Outcome:
    if answer.seconds is None:
        return Failed(reply(554, "5.5.3", f"More than account {account.id} may send at all: {answer.limit}"))
    wait = health.in_words(answer.seconds)
    words = f"Account {account.id} has reached its limit of {answer.limit}; there is room again in {wait}"
    return Deferred(reply(451, "4.7.1", words), of_account=True)
