"""One delivery attempt: routing, rewriting and the upstream offer, with the current accounts and configuration.

Guarantees: the message that is sent is the received one, with the plan's edits and our Received field on top; the reply
about a rejected sender says how to fix it. The same for a client that waits and for a message from the spool. While an
account cannot send, its fallback does, for the recipients that certainly have no copy yet; each message asks anew, so
mail returns to the account by itself. A DKIM signature is the last change, so it covers what leaves; each attempt makes
its own.
Not here: whether the fallback may send a message (relay.fallback), the consequences of the outcomes
(relay.recipient_updates), the upstream dialogue (delivery).
RFC 5321 section 3.7.
"""

import logging
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.footer.add_footer import AddFooter
from senderproxy.log import event
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.host_group import host_group
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import FOOTER_ADDED, NEEDS_SEVEN_BIT, Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.content_changes import ContentChanger
from senderproxy.relay.decide import CachedDecision, Decision, MessageFacts, Rules, decide, report_recipient
from senderproxy.relay.decision_thread import DecisionThread, TooManyDecisions, has_large_header
from senderproxy.relay.dkim_signing import DkimSigner
from senderproxy.relay.fallback import Unfit, decide_fallback
from senderproxy.relay.fallback_delivery import FallbackDelivery, MaybeTaken
from senderproxy.relay.ports import Accounts, Courier, Outcomes
from senderproxy.relay.sender_rejected import RejectedSenders, explain, find_rejected
from senderproxy.relay.sent_form import body_recipe, with_body, with_form
from senderproxy.relay.way_delivery import deliver_by_ways
from senderproxy.rewriting.content_change import ContentChange
from senderproxy.rewriting.plan import Discard, apply_plan
from senderproxy.rewriting.received_field import add_received_field
from senderproxy.rewriting.transfer_encoding import Reencode
from senderproxy.routing.route import Refusal
from senderproxy.worker_threads import QUEUE_LIMIT

REPORT_SERVER: Final = "@internal"  # stored in place of an account's id: the queue of reports to the internal server
_CONTENT_UNAVAILABLE: Final = Deferred(reply(451, "4.3.0", "The message cannot be read or changed now"))

_log: Final = logging.getLogger("senderproxy.relay")


