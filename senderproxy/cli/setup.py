"""`senderproxy setup`: from nothing to a service that can send, by a few questions or by flags.

Guarantees: a file that is there is never written over (with --force it is moved aside, and comes back where setup
fails); where something fails, what this run made is taken away again. A password comes from the terminal or standard
input. Not here: the configuration's text (config.example), what to enter in the mail server (cli.instructions).
"""

import argparse
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from senderproxy.accounts import vault_admin
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.cli.account import usual_login, verify_or_refuse
from senderproxy.cli.check import SERVICE_USER
from senderproxy.cli.common import SYSTEM_CONFIG, open_editor, typed_address, user_config
from senderproxy.cli.errors import FileInTheWay, LoginFailed, UsageError
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.instructions import what_to_enter
from senderproxy.cli.terminal import ask_new_secret, is_interactive, passphrase_prompt
from senderproxy.config.example import render_config
from senderproxy.config.load import load_config, system_hostname
from senderproxy.config.model import Config
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import SenderRule

_PORT: Final = 2525
_KEYS: Final = "key-file (a new one, if nothing is said), key-file:PATH (that is there), passphrase, keyring:SERVICE"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where everything goes: the system's folders for root, the user's own for others, or below one folder."""

    config: Path
    vault: Path
    key: Path
    control_socket: Path


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was asked, or came from the flags."""

    account: Account
    providers: Mapping[str, Mapping[str, str | int | bool | None]]
    listen: str
    allow: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider", metavar="NAME", help=f"one of {', '.join(_presets())}; or a name of yours and --host"
    )
    parser.add_argument("--host", help="the submission server of a provider that is not built in")
    parser.add_argument("--port", type=int, help="its port (else 465, and 587 where that cannot be reached)")
    parser.add_argument("--security", choices=("tls", "starttls"), help="how its port begins (else as usual for it)")
    parser.add_argument("--ca-file", metavar="FILE", help="the authority of its certificate, where it is a private one")
    parser.add_argument("--mailbox", metavar="ADDRESS", help="the first mailbox's address")
    parser.add_argument("--login", help="its user name, where it is not what the provider usually has")
    parser.add_argument(
        "--catch-all",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="it carries every address of its domain",
    )
    parser.add_argument("--listen", metavar="IP:PORT", help=f"where mail is taken (else 127.0.0.1:{_PORT})")
    parser.add_argument("--allow", action="append", metavar="NETWORK", help="who may submit (else this machine alone)")
    parser.add_argument("--hostname", help="this machine's full name, for EHLO")
    parser.add_argument("--key", default="key-file", metavar="WAY", help=f"what opens the vault: {_KEYS}")
    parser.add_argument("--folder", type=Path, help="put everything below this folder")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password (then a passphrase) from stdin"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not try the login")
    parser.add_argument("--yes", "--non-interactive", action="store_true", help="ask nothing: take the flags")
    parser.add_argument("--force", action="store_true", help="move files aside that are there already")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    places = _places(chosen)
    for path in (places.config, places.vault, places.key):
        if path.exists() and not chosen.force:
            hint = "To add a mailbox: senderproxy account add. To begin anew: senderproxy setup --force"
            raise FileInTheWay(f"{path} is there already, and setup writes over nothing.", hint=hint)
    answers = _asked(chosen)
    secret = ask_new_secret(f"Password of {answers.account.login}", from_stdin=chosen.password_stdin)
    with _undone_on_failure() as work:
        config, way = _make(chosen, places, answers, work)
        stored = StoredAccount(answers.account, secret)
        if not chosen.no_verify:
            stored = _tried(chosen, config, stored)
        with open_editor(config, way) as editor:
            editor.put(stored)
            editor.save()
        _give_to_service(places)
    _report(config, places, stored.account)
    return EX_OK


def _make(chosen: argparse.Namespace, places: _Places, answers: _Answers, work: "_Work") -> tuple[Config, UnlockMethod]:
    """The configuration, the key and an empty vault; a configuration that is refused stops here."""
    makes_key = chosen.key == "key-file"
    unlock = f"key-file:{places.key}" if makes_key else chosen.key
    work.write(places.config, _rendered(chosen, places, answers, unlock))
    config = load_config(places.config)
    beside = [places.vault.with_name(f"{places.vault.name}.{ending}") for ending in ("bak", "lock")]
    for path in (places.vault, *beside, *([places.key] if makes_key else [])):
        work.make_room(path)
    work.make_folder(places.control_socket.parent)
    way = vault_admin.new_unlock_method(
        config.vault.unlock,
        lambda: ask_new_secret("Passphrase of the vault", from_stdin=chosen.password_stdin),
        passphrase_prompt(),
    )
    AccountEditor.create(places.vault, way)
    return config, way


