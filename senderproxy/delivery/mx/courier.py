"""MxCourier: delivery to the mail servers of one domain, with an outcome for each recipient.

Guarantees: nothing here has a login. The servers are tried in their order until one takes the message; after the final
dot nothing is sent again. Nothing is sent with a reverse-path whose domain is not known to name our address in its SPF
record. A message for the provider's servers goes back to the author's account for whatever reason they do not take it
before it is sent, unless they refuse the recipient.
Not here: the choice of the way (routing), the look-ups (look_up), the order of the servers (hosts).
RFC 5321 section 5.1, RFC 7505, RFC 7435.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery import classify
from senderproxy.delivery.attempt_log import HOP_ATTEMPTS, log_attempt
from senderproxy.delivery.hops.courier import HopStatus
from senderproxy.delivery.hops.opening import HopOpener, HopSession
from senderproxy.delivery.mx.domain_state import LIMITS, LONGEST_PAUSE, DomainState
from senderproxy.delivery.mx.greylisting import LONGEST as LONGEST_GREYLISTING
from senderproxy.delivery.mx.greylisting import Greylisting
from senderproxy.delivery.mx.hosts import DomainServers, MailHost, NoServers, Ourselves, choose
from senderproxy.delivery.mx.look_up import MailServerLookUp
from senderproxy.delivery.mx.replies import asked_wait, cause_of, goes_back, is_greylisting, is_of_server
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.session import Completed, Interrupted, SessionTimeouts
from senderproxy.delivery.transactions import outcomes_of
from senderproxy.log import event
from senderproxy.mail.address import Address, ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.relay.ports import Availability, Outcomes
from senderproxy.routing.hops import MX_LANE, MxHop, ProviderMxHop
from senderproxy.tracking.record import Lane
from senderproxy.translation import _

_log: Final = logging.getLogger("senderproxy.delivery")

SMTP_PORT: Final = 25  # RFC 5321 section 4.5.4.2
_LOOK_UP_PAUSE: Final = 300.0  # seconds without a new look-up at most, after several that failed
DOMAINS: Final = 500  # domains with a state; those in use stay
_SHOWN: Final = 50  # domains in `status`
_OUTAGE: Final = 3  # domains that fail together before the way itself is in doubt
_MX: Final = "mx "  # how the way of an MxHop begins
IDLE_SESSIONS: Final = 40  # of all domains; each is an open file here and a connection there

Gate: TypeAlias = Callable[[str], Awaitable[Reply | None]]  # why nothing may be sent for a domain; None: it may
IsProviders: TypeAlias = Callable[[str, str], bool]  # a server's name, a provider's name


@dataclass(frozen=True, slots=True)
class MxSettings:
    """The settings of the configuration. `is_providers`: the server is one of that provider."""

    ourselves: Ourselves
    is_providers: IsProviders


@dataclass(slots=True)
class _ServerAsked:
    """The facts of one attempt for its log line."""

    started: float  # monotonic clock
    server: str = ""
    encrypted: bool | None = None


class MxCourier:
    """Implements delivery.hops.courier.MxDelivery."""

    def __init__(
        self,
        opener: HopOpener,
        look_up: MailServerLookUp,
        clock: Clock,
        settings: MxSettings,
        gate: Gate,
        port: Callable[[str], int] = lambda _host: SMTP_PORT,
    ) -> None:
        self.settings = settings
        self.on_healthy: Callable[[Lane], None] = lambda _lane: None
        self.opener = opener
        self._look_up = look_up
        self._clock = clock
        self._gate = gate
        self._port = port
        self._states: dict[str, DomainState] = {}  # by the way; the one used last is the last one
        self._worked_at = clock.now()  # the last session
        self._greylisting = Greylisting()
        self._closing = False

    async def deliver(self, hop: MxHop | ProviderMxHop, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier.deliver_hop."""
        attempt = _ServerAsked(self._clock.monotonic())
        outcomes: Outcomes | None = None
        try:
            outcomes = await self._deliver(hop, envelope, message, attempt)
            return outcomes
        finally:
            _log_attempt(hop, attempt, outcomes, tag, self._clock.monotonic() - attempt.started)

    def availability(self, domain: str) -> Availability:
        """See MxDelivery."""
        state = self._states.get(str(MxHop(domain)))  # a message for the provider's servers never waits for them
        if state is None or state.reason is None or not (left := state.seconds_left()):
            return Availability(LIMITS.connections)
        return Availability(LIMITS.connections, state.reason, left)

    def configure(self, settings: MxSettings, timeouts: SessionTimeouts, hostname: str) -> None:
        """Put new settings in force."""
        self.settings = settings
        self.opener.timeouts, self.opener.hostname = timeouts, hostname

    def statuses(self) -> list[HopStatus]:
        """Return the state of the domains without a server that takes mail: _SHOWN at most, the latest ones."""
        return [_status(state, state.reason) for state in self._failing()[-_SHOWN:] if state.reason is not None]

    def outage(self) -> HopStatus | None:
        """Return the failure of the way itself: several domains fail, and none has taken mail since. None: it works."""
        failing = [state for state in self._failing() if state.since > self._worked_at]
        if len(failing) < _OUTAGE or (reason := failing[0].reason) is None:
            return None
        oldest = min(state.since for state in failing)
        return HopStatus(
            "mx",
            "port 25",
            "no session",
            _("no session: {reply}").format(reply=reason),
            oldest.isoformat(),
            reason.text.partition(". To fix:")[0],
            FailureKind.UNREACHABLE.value,
            _("senderproxy check shows whether port 25 is open; many providers block it"),
        )

    def _failing(self) -> list[DomainState]:
        return [state for way, state in self._states.items() if state.reason is not None and way.startswith(_MX)]

    def resume(self) -> None:
        """Try all domains again at once."""
        for state in self._states.values():
            state.resume()

    async def close(self) -> None:
        """Close every session."""
        self._closing = True
        self._look_up.close()
        for state in list(self._states.values()):
            await state.sessions.close()
        self.opener.close()

    # --- one message ---

    async def _deliver(
        self, hop: MxHop | ProviderMxHop, envelope: Envelope, message: Message, attempt: _ServerAsked
    ) -> Outcomes:
        recipients = envelope.recipients
        if self._closing:
            return dict.fromkeys(recipients, _shutting_down())
        if (refusal := await self._refusal(envelope)) is not None:
            return self._nothing(hop, recipients, Deferred(refusal))
        state = self._state(hop)
        if state.reason is not None and state.seconds_left():
            return self._nothing(hop, recipients, Deferred(state.reason, of_account=True))
        hosts = await self._hosts(hop)
        if not isinstance(hosts, tuple):
            if isinstance(hosts, Deferred):
                self._note_failure(state, hosts.reply, longest=_LOOK_UP_PAUSE)
                hosts = replace(hosts, of_account=True)
            return self._nothing(hop, recipients, hosts)
        state.use(hosts)
        run = _DomainAttempt(hop, state, envelope, message, attempt)
        state.attempts += 1
        try:
            await self._transact_all(run)
        finally:
            state.attempts -= 1
        outcomes = {path: run.outcomes[path] for path in recipients}
        self._learn(hop.domain, envelope, outcomes)
        return {path: self._with_wait(hop.domain, envelope, path, each) for path, each in outcomes.items()}

    async def _refusal(self, envelope: Envelope) -> Reply | None:
        """Why nothing may be sent with this reverse-path; a null one has no domain."""
        path = envelope.reverse_path
        return await self._gate(path.domain) if isinstance(path, Address) else None

    async def _hosts(self, hop: MxHop | ProviderMxHop) -> tuple[MailHost, ...] | NoServers:
        servers = await self._look_up.servers(hop.domain)
        if not isinstance(servers, DomainServers):
            return servers
        if isinstance(hop, ProviderMxHop):
            others = [one.host for one in servers.exchangers if not self.settings.is_providers(one.host, hop.provider)]
            if servers.implicit or others:
                text = f"The mail servers of {hop.domain} are not those of {hop.provider}"
                return Failed(reply(550, "5.4.4", text))
        return choose(hop.domain, servers, self.settings.ourselves, self._clock.chance)

    def _nothing(self, hop: MxHop | ProviderMxHop, recipients: Sequence[ForwardPath], outcome: Outcome) -> Outcomes:
        """The outcomes if no server was asked."""
        if isinstance(hop, ProviderMxHop):
            outcome = _handed_back(outcome)
        return dict.fromkeys(recipients, outcome)

    async def _transact_all(self, run: "_DomainAttempt") -> None:
        """Run transactions until each recipient has an outcome that no other server can change."""
        state, fresh = run.state, False
        while run.remaining:
            acquired = await state.sessions.acquire(self.opener.timeouts.free_session, fresh=fresh)
            if isinstance(acquired, OpenFailed):
                self._no_session(run, acquired)
                return
            session, warm = acquired
            self._note_session(state, session)
            run.attempt.server, run.attempt.encrypted = session.server.host, session.encrypted
            part = run.remaining[: LIMITS.recipients_per_message]
            elsewhere: Sequence[ForwardPath] | None = None
            try:
                envelope = run.envelope.with_recipients(part)
                result = await session.transact(envelope, run.message, warm=warm, cause_of=cause_of)
                outcomes = outcomes_of(result, envelope.recipients)
                run.note(result, outcomes)
                elsewhere = _elsewhere(result, outcomes)
            finally:
                if elsewhere is None or elsewhere:
                    session.abort()
                state.sessions.release(session)
            again = elsewhere or classify.recipients_over_limit(outcomes)
            run.remaining = [*again, *run.remaining[len(part) :]]
            fresh = bool(elsewhere)
            if elsewhere and not (warm and isinstance(result, Interrupted)):
                state.set_back(session.server.host)
                run.failed_servers += 1
                if run.failed_servers >= len(state.hosts):
                    run.defer_rest(outcomes[elsewhere[0]])

    def _no_session(self, run: "_DomainAttempt", failed: OpenFailed) -> None:
        """Defer the rest: with the reply of a server that was asked, else because none could be."""
        is_local = failed.kind is FailureKind.LOCAL
        if not is_local and not run.outcomes:
            self._note_failure(run.state, failed.reply)
        run.defer_rest(Deferred(failed.reply, of_account=not is_local and not run.outcomes))

    def _note_session(self, state: DomainState, session: HopSession) -> None:
        self._worked_at = self._clock.now()
        if state.worked():
            event(_log, log_events.HOP_RESUMED, way=state.way, server=session.server.host)
            self.on_healthy(Lane(MX_LANE, state.domain))

    def _note_failure(self, state: DomainState, reason: Reply, *, longest: float = LONGEST_PAUSE) -> None:
        if state.reason is None:
            event(_log, log_events.HOP_FAILED, fault=None, way=state.way, reply=reason)
        state.failed(reason, longest)

    # --- greylisting ---

    def _learn(self, domain: str, envelope: Envelope, outcomes: Outcomes) -> None:
        for path, outcome in outcomes.items():
            if isinstance(outcome, Delivered):
                self._greylisting.accepted(domain, _pair(envelope, path), self._clock.monotonic())

    def _with_wait(self, domain: str, envelope: Envelope, path: ForwardPath, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Deferred) or outcome.handed_back or not is_greylisting(outcome):
            return outcome
        asked = asked_wait(outcome, LONGEST_GREYLISTING)
        wait = self._greylisting.deferred(domain, _pair(envelope, path), asked, self._clock.monotonic())
        return replace(outcome, retry_after=wait)

    # --- parts ---

    def _state(self, hop: MxHop | ProviderMxHop) -> DomainState:
        way = str(hop)
        state = self._states.pop(way, None) or DomainState(way, hop.domain, self.opener, self._clock, self._port)
        self._states[way] = state
        if sum(other.sessions.idle for other in self._states.values()) >= IDLE_SESSIONS:
            for other in self._states.values():
                if other is not state:
                    other.sessions.close_idle()
        if len(self._states) > DOMAINS:
            for name, other in list(self._states.items())[: len(self._states) - DOMAINS]:
                if other.is_unused:
                    del self._states[name]
        return state


