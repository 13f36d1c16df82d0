"""`senderproxy setup`: the configuration, the vault and the first account, from a few questions or from options.

Guarantees: an existing file is never overwritten (with --force it is renamed); a setup that fails leaves nothing
behind. A password comes from the terminal or from standard input.
Not here: the text of the configuration (config.example), questions (cli.setup_answers), files and their rollback
(cli.setup_files), settings of the mail server (cli.instructions).
"""

import argparse
from pathlib import Path

from senderproxy.accounts import vault_admin
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.cli.account_login_check import require_login
from senderproxy.cli.common import SYSTEM_CONFIG, open_editor, user_config
from senderproxy.cli.errors import FileInTheWay, LoginFailed
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.instructions import mail_server_instructions
from senderproxy.cli.new_unlock import choose_key, may_reuse_key
from senderproxy.cli.rebuild import rebuild
from senderproxy.cli.setup_answers import DEFAULT_PORT, SetupAnswers, collect_answers, may_ask, preset_names
from senderproxy.cli.setup_files import CreatedFiles, SetupPaths, give_to_service, rolled_back_on_failure, setup_paths
from senderproxy.cli.terminal import ask_new_passphrase, ask_new_secret, passphrase_prompt, print_field
from senderproxy.config.example import render_config
from senderproxy.config.load import load_config, system_hostname
from senderproxy.config.model import Config
from senderproxy.delivery.opening import is_full_name
from senderproxy.routing.account import Account
from senderproxy.translation import _


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy setup`."""
    parser.add_argument(
        "--from",
        dest="backup",
        type=Path,
        metavar="BACKUP",
        help=_("rebuild the installation of a backup; no other answer is needed"),
    )
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help=_("one of {names}; or a name of your choice with --host").format(names=", ".join(preset_names())),
    )
    parser.add_argument("--host", help=_("submission server of a provider that is not built in"))
    parser.add_argument("--port", type=int, help=_("its port (default: 465, then 587)"))
    parser.add_argument(
        "--security", choices=("tls", "starttls"), help=_("TLS from the start or STARTTLS (default: by the port)")
    )
    parser.add_argument("--ca-file", metavar="FILE", help=_("certificate authority of the server, if it is private"))
    parser.add_argument("--mailbox", metavar="ADDRESS", help=_("address of the first mailbox"))
    parser.add_argument("--login", help=_("user name of the mailbox (default: as usual at the provider)"))
    parser.add_argument(
        "--catch-all",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=_("carry every address of the mailbox's domain"),
    )
    parser.add_argument(
        "--listen",
        metavar="IP:PORT",
        help=_("address of the listener (default: 127.0.0.1:{port})").format(port=DEFAULT_PORT),
    )
    parser.add_argument(
        "--allow", action="append", metavar="NETWORK", help=_("network that may connect (default: this machine only)")
    )
    parser.add_argument("--hostname", help=_("full name of this machine, for EHLO"))
    parser.add_argument(
        "--key",
        default="key-file",
        metavar="WAY",
        help=_(
            "unlock of the vault: key-file (a new one, the default), key-file:PATH (an existing one), passphrase,"
            " keyring:SERVICE"
        ),
    )
    parser.add_argument("--folder", type=Path, help=_("create every file in this folder"))
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help=_("read the password, then a passphrase, from lines of standard input"),
    )
    parser.add_argument("--no-verify", action="store_true", help=_("do not try the login"))
    parser.add_argument("--yes", "--non-interactive", action="store_true", help=_("ask nothing, use the options"))
    parser.add_argument("--force", action="store_true", help=_("rename existing files"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if everything was created; otherwise nothing was."""
    if chosen.backup is not None:
        return rebuild(chosen)
    paths = setup_paths(chosen)
    for path in (paths.config, paths.vault, paths.key):
        if path.exists() and not chosen.force:
            raise FileInTheWay(
                _("{path} exists already; setup overwrites nothing.").format(path=path),
                hint=_("Add a mailbox: senderproxy account add. Start over: senderproxy setup --force"),
            )
    answers = collect_answers(chosen)
    chosen.key = choose_key(chosen.key, may_ask=may_ask(chosen))
    secret = _ask_password(answers.account, from_stdin=chosen.password_stdin)
    with rolled_back_on_failure() as created:
        config, unlock = _create(chosen, paths, answers, created)
        stored = StoredAccount(answers.account, secret)
        if not chosen.no_verify:
            stored = _verified(chosen, config, stored)
        with open_editor(config, unlock) as editor:
            editor.put(stored)
            editor.save()
        give_to_service(paths)
    _print_summary(config, paths, stored.account)
    return EX_OK


def _ask_password(account: Account, *, from_stdin: bool) -> str:
    return ask_new_secret(_("Password of {login}").format(login=account.login), from_stdin=from_stdin)


def _create(
    chosen: argparse.Namespace, paths: SetupPaths, answers: SetupAnswers, created: CreatedFiles
) -> tuple[Config, UnlockMethod]:
    """Write the configuration, the key and an empty vault. Raises ConfigError before the vault exists."""
    new_key = chosen.key == "key-file"
    kind, _colon, key = chosen.key.partition(":")
    setting = f"key-file:{paths.key}" if new_key else chosen.key
    if kind == "key-file" and key:
        setting = f"key-file:{Path(key).absolute()}"  # typed from the current folder, not from the configuration's
    created.write(paths.config, _render(chosen, paths, answers, setting))
    config = load_config(paths.config)
    beside = [paths.vault.with_name(f"{paths.vault.name}.{ending}") for ending in ("bak", "lock")]
    for path in (paths.vault, *beside, *([paths.key] if new_key else [])):
        created.reserve(path)
    created.create_folder(paths.control_socket.parent)
    new = vault_admin.new_unlock_method(
        config.vault.unlock,
        lambda: ask_new_passphrase(_("Passphrase of the vault"), from_stdin=chosen.password_stdin),
        passphrase_prompt(),
        may_reuse=may_reuse_key,
    )
    created.call_on_failure(new.discard)
    AccountEditor.create(paths.vault, new.method)
    return config, new.method


def _render(chosen: argparse.Namespace, paths: SetupPaths, answers: SetupAnswers, unlock: str) -> str:
    return render_config(
        hostname=chosen.hostname or system_hostname() or "localhost",
        vault=str(paths.vault),
        unlock=unlock,
        address=answers.listen,
        allow=answers.allow,
        providers=answers.providers,
        control_socket=str(paths.control_socket),
    )


def _verified(chosen: argparse.Namespace, config: Config, stored: StoredAccount) -> StoredAccount:
    """The account with a password that works, or one that the operator keeps without a working login."""
    while True:
        try:
            require_login(config, stored)
        except LoginFailed as error:
            if not may_ask(chosen):
                raise
            print(error.reason)
            match input(_("New [p]assword, [k]eep this one, or [s]top? [p] ")).strip().lower()[:1]:
                case "k":
                    return stored
                case "s":
                    raise
                case _other:
                    stored = StoredAccount(stored.account, _ask_password(stored.account, from_stdin=False))
        else:
            return stored


def _print_summary(config: Config, paths: SetupPaths, account: Account) -> None:
    print_field(_("configuration"), str(paths.config))
    print_field(_("vault"), str(paths.vault))
    if config.vault.unlock.startswith("key-file:"):
        print_field(_("key"), config.vault.unlock.removeprefix("key-file:"))
        print_field("", _("Without it the vault cannot be opened: keep a copy, apart from the vault's backup."))
    if not is_full_name(config.identity.hostname):
        print_field(_("name"), _("{hostname} is not a full name").format(hostname=config.identity.hostname))
        text = _("EHLO uses the address literal. Better set hostname under [identity], such as mail.firma.example.")
        print_field("", text)
    carries = ", ".join(str(pattern) for pattern in account.carries)
    print_field(_("account"), _("{id}, carries {addresses}").format(id=account.id, addresses=carries))
    print()
    print(mail_server_instructions(config.listeners[0].address))
    option = "" if paths.config in (SYSTEM_CONFIG, user_config()) else f" --config {paths.config}"
    service = _("as a service: {command}").format(command="systemctl enable --now senderproxy")
    print_field(_("start"), f"senderproxy{option} run  ({service})")
    print_field(_("check"), f"senderproxy{option} check")
    print_field(_("more accounts"), f"senderproxy{option} account add ADDRESS --provider {account.provider}")
