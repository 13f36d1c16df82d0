"""Words about the queue: the accounts, jobs and messages in it, and changes by an operator. PURE.

Guarantees: command line and page show the same words.
Not here: the history of a message (tracking.timeline), the changes themselves (relay.queue_admin).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, assert_never

from senderproxy.mail.address import ForwardPath
from senderproxy.tracking.record import SENT_COPY_JOBS, Lane, MessageRecord, RecipientStatus
from senderproxy.tracking.timeline import named, next_try, size_in_words, time_in_words, way_in_words
from senderproxy.translation import _, ngettext


class QueueAction(Enum):
    """Changes that an operator can make to a message."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


def account_name(account: str) -> str:
    """The name of the account in output; two names stand for mail that no account sends."""
    return {"": _("(no account)"), "@internal": _("(internal server)")}.get(account, account)


def client_in_words(record: MessageRecord) -> str:
    """The client of a message, and the listener that accepted it; empty for our own reports."""
    if not record.listener:
        return record.client
    return _("{client} at listener {name}").format(client=record.client, name=record.listener)


def no_message(message_id: str) -> str:
    """The sentence for an id that no message has."""
    return _("There is no message {id}.").format(id=message_id)


def no_content() -> str:
    """The sentence in the place of a header section that the spool no longer has."""
    return _("The content is deleted: no recipient is pending.")


def nothing_listed(*, is_filtered: bool) -> str:
    """The sentence in the place of an empty list of messages."""
    return _("No queued message matches.") if is_filtered else _("The queue is empty.")


def job_in_words(job: Mapping[str, Any]) -> str:
    """A line on the jobs of one kind and lane. This version does those of copies; others are of a later version."""
    if job["kind"] == SENT_COPY_JOBS:
        text = ngettext(
            "{count} copy for the Sent folder of account {account} waits for {age}",
            "{count} copies for the Sent folder of account {account} wait, the oldest for {age}",
            job["count"],
        )
        account = Lane.parse(job["lane"]).name
        return text.format(count=job["count"], account=account, age=time_in_words(timedelta(seconds=job["age"])))
    text = ngettext(
        "{count} job of kind {kind} in lane {lane}, stored {age} ago by a later version, waits for that version",
        "{count} jobs of kind {kind} in lane {lane}, stored since {age} by a later version, wait for that version",
        job["count"],
    )
    age = time_in_words(timedelta(seconds=job["age"]))
    return text.format(count=job["count"], kind=job["kind"], lane=job["lane"], age=age)


def queue_row(record: MessageRecord, now: datetime) -> list[str]:
    """Id, age, ways, author, recipients that are pending, size, state, next attempt, last reply."""
    pending = {path: state for path, state in record.recipients.items() if not state.status.is_final}
    held = [state for state in pending.values() if state.status is RecipientStatus.HELD]
    due = [(at, path) for path, state in pending.items() if (at := record.due_at(state)) is not None]
    reply = next((state.reply for state in pending.values() if state.reply is not None), None)
    why = held[0].why if held else f"{reply.code} {reply.reason}" if reply else ""
    return [
        record.id,
        time_in_words(now - record.received_at),
        ways_in_words(record, pending),
        record.author or record.reverse_path or "<>",
        named([str(path) for path in pending]),
        size_in_words(record.size),
        _("being tried") if record.leased else _("held") if held else _("waiting"),
        _next_try(record, due, now) if due and not record.leased else "",
        why,
    ]


def ways_in_words(record: MessageRecord, paths: Collection[ForwardPath]) -> str:
    """The account, and the servers and further accounts, on the ways of these recipients."""
    by_account = [account_name(record.account)] if any(path not in record.lanes for path in paths) else []
    return ", ".join(dict.fromkeys((*by_account, *(way_in_words(record.lanes[p]) for p in paths if p in record.lanes))))


def recipient_in_words(record: MessageRecord, path: ForwardPath) -> str:
    """A recipient, with its way if that is not the account of the message."""
    lane = record.lanes.get(path)
    return str(path) if lane is None else _("{recipient} by {way}").format(recipient=path, way=way_in_words(lane))


def _next_try(record: MessageRecord, due: Sequence[tuple[datetime, ForwardPath]], now: datetime) -> str:
    """The next attempt: of the recipients that are not blocked, if there are any."""
    able = [each for each in due if record.blocked_for(each[1]) is None]
    at, path = min(able or due, key=lambda each: each[0])
    return next_try(at, record.blocked_for(path), None, now)


def change_question(act: QueueAction, count: int, *, report: bool) -> str:
    """The question before a change of so many messages. `report`: a cancelled message is reported to its author."""
    match act:
        case QueueAction.RETRY:
            text = ngettext("Retry {count} message?", "Retry {count} messages?", count)
        case QueueAction.HOLD:
            text = ngettext("Hold {count} message?", "Hold {count} messages?", count)
        case QueueAction.RELEASE:
            text = ngettext("Release {count} message?", "Release {count} messages?", count)
        case QueueAction.CANCEL if report:
            text = ngettext(
                "Cancel {count} message? Its author gets a report, unless it is automatic mail.",
                "Cancel {count} messages? Their authors get reports, except on automatic mail.",
                count,
            )
        case QueueAction.CANCEL:
            text = ngettext(
                "Cancel {count} message without a report?", "Cancel {count} messages without reports?", count
            )
        case _:
            assert_never(act)
    return text.format(count=count)


def change_result(act: QueueAction, count: int) -> str:
    """The result of a change of so many messages."""
    match act:
        case QueueAction.RETRY:
            text = ngettext("{count} message is due now.", "{count} messages are due now.", count)
        case QueueAction.HOLD:
            text = ngettext("{count} message is held.", "{count} messages are held.", count)
        case QueueAction.RELEASE:
            text = ngettext(
                "{count} message is released and due now.", "{count} messages are released and due now.", count
            )
        case QueueAction.CANCEL:
            text = ngettext("{count} message is cancelled.", "{count} messages are cancelled.", count)
        case _:
            assert_never(act)
    return text.format(count=count)
