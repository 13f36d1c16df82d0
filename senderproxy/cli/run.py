"""`senderproxy run`: the service, in the foreground."""

import argparse

from senderproxy import app
from senderproxy.cli.common import open_accounts, read_config
from senderproxy.cli.exit_codes import EX_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C; otherwise what stood in the way of the start."""
    config = read_config(chosen)
    app.run(config, open_accounts(config), load=lambda: read_config(chosen))
    return EX_OK
