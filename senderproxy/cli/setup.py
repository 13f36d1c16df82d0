"""`senderproxy setup`: from nothing to a service that can send, by a few questions or by flags.

Promises: a file that is there is never written over; where something fails, what this run made is taken away again.
"""

import argparse
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from senderproxy.accounts.keeper import AccountEditor, make_key_file, unlock_way
from senderproxy.accounts.record import StoredAccount
from senderproxy.cli.account import verify_or_refuse
from senderproxy.cli.common import SYSTEM_CONFIG, Subparsers, UsageError, new_secret, open_editor, user_config
from senderproxy.config.example import render_config
from senderproxy.config.load import load_config
from senderproxy.mail.address import AddressError, parse_address, parse_pattern
from senderproxy.routing.account import Account
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import LoginForm

_DEFAULT_ADDRESS: Final = "127.0.0.1:2525"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where everything goes: the system's folders for root, the user's own for others, or below one folder."""

    config: Path
    vault: Path
    key: Path
    control_socket: Path


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("setup", help="write the configuration, make the vault, add the first mailbox")
    verb.add_argument("--provider", help=f"one of: {', '.join(_presets())}")
    verb.add_argument("--mailbox", metavar="ADDRESS", help="the first mailbox's address")
    verb.add_argument("--login", help="its user name, where it is not what the provider usually has")
    verb.add_argument("--catch-all", action="store_true", help="it carries every address of its domain")
    verb.add_argument("--listen", metavar="HOST:PORT", help=f"where mail is taken (else {_DEFAULT_ADDRESS})")
    verb.add_argument("--allow", action="append", metavar="NETWORK", help="who may submit (else this machine)")
    verb.add_argument("--folder", type=Path, help="put everything below this folder")
    verb.add_argument("--password-stdin", action="store_true", help="read the mailbox's password from standard input")
    verb.add_argument("--no-verify", action="store_true", help="do not try the login")
    verb.add_argument("--yes", action="store_true", help="ask nothing")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    places = _places(chosen)
    for path in (places.config, places.vault, places.key):
        if path.exists():
            raise UsageError(
                f"{path} is there already; setup writes over nothing.",
                hint="Add a mailbox with `senderproxy account add`, or move the file away.",
            )
    account = _first_account(chosen)
    text = render_config(
        hostname=socket.getfqdn(),
        vault=str(places.vault),
        unlock=f"key-file:{places.key}",
        address=chosen.listen or _asked(chosen, "Where to take mail", _DEFAULT_ADDRESS),
        allow=tuple(chosen.allow or _LOOPBACK),
        control_socket=str(places.control_socket),
    )
    secret = new_secret(f"password of {account.login}", from_stdin=chosen.password_stdin)
    with _undone_on_failure() as made:
        _write(places, text, made)
        config = load_config(places.config)
        AccountEditor.create(places.vault, unlock_way(config.vault.unlock, None))
        made.append(places.vault)
        with open_editor(config) as editor:
            stored = StoredAccount(account, secret)
            editor.put(stored)
            if not chosen.no_verify:
                verify_or_refuse(config, stored)
            editor.save()
    print(f"Configuration  {places.config}\nVault          {places.vault}\nKey            {places.key}")
    print(f"Account        {account.id}, carries {', '.join(str(pattern) for pattern in account.carries)}\n")
    print("Keep a copy of the key apart from the vault's backup: without it the vault cannot be opened.\n")
    print(_what_to_enter(config.listeners[0].address))
    return 0


def _presets() -> list[str]:
    return sorted(name for name, preset in PRESETS.items() if preset.smarthosts)


def _places(chosen: argparse.Namespace) -> _Places:
    if chosen.folder is not None:
        folder = chosen.folder.absolute()
        return _Places(
            Path(chosen.config) if chosen.config else folder / "senderproxy.toml",
            folder / "accounts.vault",
            folder / "vault.key",
            folder / "control.sock",
        )
    if os.geteuid() == 0:
        config = Path(chosen.config) if chosen.config else SYSTEM_CONFIG
        state = Path("/var/lib/senderproxy")
        return _Places(
            config, state / "accounts.vault", config.parent / "vault.key", Path("/run/senderproxy/control.sock")
        )
    config = Path(chosen.config) if chosen.config else user_config()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "senderproxy"
    return _Places(config, state / "accounts.vault", config.parent / "vault.key", state / "control.sock")


def _first_account(chosen: argparse.Namespace) -> Account:
    if not chosen.provider and not chosen.yes:
        print(f"Providers: {', '.join(_presets())}")
    provider = chosen.provider or _asked(chosen, "Provider", "ionos-de")
    preset = PRESETS.get(provider)
    if preset is None or not preset.smarthosts:
        raise UsageError(f"There is no provider {provider}.", hint=f"One of: {', '.join(_presets())}")
    mailbox = chosen.mailbox or _asked(chosen, "First mailbox (its address)", None)
    try:
        address = parse_address(mailbox)
    except AddressError as error:
        raise UsageError(f"That is no address: {error}.") from error
    login = chosen.login or (address.local_part if preset.login_form is LoginForm.LOCAL_PART else str(address))
    carries = (parse_pattern(str(address)), *((parse_pattern(f"@{address.domain}"),) if chosen.catch_all else ()))
    return Account(address.key, login, provider, address, carries)


def _asked(chosen: argparse.Namespace, question: str, default: str | None) -> str:
    if chosen.yes or not sys.stdin.isatty():
        if default is None:
            raise UsageError(f"{question}: is missing.", hint="senderproxy setup --help")
        return default
    answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
    return answer or default or _asked(chosen, question, default)


def _write(places: _Places, text: str, made: list[Path]) -> None:
    for path in (places.config, places.vault, places.key, places.control_socket):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if path is places.config else 0o700)
    with places.config.open("x", encoding="utf-8") as out:
        made.append(places.config)
        out.write(text)
    make_key_file(places.key)
    made.append(places.key)


@contextmanager
def _undone_on_failure() -> Iterator[list[Path]]:
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        raise


def _what_to_enter(address: str) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return f"""\
What to enter in the mail server

  Exchange     Set-SendConnector "Internet" -SmartHosts "[{host}]" -Port {port} -SmartHostAuthMechanism None `
                 -DNSRoutingEnabled $false
  Postfix      relayhost = [{host}]:{port}      in /etc/postfix/main.cf, then: postfix reload
  hMailServer  Settings, Protocols, SMTP, Delivery of e-mail: {host}, port {port}, no authentication
  A scanner    server {host}, port {port}, no login, the address of a mailbox above as the sender

Start it: senderproxy run, or as a service: systemctl enable --now senderproxy"""
