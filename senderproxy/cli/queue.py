"""`senderproxy queue`: what waits, why, and what to do about it.

Guarantees: safe while the service runs; a message that is being tried is never touched. What is done to many messages
at once is asked about first.
Not here: who answers (cli.queue_client), what is done (relay.queue_admin).
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from senderproxy.cli.common import counted, read_config, typed_pattern
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.queue_client import Ask, all_messages, change, open_desk
from senderproxy.cli.terminal import confirm, print_error, print_json, print_table, printable
from senderproxy.cli.times import typed_span
from senderproxy.clock import SystemClock
from senderproxy.relay.queue_admin import QueueAction
from senderproxy.tracking.age_buckets import AGE_LIMITS
from senderproxy.tracking.record import MessageRecord, Query, RecipientStatus
from senderproxy.tracking.serialize import read_blocked, read_event, read_record
from senderproxy.tracking.timeline import (
    blocked_in_words,
    headline,
    named,
    next_try,
    size_in_words,
    time_in_words,
    timeline_lines,
)

_ACTS: Final[Mapping[QueueAction, tuple[str, str]]] = {
    QueueAction.RETRY: ("try it now, whenever it is due", "due now"),
    QueueAction.HOLD: ("keep it, and try no more until it is released", "held"),
    QueueAction.RELEASE: ("try what was held", "released and due now"),
    QueueAction.CANCEL: ("take it from the queue; its author is told", "cancelled"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run_totals)
    actions = parser.add_subparsers(metavar="ACTION")

    listed = actions.add_parser("list", help="the messages that wait or are held, the oldest first")
    _filters(listed)
    listed.add_argument("--held", action="store_true", help="only those that are held")
    listed.add_argument("--json", action="store_true", help="for programs")
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help="one message: its envelope, its story, its header, why it waits")
    show.add_argument("id", metavar="ID", help="as `senderproxy queue list` shows it")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=run_show)

    for act, (words, _) in _ACTS.items():
        action = actions.add_parser(act.value, help=words)
        action.add_argument("ids", metavar="ID", nargs="*", help="as `senderproxy queue list` shows it")
        _filters(action)
        action.add_argument("--all", action="store_true", help="everything in the queue")
        action.add_argument("--yes", action="store_true", help="do not ask")
        if act is QueueAction.CANCEL:
            report = action.add_mutually_exclusive_group()
            report.add_argument("--report", action="store_true", default=True, help="tell the author (the default)")
            report.add_argument("--no-report", dest="report", action="store_false", help="tell nobody")
        action.add_argument("--json", action="store_true", help="for programs")
        action.set_defaults(run=_runner(act), report=True)


def _runner(act: QueueAction) -> Callable[[argparse.Namespace], int]:
    return lambda chosen: run_act(chosen, act)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ID", help="only what waits for this account")
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS|@DOMAIN", help="only with this author or reverse-path"
    )
    parser.add_argument("--to", metavar="ADDRESS|@DOMAIN", help="only with this recipient")
    parser.add_argument("--older-than", metavar="TIME", help="only what came longer ago: 30m, 2h, 3d")


# ---- looking ----


def run_totals(chosen: argparse.Namespace) -> int:
    """How much waits for each account, for how long, and why."""
    with open_desk(read_config(chosen)) as answer:
        accounts: list[dict[str, Any]] = answer({"do": "queue.totals"})["accounts"]
    if chosen.json:
        print_json(accounts)
    elif accounts:
        _tell_totals(accounts, SystemClock().now())
    else:
        print("The queue is empty.")
    return EX_OK


def _tell_totals(accounts: list[dict[str, Any]], now: datetime) -> None:
    rows = [
        [
            account_name(entry["account"]),
            str(entry["waiting"]),
            str(entry["held"]),
            size_in_words(entry["size"]),
            time_in_words(now - datetime.fromisoformat(entry["oldest"])),
            *(str(count) if count else "." for count in entry["by_age"]),
        ]
        for entry in accounts
    ]
    print_table(("account", "waiting", "held", "size", "oldest", *_age_heads()), rows)
    for entry in accounts:
        blocked = read_blocked(entry["blocked"])
        if entry["reasons"] or blocked:
            print(f"\n{account_name(entry['account'])}:")
        if blocked:
            print(printable(f"  cannot send {blocked_in_words(blocked, None, now)}: {blocked.why}"))
        for words, count in entry["reasons"].items():
            print(f"  {counted(count, 'recipient')}: {printable(words)}")


def account_name(account: str) -> str:
    """What a person calls it: not everything in the queue waits for an account."""
    return {"": "(no account)", "@internal": "(internal server)"}.get(account, account)


def _age_heads() -> list[str]:
    first, *others = (age // timedelta(minutes=1) for age in AGE_LIMITS)
    return [f"<{first} min", *(f"<{minutes}" for minutes in others), "more"]


def run_list(chosen: argparse.Namespace) -> int:
    """One line for each message."""
    clock = SystemClock()
    query = _query(chosen, clock.now())
    if chosen.held:
        query = replace(query, status=RecipientStatus.HELD)
    with open_desk(read_config(chosen)) as answer:
        entries = list(all_messages(answer, "queue.list", query))
    if chosen.json:
        print_json(entries)
    elif entries:
        columns = ("id", "age", "account", "from", "to", "size", "state", "next try", "last answer")
        print_table(columns, [_row(read_record(entry), clock.now()) for entry in entries])
    else:
        print("Nothing in the queue fits." if _is_filtered(chosen) or chosen.held else "The queue is empty.")
    return EX_OK


def _row(record: MessageRecord, now: datetime) -> list[str]:
    open_ones = {path: state for path, state in record.recipients.items() if not state.status.is_final}
    held = [state for state in open_ones.values() if state.status is RecipientStatus.HELD]
    due = [state.due_at for state in open_ones.values() if state.due_at is not None]
    said = next((state.reply for state in open_ones.values() if state.reply is not None), None)
    why = held[0].why if held else f"{said.code} {said.text}" if said else ""
    return [
        record.id,
        time_in_words(now - record.received_at),
        account_name(record.account),
        record.author or record.reverse_path or "<>",
        named([str(path) for path in open_ones]),
        size_in_words(record.size),
        "being tried" if record.leased else "held" if held else "waiting",
        next_try(min(due), record.blocked, None, now) if due and not record.leased else "",
        why,
    ]


def run_show(chosen: argparse.Namespace) -> int:
    """0 where it is there, 1 where it is not."""
    with open_desk(read_config(chosen)) as answer:
        told = answer({"do": "queue.show", "id": chosen.id})
    if told["message"] is None:
        print_error(f"There is no message {chosen.id}.", "senderproxy queue list, or senderproxy track --id MESSAGE-ID")
        return EX_FAILED
    if chosen.json:
        print_json(told["message"] | {"header": told["header"]})
        return EX_OK
    record, now = read_record(told["message"]), SystemClock().now()
    print(printable(headline(record, None)))
    _line("account", account_name(record.account))
    _line("came from", f"{record.client} at listener {record.listener}" if record.listener else record.client)
    _line("author", record.author)
    _line("reverse-path", f"<{record.reverse_path}>")
    _line("Message-ID", record.message_id)
    for path in record.recipients:
        _line("recipient", str(path))
    print()
    for line in timeline_lines(record, [read_event(event) for event in told["message"]["events"]], None, now):
        print(printable(str(line)))
    print()
    if told["header"] is None:
        print("Its content is gone: nothing of it waits any more.")
    for text in (told["header"] or "").rstrip("\r\n").split("\r\n"):
        print(printable(text))
    return EX_OK


def _line(name: str, text: str) -> None:
    if text:
        print(printable(f"{name:<13} {text}"))


# ---- doing ----


def run_act(chosen: argparse.Namespace, act: QueueAction) -> int:
    """0 where it was done to all of them, 1 where not."""
    wide = chosen.all or _is_filtered(chosen)
    if bool(chosen.ids) == wide:
        raise UsageError(
            "Name messages by their ids, or say which are meant: not both."
            if chosen.ids
            else f"Which messages are to be {_ACTS[act][1].partition(' ')[0]}?",
            hint=f"senderproxy queue {act.value} ID ..., or --account, --from, --to, --older-than, --all",
        )
    query = _query(chosen, SystemClock().now())
    with open_desk(read_config(chosen)) as answer:
        ids = list(dict.fromkeys(chosen.ids)) or _fitting(answer, act, query)
        if wide and ids and not _sure(chosen, act, len(ids)):
            print("Nothing was changed.")
            return EX_OK
        changed, left = change(answer, act.value, ids, report=chosen.report)
    if chosen.json:
        print_json({"changed": changed, "left": left})
    else:
        _tell_change(act, changed, left)
    return EX_FAILED if left else EX_OK


def _fitting(answer: Ask, act: QueueAction, query: Query) -> list[str]:
    """Those that fit and to which it can be done: what is held already is not held once more."""
    wanted = {
        QueueAction.RETRY: RecipientStatus.WAITING,
        QueueAction.HOLD: RecipientStatus.WAITING,
        QueueAction.RELEASE: RecipientStatus.HELD,
        QueueAction.CANCEL: None,
    }[act]
    found = all_messages(answer, "queue.list", replace(query, status=wanted))
    return [str(entry["id"]) for entry in found]


def _sure(chosen: argparse.Namespace, act: QueueAction, count: int) -> bool:
    """What is done to everything, and what cannot be undone, is asked about."""
    if chosen.yes or not (chosen.all or act is QueueAction.CANCEL):
        return True
    told = "" if act is not QueueAction.CANCEL else "; their authors are told" if chosen.report else "; nobody is told"
    return confirm(f"{act.value.capitalize()} {counted(count, 'message')}{told}?")


def _tell_change(act: QueueAction, changed: list[str], left: list[dict[str, str]]) -> None:
    for entry in left:
        print_error(f"{entry['id']}: {entry['why']}.")
    if changed:
        print(f"{counted(len(changed), 'message')} {'is' if len(changed) == 1 else 'are'} {_ACTS[act][1]}.")
    elif not left:
        print("Nothing in the queue fits.")


def _is_filtered(chosen: argparse.Namespace) -> bool:
    return any(value is not None for value in (chosen.account, chosen.sender, chosen.to, chosen.older_than))


def _query(chosen: argparse.Namespace, now: datetime) -> Query:
    return Query(
        account=chosen.account,
        sender=str(typed_pattern(chosen.sender)) if chosen.sender else None,
        recipient=str(typed_pattern(chosen.to)) if chosen.to else None,
        until=now - typed_span(chosen.older_than) if chosen.older_than else None,
        unfinished=True,
    )
