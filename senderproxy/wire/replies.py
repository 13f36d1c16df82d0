"""SMTP replies to clients: the texts that depend on no state. PURE.

Guarantees: every reply has an enhanced status, except those that must not (greeting, EHLO, 354; RFC 2034 section 4).
Not here: when each is sent (wire.dialogue, listener), replies to a malformed command (wire.command).
RFC 5321 section 4.2, RFC 3463, RFC 4954 section 6. Texts follow Postfix's where it has one.
"""

from functools import lru_cache
from typing import Final

from senderproxy.mail.reply import Reply, reply
from senderproxy.wire.data_decoder import HeaderTooLarge
from senderproxy.wire.line_ends import InvalidOctet

_UNITS: Final = ((10**6, "MB"), (2**20, "MiB"), (10**3, "kB"), (2**10, "KiB"), (1, "octets"))  # as in the settings

OK: Final = reply(250, "2.0.0", "OK")
SENDER_OK: Final = reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK: Final = reply(250, "2.1.5", "Recipient OK")
START_DATA: Final = reply(354, None, "End data with <CR><LF>.<CR><LF>")
START_TLS: Final = reply(220, "2.0.0", "Ready to start TLS")
HELP: Final = reply(214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH")
NOT_VERIFIED: Final = reply(252, "2.0.0", "Cannot verify the address, but will accept a message for it")

# Commands out of order.
NEED_EHLO: Final = reply(503, "5.5.1", "Send EHLO or HELO first")
NEED_AUTH: Final = reply(530, "5.7.0", "Authentication required")
NEED_MAIL: Final = reply(503, "5.5.1", "Need MAIL command")
NEED_MAIL_AND_RCPT: Final = reply(503, "5.5.1", "Need MAIL and RCPT commands")
NESTED_MAIL: Final = reply(503, "5.5.1", "Nested MAIL command; send RSET to drop the open transaction")
NO_VALID_RECIPIENTS: Final = reply(554, "5.5.1", "No valid recipients")
TLS_ACTIVE: Final = reply(503, "5.5.1", "TLS already active")
ALREADY_AUTHENTICATED: Final = reply(503, "5.5.1", "Already authenticated")
AUTH_DURING_MAIL: Final = reply(503, "5.5.1", "AUTH is not permitted during a mail transaction")
NEED_TLS: Final = reply(
    538,
    "5.7.11",
    "Encryption required for authentication; send STARTTLS first.",
    "Switch on TLS (STARTTLS) in the mail settings of this device or program, or switch off its login.",
)

# Malformed or unknown commands.
EHLO_SYNTAX: Final = reply(501, "5.5.4", "Syntax: EHLO hostname")
VRFY_SYNTAX: Final = reply(501, "5.5.4", "Syntax: VRFY address")
AUTH_SYNTAX: Final = reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
UNKNOWN_MECHANISM: Final = reply(504, "5.5.4", "Unsupported authentication mechanism; use PLAIN or LOGIN")
UNKNOWN_COMMAND: Final = reply(500, "5.5.1", "Unknown command")
# RFC 6531 section 3.5: SMTPUTF8 is offered, so the reason is the local part and not the extension.
NON_ASCII_LOCAL_PART: Final = reply(
    553, "5.6.7", "An address with characters outside ASCII before the @ cannot be sent: providers do not accept it"
)
LINE_TOO_LONG: Final = reply(500, "5.5.2", "Line too long; closing connection")
BARE_LF_IN_COMMAND: Final = reply(521, "5.5.2", "Bare LF received; closing connection")

# Replies that end the connection.
EARLY_INPUT: Final = reply(554, "5.5.1", "Input before the greeting; closing connection")
IMPROPER_PIPELINING: Final = reply(503, "5.5.1", "Improper pipelining: input after this command; closing connection")
BDAT_UNSUPPORTED: Final = reply(502, "5.5.1", "BDAT not supported, use DATA; closing connection")
TOO_MANY_UNKNOWN: Final = reply(421, "4.7.0", "Too many unknown commands; closing connection")
TOO_MANY_IDLE: Final = reply(421, "4.7.0", "Too many commands without a message; closing connection")
TOO_MANY_LOGINS: Final = reply(421, "4.7.0", "Too many failed logins; closing connection")
OTHER_PROTOCOL: Final = reply(421, "4.7.0", "This is an SMTP server; closing connection")
FALSE_END: Final = reply(
    421,
    "4.4.2",
    "The message ends in LF.LF and not in CRLF.CRLF: it was not accepted; closing connection.",
    "To fix: set the line ends of this device or program to CRLF (CR LF).",
)
TOO_SLOW: Final = reply(421, "4.4.2", "Message data too slow; closing connection")
INTERNAL_ERROR_CLOSING: Final = reply(421, "4.3.0", "Internal error, try again later; closing connection")

EVICTED: Final = reply(421, "4.7.0", "Too many connections; closing this idle one")

# Authentication.
AUTHENTICATED: Final = reply(235, "2.7.0", "Authentication successful")
AUTH_FAILED: Final = reply(535, "5.7.8", "Authentication failed: wrong user name or password")
TOO_MANY_LOGINS_AT_ONCE: Final = reply(454, "4.7.0", "Too many logins at once; try again later")  # RFC 4954 section 6
AUTH_CANCELLED: Final = reply(501, "5.7.0", "Authentication cancelled")
AUTH_NOT_BASE64: Final = reply(501, "5.5.2", "Invalid base64")
AUTH_MALFORMED: Final = reply(501, "5.5.2", "Malformed authentication data")
AUTH_LINE_TOO_LONG: Final = reply(500, "5.5.6", "Authentication line too long")

# Errors of this server.
INTERNAL_ERROR: Final = reply(451, "4.3.0", "Internal error; try again later")
DISK_TIMEOUT: Final = reply(451, "4.3.0", "The disk does not respond; try again later")
DISK_FULL: Final = reply(452, "4.3.1", "Insufficient disk space; try again later")

# Connections that are rejected at the greeting.
TOO_MANY_CONNECTIONS: Final = reply(421, "4.7.0", "Too many connections; try again later")
PROXY_HEADER_MISSING: Final = reply(
    421,
    "4.7.0",
    "A PROXY header is required from this address: add send-proxy-v2 to the proxy's server line; closing connection",
)

# Connections of a proxy without a client's address.
NO_CLIENT_ADDRESS: Final = reply(554, "5.7.1", "The PROXY header names no client address: no mail is accepted")

# Message data.
_INVALID_OCTETS: Final = {
    InvalidOctet.BARE_LF: reply(554, "5.6.0", "Message contains a bare LF (LF without CR)"),
    InvalidOctet.BARE_CR: reply(
        554,
        "5.6.0",
        "Message contains a bare CR (CR without LF)",
        "To fix: correct the line ends of the client, or set lenient = true for its listener, which converts them.",
    ),
    InvalidOctet.NUL: reply(554, "5.6.0", "Message contains a NUL character"),
}


def invalid_octet(kind: InvalidOctet) -> Reply:
    """Reply to a message with an octet that RFC 5321 section 2.3.8 forbids."""
    return _INVALID_OCTETS[kind]


@lru_cache(maxsize=8)  # of one host name, rarely more
def greeting(hostname: str) -> Reply:
    """Reply to the connection."""
    return reply(220, None, f"{hostname} ESMTP senderproxy")


def internal_error(message_id: str) -> Reply:
    """Reply to a message whose handling failed; the id finds the traceback in the log."""
    return reply(451, "4.3.0", f"Internal error (id {message_id}); try again later")


@lru_cache(maxsize=8)
def goodbye(hostname: str) -> Reply:
    """Reply to QUIT."""
    return reply(221, "2.0.0", f"{hostname} closing connection")


@lru_cache(maxsize=32)
def hello(hostname: str, *keywords: str) -> Reply:
    """Reply to HELO, and with the extensions to EHLO."""
    return reply(250, None, hostname, *keywords)


def no_argument(verb: str) -> Reply:
    """Reply to a superfluous argument."""
    return reply(501, "5.5.4", f"{verb} takes no argument")


def not_supported(verb: str) -> Reply:
    """Reply to a command that exists, but not on this listener."""
    return reply(502, "5.5.1", f"{verb} not supported")


def too_many_recipients(limit: int) -> Reply:
    """Reply to a recipient over the limit (RFC 5321 section 4.5.3.1.10: 452; the accepted ones stay)."""
    return reply(452, "4.5.3", f"Too many recipients; limit is {limit} in one message")


def too_large(limit: int) -> Reply:
    """Reply to a message over the size limit in octets, announced or received (RFC 1870 section 6)."""
    return reply(552, "5.3.4", f"Message too large; limit is {_size(limit)}")


def header_too_large(found: HeaderTooLarge, limit: int, field_limit: int) -> Reply:
    """Reply to a header section over the limit in octets or in fields."""
    largest = f"the largest field is {found.largest} ({found.octets} octets)"
    if found.too_many_fields:
        return reply(552, "5.3.4", f"Too many header fields; limit is {field_limit}; {largest}")
    return reply(552, "5.3.4", f"Header section too large; limit is {_size(limit)}; {largest}")


def auth_locked(seconds: float) -> Reply:
    """Reply to a login after too many failed ones; the same for every user name, known or not."""
    minutes = max(1, round(seconds / 60))
    return reply(454, "4.7.0", f"Too many failed logins; try again in {minutes} minute{'s' if minutes > 1 else ''}")


def timeout(seconds: float) -> Reply:
    """Reply to a client that sent nothing for too long."""
    return reply(421, "4.4.2", f"Timeout: no input for {seconds:.0f} seconds; closing connection")


def draining(hostname: str) -> Reply:
    """Reply to the health checks of a proxy while the service drains (RFC 3463: X.3.2, not accepting messages)."""
    return reply(421, "4.3.2", f"{hostname} draining; use another server")


def stopping(hostname: str) -> Reply:
    """Reply to all clients when the service stops."""
    return reply(421, "4.3.2", f"{hostname} shutting down; try again later")


def not_started(hostname: str) -> Reply:
    """Reply to all clients while the service cannot start."""
    return reply(421, "4.3.5", f"{hostname} not in service: its configuration is not usable; try again later")


def reconnect(hostname: str) -> Reply:
    """Reply to a client of a listener that another one has replaced."""
    return reply(421, "4.3.2", f"{hostname} configuration changed; closing this connection, reconnect at once")


def not_allowed(host: str) -> Reply:
    """Reply to the connection of a client that may not submit here."""
    return reply(554, "5.7.1", f"{host} may not send through this server: its network is not listed under `allow`")


def too_many_connections_from(host: str) -> Reply:
    """Reply to the connection of a client that has too many."""
    return reply(421, "4.7.0", f"Too many connections from {host}; try again later")


def connection_rate(client: str, limit: int) -> Reply:
    """Reply to the connection of a client that opens too many within a minute."""
    return reply(421, "4.7.0", f"Too many connections from {client}; limit is {limit} a minute; try again later")


def message_rate(client: str, limit: int) -> Reply:
    """Reply to MAIL of a client that sends too many messages within a minute. The status is Postfix's."""
    return reply(450, "4.7.1", f"Too many messages from {client}; limit is {limit} a minute; try again later")


def recipient_rate(client: str, limit: int) -> Reply:
    """Reply to RCPT of a client that names too many recipients within a minute. The status is Postfix's."""
    return reply(450, "4.7.1", f"Too many recipients from {client}; limit is {limit} a minute; try again later")


def _size(octets: int) -> str:
    size, unit = next(each for each in _UNITS if octets % each[0] == 0)
    return f"{octets // size} {unit}"
