"""What several verbs need: the configuration's place, the vault opened, a secret asked for, a list shown."""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from senderproxy.accounts.keeper import AccountEditor, Prompt, VaultAccounts, unlock_way
from senderproxy.config.load import ConfigError, Problem, load_config
from senderproxy.config.model import Config
from senderproxy.control.client import NotPermitted, NotRunning, ask
from senderproxy.errors import SenderproxyError

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  it has no public name
else:
    Subparsers = object

SYSTEM_CONFIG = Path("/etc/senderproxy/senderproxy.toml")


class UsageError(SenderproxyError):
    """What was typed cannot be meant."""

    exit_code = 64  # EX_USAGE


def config_path(chosen: argparse.Namespace) -> Path:
    """Where the configuration is: named, from the environment, the system's, the user's own. Raises ConfigError."""
    if chosen.config:
        return Path(chosen.config)
    if named := os.environ.get("SENDERPROXY_CONFIG"):
        return Path(named)
    own = user_config()
    for path in (SYSTEM_CONFIG, own):
        if path.exists():
            return path
    raise ConfigError(
        SYSTEM_CONFIG, (Problem("the file", f"is not there, nor is {own}", "senderproxy setup makes one"),)
    )


def user_config() -> Path:
    """Where a user who is not root keeps it."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "senderproxy" / "senderproxy.toml"


def read_config(chosen: argparse.Namespace) -> Config:
    """The configuration. Raises ConfigError with all its problems."""
    return load_config(config_path(chosen))


def terminal_prompt() -> Prompt | None:
    """How to ask a person for the vault's passphrase; None where there is no terminal."""
    return getpass.getpass if sys.stdin.isatty() else None


def open_accounts(config: Config) -> VaultAccounts:
    """The accounts, for reading."""
    return VaultAccounts.open(config.vault.path, unlock_way(config.vault.unlock, terminal_prompt()))


def open_editor(config: Config) -> AccountEditor:
    """The accounts, for writing."""
    return AccountEditor.open(config.vault.path, unlock_way(config.vault.unlock, terminal_prompt()))


def new_secret(what: str, *, from_stdin: bool) -> str:
    """A secret from the first line of standard input, or asked for twice on the terminal. Raises UsageError."""
    if from_stdin or not sys.stdin.isatty():
        if not from_stdin:
            raise UsageError(f"There is no terminal to ask for the {what}.", hint="Use --password-stdin.")
        secret = sys.stdin.readline().rstrip("\r\n")
    else:
        secret = getpass.getpass(f"{what.capitalize()}: ")
        if secret != getpass.getpass("Once more: "):
            raise UsageError("The two are not the same; nothing was changed.")
    if not secret:
        raise UsageError(f"The {what} is empty; nothing was changed.")
    return secret


def tell_service(config: Config, account_id: str) -> str:
    """Tell the running service that an account may be used again; what a person is told about it."""
    try:
        ask(Path(config.service.control_socket), {"do": "resume", "account": account_id}, seconds=10)
    except NotRunning:
        return "The service is not running; it will know when it starts."
    except NotPermitted:
        return "The running service notices by itself with the next message."
    return "The running service knows already."


def show_json(entry: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(entry, indent=2, ensure_ascii=False, default=str))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table, as wide as its contents."""
    widths = [max(len(row[index]) for row in (headings, *rows)) for index in range(len(headings))]
    for row in (headings, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
