"""`senderproxy run`: the service, in the foreground."""

import argparse

from senderproxy import app
from senderproxy.cli.common import open_accounts, read_config
from senderproxy.cli.exit_codes import EX_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy run`."""
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C. Raises SenderproxyError if the service cannot start."""
    config = read_config(chosen)
    app.run(config, open_accounts(config), load=lambda: read_config(chosen))
    return EX_OK
