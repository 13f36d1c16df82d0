"""What is said to a client, word for word; everything that depends on no state.

Guarantees: every reply has an enhanced status, except those that must not (greeting, EHLO, 354; RFC 2034 section 4).
Not here: when each is said (wire.dialogue, listener).
RFC 5321 section 4.2, RFC 3463, RFC 4954 section 6.
"""

from typing import Final

from senderproxy.mail.reply import Reply, reply
from senderproxy.wire.data import HEADER_LIMIT, DataFault

OK: Final = reply(250, "2.0.0", "OK")
SENDER_OK: Final = reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = reply(250, "2.1.5", "Recipient OK")
START_DATA: Final = reply(354, None, "Go ahead, end with <CR><LF>.<CR><LF>")
START_TLS: Final = reply(220, "2.0.0", "Ready to start TLS")
HELP: Final = reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH")
NOT_VERIFIED: Final = reply(252, "2.0.0", "Addresses are not verified here; send the message and see")

# In the wrong order.
GREET_FIRST: Final = reply(503, "5.5.1", "Say EHLO first")
LOG_IN_FIRST: Final = reply(530, "5.7.0", "Log in first")
MAIL_FIRST: Final = reply(503, "5.5.1", "Say MAIL first")
MAIL_AND_RCPT_FIRST: Final = reply(503, "5.5.1", "Say MAIL and RCPT first")
NESTED_MAIL: Final = reply(503, "5.5.1", "A message is under way already; say RSET to drop it")
NO_RECIPIENT: Final = reply(554, "5.5.1", "No recipient was accepted")
ALREADY_SECURE: Final = reply(503, "5.5.1", "The connection is encrypted already")
ALREADY_LOGGED_IN: Final = reply(503, "5.5.1", "You are logged in already")
LOG_IN_BEFORE_MAIL: Final = reply(503, "5.5.1", "A message is under way; log in before MAIL")
ENCRYPT_FIRST: Final = reply(
    538,
    "5.7.11",
    "Logging in needs an encrypted connection; say STARTTLS first.",
    "Switch on TLS (STARTTLS) in the mail settings of this device or program, or switch off its login there.",
)

# Not well written, or not known.
NO_NAME: Final = reply(501, "5.5.4", "Say EHLO or HELO with the name of your computer")
VRFY_WHOM: Final = reply(501, "5.5.4", "VRFY needs an address")
AUTH_HOW: Final = reply(501, "5.5.4", "It should read AUTH PLAIN or AUTH LOGIN, with one word behind it at most")
NO_SUCH_MECHANISM: Final = reply(504, "5.5.4", "Log in with AUTH PLAIN or AUTH LOGIN")
UNKNOWN_COMMAND: Final = reply(500, "5.5.1", "That command is not known here")
LINE_TOO_LONG: Final = reply(500, "5.5.2", "The line is too long; closing the connection")
BARE_LF_IN_COMMAND: Final = reply(521, "5.5.2", "A line ended in LF without CR; closing the connection")

# The connection ends with these.
TALKED_EARLY: Final = reply(554, "5.5.1", "You spoke before the greeting")
DID_NOT_WAIT: Final = reply(503, "5.5.1", "You did not wait for the answer to this command; closing the connection")
NO_BDAT: Final = reply(502, "5.5.1", "BDAT is not offered here; use DATA. Closing the connection")
TOO_MANY_UNKNOWN: Final = reply(421, "4.7.0", "Too many commands that are none; closing the connection")
TOO_MANY_IDLE: Final = reply(421, "4.7.0", "Too many commands without a message; closing the connection")
TOO_MANY_LOGINS: Final = reply(421, "4.7.0", "Too many refused logins; closing the connection")
OTHER_PROTOCOL: Final = reply(421, "4.7.0", "This is a mail server; closing the connection")
TOO_SLOW: Final = reply(421, "4.4.2", "The message comes in too slowly; closing the connection")
BROKEN_OFF: Final = reply(421, "4.3.0", "Something went wrong here; please try again later. Closing the connection")

