"""Values of rows for people: what is unreadable is shown as such, and hides nothing else of its message.

Not here: values for an attempt, where an unreadable row holds the message (spool.sqlite.rows).
"""

from senderproxy.mail.address import Address, AddressError, parse_address
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.rows import Row
from senderproxy.tracking.record import RecipientState, RecipientStatus
from senderproxy.translation import _


def shown_client(text: str) -> str:
    """The client in its column."""
    try:
        return str(rows.client_of(text))
    except (ValueError, KeyError, TypeError):
        return _("(unreadable)")


def shown_address(text: str) -> Address:
    """The address in its column, also one that is invalid."""
    try:
        return parse_address(text)
    except AddressError:
        local_part, _at, domain = text.rpartition("@")
        return Address(local_part, domain)


def shown_state(columns: Row, now: int) -> RecipientState:
    """The state in the columns `rows.STATE_COLUMNS`; held if it is unreadable. `now`: milliseconds since 1970."""
    try:
        return rows.state_of(columns, now)
    except (ValueError, KeyError, TypeError, OverflowError):
        return RecipientState(RecipientStatus.HELD, why="its row is unreadable")
