"""Records and events as JSON values, and back: for the control socket and `--json`. PURE.

Guarantees: a value that is read equals the one that was written, except that long replies and facts are shortened, so
that a page of messages stays short. Times are ISO 8601, UTC.
Not here: the number of messages on a page (relay.queue_admin).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from senderproxy.mail.address import Address, AddressError, ForwardPath, parse_address
from senderproxy.mail.reply import EnhancedStatus, Reply
from senderproxy.tracking.record import (
    Blocked,
    Event,
    EventKind,
    Lane,
    MessageRecord,
    Query,
    RecipientState,
    RecipientStatus,
)

Entry: TypeAlias = dict[str, Any]

_LINES: Final = 5  # last lines of a reply; the cause is in the last one or two
_CHARACTERS: Final = 400  # of a line of a reply; the limit of RFC 5321 section 4.5.3.1.5 is 512 octets
_FACT: Final = 2000  # first characters of a fact; the spool stores no more of a reason


# ---- records ----


def record_entry(record: MessageRecord) -> Entry:
    """A record without its events."""
    return {
        "id": record.id,
        "received_at": record.received_at.isoformat(),
        "client": record.client,
        "listener": record.listener,
        "reverse_path": record.reverse_path,
        "author": record.author,
        "account": record.account,
        "size": record.size,
        "message_id": record.message_id,
        "report_on": record.report_on,
        "subject": record.subject or None,
        "leased": record.leased,
        "blocked": blocked_entry(record.blocked),
        "as_of": record.as_of.isoformat(),
        "recipients": [
            _state_entry(str(path), state, record.due_at(state)) | _lane_entry(record, path)
            for path, state in record.recipients.items()
        ],
    }


def read_record(entry: Mapping[str, Any]) -> MessageRecord:
    """The record of a `record_entry`."""
    as_of = datetime.fromisoformat(entry["as_of"])
    lanes = {
        _read_address(state["address"]): (Lane.parse(state["lane"]), read_blocked(state.get("blocked")))
        for state in entry["recipients"]
        if state.get("lane")
    }
    return MessageRecord(
        id=entry["id"],
        received_at=datetime.fromisoformat(entry["received_at"]),
        client=entry["client"],
        listener=entry["listener"],
        reverse_path=entry["reverse_path"],
        author=entry["author"],
        account=entry["account"],
        size=entry["size"],
        message_id=entry["message_id"],
        report_on=entry["report_on"],
        recipients={_read_address(state["address"]): _read_state(state, as_of) for state in entry["recipients"]},
        as_of=as_of,
        leased=entry["leased"],
        blocked=read_blocked(entry.get("blocked")),
        lanes={path: lane for path, (lane, _) in lanes.items()},
        blocked_lanes={lane: blocked for lane, blocked in lanes.values() if blocked is not None},
        subject=entry.get("subject") or "",
    )


def _lane_entry(record: MessageRecord, path: ForwardPath) -> Entry:
    """The lane of a recipient that is not in the lane of the message's account, and why it cannot send."""
    lane = record.lanes.get(path)
    if lane is None:
        return {}
    return {"lane": str(lane), "blocked": blocked_entry(record.blocked_for(path))}


def blocked_entry(blocked: Blocked | None) -> Entry | None:
    """The reason why a lane cannot send; None if it can."""
    if blocked is None:
        return None
    until = blocked.until.isoformat() if blocked.until else None
    return {"why": blocked.why[:_FACT], "until": until}


def read_blocked(entry: Mapping[str, Any] | None) -> Blocked | None:
    """The value of a `blocked_entry`."""
    if entry is None:
        return None
    return Blocked(entry["why"], datetime.fromisoformat(entry["until"]) if entry["until"] else None)


def _read_address(text: str) -> Address:
    """The address; text that a damaged disk made invalid is shown as it is."""
    try:
        return parse_address(text)
    except AddressError:
        local_part, _, domain = text.rpartition("@")
        return Address(local_part, domain)


def _state_entry(address: str, state: RecipientState, due_at: datetime | None) -> Entry:
    return {
        "address": address,
        "fate": state.status.value,
        "due_at": due_at.isoformat() if due_at else None,
        "tries": state.tries,
        "reply": reply_entry(state.reply) if state.reply else None,
        "why": state.why[:_FACT],
        "delay_reported": state.delay_reported,
        "remote": state.remote,
    }


def _read_state(entry: Mapping[str, Any], as_of: datetime) -> RecipientState:
    return RecipientState(
        status=RecipientStatus(entry["fate"]),
        due_in=datetime.fromisoformat(entry["due_at"]) - as_of if entry["due_at"] else None,
        tries=entry["tries"],
        reply=read_reply(entry["reply"]) if entry["reply"] else None,
        why=entry["why"],
        delay_reported=entry["delay_reported"],
        remote=entry["remote"],
    )


def reply_entry(reply: Reply) -> Entry:
    """A reply, shortened."""
    return {
        "code": reply.code,
        "status": str(reply.status) if reply.status else None,
        "lines": [line[:_CHARACTERS] for line in reply.lines[-_LINES:]],
    }


def read_reply(entry: Mapping[str, Any]) -> Reply:
    """The reply of a `reply_entry`. Raises KeyError, TypeError or ValueError for an entry of another form."""
    status = EnhancedStatus(*(int(part) for part in entry["status"].split("."))) if entry["status"] else None
    return Reply(entry["code"], status, tuple(entry["lines"]))


# ---- events ----


def event_entry(event: Event) -> Entry:
    """An event."""
    return {
        "at": event.at.isoformat(),
        "what": event.kind.value,
        "recipients": list(event.recipients),
        "facts": {name: value[:_FACT] for name, value in event.facts.items()},
    }


def read_event(entry: Mapping[str, Any]) -> Event:
    """The event of an `event_entry`."""
    return Event(
        at=datetime.fromisoformat(entry["at"]),
        kind=EventKind(entry["what"]),
        recipients=tuple(entry["recipients"]),
        facts=entry["facts"],
    )


# ---- searches ----


def query_entry(query: Query) -> Entry:
    """The criteria that are set."""
    entry: Entry = {
        "id": query.id,
        "account": query.account,
        "from": query.sender,
        "to": query.recipient,
        "upstream_id": query.upstream_id,
        "subject": query.subject,
        "status": query.status.value if query.status else None,
        "unfinished": query.unfinished or None,
        "since": query.since.isoformat() if query.since else None,
        "until": query.until.isoformat() if query.until else None,
    }
    return {name: value for name, value in entry.items() if value is not None}


def read_query(entry: Mapping[str, Any]) -> Query:
    """The query of a `query_entry`. Raises ValueError for an invalid status or time."""
    return Query(
        id=entry.get("id"),
        account=entry.get("account"),
        sender=entry.get("from"),
        recipient=entry.get("to"),
        upstream_id=entry.get("upstream_id"),
        subject=entry.get("subject"),
        status=RecipientStatus(entry["status"]) if entry.get("status") else None,
        unfinished=bool(entry.get("unfinished")),
        since=datetime.fromisoformat(entry["since"]) if entry.get("since") else None,
        until=datetime.fromisoformat(entry["until"]) if entry.get("until") else None,
    )
