"""What the upstream called a message when it took it. PURE.

Guarantees: an answer only where the words name one; short enough to be stored and searched for.
Not here: what else a reply says (mail.reply).
"""

import re
from typing import Final

from senderproxy.mail.reply import Reply

_LIMIT: Final = 200
_ID: Final = r"<?([A-Za-z0-9][A-Za-z0-9._@+=/-]{3,})"
# What says outright that it is an id comes before what only stands where servers put theirs.
_SHAPES: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bqueued(?: mail)? (?:as|for delivery as) {_ID}",  # Postfix and many others
        rf"\b(?:queue|message|mail|request)?[ -]?id ?[=:] ?{_ID}",  # Exim, and so IONOS and GMX: `OK id=1MxDp3-...`
        rf"^{_ID} Message accepted for delivery",  # Sendmail
        rf"{_ID}> \[InternalId=",  # Exchange Online
        rf"^OK +\d{{9,}} {_ID} - gsmtp",  # Google
        rf"\b(?:ok|accepted|received)\b.{{0,40}} id {_ID}",
        r"^ok:? <?([A-Za-z0-9._@+=/-]*\d[A-Za-z0-9._@+=/-]{7,})>?$",  # Amazon: `Ok 0102018c...`
    )
)


def upstream_id(reply: Reply) -> str | None:
    """The id in the reply to the final dot; None where it names none."""
    if not 200 <= reply.code < 300:
        return None
    for text in reversed(reply.lines):
        for shape in _SHAPES:
            if found := shape.search(text):
                return found.group(1).rstrip(".,;")[:_LIMIT]
    return None
