"""`senderproxy status`: what the running service sees."""

import argparse
from pathlib import Path

from senderproxy.cli.common import Subparsers, read_config, show_json, show_table
from senderproxy.control.client import ask

_TROUBLE = 1


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("status", help="what the running service sees: doors, accounts, their health")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where everything can send; 1 where an account or the vault cannot be used; 69 where nothing runs."""
    answer = ask(Path(read_config(chosen).service.control_socket), {"do": "status"})
    accounts = answer["accounts"]
    if chosen.json:
        show_json(answer)
    else:
        print(f"senderproxy {answer['version']}, running since {answer['started_at']} as process {answer['process']}")
        for listener in answer["listeners"]:
            print("listener " + ", ".join(f"{name} {value}" for name, value in listener.items()))
        print()
        columns = ("account", "login", "state", "delivered", "deferred", "failed", "words")
        show_table(columns, [[str(entry[column]) for column in columns] for entry in accounts])
        if answer["vault_problem"]:
            print(f"\nThe accounts in memory stay in force: {answer['vault_problem']}")
    unwell = any(entry["state"] != "healthy" for entry in accounts)
    return _TROUBLE if unwell or answer["vault_problem"] else 0
