"""Claims made of the rows of a leased message, for each engine.

Guarantees: rows that are not as they were written make no claim but UnreadableRow.
Not here: the leases, the check of the content (spool.sqlite.claims, spool.postgresql.claims).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import Claim, Lease
from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.content import LostBody
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.tracking.record import ACCOUNT_LANE, Lane


class ClaimRows(Protocol):
    """The rows of one message."""

    @property
    def message(self) -> Row:
        """`rows.MESSAGE_COLUMNS`, faults."""
        ...

    @property
    def recipients(self) -> Sequence[Row]:
        """address, `rows.STATE_COLUMNS`, lane of each."""
        ...

    @property
    def content(self) -> Any:  # noqa: ANN401  each engine has other columns
        """The header section and more; None: missing."""
        ...


def is_open(state: Row) -> bool:
    """True for a recipient that waits or is held."""
    return state[0] in ("waiting", "held")


def is_sealed(found: ClaimRows) -> bool:
    """True if the seal is that of the columns that never change."""
    message = found.message
    fixed = (message[1], *message[3:8], *message[9:11], message[12])
    return bool(rows.seal(fixed, [row[0] for row in found.recipients]) == message[13])


def claim_of(lease: str, found: ClaimRows, message: Message, selects: Callable[[Row], bool]) -> Claim:
    """The claim on the recipients whose state is selected. Raises UnreadableRow."""
    try:
        _number, ident, received_at, listener, client, reverse_path, eight_bit, author, account, carrier = (
            found.message[:10]
        )
        _size, _message_id, report_on, _seal, faults = found.message[10:]
        paths = tuple(parse_address(row[0]) for row in found.recipients)
        submission = Submission(
            id=ident,
            listener=listener,
            client=rows.client_of(client),
            envelope=Envelope(rows.reverse_path_of(reverse_path), paths, bool(eight_bit)),
            message=message,
            received_at=rows.from_ms(received_at),
            report_on=report_on,
            carrier=carrier,
        )
        selected = [(path, row) for path, row in zip(paths, found.recipients, strict=True) if selects(row[1:])]
        states = {path: rows.state_of(row[1:]) for path, row in selected}
        lanes = {row[7] for _path, row in selected}
        lane = Lane.parse(lanes.pop()) if len(lanes) == 1 else None
        if lane is not None and lane.kind == ACCOUNT_LANE:
            account = lane.name
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UnreadableRow(f"its rows are damaged ({error})") from error
    return Claim(Lease(lease), lane, submission, account, author, states, faults)


def claim_without_content(lease: str, found: ClaimRows, why: str) -> Claim:
    """The claim of a message that cannot be sent. Its author gets no report if the author may have been altered.

    Raises UnreadableRow.
    """
    header = b"" if found.content is None else found.content[0]
    claim = claim_of(lease, found, Message(HeaderSection(header), LostBody(why)), is_open)
    if is_sealed(found):
        return claim
    envelope = replace(claim.submission.envelope, reverse_path=NULL_PATH)
    return replace(claim, submission=replace(claim.submission, envelope=envelope))