def _rendered(chosen: argparse.Namespace, places: _Places, answers: _Answers, unlock: str) -> str:
    return render_config(
        hostname=chosen.hostname or system_hostname() or "localhost",
        vault=str(places.vault),
        unlock=unlock,
        address=answers.listen,
        allow=answers.allow,
        providers=answers.providers,
        control_socket=str(places.control_socket),
    )


def _tried(chosen: argparse.Namespace, config: Config, stored: StoredAccount) -> StoredAccount:
    """The account with a password that works, or that a person wants to keep untried."""
    while True:
        try:
            verify_or_refuse(config, stored)
        except LoginFailed as refused:
            if chosen.yes or not is_interactive():
                raise
            print(refused.message.removeprefix("Nothing was changed: "))
            match input("Another [p]assword, [k]eep it as it is, or [s]top? [p] ").strip().lower()[:1]:
                case "k":
                    return stored
                case "s":
                    raise
                case _:
                    secret = ask_new_secret(f"Password of {stored.account.login}", from_stdin=False)
                    stored = StoredAccount(stored.account, secret)
        else:
            return stored


# ---- where everything goes ----


def _places(chosen: argparse.Namespace) -> _Places:
    named = Path(chosen.config).absolute() if chosen.config else None
    if chosen.folder is not None:
        folder = chosen.folder.absolute()
        config = named or folder / "senderproxy.toml"
        return _Places(config, folder / "accounts.vault", folder / "vault.key", folder / "control.sock")
    if os.geteuid() == 0:
        config, state = named or SYSTEM_CONFIG, Path("/var/lib/senderproxy")
        socket_path = Path("/run/senderproxy/control.sock")
    else:
        config = named or user_config()
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "senderproxy"
        socket_path = state / "control.sock"
    return _Places(config, state / "accounts.vault", config.parent / "vault.key", socket_path)


class _Work:
    """What this run has made and moved, so that it can be undone."""

    def __init__(self) -> None:
        self._made: list[Path] = []
        self._folders: list[Path] = []
        self._moved: list[tuple[Path, Path]] = []

    def write(self, path: Path, text: str) -> None:
        """A new file; one that stands there is moved aside."""
        self.make_room(path)
        with path.open("x", encoding="utf-8") as out:
            out.write(text)

    def make_room(self, path: Path) -> None:
        """See that a file can be made there."""
        self.make_folder(path.parent)
        if path.exists():
            aside = next(p for n in range(1, 1000) if not (p := path.with_name(f"{path.name}.before-{n}")).exists())
            path.rename(aside)
            self._moved.append((path, aside))
        self._made.append(path)

    def make_folder(self, folder: Path) -> None:
        """A folder and those above it, for the owner alone but for the configuration's, which others may enter."""
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(mode=0o755 if each.is_relative_to(SYSTEM_CONFIG.parent) or each != folder else 0o700)
            self._folders.append(each)

    def undo(self) -> None:
        """Take away what was made and bring back what was moved."""
        for path in self._made:
            path.unlink(missing_ok=True)
        for path, aside in self._moved:
            aside.rename(path)
        for folder in reversed(self._folders):
            if not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def _undone_on_failure() -> Iterator[_Work]:
    work = _Work()
    try:
        yield work
    except BaseException:
        work.undo()
        raise


def _give_to_service(places: _Places) -> None:
    """The service has a user of its own: what root made for it must be that user's (the configuration only read)."""
    if os.geteuid() != 0 or places.vault.parent != Path("/var/lib/senderproxy"):
        return
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return  # its unit sees to it at the first start
    lock = places.vault.with_name(f"{places.vault.name}.lock")
    for path in (
        places.vault.parent,
        places.vault,
        lock,
        places.vault.with_name(f"{places.vault.name}.bak"),
        places.key,
    ):
        if path.exists():
            os.chown(path, user.pw_uid, user.pw_gid)


# ---- what is asked ----


def _presets() -> list[str]:
    return sorted(name for name, preset in PRESETS.items() if preset.smarthosts)


