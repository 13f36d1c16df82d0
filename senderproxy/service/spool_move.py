"""The queue's move from one engine of the spool to another, while no service uses either.

Guarantees: a message is stored in the new spool before it is forgotten in the old one; after a crash the same command
goes on, and none is doubled or lost. What cannot be read stays where it is. Jobs are not moved: the move is refused
while there are any.
Not here: the history of finished messages, which stays in the old spool; the command (cli.spool).
"""

from dataclasses import dataclass
from typing import Final

from senderproxy.errors import SenderproxyError
from senderproxy.relay.ports import Arrival, Claim, SpoolError, SpoolUpdate
from senderproxy.service.spool import EngineSpool
from senderproxy.spool.sqlite.rows import UnreadableRow
from senderproxy.tracking.record import Lane, MessageRecord, Query, RecipientState, RecipientStatus
from senderproxy.translation import _

_PAGE: Final = 100  # messages listed at once
_MOVED: Final = RecipientState(RecipientStatus.DISCARDED, why="moved to another spool")


@dataclass(slots=True)
class MoveCounts:
    """Messages so far."""

    moved: int = 0
    unreadable: int = 0  # left in the old spool
    in_use: int = 0  # leased by an instance: left in the old spool


async def move_queue(old: EngineSpool, new: EngineSpool) -> MoveCounts:
    """Move all messages that wait or are held. Raises SpoolError."""
    if jobs := sum(total.count for total in await old.job_totals()):
        raise SpoolError(
            _("{count} copies for Sent folders wait in the old spool.").format(count=jobs),
            hint=_("Start the service with the old spool until it has stored them: senderproxy queue"),
        )
    if old.other_users:
        raise SpoolError(
            _("Other instances use the old spool: {names}.").format(names=", ".join(old.other_users)),
            hint=_("On each of their machines: systemctl stop senderproxy"),
        )
    counts = MoveCounts()
    last_left: str | None = None  # a moved message is not there any more, so the next page begins after one that stays
    while records := await old.find(Query(unfinished=True), limit=_PAGE, after=last_left):
        for record in records:
            moved = counts.moved
            await _move(old, new, record, counts)
            if counts.moved == moved:
                last_left = record.id
    return counts


async def _move(old: EngineSpool, new: EngineSpool, record: MessageRecord, counts: MoveCounts) -> None:
    try:
        claim = await old.claim_one(record.id)
    except SpoolError:  # its rows are damaged
        counts.unreadable += 1
        return
    if claim is None:
        counts.in_use += 1
        return
    try:
        known = await new.find(Query(id=record.id), limit=_PAGE)
        await old.check_content(claim)
        if not any(one.id == record.id for one in known):  # else an earlier move ended here
            await new.accept(await _arrival_of(old, claim, record))
    except (OSError, ValueError, UnreadableRow):
        counts.unreadable += 1
        await old.settle(claim, SpoolUpdate({}, faults=claim.faults))
        return
    await old.settle(claim, SpoolUpdate(dict.fromkeys(claim.due, _MOVED), leaves_history=False))
    counts.moved += 1


async def _arrival_of(old: EngineSpool, claim: Claim, record: MessageRecord) -> Arrival:
    """The message with its states and its history. Raises OSError or ValueError if it cannot be read."""
    if set(record.recipients) != set(claim.submission.envelope.recipients):
        raise ValueError(f"message {record.id} has damaged recipients")
    home = Lane.of_account(record.account)
    lanes = {path: lane for path, lane in record.lanes.items() if lane != home}
    try:
        events = await old.events(record.id)
    except SenderproxyError as error:
        raise ValueError(error.message) from error
    return Arrival(claim.submission, record.account, claim.author, record.recipients, events, lanes=lanes)