class _DomainAttempt:
    """One message on its way through the servers of a domain."""

    def __init__(
        self,
        hop: MxHop | ProviderMxHop,
        state: DomainState,
        envelope: Envelope,
        message: Message,
        attempt: _ServerAsked,
    ) -> None:
        self.state = state
        self.envelope = envelope
        self.message = message
        self.attempt = attempt
        self.remaining: Sequence[ForwardPath] = envelope.recipients
        self.outcomes: dict[ForwardPath, Outcome] = {}
        self.failed_servers = 0  # that were asked
        self._is_providers = isinstance(hop, ProviderMxHop)

    def note(self, result: Completed | Interrupted, outcomes: Outcomes) -> None:
        """Record the outcomes of a transaction; they replace those of an earlier server."""
        was_cut = isinstance(result, Interrupted) and not result.dot_written
        for path, outcome in outcomes.items():
            goes = was_cut or (path in result.rejected and goes_back(outcome))
            self.outcomes[path] = _handed_back(outcome) if self._is_providers and goes else outcome

    def defer_rest(self, outcome: Outcome) -> None:
        """End: no server is left. Recipients without an outcome get this one: no server was asked about them."""
        if self._is_providers:
            outcome = _handed_back(outcome)
        for path in self.remaining:
            self.outcomes.setdefault(path, outcome)
        self.remaining = ()


