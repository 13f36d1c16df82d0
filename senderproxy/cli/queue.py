"""`senderproxy queue`: list, retry, hold, release and cancel queued messages.

Guarantees: safe while the service runs; a message that is being tried is not changed. A change of the whole queue, and
every cancellation of more than the ids named, asks for confirmation.
Not here: the source of the answers (cli.queue_client), the changes themselves (relay.queue_admin).
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from senderproxy.cli.common import read_config, typed_pattern
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.queue_client import Ask, change, find_messages, open_queue
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import confirm, print_error, print_field, print_json, print_line, print_table
from senderproxy.cli.times import typed_duration
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.protocol import Verb, new_request
from senderproxy.tracking.age_buckets import AGE_LIMITS
from senderproxy.tracking.queue_words import (
    QueueAction,
    account_name,
    change_question,
    change_result,
    client_in_words,
    job_in_words,
    no_content,
    no_message,
    nothing_listed,
    queue_row,
    recipient_in_words,
)
from senderproxy.tracking.record import Query, RecipientStatus
from senderproxy.tracking.serialize import read_blocked, read_event, read_record
from senderproxy.tracking.timeline import (
    WORDS_COLUMN,
    blocked_in_words,
    headline,
    size_in_words,
    time_in_words,
    timeline_lines,
)
from senderproxy.translation import N_, _, ngettext

_HELP: Final[Mapping[QueueAction, str]] = {
    QueueAction.RETRY: N_("retry now instead of at the due time"),
    QueueAction.HOLD: N_("stop retries until the message is released"),
    QueueAction.RELEASE: N_("release held messages and retry now"),
    QueueAction.CANCEL: N_("remove from the queue and report to the author"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy queue`; without an action it prints the totals."""
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run_totals)
    actions = parser.add_subparsers(metavar="ACTION")

    listed = actions.add_parser("list", help=_("list waiting and held messages, oldest first"))
    _add_filters(listed)
    listed.add_argument("--held", action="store_true", help=_("held messages only"))
    listed.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("JSON output"))
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help=_("show one message: envelope, history, header"))
    show.add_argument("id", metavar="ID", help=_("queue id, as in `senderproxy queue list`"))
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("JSON output"))
    show.set_defaults(run=run_show)

    for act, words in _HELP.items():
        action = actions.add_parser(act.value, help=_(words))
        action.add_argument("ids", metavar="ID", nargs="*", help=_("queue ids, as in `senderproxy queue list`"))
        _add_filters(action)
        action.add_argument("--all", action="store_true", help=_("the whole queue"))
        action.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
        if act is QueueAction.CANCEL:
            report = action.add_mutually_exclusive_group()
            report.add_argument(
                "--report", action="store_true", default=True, help=_("send a report to the author (default)")
            )
            report.add_argument("--no-report", dest="report", action="store_false", help=_("send no report"))
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_("JSON output"))
        action.set_defaults(run=_runner(act), report=True)


def _runner(act: QueueAction) -> Callable[[argparse.Namespace], int]:
    return lambda chosen: run_act(chosen, act)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ID", help=_("messages of this account, by id or mailbox address"))
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS|@DOMAIN", help=_("messages with this author or reverse-path")
    )
    parser.add_argument("--to", metavar="ADDRESS|@DOMAIN", help=_("messages with this recipient"))
    parser.add_argument("--older-than", metavar="TIME", help=_("messages received longer ago: 30m, 2h, 3d"))


# ---- output ----


def run_totals(chosen: argparse.Namespace) -> int:
    """Messages of each account, by age, with the reasons."""
    with open_queue(read_config(chosen)) as ask:
        answer = ask(new_request(Verb.QUEUE_TOTALS))
    accounts: list[dict[str, Any]] = answer["accounts"]
    if chosen.json:
        print_json(accounts)
        return EX_OK
    if accounts:
        _print_totals(accounts, SystemClock().now())
    else:
        print(nothing_listed(is_filtered=False))
    for job in answer.get("jobs", []):  # an older service has none
        print(printable(job_in_words(job)))
    return EX_OK


def _print_totals(accounts: list[dict[str, Any]], now: datetime) -> None:
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
    print_table((_("account"), _("waiting"), _("held"), _("size"), _("oldest"), *_age_headings()), rows)
    for entry in accounts:
        blocked = read_blocked(entry["blocked"])
        if entry["reasons"] or blocked:
            print(f"\n{account_name(entry['account'])}:")
        if blocked:
            text = _("cannot send {duration}: {why}")
            words = text.format(duration=blocked_in_words(blocked, None, now), why=blocked.why)
            print_line(words, indent=2, hanging_indent=4)
        for reason, count in entry["reasons"].items():
            recipients = ngettext("{count} recipient", "{count} recipients", count).format(count=count)
            print_line(f"{recipients}: {reason}", indent=2, hanging_indent=4)


