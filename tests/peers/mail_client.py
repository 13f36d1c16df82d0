"""A client that submits messages and has no opinion about how the session ends.

Guarantees: leaving a block ends the connection, whatever the server replies to QUIT.
Not here: letters, and the office client that hands in many of them (letters).
"""

import smtplib
from contextlib import suppress


class MailClient(smtplib.SMTP):
    """smtplib's client; a server that is being stopped may reply 421 to QUIT (RFC 5321, section 3.8)."""

    def __exit__(self, *_: object) -> None:
        with suppress(smtplib.SMTPServerDisconnected):
            self.docmd("QUIT")
        self.close()
