"""`senderproxy status`: what the running service sees."""

import argparse
from pathlib import Path
from typing import Any

from senderproxy.cli.common import EX_OK, EX_WRONG, Subparsers, read_config, show_json, show_table
from senderproxy.control.client import ask


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("status", help="what the running service sees: doors, accounts, their health")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where everything can send; 1 where an account, a sender or the vault cannot be used; 69 where nothing runs."""
    answer = ask(Path(read_config(chosen).service.control_socket), {"do": "status"})
    if chosen.json:
        show_json({name: value for name, value in answer.items() if name != "ok"})
    else:
        _tell(answer)
    unwell = any(entry["state"] != "healthy" for entry in answer["accounts"])
    return EX_WRONG if unwell or answer["vault_problem"] or answer["sender_rules"] else EX_OK


def _tell(answer: dict[str, Any]) -> None:
    print(f"senderproxy {answer['version']}, running since {answer['started_at']} as process {answer['process']}")
    for listener in answer["listeners"]:
        print("listener  " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in listener.items()))
    print()
    if answer["accounts"]:
        columns = ("account", "state", "delivered", "deferred", "failed", "busy", "idle", "left this hour")
        show_table(columns, [_row(entry) for entry in answer["accounts"]])
    else:
        print("There is no account yet. To add one: senderproxy account add ADDRESS --provider NAME")
    for entry in answer["accounts"]:
        if entry["state"] != "healthy":
            print(f"\n{entry['account']} since {entry['since']}: {entry['words']}")
            if entry["state"] == "suspended":
                print(f"  -> senderproxy account set-password {entry['account']}")
    for rule in answer["sender_rules"]:
        print(f"\n{rule['words']} (since {rule['since']}: {rule['said']})\n  -> {rule['mend']}")
    if answer["vault_problem"]:
        print(f"\nThe accounts in memory stay in force: {answer['vault_problem']}")


def _row(entry: dict[str, Any]) -> list[str]:
    left = {what: entry[f"{what}_left"] for what in ("messages", "recipients")}
    allowance = ", ".join(f"{count} {what}" for what, count in left.items() if count is not None)
    counts = [str(entry[name]) for name in ("delivered", "deferred", "failed", "sessions_busy", "sessions_idle")]
    return [entry["account"], entry["state"], *counts, allowance or "no limit"]
