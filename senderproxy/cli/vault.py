"""`senderproxy vault`: the vault's file and the ways to open it."""

import argparse

from senderproxy.accounts.keeper import AccountEditor, unlock_way
from senderproxy.cli.common import Subparsers, open_accounts, read_config, terminal_prompt


def add_parser(verbs: Subparsers) -> None:
    group = verbs.add_parser("vault", help="the vault's file")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("create", help="make a new, empty vault where the configuration says").set_defaults(
        run=run_create
    )
    actions.add_parser("verify", help="open it and read every account").set_defaults(run=run_verify)


def run_create(chosen: argparse.Namespace) -> int:
    settings = read_config(chosen).vault
    AccountEditor.create(settings.path, unlock_way(settings.unlock, terminal_prompt()))
    print(f"{settings.path} is there, empty. Add a mailbox: senderproxy account add")
    return 0


def run_verify(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    accounts = open_accounts(config)
    for problem in accounts.unreadable:
        print(problem)
    print(f"{config.vault.path}: {len(accounts.directory().accounts)} accounts can be read.")
    return 1 if accounts.unreadable else 0