def _asked(chosen: argparse.Namespace) -> _Answers:
    provider, settings = _asked_provider(chosen)
    address = typed_address(chosen.mailbox or _ask(chosen, "First mailbox (its address)", None, "--mailbox"))
    preset = PRESETS.get(provider, PRESETS["generic"])
    carries = [AddressPattern(address.local_part, address.domain)]
    if _wants_domain(chosen, address, provider, preset.sender_rule):
        carries.append(AddressPattern(None, address.domain))
    login = chosen.login or usual_login(preset, address)
    listen, allow = _asked_listener(chosen)
    return _Answers(Account(address.key, login, provider, address, tuple(carries)), {provider: settings}, listen, allow)


def _asked_provider(chosen: argparse.Namespace) -> tuple[str, dict[str, str | int | bool | None]]:
    if not chosen.provider and _may_ask(chosen):
        print(f"Providers that are built in: {', '.join(_presets())}. Any other: give it a name.")
    provider = chosen.provider or _ask(chosen, "Provider", "ionos-de", "--provider")
    host = chosen.host
    if provider not in _presets() and host is None:
        if not _may_ask(chosen):
            hint = f"One of: {', '.join(_presets())}. For any other: --provider NAME --host SERVER"
            raise UsageError(f"There is no provider {provider}.", hint=hint)
        host = _ask(chosen, f"{provider} is not built in. Its submission server", None, "--host")
    return provider, {"host": host, "port": chosen.port, "security": chosen.security, "ca_file": chosen.ca_file}


def _wants_domain(chosen: argparse.Namespace, address: Address, provider: str, rule: SenderRule) -> bool:
    if chosen.catch_all is not None:
        return bool(chosen.catch_all)
    if rule is not SenderRule.DOMAIN or not _may_ask(chosen):
        return False
    print(f"{provider} lets {address} send as every address of {address.domain}.")
    return input("Shall it carry them all? [Y/n] ").strip().lower() in ("", "y", "yes", "j", "ja")


def _asked_listener(chosen: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """Where to listen, and for whom: for this machine alone, or for one mail server elsewhere."""
    if chosen.listen or chosen.allow or not _may_ask(chosen):
        return chosen.listen or f"127.0.0.1:{_PORT}", tuple(chosen.allow or _LOOPBACK)
    while server := input("IP address of your mail server (empty: it is on this machine): ").strip():
        try:
            ip = ip_address(server)
        except ValueError:
            print(f"{server} is no IP address.")
            continue
        own = _own_address_towards(server, socket.AF_INET if ip.version == 4 else socket.AF_INET6)
        host = _ask(chosen, "Address of this machine to listen on", own, "--listen")
        return f"[{host}]:{_PORT}" if ":" in host else f"{host}:{_PORT}", (*_LOOPBACK, server)
    return f"127.0.0.1:{_PORT}", _LOOPBACK


def _own_address_towards(server: str, family: socket.AddressFamily) -> str | None:
    """Which of our addresses would be used; nothing is sent for this."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server, 25))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _may_ask(chosen: argparse.Namespace) -> bool:
    return not chosen.yes and is_interactive()


def _ask(chosen: argparse.Namespace, question: str, default: str | None, flag: str) -> str:
    if not _may_ask(chosen):
        if default is None:
            raise UsageError(f"{question}: nobody can be asked.", hint=f"Name it with {flag}.")
        return default
    while True:
        answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        if answer:
            return answer


# ---- what was made ----


def _report(config: Config, places: _Places, account: Account) -> None:
    print(f"Configuration  {places.config}\nVault          {places.vault}")
    if config.vault.unlock.startswith("key-file:"):
        print(f"Key            {config.vault.unlock.removeprefix('key-file:')}")
        print("               Without it the vault cannot be opened: keep a copy, apart from the vault's backup.")
    print(f"Account        {account.id}, carries {', '.join(str(pattern) for pattern in account.carries)}\n")
    print(what_to_enter(config.listeners[0].address))
    here = "" if places.config in (SYSTEM_CONFIG, user_config()) else f" --config {places.config}"
    print(f"Start it       senderproxy{here} run      (or as a service: systemctl enable --now senderproxy)")
    print(f"Look at it     senderproxy{here} check")
    print(f"More mailboxes senderproxy{here} account add ADDRESS --provider {account.provider}")
