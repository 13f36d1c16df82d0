"""One attempt: route, rewrite and hand to the courier, with the accounts and the configuration of this moment.

Guarantees: the bytes that leave are those that came, with the plan's edits and our Received field on top; a refusal
that is about a sender names its mend. The same for a client who waits and for a message that waits.
Not here: what follows from the outcomes (relay.recipient_updates), the upstream dialogue (delivery).
RFC 5321 section 3.7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from senderproxy.clock import Clock
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Delivered, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decide import Decided, Decision, MessageFacts, Rules, decide, who_is_answered
from senderproxy.relay.ports import Accounts, Courier
from senderproxy.relay.sender_rejected import RejectedSenders, explain, find_refused
from senderproxy.rewriting.plan import Discarding, carry_out
from senderproxy.rewriting.received_field import HOP_LIMIT, hop_count, stamp
from senderproxy.routing.route import Refusal

INTERNAL: Final = "@internal"  # in place of an account's id: what the internal server is handed waits here

Outcomes: TypeAlias = Mapping[ForwardPath, Outcome]


class Attempts:
    """What the intake and the runner both do with a message. `rules` may be replaced at any time."""

    def __init__(self, accounts: Accounts, courier: Courier, clock: Clock, rules: Rules) -> None:
        self._accounts = accounts
        self._courier = courier
        self._clock = clock
        self.rules = rules
        self.refused_senders = RejectedSenders()

    def decide(self, submission: Submission) -> Decision | Refusal | Discarding:
        """Whose account carries it and what leaves, or why it does not."""
        if hop_count(submission.message.header) > HOP_LIMIT:
            return Refusal(reply(554, "5.4.6", f"The message has passed more than {HOP_LIMIT} servers: a mail loop"))
        return decide(self._letter(submission), self._accounts.directory(), self.rules)

    def decided(self, decision: Decision) -> Decided:
        """What was decided just now, to be remembered."""
        return Decided(decision, self._accounts.directory(), self.rules)

    def still_decided(self, decided: Decided | None) -> Decision | None:
        """The decision, where the accounts and the configuration are those it was made with."""
        if decided is None or decided.rules is not self.rules or decided.directory is not self._accounts.directory():
            return None
        return decided.decision

    def who_is_answered(self, submission: Submission) -> ReversePath:
        """Who is told what becomes of it."""
        return who_is_answered(self._letter(submission), self.rules)

    def goes_inside(self, submission: Submission) -> bool:
        """It is a report of ours, and the settings name the internal server for those."""
        return submission.report_on is not None and self.rules.reports_to is not None

    async def offer(
        self, submission: Submission, decision: Decision, recipients: Sequence[ForwardPath] | None = None
    ) -> Outcomes:
        """Offer it upstream; to all of its recipients where none are named."""
        message = self._stamped(submission, carry_out(decision.plan, submission.message))
        envelope = decision.plan.envelope if recipients is None else decision.plan.envelope.for_some(recipients)
        outcomes = await self._courier.deliver(decision.route, envelope, message, tag=submission.id)
        return self._explained(decision, message, outcomes)

    async def hand_in(self, submission: Submission, recipients: Sequence[ForwardPath]) -> Outcomes:
        """Hand a report to the internal server, as it is."""
        assert self.rules.reports_to is not None
        message = self._stamped(submission, submission.message)
        envelope = submission.envelope.for_some(recipients)
        return await self._courier.hand_in(self.rules.reports_to, envelope, message, tag=submission.id)

    def _letter(self, submission: Submission) -> MessageFacts:
        return MessageFacts(
            submission.message.header,
            submission.envelope,
            submission.client,
            submission.id,
            self._clock.now(),
            submission.message.body.has_long_lines,
            submission.carrier,
        )

    def _stamped(self, submission: Submission, message: Message) -> Message:
        header = stamp(
            message.header,
            submission.client,
            by=self.rules.hostname,
            message_id=submission.id,
            now=submission.received_at,
        )
        return Message(header, message.body)

    def _explained(self, decision: Decision, left: Message, outcomes: Outcomes) -> Outcomes:
        """A refused sender with what to do about it; and whether the configured rule is the provider's is noted."""
        path = decision.plan.envelope.reverse_path
        refused = find_refused(outcomes, decision.route, path, left.header)
        if refused is not None:
            self.refused_senders.note(refused, self._clock.now())
            told = explain(refused)
            return {
                path: replace(outcome, reply=told)
                if isinstance(outcome, Failed) and outcome.refused_sender is not None
                else outcome
                for path, outcome in outcomes.items()
            }
        if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            sent_as = path if isinstance(path, Address) else None
            self.refused_senders.taken(decision.route, (sent_as, decision.route.author))
        return outcomes
