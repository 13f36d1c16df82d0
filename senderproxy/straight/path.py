"""Choice of the messages that take the straight path.

Guarantees: `take` decides before the first octet to an upstream, and what it does not take has changed nothing: the
general path makes its own decision. It takes a message only if it leaves as it is, by the account of its author alone,
and in pass-through on an idle session of that account, with room in every limit.
Not here: reception (listener), the end of a message (straight.message).
"""

from collections.abc import Callable
from typing import Final

from senderproxy.clock import Clock
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.listener.body import BodyBuffer
from senderproxy.mail.address import Address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision, Rules
from senderproxy.relay.intake import Handling, Mode, RelayIntake
from senderproxy.relay.ports import Accounts
from senderproxy.straight.decisions import ClientDecisions, Key, RememberedDecisions, usual_decision
from senderproxy.straight.message import Ended, StraightCounts, StraightMessage
from senderproxy.straight.patience import PatienceSweeper
from senderproxy.straight.usual_header import author_lines

_MISSING: Final = object()


class StraightPath:
    """The path of one relay. `is_on` may be changed at any time; messages in progress go on."""

    def __init__(
        self, accounts: Accounts, courier: SmtpCourier, relay: MessageRelay, intake: RelayIntake, clock: Clock
    ) -> None:
        self.is_on = True
        self.counts = StraightCounts()
        self._accounts = accounts
        self._courier = courier
        self._relay = relay
        self._intake = intake
        self._clock = clock
        self._decisions = RememberedDecisions()
        self._patience = PatienceSweeper()
        self._rules: Rules | None = None
        self._has_usual_rules = False  # with `_rules`

    def of_client(self, listener: str, client: Client) -> "ClientPath | None":
        """The path for the messages of this client; None if none of them is usual."""
        if client.forced_sender is not None or client.lenient:
            return None
        return ClientPath(self, listener, self._decisions.of(client))

    def handling(self, listener: str) -> Handling | None:
        """The handling of messages at this listener; None if none of them is usual now."""
        rules = self._relay.rules
        if rules is not self._rules:
            self._rules = rules
            self._has_usual_rules = not (rules.footers or rules.recipient_routes or rules.senders.srs)
        if not self.is_on or not self._has_usual_rules or self._relay.dkim.ring is not None:
            return None
        return self._intake.handling.get(listener)

    def decide(self, decisions: ClientDecisions, key: Key, submission: Submission) -> Decision | None:
        """Decide about a message, and remember the decision."""
        decision = self._intake.decide_at_once(submission)
        if decision is None:
            return None
        usual = usual_decision(decision, key)
        decisions.remember(key, usual)
        return usual

    def remembered(self, decisions: ClientDecisions, key: Key) -> object:
        """The decision for this key, None for the general path, or _MISSING."""
        decisions.use(self._accounts.directory(), self._relay.rules)
        return decisions.found.get(key, _MISSING)

    def new_submission(
        self, listener: str, client: Client, envelope: Envelope, raw: bytes, body: BodyBuffer
    ) -> Submission:
        """The message as received, with an id of its own."""
        message = Message(HeaderSection(raw), body)
        return Submission(self._clock.new_id(), listener, client, envelope, message, self._clock.now())

    def begin(
        self, submission: Submission, decision: Decision, handling: Handling, ended: Ended
    ) -> StraightMessage | None:
        """Begin the message; None if it passes through and its account has no idle session, or no room in a limit."""
        is_queued = handling.mode is Mode.QUEUE
        leaving = submission.message if is_queued else self._relay.stamped(submission, submission.message)
        message = StraightMessage(
            self._relay,
            self._intake,
            self._patience,
            self._clock,
            self.counts,
            submission,
            decision,
            leaving,
            handling,
            ended,
        )
        if is_queued:
            self.counts.taken += 1
            message.queue()
            return message
        attempt = self._courier.begin(decision.route, submission.envelope, leaving, submission.id, message.answered)
        if attempt is None:
            return None
        self.counts.taken += 1
        message.start(attempt)
        return message


class ClientPath:
    """The path for the messages of one client at one listener; listener.aiosmtpd_adapter.StraightWay."""

    __slots__ = ("_decisions", "_listener", "_path")

    def __init__(self, path: StraightPath, listener: str, decisions: ClientDecisions) -> None:
        self._path = path
        self._listener = listener
        self._decisions = decisions

    @property
    def is_open(self) -> bool:
        """False if no message at this listener is usual now."""
        return self._path.handling(self._listener) is not None

    def take(
        self,
        envelope: Envelope,
        raw: bytes,
        rest: bytes,
        field_limit: int,
        new_body: Callable[[], BodyBuffer],
        ended: Ended,
    ) -> StraightMessage | None:
        """Take a message, given with its header section and the octets of its body; None: the general path takes it.

        `ended` is called once, later.
        """
        path, decisions = self._path, self._decisions
        handling, reverse_path = path.handling(self._listener), envelope.reverse_path
        if handling is None or not isinstance(reverse_path, Address):
            return None
        if (authors := author_lines(raw, field_limit)) is None:
            return None
        key = (*authors, reverse_path)
        decision = path.remembered(decisions, key)
        if decision is None:
            return None
        body = new_body()
        body.append(rest)
        message: StraightMessage | None = None
        try:
            if body.must_write or body.has_long_lines:
                return None
            submission = path.new_submission(self._listener, decisions.client, envelope, raw, body)
            if decision is _MISSING:
                decision = path.decide(decisions, key, submission)
            if isinstance(decision, Decision):
                message = path.begin(submission, decision, handling, ended)
            return message
        finally:
            if message is None:
                body.close()
