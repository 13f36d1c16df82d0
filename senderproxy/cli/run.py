"""`senderproxy run`: the service, in the foreground."""

import argparse
import asyncio
import os
from typing import Final

from senderproxy import app
from senderproxy.cli.common import config_path, open_accounts, read_config
from senderproxy.cli.exit_codes import EX_CONFIG, EX_DATAERR, EX_NOPERM, EX_OK, EX_TEMPFAIL, EX_USAGE, exit_code
from senderproxy.cli.terminal import print_error
from senderproxy.control.socket_store import SocketStore, sockets_of_systemd
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.service.refusing_listeners import RefusingListeners
from senderproxy.translation import SOURCE, use_language

# No start succeeds until an operator has done something; RestartPreventExitStatus= of the unit has the same ones.
_PERMANENT: Final = frozenset({EX_USAGE, EX_DATAERR, EX_NOPERM, EX_CONFIG})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy run`."""
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C. Raises SenderproxyError if the service cannot start.

    On sockets of a `.socket` unit, clients get 421 instead, until another start may succeed: then EX_TEMPFAIL.
    """
    use_language(SOURCE)  # its texts go to the log
    notifier = SystemdNotifier.from_environment()
    sockets = SocketStore(notifier, sockets_of_systemd(os.environ))
    refusal = RefusingListeners(config_path(chosen), notifier)
    try:
        config = read_config(chosen)
        app.run(config, open_accounts(config), lambda: read_config(chosen), notifier, sockets)
    except app.InternalError:
        raise
    except SenderproxyError as error:
        if not sockets.of_units:
            raise
        print_error(error.message, error.hint)
        retry = exit_code(error) not in _PERMANENT
        again = asyncio.run(refusal.run(sockets.of_units, error.message, retry=retry))
        return EX_TEMPFAIL if again else EX_OK
    return EX_OK
