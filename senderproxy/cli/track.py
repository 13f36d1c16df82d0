"""`senderproxy track`: the story of a message in plain sentences.

Not here: the sentences (tracking.timeline), who answers (cli.queue_client).
"""

import argparse

from senderproxy.cli.common import read_config, typed_pattern
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.queue_client import all_messages, open_desk
from senderproxy.cli.terminal import print_error, print_json, printable
from senderproxy.cli.times import typed_moment
from senderproxy.clock import SystemClock
from senderproxy.tracking.record import Query, RecipientStatus
from senderproxy.tracking.serialize import read_event, read_record
from senderproxy.tracking.timeline import headline, timeline_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="sender", metavar="ADDRESS|@DOMAIN", help="with this author or reverse-path")
    parser.add_argument("--to", metavar="ADDRESS|@DOMAIN", help="with this recipient")
    parser.add_argument("--id", metavar="ID", help="our id, or the Message-ID of its header")
    parser.add_argument("--upstream-id", metavar="ID", help="what the provider called it when it took it")
    parser.add_argument("--account", metavar="ID", help="carried by this account")
    parser.add_argument(
        "--status", choices=[fate.value for fate in RecipientStatus], help="with a recipient that stands so"
    )
    parser.add_argument("--since", metavar="TIME", help='2026-11-24, "2026-11-24 08:15", 08:15 (today), 2h (ago)')
    parser.add_argument("--until", metavar="TIME", help="the same")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many, the newest first (else 20)")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where a message was found, 1 where none was."""
    now = SystemClock().now()
    query = Query(
        id=chosen.id,
        account=chosen.account,
        sender=str(typed_pattern(chosen.sender)) if chosen.sender else None,
        recipient=str(typed_pattern(chosen.to)) if chosen.to else None,
        upstream_id=chosen.upstream_id,
        status=RecipientStatus(chosen.status) if chosen.status else None,
        since=typed_moment(chosen.since, now) if chosen.since else None,
        until=typed_moment(chosen.until, now) if chosen.until else None,
    )
    most = max(1, chosen.limit)
    with open_desk(read_config(chosen)) as answer:
        entries = list(all_messages(answer, "track", query, most + 1))
    shown, more = entries[:most], len(entries) > most
    if chosen.json:
        print_json(shown)
    for entry in () if chosen.json else shown:
        record = read_record(entry)
        print(printable(headline(record, None)))
        for line in timeline_lines(record, [read_event(event) for event in entry["events"]], None, now):
            print(printable(f"  {line}"))
        print()
    if not shown:
        print_error("No message fits.", "What passed longer ago than spool.history_days is forgotten.")
    elif more:
        print_error(f"There are more messages that fit; shown are the newest {most}.", "--limit, --since, --until")
    return EX_OK if shown else EX_FAILED
