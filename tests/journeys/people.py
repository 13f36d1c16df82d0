"""Who sends in the journeys: twenty people in four domains of one office, and their accounts at the provider.

Two ways an office may be set up: everybody with an account of their own (all that a provider with the rule `address`
allows), or one account for a whole domain and a few personal ones (enough where the rule is `domain`).
"""

from dataclasses import dataclass
from typing import Final

from tests.peers.provider import Mailbox, Rule
from tests.peers.senderproxy import VaultAccount

DOMAINS: Final = ("firma.test", "handel.test", "praxis.test", "verein.test")
NAMES: Final = ("anna", "bert", "carla", "dora", "emil")
AUTHORS: Final = tuple(f"{name}@{domain}" for name in NAMES for domain in DOMAINS)


@dataclass(frozen=True)
class Office:
    """The accounts of an office, and which of them must carry whom."""

    rule: Rule
    accounts: tuple[VaultAccount, ...]
    carried_by: dict[str, str]

    @property
    def mailboxes(self) -> list[Mailbox]:
        """What the provider knows of it."""
        return [Mailbox(account.login, account.password) for account in self.accounts]


def office_under(rule: Rule) -> Office:
    """Return an office as one would set it up at a provider with this rule."""
    match rule:
        case Rule.ADDRESS:
            logins = {author: author for author in AUTHORS}
            accounts = [VaultAccount(author, f"geheim-{author}") for author in AUTHORS]
        case Rule.DOMAIN:
            personal = {author: author for author in AUTHORS if author.startswith("anna@")}
            logins = {author: f"post@{author.partition('@')[2]}" for author in AUTHORS} | personal
            accounts = [
                *(VaultAccount(author, f"geheim-{author}") for author in personal),
                *(
                    VaultAccount(f"post@{domain}", f"geheim-post-{domain}", carries=(f"@{domain}",))
                    for domain in DOMAINS
                ),
            ]
    return Office(rule, tuple(accounts), logins)