def _elsewhere(result: Completed | Interrupted, outcomes: Outcomes) -> Sequence[ForwardPath]:
    """The recipients for the next server, or for a new session: none of them was sent the message."""
    if isinstance(result, Interrupted):
        return () if result.dot_written else tuple(outcomes)
    return tuple(path for path, each in outcomes.items() if is_of_server(each))


def _handed_back(outcome: Outcome) -> Deferred:
    """The outcome of a recipient that the account sends to instead."""
    return Deferred(classify.as_transient(outcome.reply), handed_back=True)


def _status(state: DomainState, reason: Reply) -> HopStatus:
    return HopStatus(
        state.way,
        state.hosts[0].name if state.hosts else state.domain,
        "no session",
        _("no session: {reply}").format(reply=reason),
        state.since.isoformat(),
        reason.text,
        FailureKind.UNREACHABLE.value,
        sessions_busy=state.sessions.busy,
        sessions_idle=state.sessions.idle,
    )


def _pair(envelope: Envelope, path: ForwardPath) -> tuple[str, str]:
    return str(envelope.reverse_path), str(path)


def _shutting_down() -> Deferred:
    return Deferred(reply(451, "4.3.2", "senderproxy is shutting down"), of_account=True)


def _log_attempt(
    hop: MxHop | ProviderMxHop, attempt: _ServerAsked, outcomes: Outcomes | None, tag: str, seconds: float
) -> None:
    """Log the attempt. No outcomes: it was cancelled, or an internal error ended it."""
    facts: dict[str, object] = {
        "id": tag,
        "way": hop,
        "server": attempt.server or None,
        "encrypted": attempt.encrypted,
        "seconds": round(seconds, 3),
    }
    handed_back = sum(isinstance(one, Deferred) and one.handed_back for one in (outcomes or {}).values())
    log_attempt(HOP_ATTEMPTS, facts, outcomes, {"handed_back": handed_back or None})
