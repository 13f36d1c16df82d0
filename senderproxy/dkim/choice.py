"""The key that signs a message, if one does. PURE.

Guarantees: only a key of the author's own domain signs, as From is when the message leaves. A message whose From
names authors of several domains, or whose header section ends in lines that are no fields, is not signed.
Not here: the state of the keys' DNS records (service.dkim_watch), signatures in the message (dkim.existing).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from senderproxy.dkim.key import SigningKey
from senderproxy.mail.author import MailboxError, read_mailboxes
from senderproxy.mail.header import HeaderSection


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys, by domain: the one that signs now, and all that are known, so that their signatures are verified."""

    signing: Mapping[str, SigningKey] = field(default_factory=dict)
    known: Mapping[str, Sequence[SigningKey]] = field(default_factory=dict)

    def key_for(self, header: HeaderSection) -> SigningKey | None:
        """The key for a message with this header section, as it leaves."""
        if header.rest not in (b"", b"\r\n"):
            return None
        domain = author_domain(header)
        return None if domain is None else self.signing.get(domain)


def author_domain(header: HeaderSection) -> str | None:
    """The domain of all mailboxes in From; None if there are several, or the field cannot be read."""
    values = header.values("From")
    if len(values) != 1:
        return None
    try:
        domains = {mailbox.address.domain for mailbox in read_mailboxes(values[0])}
    except MailboxError:
        return None
    return domains.pop() if len(domains) == 1 else None
