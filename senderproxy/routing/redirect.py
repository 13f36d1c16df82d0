"""Mailbox that redirected a foreign message here: by a Sieve rule or an alias. PURE.

Guarantees: only fields above the topmost Received field count, because a stranger can write every field below it; and
only mailboxes that the client may use.
Not here: Resent-From, which is an author field (mail.author), the account of the mailbox (routing.route).

Pigeonhole's `redirect` writes X-Sieve-Redirected-From; aliases of Postfix, qmail and Courier write Delivered-To.
"""

from senderproxy.mail.author import read_recent
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.routing.author_policy import AuthorMap
from senderproxy.routing.route import REDIRECT_SOURCES, CandidateAddress


def redirect_candidates(header: HeaderSection, client: Client, mapped: AuthorMap) -> list[CandidateAddress]:
    """Return the addresses that may have redirected the message, the most certain one first."""
    found = (
        CandidateAddress(mapped(mailbox.address), source)
        for source in REDIRECT_SOURCES
        for mailbox in read_recent(header, source.value)
    )
    return [candidate for candidate in found if client.may_use(candidate.address)]
