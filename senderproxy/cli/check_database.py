"""Checks of the spool in a database server, and of the vault there.

Guarantees: changes nothing. A database that cannot be used is one finding, which names what else it stops.
Not here: the connection and its statements (spool.postgresql), the conditions (cli.check_local).
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from senderproxy.cli.check_local import spool_text
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import late_import
from senderproxy.monitoring.record import ConditionKey
from senderproxy.relay.ports import SpoolError
from senderproxy.translation import _

# Of the running service, which has them because of the same database.
OUTAGE_KEYS: Final = (ConditionKey.SPOOL_CLOSED.value, ConditionKey.VAULT_UNREADABLE.value)


def check_database(config: Config) -> Iterator[Finding]:
    """The spool in the database, and the possible loss at a failure of the server. Raises SpoolError, at once."""
    with late_import():
        from senderproxy.service.postgresql import inspect
    found = asyncio.run(inspect(config.spool))
    return iter(
        (
            Finding(Level.OK, _("spool"), spool_text(found.waiting, found.held)),
            _durability(found.durability.value, lacks_standby=found.lacks_standby),
        )
    )


def _durability(found: str, *, lacks_standby: bool) -> Finding:
    subject = _("durability of the spool")
    hint = _("Set synchronous_standby_names on the database server (docs/cluster.md).")
    if lacks_standby:
        text = _("no synchronous standby is connected: nothing is stored until one is, and clients of the queue wait")
        remedy = _("Start the standby, or take it out of synchronous_standby_names on the database server.")
        return Finding(Level.WRONG, subject, text, remedy)
    match found:
        case "standby":
            text = _("each message is on a synchronous standby before it is acknowledged")
            return Finding(Level.OK, subject, text)
        case "server":
            text = _("acknowledged mail is on one server first, and is lost with its disk if no standby has it yet")
            return Finding(Level.ADVICE, subject, text, hint)
        case _:
            text = _("the database server does not sync: a crash of its machine loses acknowledged mail")
            return Finding(
                Level.WRONG, subject, text, _("Set fsync and full_page_writes to on on the database server.")
            )


def is_same_outage(config: Config, error: SpoolError, of_vault: SenderproxyError | None) -> bool:
    """True if the vault is in the database too, and cannot be opened for the same reason: it has the same remedy."""
    return config.vault.in_database and of_vault is not None and of_vault.hint == error.hint


def outage(error: SpoolError, status: Mapping[str, Any] | None, *, with_vault: bool) -> Finding:
    """The finding of a database that cannot be used, for everything that it stops."""
    message = error.message
    if with_vault:
        message += " " + (
            _("The vault is there, too.")
            if status is None
            else _("The vault is there, too: the running service goes on with the accounts in memory.")
        )
    reported = [entry["key"] for entry in (status or {}).get("conditions", ()) if entry["key"] in OUTAGE_KEYS]
    if reported:
        message += " " + _("The service reports it as {keys}.").format(keys=", ".join(reported))
    return Finding(Level.WRONG, _("spool"), message, error.hint)
