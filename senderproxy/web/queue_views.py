"""Pages of messages: the queue with its changes, the search, one message with its history.

Guarantees: every change names the user of the page in the message's history; a cancellation asks first.
Not here: the changes (relay.queue_admin), the words (tracking.queue_words, tracking.timeline).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.responses import Response

from senderproxy.control.protocol import Verb
from senderproxy.tracking.queue_words import (
    QueueAction,
    account_name,
    change_question,
    change_result,
    client_in_words,
    no_content,
    no_message,
    nothing_listed,
    queue_row,
    recipient_in_words,
)
from senderproxy.tracking.record import MessageRecord, Query, RecipientStatus
from senderproxy.tracking.serialize import query_entry, read_event, read_record
from senderproxy.tracking.timeline import headline, timeline_lines
from senderproxy.translation import N_, _
from senderproxy.web.site import Site, Visit, form_of, user_of

PAGE: Final = 50  # messages on one page
_AGES: Final[Mapping[str, tuple[str, timedelta]]] = {
    "1h": (N_("1 hour"), timedelta(hours=1)),
    "4h": (N_("4 hours"), timedelta(hours=4)),
    "1d": (N_("1 day"), timedelta(days=1)),
    "3d": (N_("3 days"), timedelta(days=3)),
}
_STATUSES: Final[Mapping[RecipientStatus, str]] = {
    RecipientStatus.WAITING: N_("waiting"),
    RecipientStatus.HELD: N_("held"),
    RecipientStatus.DELIVERED: N_("delivered"),
    RecipientStatus.FAILED: N_("refused"),
    RecipientStatus.EXPIRED: N_("given up"),
    RecipientStatus.CANCELLED: N_("cancelled"),
    RecipientStatus.DISCARDED: N_("discarded"),
    RecipientStatus.DEFERRED: N_("deferred"),
}
ACTIONS: Final[Mapping[QueueAction, str]] = {
    QueueAction.RETRY: N_("Retry now"),
    QueueAction.HOLD: N_("Hold"),
    QueueAction.RELEASE: N_("Release"),
    QueueAction.CANCEL: N_("Cancel"),
}


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A message in a list. `cells` are those of tracking.queue_words."""

    id: str
    cells: Sequence[str]


async def queue(site: Site, visit: Visit) -> Response:
    """Waiting and held messages, oldest first."""
    age, now = visit.field("age"), site.clock.now()
    query = Query(
        account=visit.field("account") or None,
        sender=visit.field("from") or None,
        recipient=visit.field("to") or None,
        status=RecipientStatus.HELD if visit.field("held") else None,
        unfinished=True,
        until=now - _AGES[age][1] if age in _AGES else None,
    )
    answer = await site.service.ask(
        Verb.QUEUE_LIST, query=query_entry(query), limit=PAGE, after=visit.field("after") or None
    )
    records = [read_record(entry) for entry in answer["messages"]]
    fields = {name: visit.field(name) for name in ("account", "from", "to", "age", "held")}
    return site.page(
        "queue",
        visit=visit,
        values={
            "rows": [QueueRow(record.id, queue_row(record, now)) for record in records],
            "fields": fields,
            "is_filtered": any(fields.values()),
            "nothing": nothing_listed(is_filtered=any(fields.values())),
            "after": visit.field("after"),
            "next": answer["next"],
            "ages": {key: _(words) for key, (words, _age) in _AGES.items()},
            "actions": {action.value: _(words) for action, words in ACTIONS.items()},
        },
    )


async def change(site: Site, visit: Visit) -> Response:
    """Retry, hold, release or cancel the chosen messages; a cancellation is asked about first."""
    try:
        form = await form_of(visit.request)
        action = QueueAction(dict(form).get("action"))
    except ValueError:
        return site.error(_("The form is incomplete."), status=400, visit=visit)
    ids = list(dict.fromkeys(value for name, value in form if name == "id"))
    if not ids:
        return site.error(_("No messages selected."), _("Tick the messages first."), status=400, visit=visit)
    values = dict(form)
    if action is QueueAction.CANCEL and "confirmed" not in values:
        question = change_question(action, len(ids), report=True)
        return site.page("confirm", visit=visit, values={"ids": ids, "question": question})
    answer = await site.service.ask(
        Verb.QUEUE_CHANGE,
        act=action.value,
        ids=ids,
        by=user_of(visit),
        report="unreported" not in values,
    )
    site.service.forget()
    left = [{"id": entry["id"], "why": _(entry["why"])} for entry in answer["left"]]
    done = change_result(action, len(answer["changed"])) if answer["changed"] else ""
    return site.page("changed", visit=visit, values={"done": done, "left": left, "changed": answer["changed"]})


