"""HopCourier: delivery of a message to a server without a login, with an outcome for each recipient.

Guarantees: no account, login or secret is known here. A session lost before the final dot is replaced once; after the
dot nothing is sent again. A server that cannot be reached defers its own messages only. One log line per attempt.
Not here: the choice of the hop (routing.recipient_routes), MX look-ups (MxDelivery), the accounts (delivery.courier).
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Protocol, assert_never

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.delivery import classify
from senderproxy.delivery.account_health import without_fix
from senderproxy.delivery.attempt_log import HOP_ATTEMPTS, log_attempt
from senderproxy.delivery.hops.opening import HopOpener, HopServer, HopSession
from senderproxy.delivery.hops.sessions import HopSessions
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.session import Interrupted
from senderproxy.delivery.transactions import may_be_accepted, outcomes_of
from senderproxy.log import event
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import Availability, Outcomes
from senderproxy.routing.hops import MX_LANE, Hop, InternalHop, MxHop, ProviderMxHop, SmarthostHop, lane_of
from senderproxy.routing.provider import Limits
from senderproxy.tracking.record import Lane
from senderproxy.translation import _

_log: Final = logging.getLogger("senderproxy.delivery")

_INTERNAL_LIMITS: Final = Limits(connections=4, idle_seconds=5.0)  # a server beside us: a new session costs little
_UNKNOWN: Final = Limits().connections  # of a hop without a message so far
_HOPS: Final = 1000  # hops with a state; more than a configuration has
_NO_MX: Final = Deferred(reply(451, "4.3.5", "This service does not deliver to mail servers of recipients"))


class MxDelivery(Protocol):
    """Delivery to the mail servers of a domain. Rules as in relay.ports.Courier.deliver_hop."""

    async def deliver(self, hop: MxHop | ProviderMxHop, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """Deliver to recipients of one domain."""
        ...

    def availability(self, domain: str) -> Availability:
        """The number of messages at once, and the reason if none would be sent now."""
        ...

    async def close(self) -> None:
        """Close every session."""
        ...


@dataclass(frozen=True, slots=True)
class HopStatus:
    """One hop in `senderproxy status`, in values for JSON. One attribute for each fact; counts are recipients."""

    way: str  # as in the log: `smarthost relay`
    server: str
    state: str  # healthy, or no session (the last attempt to open one failed)
    words: str
    since: str | None  # ISO 8601, UTC; None: since the start of the service
    reply: str | None = None  # the reason why it takes nothing
    cause: str | None = None  # key of the kind of failure
    hint: str = ""  # the fix, without "To fix:"
    sessions_busy: int = 0
    sessions_idle: int = 0
    delivered: int = 0
    deferred: int = 0
    failed: int = 0

    def entry(self) -> dict[str, object]:
        """Its values for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _HopState:
    """What is known about one hop."""

    def __init__(self, hop: SmarthostHop | InternalHop, sessions: HopSessions) -> None:
        self.hop = hop
        self.sessions = sessions
        self.no_session: tuple[OpenFailed, datetime] | None = None  # the last attempt to open one failed, since when
        self.counts = dict.fromkeys((Delivered, Deferred, Failed), 0)

    def status(self) -> HopStatus:
        base = HopStatus(
            str(self.hop),
            str(self.hop.server),
            "healthy",
            _("takes mail"),
            None,
            sessions_busy=self.sessions.busy,
            sessions_idle=self.sessions.idle,
            delivered=self.counts[Delivered],
            deferred=self.counts[Deferred],
            failed=self.counts[Failed],
        )
        if self.no_session is None:
            return base
        failed, since = self.no_session
        values = {name: getattr(base, name) for name in ("sessions_busy", "sessions_idle")}
        return HopStatus(
            base.way,
            base.server,
            "no session",
            _("no session: {reply}").format(reply=failed.reply),
            since.isoformat(),
            failed.words or without_fix(failed.reply.text),
            "certificate" if failed.about_certificate else failed.kind.value,
            failed.hint,
            **values,
            delivered=base.delivered,
            deferred=base.deferred,
            failed=base.failed,
        )


