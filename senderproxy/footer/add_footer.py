"""AddFooter: the content change that adds a footer to a message. PURE.

Guarantees: see footer.insertion. That is loaded with the first footer that is inserted: most services have none. A
service loads it when its configuration has a footer (service.parts), before a message needs it.
Not here: the choice of the footer (footer.footer), the insertion (footer.insertion).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from senderproxy.footer import reasons
from senderproxy.footer.footer import Footer
from senderproxy.mail.header import HeaderSection
from senderproxy.rewriting.content_change import Unchanged, Write


@dataclass(frozen=True, slots=True)
class AddFooter:
    """A content change: add a footer for an author."""

    footer: Footer
    name: str  # of the author
    address: str
    is_automatic: bool = False  # the reverse-path was null

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        """See rewriting.content_change.ContentChange."""
        if self.is_automatic:
            return Unchanged(reasons.AUTOMATIC, is_expected=True)
        from senderproxy.footer.insertion import insert  # see the top

        return insert(self.footer, self.name, self.address, header, body, write)