async def search(site: Site, visit: Visit) -> Response:
    """Messages of the history, newest first."""
    names = ("from", "to", "id", "upstream_id", "subject", "account", "status", "since", "until")
    fields = {name: visit.field(name) for name in names}
    values: dict[str, Any] = {
        "fields": fields,
        "statuses": {status.value: _(words) for status, words in _STATUSES.items()},
        "history_days": site.settings.history_days,
        "keep_subjects": site.settings.keep_subjects,
        "searched": any(fields.values()) or bool(visit.field("all")),
        "all": visit.field("all"),
        "rows": [],
        "with_subjects": False,
        "next": None,
        "problem": "",
    }
    if values["searched"]:
        try:
            query = Query(
                id=fields["id"] or None,
                account=fields["account"] or None,
                sender=fields["from"] or None,
                recipient=fields["to"] or None,
                upstream_id=fields["upstream_id"] or None,
                subject=fields["subject"] or None,
                status=RecipientStatus(fields["status"]) if fields["status"] else None,
                since=_typed_time(fields["since"]),
                until=_typed_time(fields["until"]),
            )
        except (ValueError, OverflowError):
            values["problem"] = _("This is not a time. Write it like 2026-11-24 08:15.")
            return site.page("search", visit=visit, status=400, values=values)
        answer = await site.service.ask(
            Verb.QUEUE_LIST, query=query_entry(query), limit=PAGE, after=visit.field("after") or None
        )
        values["rows"] = [_found(read_record(entry)) for entry in answer["messages"]]
        values["with_subjects"] = any(row["subject"] for row in values["rows"])
        values["next"] = answer["next"]
    return site.page("search", visit=visit, values=values)


async def message(site: Site, visit: Visit) -> Response:
    """One message with every attempt, reply and change, and its header section."""
    answer = await site.service.ask(Verb.QUEUE_SHOW, id=visit.request.path_params["id"])
    entry = answer["message"]
    if entry is None:
        text = no_message(visit.request.path_params["id"])
        hint = _("History older than spool.history_days is deleted.")
        return site.error(text, hint, status=404, visit=visit)
    record, now = read_record(entry), site.clock.now()
    pending = [state for state in record.recipients.values() if not state.status.is_final]
    held = [state for state in pending if state.status is RecipientStatus.HELD]
    waiting = len(held) < len(pending)
    actions = [
        *([QueueAction.RETRY, QueueAction.HOLD] if waiting else ()),
        *([QueueAction.RELEASE] if held else ()),
        *([QueueAction.CANCEL] if pending else ()),
    ]
    header = answer["header"]
    return site.page(
        "message",
        visit=visit,
        values={
            "record": record,
            "headline": headline(record, None),
            "account": account_name(record.account),
            "client": client_in_words(record),
            "no_content": no_content(),
            "is_account": record.account not in ("", "@internal"),
            "recipients": [recipient_in_words(record, path) for path in record.recipients],
            "lines": timeline_lines(record, [read_event(event) for event in entry["events"]], None, now),
            "header": header.replace("\r\n", "\n").rstrip("\n") if header is not None else None,
            "actions": {action.value: _(ACTIONS[action]) for action in actions},
        },
    )


def _found(record: MessageRecord) -> dict[str, Any]:
    """A message in the result of a search."""
    statuses = list(dict.fromkeys(_(_STATUSES[state.status]) for state in record.recipients.values()))
    reply = next((state.reply for state in record.recipients.values() if state.reply is not None), None)
    recipients = [str(path) for path in record.recipients]
    return {
        "id": record.id,
        "received_at": record.received_at,
        "from": record.author or record.reverse_path or "<>",
        "to": recipients[0] if recipients else "",
        "more": len(recipients) - 1,
        "status": ", ".join(statuses),
        "subject": record.subject,
        "reply": str(reply) if reply is not None else "",
    }


def _typed_time(text: str) -> datetime | None:
    """A local time, as browsers send it. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone() if text else None
