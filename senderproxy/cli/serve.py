"""The service of `senderproxy run`: from the configuration to the exit code.

Guarantees: a start without success refuses the clients of a `.socket` unit, until another one may succeed.
Not here: the service (app), its modules without pydantic (cli.run).
"""

import argparse
import asyncio
import os
from typing import Final

from senderproxy import app
from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.config_file import config_path, with_chosen_unlock
from senderproxy.cli.exit_codes import EX_CONFIG, EX_DATAERR, EX_NOPERM, EX_OK, EX_TEMPFAIL, EX_USAGE, exit_code
from senderproxy.cli.terminal import passphrase_prompt, print_error
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.config.reader import Reading
from senderproxy.control.socket_store import SocketStore, sockets_of_systemd
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.service.refusing_listeners import RefusingListeners

# No start succeeds until an operator has done something; RestartPreventExitStatus= of the unit has the same ones.
_PERMANENT: Final = frozenset({EX_USAGE, EX_DATAERR, EX_NOPERM, EX_CONFIG})


def serve(chosen: argparse.Namespace, reading: Reading, notifier: SystemdNotifier, refusal: RefusingListeners) -> int:
    """0 after SIGTERM or Ctrl-C. Raises SenderproxyError if the service cannot start. `reading`: the first one.

    On sockets of a `.socket` unit, clients get 421 instead, until another start may succeed: then EX_TEMPFAIL.
    """
    sockets = SocketStore(notifier, sockets_of_systemd(os.environ))
    try:
        config = with_chosen_unlock(reading.result(), chosen)
        unlock = unlock_method(config.vault.unlock, passphrase_prompt())
        accounts = VaultAccounts.open(config.vault.path, unlock, SystemClock())
        app.run(config, accounts, lambda: _read_again(chosen), notifier, sockets)
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


def _read_again(chosen: argparse.Namespace) -> Config:
    return with_chosen_unlock(Reading(config_path(chosen)).result(), chosen)
