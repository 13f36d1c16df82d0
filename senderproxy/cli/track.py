"""`senderproxy track`: the history of messages, in sentences.

Not here: the sentences (tracking.timeline), the source of the answers (cli.queue_client).
"""

import argparse

from senderproxy.cli.common import read_config, typed_pattern
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.queue_client import find_messages, open_queue
from senderproxy.cli.terminal import print_error, print_json, print_line
from senderproxy.cli.times import typed_time
from senderproxy.clock import SystemClock
from senderproxy.control.protocol import Verb
from senderproxy.tracking.record import Query, RecipientStatus
from senderproxy.tracking.serialize import read_event, read_record
from senderproxy.tracking.timeline import WORDS_COLUMN, headline, timeline_lines
from senderproxy.translation import _, ngettext

_LIMIT = 20  # messages shown by default: about one screen of headlines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy track`."""
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS|@DOMAIN", help=_("messages with this author or reverse-path")
    )
    parser.add_argument("--to", metavar="ADDRESS|@DOMAIN", help=_("messages with this recipient"))
    parser.add_argument("--id", metavar="ID", help=_("the queue id, or the Message-ID of the header"))
    parser.add_argument("--upstream-id", metavar="ID", help=_("the queue id in the provider's reply"))
    parser.add_argument(
        "--subject", metavar="TEXT", help=_("messages with these words in the subject; needs spool.keep_subjects")
    )
    parser.add_argument("--account", metavar="ID", help=_("messages of this account, by id or mailbox address"))
    parser.add_argument(
        "--status",
        choices=[status.value for status in RecipientStatus],
        help=_("messages with a recipient of this status"),
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help=_('received since: 2026-11-24, "2026-11-24 08:15", 08:15 (today), 2h (ago)'),
    )
    parser.add_argument("--until", metavar="TIME", help=_("received until; same form"))
    parser.add_argument(
        "--limit",
        type=int,
        default=_LIMIT,
        metavar="N",
        help=_("number of messages, newest first (default: {limit})").format(limit=_LIMIT),
    )
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if a message was found, else 1."""
    now = SystemClock().now()
    query = Query(
        id=chosen.id,
        account=chosen.account,
        sender=str(typed_pattern(chosen.sender)) if chosen.sender else None,
        recipient=str(typed_pattern(chosen.to)) if chosen.to else None,
        upstream_id=chosen.upstream_id,
        subject=chosen.subject,
        status=RecipientStatus(chosen.status) if chosen.status else None,
        since=typed_time(chosen.since, now) if chosen.since else None,
        until=typed_time(chosen.until, now) if chosen.until else None,
    )
    limit = max(1, chosen.limit)
    config = read_config(chosen)
    with open_queue(config) as ask:
        entries = find_messages(ask, config, Verb.TRACK, query, limit + 1)
    shown, more = entries[:limit], len(entries) > limit
    if chosen.json:
        print_json(shown)
    for entry in () if chosen.json else shown:
        record = read_record(entry)
        print_line(headline(record, None))
        for line in timeline_lines(record, [read_event(event) for event in entry["events"]], None, now):
            print_line(str(line), indent=2, hanging_indent=2 + WORDS_COLUMN)
        print()
    if not shown:
        hint = _("Use other filters; history older than spool.history_days is deleted.")
        if chosen.subject is not None and not config.spool.keep_subjects:
            hint = _("No subject is kept: write keep_subjects = true in [spool]. It applies to messages from then on.")
        print_error(_("No message found."), hint)
    elif more:
        text = ngettext(
            "More messages match; shown is the newest {count}.",
            "More messages match; shown are the newest {count}.",
            limit,
        )
        print_error(text.format(count=limit), _("Use --limit, --since or --until."))
    return EX_OK if shown else EX_FAILED