class MessageRelay:
    """Decision and delivery for the intake and the runner. `rules` may be replaced at any time."""

    def __init__(self, accounts: Accounts, courier: Courier, clock: Clock, rules: Rules) -> None:
        self._accounts = accounts
        self._courier = courier
        self._clock = clock
        self.rules = rules
        self.rejected_senders = RejectedSenders()
        self._fallbacks = FallbackDelivery(self._deliver, self._decide_fallback, clock)
        self.dkim = DkimSigner(clock)
        self.contents = ContentChanger()
        self._arrivals = DecisionThread("decision-arrival")
        # More than there are attempts at once (relay.runner), so the limits are never reached.
        self._queued = DecisionThread("decision-queue", waiting=QUEUE_LIMIT, of_client=QUEUE_LIMIT)

    def decide(self, submission: Submission) -> Decision | Refusal | Discard:
        """The account and the rewritten message, or the reason why it is not sent. For a small header section only."""
        return decide(self._facts(submission), self._accounts.directory(), self.rules)

    async def decide_large(self, submission: Submission, *, queued: bool = False) -> Decision | Refusal | Discard:
        """As `decide`, on a thread. `queued`: for an attempt of a queued message; these wait separately.

        The accounts and rules are those at the end. Raises TooManyDecisions, unless `queued`.
        """
        thread = self._queued if queued else self._arrivals
        client = "queue" if queued else host_group(submission.client.host)
        while True:
            facts, directory, rules = self._facts(submission), self._accounts.directory(), self.rules
            call = partial(decide, facts, directory, rules)
            decision = await thread.run(client, call)
            if rules is self.rules and directory is self._accounts.directory():
                return decision

    def cached(self, decision: Decision) -> CachedDecision:
        """A decision just made, with the accounts and rules that it depends on."""
        return CachedDecision(decision, self._accounts.directory(), self.rules)

    def valid_decision(self, cached: CachedDecision | None) -> Decision | None:
        """The cached decision; None if the accounts or the configuration have changed since."""
        if cached is None or cached.rules is not self.rules or cached.directory is not self._accounts.directory():
            return None
        return cached.decision

    def report_recipient(self, submission: Submission) -> ReversePath:
        """The address for delivery reports on the message."""
        return report_recipient(self._facts(submission), self._accounts.directory(), self.rules)

    def is_for_report_server(self, submission: Submission) -> bool:
        """True for a report of ours if the settings name an internal server for reports."""
        return submission.report_on is not None and self.rules.report_server is not None

    async def deliver(
        self,
        submission: Submission,
        decision: Decision,
        recipients: Sequence[ForwardPath] | None = None,
        maybe_taken: MaybeTaken | None = None,
    ) -> Outcomes:
        """Offer the message upstream for these recipients; None: for all.

        `maybe_taken`: returns the recipients to which an earlier attempt may have been successful; None: there was no
        such attempt.
        """
        if decision.ways is not None:

            async def deliver(message: Submission, part: Decision, paths: Sequence[ForwardPath]) -> Outcomes:
                return await self.deliver(message, part, paths, maybe_taken)

            paths = submission.envelope.recipients if recipients is None else recipients
            return await deliver_by_ways(deliver, submission, decision, paths)
        if decision.route.account.fallback is None or decision.hop is not None:
            return await self._deliver(submission, decision, recipients)
        return await self._fallbacks.deliver(submission, decision, recipients, maybe_taken)

    async def _decide_fallback(self, submission: Submission, account: str) -> Decision | Unfit | None:
        """The decision for the fallback of this account, with the accounts and rules now in force."""
        call = partial(decide_fallback, self._facts(submission), self._accounts.directory(), self.rules, account)
        if not has_large_header(submission):
            return call()
        try:
            return await self._queued.run("fallback", call)
        except TooManyDecisions:
            return None

    async def _deliver(
        self, submission: Submission, decision: Decision, recipients: Sequence[ForwardPath] | None
    ) -> Outcomes:
        """Offer the message upstream by the account of this decision, or by its server."""
        plan = decision.plan
        message = self.stamped(submission, apply_plan(plan, submission.message))
        envelope = plan.envelope if recipients is None else plan.envelope.with_recipients(recipients)
        changes: Sequence[ContentChange] = plan.content_changes
        if self._signs(submission, decision) and (changes or not message.body.is_ascii):
            changes = await self._before_signing(submission, decision, message)
        if changes:
            outcomes = await self._deliver_changed(submission, decision, envelope, message, changes)
        else:
            outcomes = self.explained(decision, message, await self._offer(submission, decision, envelope, message))
        if NEEDS_SEVEN_BIT in outcomes.values():
            paths = [path for path, outcome in outcomes.items() if outcome == NEEDS_SEVEN_BIT]
            rest = replace(envelope.with_recipients(paths), eight_bit=False, eight_bit_anyway=True)
            changes = (*plan.content_changes, Reencode(seven_bit=True))
            outcomes = {**outcomes, **await self._deliver_changed(submission, decision, rest, message, changes)}
        return outcomes

    def _signs(self, submission: Submission, decision: Decision) -> bool:
        """True if a key may sign. Where the provider will, it may not: some receivers refuse two of one domain.

        A message that is on its way leaves as it began: the ring is new since then.
        """
        if self.dkim.ring is None or self._courier.has_begun(submission.id):
            return False
        return decision.hop is not None or not decision.route.provider.signs

    async def _before_signing(
        self, submission: Submission, decision: Decision, message: Message
    ) -> Sequence[ContentChange]:
        """The content changes of a message that may be 8-bit: no server on its way must have to re-encode it."""
        changes = decision.plan.content_changes
        try:
            signs = await self.dkim.will_sign(submission, message)
        except OSError:  # the signature itself reports it
            return changes
        return (*changes, Reencode(seven_bit=True, spares_signed=True)) if signs else changes

    async def _deliver_changed(
        self,
        submission: Submission,
        decision: Decision,
        envelope: Envelope,
        message: Message,
        changes: Sequence[ContentChange],
    ) -> Outcomes:
        """Offer the message after these content changes."""
        is_copied = decision.is_copied
        try:
            made = await self.contents.change(submission.id, message, changes, with_digest=is_copied)
        except OSError as error:
            event(_log, log_events.CONTENT_CHANGE_FAILED, id=submission.id, why=error)
            return dict.fromkeys(envelope.recipients, _CONTENT_UNAVAILABLE)
        changed, unmade, digest = made
        try:
            outcomes = await self._offer(submission, decision, envelope, changed)
            if is_copied and changed.body is not message.body:
                kept = [change for index, change in enumerate(changes) if index not in unmade]
                outcomes = with_body(outcomes, body_recipe(kept, digest), message.header.raw)
        finally:
            if changed.body is not message.body:
                changed.body.close()
        outcomes = self.explained(decision, changed, outcomes)
        return (
            _with_footer_notes(outcomes, unmade.get(0, FOOTER_ADDED)) if isinstance(changes[0], AddFooter) else outcomes
        )

    def _offer(
        self, submission: Submission, decision: Decision, envelope: Envelope, message: Message
    ) -> Awaitable[Outcomes]:
        """The transaction with the upstream, to be awaited."""
        if self._signs(submission, decision):
            return self._offer_signed(submission, decision, envelope, message)
        return self._offer_as_is(submission, decision, envelope, message)

    async def _offer_signed(
        self, submission: Submission, decision: Decision, envelope: Envelope, message: Message
    ) -> Outcomes:
        """Sign the message as its last change, and offer it."""
        try:
            message = await self.dkim.signed(submission, message)
        except OSError as error:
            event(_log, log_events.CONTENT_CHANGE_FAILED, id=submission.id, why=error)
            return dict.fromkeys(envelope.recipients, _CONTENT_UNAVAILABLE)
        return await self._offer_as_is(submission, decision, envelope, message)

    def _offer_as_is(
        self, submission: Submission, decision: Decision, envelope: Envelope, message: Message
    ) -> Awaitable[Outcomes]:
        if decision.undone is not None:
            return self._deliver_undone(submission, decision, envelope, message)
        return self._send(submission, decision, envelope, message)

    def _send(
        self, submission: Submission, decision: Decision, envelope: Envelope, message: Message
    ) -> Awaitable[Outcomes]:
        if decision.hop is not None:
            sending = self._courier.deliver_hop(decision.hop, envelope, message, tag=submission.id)
        else:
            sending = self._courier.deliver(decision.route, envelope, message, tag=submission.id)
        return with_form(sending, message) if decision.is_copied else sending

    def explained(self, decision: Decision, message: Message, outcomes: Outcomes) -> Outcomes:
        """The outcomes as the client and the author read them; what was learned about senders is noted."""
        if decision.hop is None:
            outcomes = self._check_rejected_sender(decision, message, outcomes)
        return outcomes if decision.is_internal else {path: _for_stranger(each) for path, each in outcomes.items()}

    async def _deliver_undone(
        self, submission: Submission, decision: Decision, envelope: Envelope, message: Message
    ) -> Outcomes:
        """Offer the message to the recipients for which SRS addresses stand; the outcomes of the SRS addresses."""
        undone = decision.undone or {}
        sent_to = {path: undone.get(path, path) for path in envelope.recipients}
        upstream = replace(envelope, recipients=tuple(dict.fromkeys(sent_to.values())))
        outcomes = await self._send(submission, decision, upstream, message)
        return {path: outcomes[other] for path, other in sent_to.items()}

    async def deliver_report(self, submission: Submission, recipients: Sequence[ForwardPath]) -> Outcomes:
        """Deliver a report to the internal server, unchanged."""
        assert self.rules.report_server is not None
        message = self.stamped(submission, submission.message)
        envelope = replace(submission.envelope.with_recipients(recipients), eight_bit_anyway=True)
        return await self._courier.deliver_report(self.rules.report_server, envelope, message, tag=submission.id)

    def _facts(self, submission: Submission) -> MessageFacts:
        return MessageFacts(
            submission.message.header,
            submission.envelope,
            submission.client,
            submission.id,
            self._clock.now(),
            submission.message.body.has_long_lines,
            submission.carrier,
            self._accounts.signing_keys(),
        )

    def stamped(self, submission: Submission, message: Message) -> Message:
        """The message with our Received field on top."""
        header = add_received_field(
            message.header,
            submission.client,
            by=self.rules.hostname,
            message_id=submission.id,
            now=submission.received_at,
        )
        return Message(header, message.body)

    def _check_rejected_sender(self, decision: Decision, sent: Message, outcomes: Outcomes) -> Outcomes:
        """The outcomes, with the fix in the reply if the provider rejected the sender; updates `rejected_senders`."""
        reverse_path = decision.plan.envelope.reverse_path
        rejected = find_rejected(outcomes, decision.route, reverse_path, sent.header)
        if rejected is not None:
            self.rejected_senders.note(rejected, self._clock.now())
            explained = explain(rejected, is_internal=decision.is_internal)
            return {
                path: replace(outcome, reply=explained)
                if isinstance(outcome, Failed) and outcome.refused_sender is not None
                else outcome
                for path, outcome in outcomes.items()
            }
        if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            sent_as = reverse_path if isinstance(reverse_path, Address) else None
            self.rejected_senders.accepted(decision.route, (sent_as, decision.route.author))
        return outcomes


def _with_footer_notes(outcomes: Outcomes, note: str) -> Outcomes:
    """The outcomes with a note about the footer at each recipient that got the message."""
    return {
        path: replace(outcome, footer=note) if isinstance(outcome, Delivered) else outcome
        for path, outcome in outcomes.items()
    }


def _for_stranger(outcome: Outcome) -> Outcome:
    """The outcome without the hint of a reply of our own: a stranger would read it in a bounce."""
    if isinstance(outcome, Delivered) or outcome.remote:
        return outcome
    texts = [line.partition("To fix: ")[0].rstrip() for line in outcome.reply.lines]
    return replace(outcome, reply=replace(outcome.reply, lines=tuple(text for text in texts if text)))
