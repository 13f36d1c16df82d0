"""Reasons and hints for errors of a database server, in words for an operator. PURE.

Guarantees: an error that is not known by its type or code keeps the server's own words.
Not here: what failed (spool.postgresql.connections).
"""

import os
import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import asyncpg

from senderproxy.translation import N_, _

_SERVER_LOG: Final = N_("Look into the log of the database server.")
_AUTHORITY: Final = frozenset({18, 19, 20, 21})  # codes of OpenSSL: no authority that is known signed it
_NAME: Final = frozenset({62, 64})  # codes of OpenSSL: it has another name, another address
_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "3D000": N_("Make the database on its server (docs/cluster.md), or correct engine under [spool]."),
        "42501": N_(
            "As the owner of the database, which gives the rights again: senderproxy spool migrate --owner ROLE"
        ),
        "42P01": N_("senderproxy spool migrate --owner ROLE"),
        "53100": N_("Free some space on the disk of the database server."),
        "53300": N_(
            "Allow more connections on the database server: nine for each instance, three more with the vault there."
        ),
    }
)  # by the code of the server


def reason_of(error: BaseException) -> str:
    """The reason, without a period at its end."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _("its certificate is not valid: {reason}").format(reason=error.verify_message.rstrip("."))
    if isinstance(error, TimeoutError) and not error.args:
        return _("no answer in time")
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    words = str(error).strip().splitlines() or [type(error).__name__]
    return words[0].rstrip(".")  # what follows is DETAIL and HINT, of the server's programmers


def hint_of(error: BaseException) -> str:
    """The next step."""
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate)
        if code.startswith("28"):  # the role or its password
            return _(
                "Compare the role and engine_password under [spool] with those of the database server (pg_hba.conf)."
            )
        return _(_HINTS.get(code, _SERVER_LOG))
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _AUTHORITY:
            return _("Name the file of its authority: engine_ca_file under [spool].")
        if error.verify_code in _NAME:
            return _("Write the name that the certificate has into engine under [spool].")
        return _("Renew the certificate of the database server.")
    if isinstance(error, socket.gaierror):
        return _("Correct the host in engine under [spool], or ask the name server of this machine.")
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):  # the words of asyncpg
        return _("Switch TLS on on the database server: ssl = on, with a certificate of its name (docs/cluster.md).")
    if isinstance(error, OSError):
        return _("Start the database server, or look at the network to it and at engine under [spool].")
    return _(_SERVER_LOG)
