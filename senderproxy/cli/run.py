"""`senderproxy run`: the service, in the foreground."""

import argparse

from senderproxy import app
from senderproxy.cli.common import EX_OK, Subparsers, open_accounts, read_config


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("run", help="run the service until it is told to stop")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C; otherwise what stood in the way of the start."""
    config = read_config(chosen)
    app.run(config, open_accounts(config), load=lambda: read_config(chosen))
    return EX_OK
