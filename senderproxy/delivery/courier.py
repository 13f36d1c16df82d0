"""SmtpCourier: delivery of one message to the upstream of one account, with an outcome for each recipient.

Guarantees: a message is sent on a session of the account it was routed to, with the current secret, or not at all. A
session lost before the final dot is replaced once; after the dot nothing is sent again. A paused or suspended account
makes no connection. One log line per attempt.
Not here: the account of a message (routing), the reply to the client (relay.recipient_updates), the consequences for
the account (delivery.account_state).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery import account_health, classify, open_failures
from senderproxy.delivery.account_health import Healthy, Resumed
from senderproxy.delivery.account_state import (
    NO_SESSION,
    AccountFigures,
    AccountObservers,
    AccountState,
    AccountStatus,
    statuses,
)
from senderproxy.delivery.attempt_log import AttemptEvents, log_attempt
from senderproxy.delivery.causes import Cause, Circumstances, Stage
from senderproxy.delivery.direct_transaction import DirectTransaction
from senderproxy.delivery.hops.courier import HopCourier
from senderproxy.delivery.hops.opening import HopOpener
from senderproxy.delivery.learned_accounts import AccountFacts, HourlyUse, way_in
from senderproxy.delivery.login_gate import LoginGates
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.pool import PooledSession, SessionRequest
from senderproxy.delivery.quota import HourlyQuota, QuotaExceeded, Reservation
from senderproxy.delivery.resolver import Resolver, ReusedAddresses
from senderproxy.delivery.server_sessions import ServerSessions
from senderproxy.delivery.session import Interrupted, Session, SessionTimeouts
from senderproxy.delivery.transactions import last_reply, may_be_accepted, outcomes_of
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Deferred, Failed, Outcome, Unavailable
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay.ports import AccessTokens, Accounts, Availability, Courier, Outcomes
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.fallback import Share, fallback_of, permitted_share
from senderproxy.routing.hops import Hop
from senderproxy.routing.provider import Provider, Smarthost
from senderproxy.routing.route import Route
from senderproxy.tracking.record import Lane

if TYPE_CHECKING:
    from senderproxy.delivery.shared_connections import SharedConnections
    from senderproxy.delivery.shared_quota import SharedLimits

_log: Final = logging.getLogger("senderproxy.delivery")
_ATTEMPTS: Final = AttemptEvents(
    log_events.ATTEMPT_DELIVERED, log_events.ATTEMPT_PARTIAL, log_events.ATTEMPT_FAILED, log_events.ATTEMPT_INTERRUPTED
)

_AT_DOT: Final = Circumstances(Stage.FINAL_DOT)
_SHUTTING_DOWN: Final = Deferred(reply(451, "4.3.2", "senderproxy is shutting down"), of_account=True)


@dataclass(slots=True)
class _Attempt:
    """The facts of one attempt for its log line."""

    tag: str
    started: float  # monotonic clock
    sessions: int = 0
    pooled: PooledSession | None = None
    begun: "BegunAttempt | None" = None  # what was done before `deliver`; None: nothing, or it is taken up


class BegunAttempt:
    """One attempt with a usual transaction without a task: it ends in `delivered`, or `deliver` goes on with it.

    The caller starts the transaction.
    """

    __slots__ = ("_courier", "_recipients", "attempt", "pooled", "request", "reservation", "state", "transaction")

    def __init__(
        self,
        courier: "SmtpCourier",
        state: AccountState,
        request: SessionRequest,
        reservation: Reservation,
        attempt: _Attempt,
        pooled: PooledSession,
        transaction: DirectTransaction,
        recipients: Sequence[ForwardPath],
    ) -> None:
        self._courier = courier
        self.state = state
        self.request = request
        self.reservation = reservation
        self.attempt = attempt
        self.pooled = pooled
        self.transaction = transaction
        self._recipients = recipients

    def delivered(self, accepting: Reply) -> Outcomes:
        """Conclude after the reply that accepts the message for all recipients, as `deliver` would."""
        pooled, state = self.pooled, self.state
        pooled.session.message_count += 1
        state.pool.release(pooled)
        outcome = classify.outcome(accepting, _AT_DOT, pooled.session.smarthost.host)
        outcomes: Outcomes = dict.fromkeys(self._recipients, outcome)
        state.record_last_reply(accepting)
        state.record_replies((), outcomes, pooled.key.version)
        self._courier.end_begun(self, outcomes)
        return outcomes

    def abort(self) -> None:
        """End the attempt before the final dot, as `deliver` does if it is cancelled. The session is lost."""
        self.pooled.session.abort()
        self.state.pool.release(self.pooled)
        self.state.release(self.reservation)
        self._courier.end_begun(self, None)

    def continue_in_deliver(self) -> None:
        """Stop the transaction, and let the next `deliver` of this message go on with it."""
        self.transaction.stop()
        self._courier.continue_begun(self)

    def abandon(self) -> None:
        """End the attempt if no `deliver` has gone on with it: nothing else would."""
        if self._courier.take_begun(self.attempt.tag) is not None:
            self.abort()


class _Dialogues:
    """The dialogues in progress: `close` waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self.idle = asyncio.Event()  # set while there is none
        self.idle.set()

    def begin(self) -> None:
        self.count += 1
        self.idle.clear()

    def end(self) -> None:
        self.count -= 1
        if not self.count:
            self.idle.set()


