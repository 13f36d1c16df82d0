"""The service of `senderproxy run`: from the configuration to the exit code.

Guarantees: a start without success refuses the clients of a `.socket` unit, until another one may succeed.
Not here: the service (app), its modules without pydantic (cli.run).
"""

import argparse
import asyncio
import os
import time
from typing import Final

from senderproxy import app
from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.errors import VaultDiskError
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import VaultPlace, watch
from senderproxy.cli.config_file import config_path, with_chosen_unlock
from senderproxy.cli.exit_codes import EX_CONFIG, EX_DATAERR, EX_NOPERM, EX_OK, EX_TEMPFAIL, EX_USAGE, exit_code
from senderproxy.cli.terminal import passphrase_prompt, print_error
from senderproxy.cli.vault_place import vault_place
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.config.reader import Reading
from senderproxy.control.socket_store import SocketStore, sockets_of_systemd
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.service.refusing_listeners import RefusingListeners

_DATABASE_SECONDS: Final = 60.0  # less than the 90 after which systemd ends a start
_TRY_AGAIN: Final = 2.0  # seconds
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
        accounts = _open_accounts(vault_place(config), unlock, waits=not sockets.of_units)
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


def _open_accounts(place: VaultPlace, unlock: UnlockMethod, *, waits: bool) -> VaultAccounts:
    """Open the vault; `waits`: a minute for a database that does not answer. Raises SenderproxyError.

    systemd gives a unit up after 20 starts within five minutes, and a database may be away for longer.
    """
    clock = SystemClock()
    end = clock.monotonic() + (_DATABASE_SECONDS if waits and isinstance(place, DatabaseStore) else 0)
    printed = ""
    while True:
        try:
            accounts = VaultAccounts.open(place, unlock, clock)
            watch(place)
        except VaultDiskError as error:
            if clock.monotonic() >= end:
                raise
            if error.message != printed:
                print_error(error.message, error.hint)
                printed = error.message
            time.sleep(_TRY_AGAIN)
        else:
            return accounts


def _read_again(chosen: argparse.Namespace) -> Config:
    return with_chosen_unlock(Reading(config_path(chosen)).result(), chosen)
