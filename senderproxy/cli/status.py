"""`senderproxy status`: what the running service sees."""

import argparse
from pathlib import Path
from typing import Any

from senderproxy.cli.common import counted, read_config
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import print_json, print_table
from senderproxy.cli.times import on_the_wall
from senderproxy.control.client import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where everything can send; 1 where something cannot, or waits for too long; 69 where nothing runs."""
    answer = ask(Path(read_config(chosen).service.control_socket), {"do": "status"})
    if chosen.json:
        print_json({name: value for name, value in answer.items() if name != "ok"})
    else:
        _tell(answer)
    unwell = any(entry["state"] != "healthy" for entry in answer["accounts"])
    queue = answer["queue"]
    stuck = queue["problem"] or queue["refusing"] or queue["held"] or queue["late"]
    return EX_FAILED if unwell or stuck or answer["vault_problem"] or answer["sender_rules"] else EX_OK


def _tell(answer: dict[str, Any]) -> None:
    since = on_the_wall(answer["started_at"])
    print(f"senderproxy {answer['version']}, running since {since} as process {answer['process']}")
    print()
    columns = ("listener", "address", "connected", "under way", "accepted", "deferred", "refused", "turned away")
    print_table(columns, [_listener_row(entry) for entry in answer["listeners"]])
    for entry in answer["listeners"]:
        if entry["faults"]:
            print(f"{entry['name']} had {counted(entry['faults'], 'fault')} of its own: the log has the details")
    print()
    if answer["accounts"]:
        columns = ("account", "state", "delivered", "deferred", "failed", "busy", "idle", "left this hour")
        print_table(columns, [_row(entry) for entry in answer["accounts"]])
    else:
        print("There is no account yet. To add one: senderproxy account add ADDRESS --provider NAME")
    for entry in answer["accounts"]:
        if entry["state"] != "healthy":
            since = f"since {on_the_wall(entry['since'])}" if entry["since"] else "since the start"
            print(f"\n{entry['account']} {since}: {entry['words']}")
            if entry["state"] == "suspended":
                print(f"  -> senderproxy account set-password {entry['account']}")
    for rule in answer["sender_rules"]:
        print(f"\n{rule['words']} (since {on_the_wall(rule['since'])}: {rule['said']})\n  -> {rule['hint']}")
    _tell_queue(answer["queue"])
    if answer["vault_problem"]:
        print(f"\nThe accounts in memory stay in force: {answer['vault_problem']}")


def _tell_queue(queue: dict[str, Any]) -> None:
    if queue["problem"]:
        print(f"\nNothing can be kept here: {queue['problem']}")
        if queue["hint"]:
            print(f"  -> {queue['hint']}")
        return
    if queue["refusing"]:
        print(f"\nMail for the queue is refused for now, to come again later: {queue['refusing']['why']}")
        if queue["refusing"]["hint"]:
            print(f"  -> {queue['refusing']['hint']}")
    if not queue["waiting"] and not queue["held"]:
        print("\nThe queue is empty.")
        return
    held = f", {queue['held']} held for somebody to look at" if queue["held"] else ""
    oldest = on_the_wall(queue["oldest"])
    print(f"\nThe queue has {counted(queue['waiting'], 'message')} waiting{held}; the oldest came {oldest}")
    for entry in queue["blocked"]:
        when = "until that is mended" if entry["seconds"] is None else f"and is tried again in {entry['seconds']} s"
        print(f"{entry['account']} cannot send {when} ({counted(entry['waiting'], 'message')}): {entry['why']}")
    print("  -> senderproxy queue")


def _listener_row(entry: dict[str, Any]) -> list[str]:
    names = ("name", "address", "connected", "under_way", "accepted", "deferred", "refused", "turned_away")
    return [str(entry[name]) for name in names]


def _row(entry: dict[str, Any]) -> list[str]:
    left = {what: entry[f"{what}_left"] for what in ("messages", "recipients")}
    allowance = ", ".join(f"{count} {what}" for what, count in left.items() if count is not None)
    counts = [str(entry[name]) for name in ("delivered", "deferred", "failed", "sessions_busy", "sessions_idle")]
    return [entry["account"], entry["state"], *counts, allowance or "no limit"]
