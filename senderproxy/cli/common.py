"""Steps that several verbs share: find and read the configuration, open the vault, read addresses, notify the service.

Not here: input and output (cli.terminal), exit codes (cli.exit_codes).
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.config_file import SYSTEM_CONFIG as SYSTEM_CONFIG
from senderproxy.cli.config_file import config_path as config_path
from senderproxy.cli.config_file import user_config as user_config
from senderproxy.cli.config_file import with_chosen_unlock
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.terminal import passphrase_prompt
from senderproxy.cli.vault_place import vault_place
from senderproxy.clock import SystemClock
from senderproxy.config.load import find_control_socket, load_config
from senderproxy.config.model import Config
from senderproxy.config.problems import ConfigError
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.control.client import NotPermitted, NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.delivery import learned_accounts
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import late_import
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.relay.ports import SpoolError
from senderproxy.routing.account import Account
from senderproxy.spool.sqlite import learned
from senderproxy.translation import _

SERVICE_USER: Final = "senderproxy"  # the user of the systemd unit
_SERVICE_TIMEOUT: Final = 10.0  # seconds for a short question to the running service; it answers within milliseconds


# ---- configuration and vault ----


def read_config(chosen: argparse.Namespace) -> Config:
    """The configuration; `--unlock` replaces its `vault.unlock`. Raises ConfigError, InputError.

    Without the option, $SENDERPROXY_VAULT_KEY_FILE names a key that a container's runtime has mounted.
    """
    return with_chosen_unlock(load_config(config_path(chosen)), chosen)


def vault_unlock(config: Config) -> UnlockMethod:
    """The unlock method that the configuration names; a passphrase is asked for here, once for the whole command."""
    return unlock_method(config.vault.unlock, passphrase_prompt())


def open_accounts(config: Config, unlock: UnlockMethod | None = None) -> VaultAccounts:
    """The accounts, for reading. Raises AccountsError."""
    return VaultAccounts.open(vault_place(config), unlock or vault_unlock(config), SystemClock())


def open_editor(config: Config, unlock: UnlockMethod | None = None) -> AccountEditor:
    """The accounts, for writing. Raises AccountsError."""
    return AccountEditor.open(vault_place(config), unlock or vault_unlock(config))


def account_entry(account: Account, accounts: VaultAccounts) -> dict[str, object]:
    """An account as JSON output and `account show` list it: everything but its password."""
    grant, copies = accounts.grant(account.id), account.sent_copy
    return {
        "id": account.id,
        "login": account.login,
        "provider": account.provider,
        "address": str(account.address),
        "carries": [str(pattern) for pattern in account.carries],
        "display_name": account.display_name,
        "messages_per_hour": account.messages_per_hour,
        "recipients_per_hour": account.recipients_per_hour,
        "connections": account.connections,
        "fallback": account.fallback,
        "fallback_rewrites": account.fallback_rewrites,
        "sent_copy": copies and {"folder": copies.folder, "authors": [str(pattern) for pattern in copies.authors]},
        "oauth": None if grant is None else grant.application,
    }


# ---- addresses on the command line ----


def typed_address(text: str) -> Address:
    """An address from the command line. Raises UsageError."""
    try:
        return parse_address(text)
    except AddressError as error:
        raise UsageError(_("Invalid address: {error}.").format(error=error)) from error


def typed_pattern(text: str) -> AddressPattern:
    """An address or @domain from the command line. Raises UsageError."""
    try:
        return parse_pattern(text)
    except AddressError as error:
        raise UsageError(_("Invalid address or @domain: {error}.").format(error=error)) from error


# ---- the running service ----


def control_socket(chosen: argparse.Namespace) -> Path:
    """The control socket, also that of an invalid configuration: a running service has the one of before."""
    try:
        return Path(read_config(chosen).service.control_socket)
    except ConfigError:
        return find_control_socket(config_path(chosen))


def add_passphrase_options(parser: argparse.ArgumentParser) -> None:
    """Describe the global options of passphrases in a verb's help."""
    parser.add_argument(
        "--passphrase-stdin",
        action="store_true",
        default=argparse.SUPPRESS,
        help=_("read passphrases from lines of standard input: that of the vault first, if one is needed"),
    )
    parser.add_argument(
        "--passphrase-file", metavar="FILE", default=argparse.SUPPRESS, help=_("read them from lines of a file")
    )


def resume_account(config: Config, account_id: str) -> str:
    """Resume the account in the running service; returns a sentence on the outcome for the operator."""
    try:
        _request_resume(config, account_id)
    except NotRunning:
        return _not_running()
    except NotPermitted:
        return _("A running service uses the change within seconds; no restart is needed.")
    except SenderproxyError as error:
        return _("The running service could not be notified: {error}").format(error=error.message)
    return _("The running service uses it now.")


def try_resume(config: Config, account_id: str) -> bool:
    """Resume the account in the running service; False without one, or if it did not accept the request."""
    try:
        _request_resume(config, account_id)
    except SenderproxyError:
        return False
    return True


def _request_resume(config: Config, account_id: str) -> None:
    request = new_request(Verb.RESUME, account=account_id)
    try:
        ask(Path(config.service.control_socket), request, seconds=_SERVICE_TIMEOUT)
    except NotRunning:
        with suppress(SpoolError):  # the next start then tries the login once
            if config.spool.engine != SQLITE_ENGINE:
                _forget_in_server(config, f"{learned_accounts.STATE}/{account_id}")
                raise
            learned.forget(Path(config.spool_directory), [f"{learned_accounts.STATE}/{account_id}"])
        raise


def _forget_in_server(config: Config, key: str) -> None:
    """Raises SpoolError."""
    with late_import():
        from senderproxy.service.postgresql import open_postgresql

    async def forget() -> None:
        spool = await open_postgresql(config.spool, SystemClock())
        try:
            await spool.write_learned({key: None})
        finally:
            await spool.close()

    asyncio.run(forget())


def refuse_database_server(config: Config) -> None:
    """Raises InputError if the spool is in a database server: the command is for a folder."""
    if config.spool.engine != SQLITE_ENGINE:
        raise InputError(
            _("The spool is in a database server, and this command works with files of this machine."),
            hint=_("See docs/cluster.md for the same with the tools of the server."),
        )


def pickup_note(config: Config) -> str:
    """Let the service read the changed vault; returns a sentence on the outcome for the operator.

    Without the request, the service notices the change with the next message, or within seconds.
    """
    try:
        answer = ask(Path(config.service.control_socket), new_request(Verb.READ_VAULT), seconds=_SERVICE_TIMEOUT)
    except NotRunning:
        return _not_running()
    except NotPermitted:
        return _("A running service uses the change within seconds; no restart is needed.")
    except SenderproxyError as error:
        return _("The running service could not be notified: {error}").format(error=error.message)
    if answer["problem"]:
        return _("The running service cannot read the vault: {problem}").format(problem=answer["problem"])
    return _("The running service uses the change from the next message on; no restart is needed.")


def _not_running() -> str:
    return _("The service is not running; it reads the vault when it starts.")
