"""Pass-through: one attempt while the client waits, answered with what the upstream said.

Promises: 250 is said only when the upstream took the message for every recipient. Nothing is written to disk. The
route, the rewrite and the client's rights are worked out from the accounts and the configuration of this moment.
Leaves to others: receiving (listener), the upstream dialogue (delivery), what outcomes mean (relay.verdict).
RFC 5321 sections 4.1.1.4 and 6.1.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.address import Address, ForwardPath
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Delivered, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.mail.submission import Submission
from senderproxy.relay.decision import Decision, Letter, Rules, decide
from senderproxy.relay.loop_guard import LoopGuard, is_automatic
from senderproxy.relay.ports import Accounts, Courier
from senderproxy.relay.sender_refused import RefusedSenders, explain, find_refused
from senderproxy.relay.verdict import conclude
from senderproxy.rewriting.apply import carry_out
from senderproxy.rewriting.plan import Discarding
from senderproxy.rewriting.trace import HOP_LIMIT, hop_count, stamp
from senderproxy.routing.route import Refusal

_log = logging.getLogger("senderproxy.relay")


class PassThrough:
    """relay.ports.Intake for a mail server that has a queue of its own."""

    def __init__(self, accounts: Accounts, courier: Courier, clock: Clock, rules: Rules) -> None:
        self._accounts = accounts
        self._courier = courier
        self._clock = clock
        self.rules = rules
        self.refused_senders = RefusedSenders()
        self._loop_guard = LoopGuard()

    async def accept(self, submission: Submission) -> Reply:
        """Route, stamp and offer the message upstream; the reply is the client's answer to its final dot."""
        started = self._clock.monotonic()
        decision = self._decide(submission)
        answer = await self._offer(submission, decision) if isinstance(decision, Decision) else decision.reply
        self._report(submission, decision, answer, self._clock.monotonic() - started)
        return answer

    def _decide(self, submission: Submission) -> Decision | Refusal | Discarding:
        header = submission.message.header
        if hop_count(header) > HOP_LIMIT:
            return Refusal(reply(554, "5.4.6", f"The message has passed more than {HOP_LIMIT} servers: a mail loop"))
        letter = Letter(
            header,
            submission.envelope,
            submission.client,
            submission.id,
            self._clock.now(),
            submission.message.body.has_long_lines,
        )
        decision = decide(letter, self._accounts.directory(), self.rules)
        if isinstance(decision, Decision) and is_automatic(submission.envelope.reverse_path, header):
            limit = self.rules.senders.automatic_per_hour
            author, recipients = decision.route.author, submission.envelope.recipients
            if refusal := self._loop_guard.objection(author, recipients, limit, self._clock.monotonic()):
                return Refusal(refusal)
        return decision

    async def _offer(self, submission: Submission, decision: Decision) -> Reply:
        message = carry_out(decision.plan, submission.message)
        header = stamp(
            message.header,
            submission.client,
            by=self.rules.hostname,
            message_id=submission.id,
            now=self._clock.now(),
        )
        stamped = replace(message, header=header)
        outcomes = await self._courier.deliver(decision.route, decision.plan.envelope, stamped, tag=submission.id)
        return self._conclude(submission, decision, stamped, outcomes)

    def _conclude(
        self, submission: Submission, decision: Decision, left: Message, outcomes: Mapping[ForwardPath, Outcome]
    ) -> Reply:
        """The client's answer; and whether the provider's rule for senders is the one that is configured."""
        path = decision.plan.envelope.reverse_path
        refused = find_refused(outcomes, decision.route, path, left.header)
        if refused is not None:
            self.refused_senders.note(refused, self._clock.now())
            return explain(refused)
        if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
            sent_as = path if isinstance(path, Address) else None
            self.refused_senders.taken(decision.route, (sent_as, decision.route.author))
        return conclude(outcomes, submission.id)

    def _report(
        self, submission: Submission, decision: Decision | Refusal | Discarding, answer: Reply, seconds: float
    ) -> None:
        """One line per message: who, as whom, to how many, and what came of it."""
        envelope = submission.envelope
        facts: dict[str, object] = {
            "id": submission.id,
            "client": submission.client,
            "reverse_path": f"<{envelope.reverse_path}>",
            "recipients": len(envelope.recipients),
            "size": submission.message.size,
            "seconds": round(seconds, 3),
            "reply": answer,
        }
        if isinstance(decision, Decision):
            route = decision.route
            facts |= {
                "author": route.author,
                "account": route.account.id,
                "chosen_by": f"{route.source.value}, {route.tier.words}",
            }
            facts |= {_fact_of(change.what): change.new or "(removed)" for change in decision.plan.changes}
        if isinstance(decision, Discarding):
            event(_log, logging.WARNING, "discarded", fault=None, **facts)
            return
        words = "delivered" if answer.is_positive else "deferred" if answer.is_transient else "refused"
        event(_log, logging.INFO if answer.is_positive else logging.WARNING, words, fault=None, **facts)


def _fact_of(what: str) -> str:
    return f"changed_{what.lower().replace('-', '_')}"
