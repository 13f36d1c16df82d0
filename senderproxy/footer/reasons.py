"""Reasons for a message without its footer. PURE.

Guarantees: each reason is a constant, so that it can be stored in English and shown in the reader's language.
"""

from typing import Final

from senderproxy.translation import N_


class Declined(Exception):
    """The message leaves as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


ALREADY_THERE: Final = N_("the first line of the footer stands in it already")
ATTACHED_ONLY: Final = N_("it has no text of its own, only attachments")
AUTOMATIC: Final = N_("it is a report or an automatic reply: its reverse-path is null")
BOUNDARY: Final = N_("a line of the footer looks like a boundary of its parts")
BOUNDARIES: Final = N_("the boundaries of its parts are ambiguous or missing")
CALENDAR: Final = N_("it is an entry of a calendar")
CHARSET: Final = N_("the character set of its text is unknown")
CHARSET_DAMAGED: Final = N_("its text has characters that are not of its character set")
CHECKSUM: Final = N_("its text has a checksum (Content-MD5)")
DKIM: Final = N_("it has a DKIM signature")
ENCODING: Final = N_("the transfer encoding of its text is unknown or damaged")
ENCRYPTED: Final = N_("it is encrypted")
HEADER: Final = N_("the header section of a part is too long, or cannot be read")
HTML: Final = N_("its HTML ends inside a tag, a comment or a script")
LIST: Final = N_("it is mail of a mailing list (List- fields)")
NESTED: Final = N_("it has too many nested parts")
REPORT: Final = N_("it is a report")
SIGNED: Final = N_("it is signed")
TNEF: Final = N_("its text is in Outlook's own format (winmail.dat)")
