"""What several verbs need: the configuration's place, the vault opened, a secret asked for, words and tables shown.

Guarantees: a secret comes from the terminal or from standard input, never from the arguments, and is shown nowhere.
Not here: what a verb does (its own module), exit codes of faults (cli.main).
"""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import has_controls
from senderproxy.accounts.unlock import Prompt, UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.config.load import load_config
from senderproxy.config.model import Config
from senderproxy.control.client import NotPermitted, NotRunning, ask
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  it has no public name
else:
    Subparsers = object

SYSTEM_CONFIG: Final = Path("/etc/senderproxy/senderproxy.toml")

# sysexits(3), and one of our own: what was asked about is not as it should be.
EX_OK: Final = 0
EX_WRONG: Final = 1
EX_USAGE: Final = 64
EX_NOINPUT: Final = 66
EX_UNAVAILABLE: Final = 69
EX_CANTCREAT: Final = 73
EX_IOERR: Final = 74
EX_CONFIG: Final = 78


class UsageError(SenderproxyError):
    """What was typed cannot be meant."""

    exit_code = EX_USAGE


class InputError(SenderproxyError):
    """A file that was named cannot be read."""

    exit_code = EX_NOINPUT


# ---- where things are ----


def config_path(chosen: argparse.Namespace) -> Path:
    """Where the configuration is: named, from the environment, the system's, the user's own. Raises InputError."""
    if chosen.config:
        return Path(chosen.config)
    if named := os.environ.get("SENDERPROXY_CONFIG"):
        return Path(named)
    own = user_config()
    for path in (SYSTEM_CONFIG, own):
        if path.exists():
            return path
    raise InputError(f"There is no configuration: neither {SYSTEM_CONFIG} nor {own}.", hint="senderproxy setup")


def user_config() -> Path:
    """Where a user who is not root keeps it."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "senderproxy" / "senderproxy.toml"


def read_config(chosen: argparse.Namespace) -> Config:
    """The configuration, with the way to unlock that was typed in place of its own. Raises ConfigError."""
    config = load_config(config_path(chosen))
    unlock = getattr(chosen, "unlock", None)
    if not unlock:
        return config
    return config.model_copy(update={"vault": config.vault.model_copy(update={"unlock": unlock})})


def vault_way(config: Config) -> UnlockMethod:
    """How the vault is opened; a passphrase is asked for here, once for all that follows."""
    return unlock_method(config.vault.unlock, terminal_prompt())


def open_accounts(config: Config, way: UnlockMethod | None = None) -> VaultAccounts:
    """The accounts, for reading."""
    return VaultAccounts.open(config.vault.path, way or vault_way(config), SystemClock())


def open_editor(config: Config, way: UnlockMethod | None = None) -> AccountEditor:
    """The accounts, for writing."""
    return AccountEditor.open(config.vault.path, way or vault_way(config))


# ---- asking a person ----


def at_terminal() -> bool:
    """True where somebody can be asked."""
    return sys.stdin.isatty()


def terminal_prompt() -> Prompt | None:
    """How to ask a person for the vault's passphrase; None where there is no terminal."""
    return getpass.getpass if at_terminal() else None


def known_secret(what: str, *, from_stdin: bool) -> str:
    """A secret that is in use already: the next line of standard input, or asked for once. Raises UsageError."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if at_terminal():
        return getpass.getpass(f"{_capital(what)}: ")
    raise UsageError(f"There is no terminal to ask for the {what}.", hint="Use --passphrase-stdin.")


def new_secret(what: str, *, from_stdin: bool) -> str:
    """A secret from the next line of standard input, or asked for twice on the terminal. Raises UsageError."""
    if from_stdin:
        secret = sys.stdin.readline().rstrip("\r\n")
    elif at_terminal():
        secret = getpass.getpass(f"{_capital(what)}: ")
        if secret and secret != getpass.getpass("Once more: "):
            raise UsageError("The two are not the same; nothing was changed.")
    else:
        raise UsageError(f"There is no terminal to ask for the {what}.", hint="Use --password-stdin.")
    if not secret:
        raise UsageError(f"The {what} is empty; nothing was changed.")
    if has_controls(secret):
        raise UsageError(
            f"The {what} has a character in it that no login can carry; nothing was changed.",
            hint="Is it the right file, and is the terminal set to UTF-8?",
        )
    return secret


def _capital(what: str) -> str:
    return what[:1].upper() + what[1:]


def agreed(question: str) -> bool:
    """Whether a person says yes. Raises UsageError where nobody can be asked."""
    if not at_terminal():
        raise UsageError("There is no terminal to ask.", hint="Use --yes.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes", "j", "ja")


# ---- what was typed ----


def typed_address(text: str) -> Address:
    """An address from the command line. Raises UsageError."""
    try:
        return parse_address(text)
    except AddressError as error:
        raise UsageError(f"That is no address: {error}.") from error


def typed_pattern(text: str) -> AddressPattern:
    """An address or @domain from the command line. Raises UsageError."""
    try:
        return parse_pattern(text)
    except AddressError as error:
        raise UsageError(f"That is no address and no @domain: {error}.") from error


# ---- the running service ----


def tell_service(config: Config, account_id: str) -> str:
    """Tell the running service that an account may be used again; what a person is told about it."""
    try:
        ask(Path(config.service.control_socket), {"do": "resume", "account": account_id}, seconds=10)
    except NotRunning:
        return "The service is not running; it will know when it starts."
    except NotPermitted:
        return "If the service runs, it notices with the next message."
    except SenderproxyError as error:
        return f"The running service does not know yet: {error.message}"
    return "The running service knows already."


def resumed(config: Config, account_id: str) -> bool:
    """Tell the service, where one runs, that the account's login works; False where nobody could be told."""
    try:
        ask(Path(config.service.control_socket), {"do": "resume", "account": account_id}, seconds=10)
    except SenderproxyError:
        return False
    return True


def service_will_notice(config: Config) -> str:
    """Whether the running service has to be told of a change: never, it looks for itself."""
    try:
        ask(Path(config.service.control_socket), {"do": "status"}, seconds=10)
    except NotRunning:
        return "The service is not running; it will know when it starts."
    except SenderproxyError:
        pass
    return "The running service notices with the next message; nothing needs to be restarted."


# ---- showing ----


def counted(count: int, what: str) -> str:
    """`1 account`, `2 accounts`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def progress(text: str) -> None:
    """What is going on, for the person who waits; in files and pipes it would only be in the way."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def tell_error(message: str, hint: str = "") -> None:
    """What is not as it should be, on standard error, with what to do about it."""
    print(message, file=sys.stderr)
    if hint:
        print(f"  -> {hint}", file=sys.stderr)


def show_json(entry: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(entry, indent=2, ensure_ascii=False, default=str))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table, as wide as its contents."""
    lines = [[on_one_line(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def on_one_line(text: str) -> str:
    """What others wrote, fit for a terminal: no control characters, no other direction of writing."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def facts_of(account: Account) -> dict[str, object]:
    """An account as it is listed: everything but its password."""
    return {
        "id": account.id,
        "login": account.login,
        "provider": account.provider,
        "address": str(account.address),
        "carries": [str(pattern) for pattern in account.carries],
        "display_name": account.display_name,
        "messages_per_hour": account.messages_per_hour,
        "connections": account.connections,
    }