class SmtpCourier(Courier):
    """relay.ports.Courier over SMTP submission. One attribute for each thing that all accounts share."""

    def __init__(
        self,
        accounts: Accounts,
        timeouts: SessionTimeouts,
        hostname: str,
        clock: Clock,
        resolver: Resolver | None = None,
        tokens: AccessTokens | None = None,
    ) -> None:
        self._accounts = accounts
        self._opener = SessionOpener(
            timeouts, hostname, resolver or Resolver(clock), gates=LoginGates(clock.monotonic), tokens=tokens
        )
        self.hops = HopCourier(HopOpener(timeouts, hostname, self._opener.resolver), clock)
        self._clock = clock
        self._states: dict[str, AccountState] = {}
        self._providers: Mapping[str, Provider] = {}
        self.certificates: dict[Smarthost, tuple[datetime, datetime]] = {}  # validity, as the last session showed it
        self.servers = ServerSessions(lambda: [state.pool for state in self._states.values()], clock)
        self._dialogues = _Dialogues()
        self._begun: dict[str, BegunAttempt] = {}  # by tag: `deliver` goes on with these
        self._closing = False
        self.is_direct = True  # a usual transaction goes on in the callback of each reply, not in its task
        self.observers = AccountObservers()
        self.shared_limits: SharedLimits | None = None  # None: no other instance uses the accounts
        self.shared_connections: SharedConnections | None = None  # None: the same, or the database is not open

    def share_limits(self, shared: "SharedLimits") -> None:
        """Count the hourly limits in all instances together. Call before the first message."""

        def returned(account_id: str) -> None:
            self.observers.healthy(account_id)

        self.shared_limits, shared.on_returned = shared, returned

    def configure(self, timeouts: SessionTimeouts, hostname: str) -> None:
        """Change the settings of sessions that are opened afterwards."""
        for opener in (self._opener, self.hops.opener):
            opener.timeouts, opener.hostname = timeouts, hostname

    def use_providers(self, providers: Mapping[str, Provider]) -> None:
        """The providers of the configuration, at the start and after each change.

        An account whose provider has another way in is free to try: a wrong server, not the account, may have been the
        cause of its trouble.
        """
        before, self._providers = self._providers, providers
        for account_id, state in list(self._states.items()):
            old, new = before.get(state.account.provider), providers.get(state.account.provider)
            if old is not None and new is not None and way_in(old) != way_in(new):
                self.resume(account_id)

    def opener_with(self, timeouts: SessionTimeouts) -> SessionOpener:
        """An opener with other timeouts, which shares the login gates and what is known about the servers."""
        return replace(self._opener, timeouts=timeouts)

    # --- relay.ports.Courier ---

    async def deliver(self, route: Route, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier. A cancellation after the final dot has no effect: the outcomes are returned."""
        state = self._state(route.account)
        state.provider = route.provider
        outcomes: Outcomes | None = None
        if (begun := self.take_begun(tag)) is not None:
            attempt = begun.attempt
            attempt.begun = begun
        else:
            attempt = _Attempt(tag, self._clock.monotonic())
            self._dialogues.begin()
        try:
            outcomes = await self._deliver_in_parts(state, route, envelope, message, attempt)
            return outcomes
        finally:
            self._dialogues.end()
            _log_attempt(state, attempt, outcomes, self._clock.monotonic() - attempt.started)

    def begin(
        self,
        route: Route,
        envelope: Envelope,
        message: Message,
        tag: str,
        ended: Callable[[Reply | None], None],
    ) -> BegunAttempt | None:
        """Prepare an attempt that needs no wait: a healthy account, room in every limit, an idle session.

        None: `deliver` must make it; nothing has happened. `ended`: see `Session.begin`.
        """
        account, provider, recipients = route.account, route.provider, envelope.recipients
        state, credential = self._states.get(account.id), self._accounts.credential(account)
        if self._closing or state is None or credential is None or credential.login != account.login:
            return None
        if not isinstance(state.health, Healthy):
            return None
        limit, size_limit = state.recipient_limit(provider), provider.limits.message_size
        if (limit is not None and len(recipients) > limit) or (size_limit is not None and message.size > size_limit):
            return None
        state.account, state.provider = account, provider
        request = self._request(state, provider, credential)
        if request.blocked() is not None:
            return None
        attempt = _Attempt(tag, self._clock.monotonic(), sessions=1)
        reservation = state.reserve(provider, len(recipients))
        if isinstance(reservation, QuotaExceeded):
            return None
        if (pooled := state.pool.take_idle(request)) is None:
            state.release(reservation)
            return None
        transaction = pooled.session.begin(envelope, message, ended)
        if transaction is None:
            state.pool.release(pooled)
            state.release(reservation)
            return None
        attempt.pooled = pooled
        self._dialogues.begin()
        return BegunAttempt(self, state, request, reservation, attempt, pooled, transaction, recipients)

    def end_begun(self, begun: BegunAttempt, outcomes: Outcomes | None) -> None:
        """Note the end of an attempt. No outcomes: it was cancelled."""
        self._dialogues.end()
        _log_attempt(begun.state, begun.attempt, outcomes, self._clock.monotonic() - begun.attempt.started)

    def continue_begun(self, begun: BegunAttempt) -> None:
        """Go on with the attempt in the next `deliver` with its tag."""
        self._begun[begun.attempt.tag] = begun

    def has_begun(self, tag: str) -> bool:
        """See relay.ports.Courier."""
        return tag in self._begun

    def take_begun(self, tag: str) -> BegunAttempt | None:
        """Take the attempt with this tag that waits for its `deliver`; None if there is none."""
        return self._begun.pop(tag, None)

    async def deliver_report(self, server: Smarthost, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier. Each report has a session of its own: they are rare."""
        recipients = envelope.recipients
        if self._closing:
            return dict.fromkeys(recipients, _SHUTTING_DOWN)
        self._dialogues.begin()
        try:
            session = await self._opener.open(server)
            if isinstance(session, OpenFailed):
                outcomes: Outcomes = dict.fromkeys(recipients, Deferred(session.reply, of_account=True))
            else:
                try:
                    result = await session.transact(envelope, message, warm=False)
                    outcomes = outcomes_of(result, recipients)
                finally:
                    await session.quit()
        finally:
            self._dialogues.end()
        event(_log, log_events.REPORT_HANDED_IN, id=tag, server=server, reply=next(iter(outcomes.values())).reply)
        return outcomes

    async def deliver_hop(self, hop: Hop, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier."""
        if self._closing:
            return dict.fromkeys(envelope.recipients, _SHUTTING_DOWN)
        self._dialogues.begin()
        try:
            return await self.hops.deliver(hop, envelope, message, tag=tag)
        finally:
            self._dialogues.end()

    def hop_availability(self, lane: Lane) -> Availability:
        """See relay.ports.Courier."""
        return self.hops.availability(lane)

    def availability(self, account: Account, provider: Provider) -> Availability:
        """See relay.ports.Courier."""
        connections = account.connections or provider.limits.connections
        state, credential = self._states.get(account.id), self._accounts.credential(account)
        if state is None or credential is None:
            return Availability(connections)
        request = self._request(state, provider, credential)
        if blocked := request.blocked() or (request.login_blocked() if state.pool.is_empty else None):
            return Availability(connections, blocked.reply, self._seconds_left(state, provider, credential))
        if exceeded := state.quota_exceeded(provider):
            return Availability(connections, _quota_outcome(exceeded, account).reply, exceeded.seconds)
        return Availability(connections)

    # --- one message ---

    async def _deliver_in_parts(
        self, state: AccountState, route: Route, envelope: Envelope, message: Message, attempt: _Attempt
    ) -> Outcomes:
        """Run as many transactions as the limit of recipients requires; nearly always one."""
        outcomes: dict[ForwardPath, Outcome] = {}
        remaining = list(envelope.recipients)
        while remaining:
            part = remaining if attempt.begun is not None else remaining[: state.recipient_limit(route.provider)]
            result = await self._deliver_part(state, route, envelope.with_recipients(part), message, attempt)
            outcomes |= result
            remaining = remaining[len(part) :]
            if all(isinstance(outcome, Deferred) and outcome.of_account for outcome in result.values()):
                outcomes |= dict.fromkeys(remaining, result[part[0]])
                break
            if over_limit := classify.recipients_over_limit(result):
                state.record_recipient_limit(accepted := len(part) - len(over_limit))
                event(_log, log_events.RECIPIENT_LIMIT_LEARNED, account=state.account.id, recipients=accepted)
                remaining = [*over_limit, *remaining]
        return {path: outcomes[path] for path in envelope.recipients}

    async def _deliver_part(
        self, state: AccountState, route: Route, envelope: Envelope, message: Message, attempt: _Attempt
    ) -> Outcomes:
        """Check everything that prevents the transaction, then run it."""
        account, provider, recipients = route.account, route.provider, envelope.recipients
        names = (account.login, str(route.author))
        if (begun := attempt.begun) is not None:
            return await self._transact_reserved(
                state, begun.request, begun.reservation, envelope, message, attempt, names
            )
        if self._closing:
            return dict.fromkeys(recipients, _SHUTTING_DOWN)
        credential = self._accounts.credential(account)
        if credential is None or credential.login != account.login:
            text = f"Account {account.id} was changed or removed during the attempt"
            return dict.fromkeys(recipients, Deferred(reply(451, "4.3.5", text)))
        size_limit = provider.limits.message_size
        if size_limit is not None and message.size > size_limit:
            return dict.fromkeys(recipients, Failed(classify.too_large(message.size, size_limit, provider.name)))
        request = self._request(state, provider, credential)
        if (blocked := request.blocked()) is not None:
            return dict.fromkeys(recipients, _not_opened(blocked))
        reservation = state.reserve(provider, len(recipients))
        if isinstance(reservation, QuotaExceeded):
            reservation = await state.draw(provider, len(recipients), reservation)
        if isinstance(reservation, QuotaExceeded):
            return dict.fromkeys(recipients, _quota_outcome(reservation, account))
        return await self._transact_reserved(state, request, reservation, envelope, message, attempt, names)

    async def _transact_reserved(
        self,
        state: AccountState,
        request: SessionRequest,
        reservation: Reservation,
        envelope: Envelope,
        message: Message,
        attempt: _Attempt,
        names: tuple[str, ...],
    ) -> Outcomes:
        """Run the transaction; give the reserved quota back if the upstream has certainly not accepted the message."""
        outcomes: Outcomes = {}
        try:
            outcomes = await self._transact(state, request, envelope, message, attempt, names)
        finally:
            if not any(map(may_be_accepted, outcomes.values())):
                state.release(reservation)
        return outcomes

    async def _transact(
        self,
        state: AccountState,
        request: SessionRequest,
        envelope: Envelope,
        message: Message,
        attempt: _Attempt,
        names: tuple[str, ...],
    ) -> Outcomes:
        """Run the transaction on an idle or new session; once more on a new one if only the session failed."""
        replacing = False
        while True:
            begun, attempt.begun, transaction = attempt.begun, None, None
            if begun is not None:
                pooled, transaction = begun.pooled, begun.transaction
            else:
                acquired = await state.pool.acquire(request, fresh=replacing)
                if isinstance(acquired, OpenFailed):
                    return dict.fromkeys(envelope.recipients, _not_opened(acquired))
                pooled = attempt.pooled = acquired
                attempt.sessions += 1
            carried = pooled.message_count
            try:
                result = await pooled.session.transact(
                    envelope,
                    message,
                    warm=pooled.warm,
                    names=names,
                    begun=transaction,
                    direct=self.is_direct and transaction is None,
                )
            except BaseException:
                state.pool.release(pooled)
                raise
            expired = carried > 0 and any(each.cause is Cause.SESSION_LIMIT for each in result.replies)
            if expired:
                state.pool.record_message_limit(carried)
            state.pool.release(pooled, expired=expired)
            lost = isinstance(result, Interrupted) and pooled.warm
            outcomes = outcomes_of(result, envelope.recipients)
            if replacing or not (expired or lost) or any(map(may_be_accepted, outcomes.values())):
                if last := last_reply(result):
                    state.record_last_reply(last)
                state.record_replies(result.replies, outcomes, pooled.key.version)
                return outcomes
            replacing = True
            event(_log, log_events.SESSION_REPLACED, id=attempt.tag, account=state.account.id, reply=last_reply(result))

    # --- for the operator and the service ---

    def status(
        self, providers: Mapping[str, Provider], *, after: str = "", limit: int | None = None
    ) -> list[AccountStatus]:
        """Return the status of every account, used or not, in the order of their ids.

        `providers`: those of the configuration, for the limits of accounts that were not used yet. `after`: only
        those after this id; `limit`: so many at most.
        """
        found = statuses(self._accounts.directory().accounts, self._states, providers, after=after, limit=limit)
        return [self._with_fallback(entry, providers) for entry in found]

    def used_accounts(self, providers: Mapping[str, Provider]) -> list[AccountStatus]:
        """Return the status of the accounts with a state: only these can have a trouble."""
        found = [state.status(providers.get(state.account.provider)) for state in self._states.values()]
        return [self._with_fallback(entry, providers) for entry in found]

    def _with_fallback(self, entry: AccountStatus, providers: Mapping[str, Provider]) -> AccountStatus:
        """The status with the fallback that sends now."""
        directory = self._accounts.directory()
        account = directory.by_id(entry.account) if entry.fallback is not None else None
        other = fallback_of(account, directory, providers) if account is not None else None
        if other is None or account is None or self._can_send(account, providers.get(account.provider)):
            return entry
        share = permitted_share(account, other) if self._can_send(other.account, other.provider) else Share.NONE
        if share is Share.NONE:
            return entry
        return replace(entry, sends_through=other.account.id, sends_in_part=share is Share.SOME)

    def _can_send(self, account: Account, provider: Provider | None) -> bool:
        """True if the account can send a message now, as far as is known."""
        state = self._states.get(account.id)
        if provider is None or (state is not None and state.trouble == NO_SESSION):
            return False
        return self.availability(account, provider).reason is None

    def figures(self, providers: Mapping[str, Provider]) -> list[AccountFigures]:
        """Return the figures of the accounts that were used since the start. Cheap, without texts."""
        return [state.figures(providers.get(state.account.provider)) for state in self._states.values()]

    def troubles(self) -> frozenset[tuple[str, str]]:
        """Return the accounts that cannot send, each with the kind of its state. Cheap, for a frequent look."""
        return frozenset((id_, state.trouble) for id_, state in self._states.items() if state.trouble)

    def reused_addresses(self) -> list[ReusedAddresses]:
        """Return the hosts with failing look-ups: their last good addresses are used."""
        return self._opener.resolver.reused()

    def resume(self, account_id: str) -> bool:
        """End the pause or suspension of an account, a stored one too, and the wait for logins at its server.

        False if there is none.
        """
        self.observers.state(account_id)
        state = self._states.get(account_id)
        if state is None:
            return False
        waited = self._lift_waits(state)
        if isinstance(state.health, Healthy):
            return waited
        state.record(Resumed())
        return True

    def drop_stale(self) -> None:
        """Close idle sessions of accounts that are removed or have a new secret; busy ones after their message."""
        directory = self._accounts.directory()
        for account_id, state in list(self._states.items()):
            account = directory.by_id(account_id)
            credential = self._accounts.credential(account) if account else None
            state.account = account or state.account
            if state.pool.close_outdated(credential.version if credential else None):
                self._lift_waits(state)
            if account is None and state.pool.is_empty:
                del self._states[account_id]
                self.observers.state(account_id)
                self.observers.use(account_id)
                if self.shared_connections is not None:
                    self.shared_connections.forget(account_id)

    async def close(self, grace: float) -> None:
        """Refuse new messages, wait `grace` seconds for those in progress, cut the rest, close every session."""
        self._closing = True
        try:
            async with asyncio.timeout(grace):
                await self._dialogues.idle.wait()
        except TimeoutError:
            event(_log, log_events.SESSIONS_CUT, count=self._dialogues.count)
        await asyncio.gather(self.hops.close(), *(state.pool.close() for state in self._states.values()))
        self._opener.close()
        await self._dialogues.idle.wait()
        if self.shared_limits is not None:
            await self.shared_limits.close()

    # --- beyond a restart ---

    def account_facts(self) -> AccountFacts:
        """Return the learned facts about health and limits; `observers.state` is called for their changes."""
        return AccountFacts(
            self._states.get, self._restored_state, self._version, lambda name: self._providers.get(name)
        )

    def hourly_use(self) -> HourlyUse:
        """Return the learned facts about the use of the hour; `observers.use` is called for their changes."""
        return HourlyUse(self._states.get, self._restored_state)

    def _restored_state(self, account_id: str) -> AccountState | None:
        account = self._accounts.directory().by_id(account_id)
        if account is None:
            return None
        state, credential = self._state(account), self._accounts.credential(account)
        state.application = "" if credential is None else credential.application
        return state

    def _version(self, account_id: str) -> str | None:
        account = self._accounts.directory().by_id(account_id)
        credential = None if account is None else self._accounts.credential(account)
        return None if credential is None else credential.version

    # --- parts ---

    def _state(self, account: Account) -> AccountState:
        state = self._states.get(account.id)
        if state is None:
            quota = HourlyQuota() if self.shared_limits is None else self.shared_limits.quota(account.id)
            state = AccountState(account, self._clock, self._open, self._login_waits, self.observers, quota)
            self._states[account.id] = state
        state.account = account
        return state

    def _request(self, state: AccountState, provider: Provider, credential: Credential) -> SessionRequest:
        return state.request(provider, credential, self._opener.timeouts.free_session)

    async def _open(self, state: AccountState, provider: Provider, credential: Credential) -> Session | OpenFailed:
        """Open a session. A success ends "no session" of every account at the provider: it may not have tried since."""
        account = state.account
        proven = state.is_proven(credential.version)

        async def open_here() -> Session | OpenFailed:
            return await self._opener.open_for(account, provider, credential, proven=proven)

        if self.shared_connections is None:
            result = await self.servers.open(state.pool, provider, open_here)
        else:
            limit = account.connections or provider.limits.connections
            result = await self.shared_connections.of(account.id, state.pool).open(limit, provider, open_here)
        if isinstance(result, Session):
            if result.certificate_validity is not None:
                self.certificates[result.smarthost] = result.certificate_validity
            state.record_login(credential.version)
            for other in self._states.values():
                if other.no_session is not None and other.provider is not None and other.provider.name == provider.name:
                    other.no_session = None
                    self.observers.healthy(other.account.id)
        return result

    def _login_waits(self, state: AccountState, provider: Provider, credential: Credential) -> OpenFailed | None:
        """Return the failure of a login that has to wait for another account's; None if it may be tried."""
        waiting = self._opener.gates.wait(provider, state.account.id, credential.version, state.is_proven)
        return None if waiting is None else open_failures.login_waits(provider.smarthosts[0], waiting)

    def _seconds_left(self, state: AccountState, provider: Provider, credential: Credential) -> float | None:
        """Return the seconds until a blocked account may send; None: only the operator can end the state."""
        if not isinstance(state.health, Healthy):
            return state.seconds_left()
        waiting = self._opener.gates.wait(provider, state.account.id, credential.version, state.is_proven)
        return 0.0 if waiting is None else waiting.seconds

    def _lift_waits(self, state: AccountState) -> bool:
        """End the waits for logins at the servers of this account's provider; False if there was none."""
        state.no_session = None
        return state.provider is not None and self._opener.gates.lift(state.provider)


def _log_attempt(state: AccountState, attempt: _Attempt, outcomes: Outcomes | None, seconds: float) -> None:
    """Count the outcomes and log the attempt. No outcomes: it was cancelled, or an internal error ended it."""
    if (observer := state.observers.attempts) is not None and state.provider is not None:
        is_reused = attempt.pooled is not None and attempt.pooled.warm
        observer.attempted(state.account.id, state.provider.name, outcomes, seconds, is_reused=is_reused)
    fields: dict[str, object] = {"id": attempt.tag, "account": state.account.id}
    if (pooled := attempt.pooled) is not None:
        fields |= {"login": pooled.key.login, "smarthost": pooled.session.smarthost, "session": pooled.number}
        fields |= {"warm": pooled.warm, "sessions": attempt.sessions}
    fields["seconds"] = round(seconds, 3)
    if outcomes is not None:
        state.count(outcomes)
    log_attempt(_ATTEMPTS, fields, outcomes)


def _not_opened(failed: OpenFailed) -> Deferred:
    return Deferred(failed.reply, of_account=True, unavailable=failed.unavailable)


def _quota_outcome(exceeded: QuotaExceeded, account: Account) -> Outcome:
    if exceeded.seconds is None:
        return Failed(reply(554, "5.5.3", f"The message exceeds the limit of account {account.id}: {exceeded.limit}"))
    wait = account_health.format_duration(exceeded.seconds)
    if exceeded.is_undecided:
        text = f"The limit of account {account.id}, {exceeded.limit}, cannot be checked now; try again in {wait}"
        return Deferred(reply(451, "4.3.2", text), of_account=True)
    text = f"Account {account.id} has reached its limit of {exceeded.limit}; it can send again in {wait}"
    return Deferred(reply(451, "4.7.1", text), of_account=True, unavailable=Unavailable.LIMIT)
