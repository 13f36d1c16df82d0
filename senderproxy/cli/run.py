"""`senderproxy run`: the service, in the foreground."""

import argparse

from senderproxy import app
from senderproxy.cli.common import Subparsers, config_path, open_accounts
from senderproxy.config.load import load_config


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("run", help="run the service until it is told to stop")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    path = config_path(chosen)
    config = load_config(path)
    app.run(config, open_accounts(config), load=lambda: load_config(path))
    return 0