# Logging in.
LOGGED_IN: Final = reply(235, "2.7.0", "Logged in")
LOGIN_REFUSED: Final = reply(535, "5.7.8", "User name or password is wrong")
LOGIN_ABORTED: Final = reply(501, "5.7.0", "The login was broken off")
LOGIN_NOT_BASE64: Final = reply(501, "5.5.2", "That is not base64")
LOGIN_MALFORMED: Final = reply(501, "5.5.2", "That is no user name and password as this login method sends them")
LOGIN_TOO_LONG: Final = reply(500, "5.5.6", "The line is too long for a login")

# Our own trouble.
FAULT: Final = reply(451, "4.3.0", "Something went wrong here; please try again later")
DISK_FULL: Final = reply(452, "4.3.1", "There is no room for the message here now; please try again later")

_FAULTS: Final = {
    DataFault.BARE_LF: reply(554, "5.6.0", "The message has a line that ends in LF without CR"),
    DataFault.BARE_CR: reply(554, "5.6.0", "The message has a CR without LF"),
    DataFault.NUL: reply(554, "5.6.0", "The message has a NUL character"),
}


def refusal_of(fault: DataFault) -> Reply:
    """To a message with octets that no message may have, once it has been read to its end."""
    return _FAULTS[fault]


def greeting(hostname: str) -> Reply:
    """The first word."""
    return reply(220, None, f"{hostname} ESMTP senderproxy")


def fault_with(message_id: str) -> Reply:
    """Our own trouble with one message: the id finds the traceback in the log."""
    return reply(451, "4.3.0", f"Something went wrong here; please try again later (id {message_id})")


def goodbye(hostname: str) -> Reply:
    """The last one."""
    return reply(221, "2.0.0", f"{hostname} says goodbye")


def stands_alone(verb: str) -> Reply:
    """To a command with an argument that takes none."""
    return reply(501, "5.5.4", f"{verb} stands alone")


def not_offered(verb: str) -> Reply:
    """To a command that exists in the world but not here."""
    return reply(502, "5.5.1", f"{verb} is not offered here")


def too_many_recipients(limit: int) -> Reply:
    """To one recipient more than a message may have (RFC 5321 section 4.5.3.1.10: 452, and the others go out)."""
    return reply(452, "4.5.3", f"No more than {limit} recipients in one message; send another one to the others")


def too_large(limit: int) -> Reply:
    """To a message over the limit, announced or real (RFC 1870 section 6)."""
    return reply(552, "5.3.4", f"The message is larger than the {limit} octets that are taken here")


def header_too_long() -> Reply:
    """To a header section without end."""
    return reply(552, "5.3.4", f"The header section is longer than {HEADER_LIMIT} octets")


def login_locked(seconds: float) -> Reply:
    """To a login while too many have failed; the same for every user name, whether it exists or not."""
    minutes = max(1, round(seconds / 60))
    return reply(454, "4.7.0", f"Too many refused logins; try again in {minutes} minute{'s' if minutes > 1 else ''}")


def silent(seconds: float) -> Reply:
    """To a client that has not been heard of for too long."""
    return reply(421, "4.4.2", f"Nothing came for {seconds:.0f} seconds; closing the connection")


def stopping(hostname: str) -> Reply:
    """To everybody when the service stops."""
    return reply(421, "4.3.2", f"{hostname} is stopping; please try again later")


def not_allowed(host: str) -> Reply:
    """What a client is greeted with that may not submit here at all."""
    return reply(554, "5.7.1", f"{host} may not send through this server; its network is not listed under `allow`")


def too_many_connections(*, of_one_client: bool) -> Reply:
    """What a client is greeted with where there is no room for it."""
    return reply(421, "4.7.0", f"Too many connections{' from you' if of_one_client else ''}; please try again later")