def _age_headings() -> list[str]:
    first, *others = (age // timedelta(minutes=1) for age in AGE_LIMITS)
    return [_("<{minutes} min").format(minutes=first), *(f"<{minutes}" for minutes in others), _("more")]


def run_list(chosen: argparse.Namespace) -> int:
    """One line for each message."""
    clock = SystemClock()
    query = _query(chosen, clock.now())
    if chosen.held:
        query = replace(query, status=RecipientStatus.HELD)
    config = read_config(chosen)
    with open_queue(config) as ask:
        entries = find_messages(ask, config, Verb.QUEUE_LIST, query)
    if chosen.json:
        print_json(entries)
    elif entries:
        headings = (
            _("id"),
            _("age"),
            _("account"),
            _("from"),
            _("to"),
            _("size"),
            _("state"),
            _("next try"),
            _("last reply"),
        )
        print_table(headings, [queue_row(read_record(entry), clock.now()) for entry in entries])
    else:
        print(nothing_listed(is_filtered=_is_filtered(chosen) or chosen.held))
    return EX_OK


def run_show(chosen: argparse.Namespace) -> int:
    """0 if the message was found, else 1."""
    with open_queue(read_config(chosen)) as ask:
        answer = ask(new_request(Verb.QUEUE_SHOW, id=chosen.id))
    message = answer["message"]
    if message is None:
        print_error(
            no_message(chosen.id),
            _("Look for it: senderproxy queue list, or senderproxy track --id MESSAGE-ID"),
        )
        return EX_FAILED
    header = answer["header"]
    if chosen.json:
        print_json(message | {"header": header})
        return EX_OK
    record, now = read_record(message), SystemClock().now()
    print_line(headline(record, None))
    print_field(_("account"), account_name(record.account))
    if client := client_in_words(record):
        print_field(_("client"), client)
    if record.author:
        print_field(_("author"), record.author)
    print_field("reverse-path", f"<{record.reverse_path}>")
    if record.message_id:
        print_field("Message-ID", record.message_id)
    for path in record.recipients:
        print_field(_("recipient"), recipient_in_words(record, path))
    print()
    for line in timeline_lines(record, [read_event(event) for event in message["events"]], None, now):
        print_line(str(line), hanging_indent=WORDS_COLUMN)
    print()
    if header is None:
        print(no_content())
    for text in (header or "").rstrip("\r\n").split("\r\n"):
        print(printable(text))
    return EX_OK


# ---- changes ----


def run_act(chosen: argparse.Namespace, act: QueueAction) -> int:
    """0 if every message was changed, else 1."""
    by_filter = chosen.all or _is_filtered(chosen)
    if bool(chosen.ids) == by_filter:
        raise UsageError(
            _("Message ids and filters exclude each other.") if chosen.ids else _("No messages selected."),
            hint=_("Name ids, or use --account, --from, --to, --older-than or --all."),
        )
    query = _query(chosen, SystemClock().now())
    config = read_config(chosen)
    with open_queue(config) as ask:
        ids = list(dict.fromkeys(chosen.ids)) or _matching(ask, config, act, query)
        if by_filter and ids and not _confirmed(chosen, act, len(ids)):
            print(_("Nothing was changed."))
            return EX_OK
        changed, left = change(ask, act.value, ids, report=chosen.report)
    if chosen.json:
        print_json({"changed": changed, "left": left})
    else:
        _print_change(act, changed, left)
    return EX_FAILED if left else EX_OK


def _matching(ask: Ask, config: Config, act: QueueAction, query: Query) -> list[str]:
    """The messages that match and that the action applies to: a held message is not held again."""
    wanted = {
        QueueAction.RETRY: RecipientStatus.WAITING,
        QueueAction.HOLD: RecipientStatus.WAITING,
        QueueAction.RELEASE: RecipientStatus.HELD,
        QueueAction.CANCEL: None,
    }[act]
    found = find_messages(ask, config, Verb.QUEUE_LIST, replace(query, status=wanted))
    return [str(entry["id"]) for entry in found]


def _confirmed(chosen: argparse.Namespace, act: QueueAction, count: int) -> bool:
    """True if no confirmation is needed or it was given: for the whole queue, and for changes without a way back."""
    if chosen.yes or not (chosen.all or act is QueueAction.CANCEL):
        return True
    return confirm(change_question(act, count, report=chosen.report))


def _print_change(act: QueueAction, changed: list[str], left: list[dict[str, str]]) -> None:
    for entry in left:
        print_error(f"{entry['id']}: {_(entry['why'])}.")
    if changed:
        print(change_result(act, len(changed)))
    elif not left:
        print(nothing_listed(is_filtered=True))


def _is_filtered(chosen: argparse.Namespace) -> bool:
    return any(value is not None for value in (chosen.account, chosen.sender, chosen.to, chosen.older_than))


def _query(chosen: argparse.Namespace, now: datetime) -> Query:
    return Query(
        account=chosen.account,
        sender=str(typed_pattern(chosen.sender)) if chosen.sender else None,
        recipient=str(typed_pattern(chosen.to)) if chosen.to else None,
        until=now - typed_duration(chosen.older_than) if chosen.older_than else None,
        unfinished=True,
    )