class HopCourier:
    """Delivery to all hops. `mx` may be set once; `on_healthy` is called with a lane that takes mail again."""

    def __init__(self, opener: HopOpener, clock: Clock) -> None:
        self.opener = opener
        self.mx: MxDelivery | None = None
        self.on_healthy: Callable[[Lane], None] = lambda _: None
        self._clock = clock
        self._states: dict[tuple[str, str], _HopState] = {}

    async def deliver(self, hop: Hop, envelope: Envelope, message: Message, *, tag: str) -> Outcomes:
        """See relay.ports.Courier.deliver_hop."""
        match hop:
            case MxHop() | ProviderMxHop():
                if self.mx is None:
                    return dict.fromkeys(envelope.recipients, _NO_MX)
                return await self.mx.deliver(hop, envelope, message, tag=tag)
            case SmarthostHop() | InternalHop():
                return await self._deliver(self._state(hop), envelope, message, tag)
            case _:
                assert_never(hop)

    def availability(self, lane: Lane) -> Availability:
        """See relay.ports.Courier.hop_availability."""
        if lane.kind == MX_LANE:
            return Availability(1) if self.mx is None else self.mx.availability(lane.name)
        state = self._states.get((lane.kind, lane.name))
        return Availability(_UNKNOWN if state is None else _limits(state.hop).connections)

    def statuses(self) -> list[HopStatus]:
        """Return the status of each hop with a message since the start."""
        return [state.status() for state in self._states.values()]

    def troubles(self) -> frozenset[tuple[str, str]]:
        """Return the hops that take nothing, each with the kind of its failure. Cheap, for a frequent look."""
        return frozenset(
            (str(state.hop), state.no_session[0].kind.value)
            for state in self._states.values()
            if state.no_session is not None
        )

    def keep(self, hops: Collection[Hop]) -> None:
        """Forget the hops that are not configured any more; their sessions end after their message."""
        for key, state in list(self._states.items()):
            if state.hop not in hops:
                state.sessions.retire()
                del self._states[key]

    async def close(self) -> None:
        """Close every session."""
        for state in list(self._states.values()):
            await state.sessions.close()
        if self.mx is not None:
            await self.mx.close()
        self.opener.close()

    # --- one message ---

    async def _deliver(self, state: _HopState, envelope: Envelope, message: Message, tag: str) -> Outcomes:
        started = self._clock.monotonic()
        outcomes: Outcomes | None = None
        try:
            outcomes = await self._deliver_in_parts(state, envelope, message)
            return outcomes
        finally:
            _log_attempt(state, outcomes, tag, self._clock.monotonic() - started)

    async def _deliver_in_parts(self, state: _HopState, envelope: Envelope, message: Message) -> Outcomes:
        """Run as many transactions as the limit of recipients requires; nearly always one."""
        outcomes: dict[ForwardPath, Outcome] = {}
        limits, remaining = _limits(state.hop), list(envelope.recipients)
        if limits.message_size is not None and message.size > limits.message_size:
            refusal = classify.too_large(message.size, limits.message_size, str(state.hop))
            return dict.fromkeys(remaining, Failed(refusal))
        while remaining:
            part = remaining[: limits.recipients_per_message]
            result = await self._transact(state, envelope.with_recipients(part), message)
            outcomes |= result
            remaining = remaining[len(part) :]
            if all(isinstance(outcome, Deferred) and outcome.of_account for outcome in result.values()):
                outcomes |= dict.fromkeys(remaining, result[part[0]])
                break
            remaining = [*classify.recipients_over_limit(result), *remaining]
        return {path: outcomes[path] for path in envelope.recipients}

    async def _transact(self, state: _HopState, envelope: Envelope, message: Message) -> Outcomes:
        """Run the transaction on an idle or new session; once more on a new one if only the session failed."""
        replacing = False
        while True:
            acquired = await state.sessions.acquire(self.opener.timeouts.free_session, fresh=replacing)
            if isinstance(acquired, OpenFailed):
                self._note_failure(state, acquired)
                return dict.fromkeys(envelope.recipients, Deferred(acquired.reply, of_account=True))
            self._note_session(state)
            session, warm = acquired
            try:
                result = await session.transact(envelope, message, warm=warm)
            finally:
                state.sessions.release(session)
            outcomes = outcomes_of(result, envelope.recipients)
            lost = warm and isinstance(result, Interrupted)
            if replacing or not lost or any(map(may_be_accepted, outcomes.values())):
                return outcomes
            replacing = True

    def _note_failure(self, state: _HopState, failed: OpenFailed) -> None:
        if failed.kind is FailureKind.LOCAL:
            return
        if state.no_session is None or state.no_session[0].kind is not failed.kind:
            event(
                _log,
                log_events.HOP_FAILED,
                fault=None,
                way=state.hop,
                server=state.hop.server,
                reason=failed.kind.value,
                reply=failed.reply,
                hint=failed.hint or None,
            )
        since = self._clock.now() if state.no_session is None else state.no_session[1]
        state.no_session = (failed, since)

    def _note_session(self, state: _HopState) -> None:
        if state.no_session is None:
            return
        state.no_session = None
        event(_log, log_events.HOP_RESUMED, way=state.hop, server=state.hop.server)
        self.on_healthy(Lane(*lane_of(state.hop)))

    # --- parts ---

    def _state(self, hop: SmarthostHop | InternalHop) -> _HopState:
        key = lane_of(hop)
        state = self._states.get(key)
        if state is None or state.hop != hop:
            if state is not None:
                state.sessions.retire()
            client = hop.client if isinstance(hop, SmarthostHop) else None
            server = HopServer.of(hop.server, client)

            async def open_session() -> HopSession | OpenFailed:
                return await self.opener.open(server, group=str(hop))

            state = _HopState(hop, HopSessions(str(hop), _limits(hop), self._clock, open_session))
            self._states[key] = state
            while len(self._states) > _HOPS:
                self._states.pop(next(iter(self._states))).sessions.retire()
        return state


def _limits(hop: SmarthostHop | InternalHop) -> Limits:
    return hop.limits if isinstance(hop, SmarthostHop) else _INTERNAL_LIMITS


def _log_attempt(state: _HopState, outcomes: Mapping[ForwardPath, Outcome] | None, tag: str, seconds: float) -> None:
    """Count the outcomes and log the attempt. No outcomes: it was cancelled, or an internal error ended it."""
    facts: dict[str, object] = {
        "id": tag,
        "way": state.hop,
        "server": state.hop.server,
        "seconds": round(seconds, 3),
    }
    for outcome in (outcomes or {}).values():
        state.counts[type(outcome)] += 1
    log_attempt(HOP_ATTEMPTS, facts, outcomes)
