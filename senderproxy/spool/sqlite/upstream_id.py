"""Queue id that the upstream gave a message in its reply to the final dot. PURE.

Guarantees: None unless the reply names an id; the id is short enough to be stored and searched for.
Not here: the other parts of a reply (mail.reply).
"""

import re
from typing import Final

from senderproxy.mail.reply import Reply

_LIMIT: Final = 200  # characters; bounds what a reply can add to the database
_ID: Final = r"<?([A-Za-z0-9][A-Za-z0-9._@+=/-]{3,}+)"  # possessive: what follows begins with none of these
# One of these is part of every pattern: a reply without any is searched once.
_MARKS: Final = re.compile(r"queued|id|message accepted|gsmtp|^ok", re.IGNORECASE)
# Phrases that name an id come before those in which an id has only its usual place.
_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bqueued(?: mail)? (?:as|for delivery as) {_ID}",  # Postfix and many others
        rf"\b(?:queue|message|mail|request)?[ -]?id ?[=:] ?{_ID}",  # Exim, and so IONOS and GMX: `OK id=1MxDp3-...`
        rf"^{_ID} Message accepted for delivery",  # Sendmail
        rf"(?<![A-Za-z0-9._@+=/-]){_ID}> \[InternalId=",  # Exchange Online
        rf"^OK +\d{{9,}} {_ID} - gsmtp",  # Google
        rf"\b(?:ok|accepted|received)\b.{{0,40}} id {_ID}",
        r"^ok:? <?(?=[A-Za-z._@+=/-]*+\d[A-Za-z0-9._@+=/-]{7})([A-Za-z0-9._@+=/-]++)>?$",  # Amazon: `Ok 0102018c...`
    )
)


def upstream_id(reply: Reply) -> str | None:
    """The id in the reply to the final dot; None if the reply names none."""
    if not 200 <= reply.code < 300:
        return None
    for text in reversed(reply.lines):
        if not _MARKS.search(text):
            continue
        for pattern in _PATTERNS:
            if found := pattern.search(text):
                return found.group(1).rstrip(".,;")[:_LIMIT]
    return None
