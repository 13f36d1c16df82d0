"""Address of the database, its login and its TLS settings.

Guarantees: without TLS a password goes to this machine only; a certificate is always checked, with the server's name.
The password is in no representation.
Not here: the settings (config.model), the connection (spool.postgresql.connections).
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from senderproxy.relay.ports import SpoolError
from senderproxy.translation import _


@dataclass(frozen=True, slots=True)
class DatabaseTarget:
    """One database of one server."""

    host: str  # a name, an address, or the folder of a socket
    port: int
    user: str
    database: str
    password: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)  # read for each login
    tls: ssl.SSLContext | None = field(default=None, repr=False)


def is_this_machine(host: str) -> bool:
    """True for the folder of a socket and for a loopback address."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(host: str, ca_file: Path | None) -> ssl.SSLContext | None:
    """The context of connections to that host; None if they stay on this machine. May block. Raises SpoolError.

    `ca_file`: the authorities that may sign the certificate; None: those of the system.
    """
    if ca_file is None and is_this_machine(host):
        return None
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        message = _("The certificates in {path} cannot be used: {reason}.")
        unreadable = isinstance(error, ssl.SSLError)
        reason = _("it has none that can be read") if unreadable else error.strerror or error
        hint = _("Correct engine_ca_file under [spool].")
        raise SpoolError(message.format(path=ca_file, reason=reason), hint=hint) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
