"""Remembered decisions about usual messages. PURE.

Guarantees: a decision is reused only for a message of the same client (address, name, protocol, user, permitted and
forced senders), with the same octets in From and Sender and the same reverse-path, under the same accounts and rules,
and only if the one address in From found its account: then nothing else can lead to another one. Memory is bounded.
Not here: the check that nothing else in the header matters (straight.usual_header).
"""

from typing import Final, TypeAlias

from senderproxy.mail.address import Address
from senderproxy.mail.author import MailboxError, read_mailboxes
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, Rules
from senderproxy.rewriting.plan import Discard, RewritePlan
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.route import AddressSource, Refusal

_CLIENTS_LIMIT: Final = 500  # a decision has some KB with its plan; an office has fewer clients
_DECISIONS_LIMIT: Final = 50  # of one client; a mail server has one for each author
_BY_ADDRESS: Final = (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN)

Key: TypeAlias = tuple[bytes, bytes, Address]  # values of From and Sender, reverse-path


class ClientDecisions:
    """The decisions of one client; None: such a message takes the general path."""

    __slots__ = ("accounts", "client", "found", "rules")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.accounts: AccountDirectory | None = None
        self.rules: Rules | None = None
        self.found: dict[Key, Decision | None] = {}

    def use(self, accounts: AccountDirectory, rules: Rules) -> None:
        """Forget the decisions if these are not the accounts and rules that they depend on."""
        if accounts is not self.accounts or rules is not self.rules:
            self.accounts, self.rules = accounts, rules
            self.found.clear()

    def remember(self, key: Key, decision: Decision | None) -> None:
        """Add a decision; above the limit, all others are forgotten."""
        if len(self.found) >= _DECISIONS_LIMIT:
            self.found.clear()
        self.found[key] = decision


class RememberedDecisions:
    """The decisions of all clients."""

    def __init__(self) -> None:
        self._clients: dict[Client, ClientDecisions] = {}

    def of(self, client: Client) -> ClientDecisions:
        """The decisions of this client, on whatever connection."""
        known = self._clients.get(client)
        if known is None:
            if len(self._clients) >= _CLIENTS_LIMIT:
                self._clients.clear()
            known = self._clients[client] = ClientDecisions(client)
        return known


def usual_decision(decision: Decision | Refusal | Discard, key: Key) -> Decision | None:
    """The decision if the message leaves as it is, by the account of its author alone; else None."""
    if not isinstance(decision, Decision):
        return None
    route, plan = decision.route, decision.plan
    is_plain = not (plan.rounds or plan.changes or plan.content_changes or plan.cuts)
    goes_one_way = decision.ways is None and decision.hop is None and decision.undone is None
    if not is_plain or not goes_one_way or decision.is_copied or route.account.fallback is not None:
        return None
    if plan.envelope.reverse_path != key[2] or route.source is not AddressSource.FROM or route.tier not in _BY_ADDRESS:
        return None
    try:
        authors = read_mailboxes(key[0])
    except MailboxError:
        return None
    return decision if [author.address for author in authors] == [route.author] else None


def for_message(decision: Decision, envelope: Envelope) -> Decision:
    """A remembered decision for this message: its plan has the envelope of another one, and no changes."""
    return Decision(decision.route, RewritePlan(envelope), decision.report_to, decision.is_internal)
