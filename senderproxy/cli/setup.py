"""`senderproxy setup`: configuration, vault and mailboxes, the started service, a check and a test message.

The answers come from options, from a file (--answers) or from questions; the steps afterwards are the same.
Guarantees: an existing file is never overwritten (with --force it is renamed); a setup that fails or is interrupted
before the service is started leaves the files as they were. A second run with the same answers changes no file. A
password comes from the terminal, from standard input or from a file of its own.
Not here: the answers (cli.setup_answers, cli.setup_questions, cli.setup_values), the changes (cli.setup_plan), files
and their rollback (cli.setup_files), systemd (cli.setup_service), settings of the mail server (cli.instructions).
"""

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from senderproxy.accounts import vault_admin
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import UnlockMethod
from senderproxy.accounts.vault_place import files_of
from senderproxy.cli.account_login_check import require_login
from senderproxy.cli.check import run_without_logins
from senderproxy.cli.common import open_editor, pickup_note, try_resume
from senderproxy.cli.errors import LoginFailed, LoginRejected
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.instructions import mail_server_instructions
from senderproxy.cli.new_unlock import choose_key, may_reuse_key
from senderproxy.cli.rebuild import rebuild
from senderproxy.cli.send import send_test_message
from senderproxy.cli.setup_answers import NO_TEST_MESSAGE, Answers, given_answers, may_ask
from senderproxy.cli.setup_files import CreatedFiles, SetupPaths, give_to_service, rolled_back_on_failure, setup_paths
from senderproxy.cli.setup_plan import NEW_KEY, Existing, Plan, current_clients, make_plan, read_existing
from senderproxy.cli.setup_questions import ask_missing, ask_test_recipient
from senderproxy.cli.setup_service import (
    bring_up,
    command,
    is_running,
    may_manage,
    reload_configuration,
    start_command,
)
from senderproxy.cli.setup_values import DEFAULT_PORT, own_address_for, require_free
from senderproxy.cli.terminal import (
    ask_new_passphrase,
    passphrase_prompt,
    print_error,
    print_field,
    print_json,
    print_paragraph,
)
from senderproxy.cli.vault_place import may_need_key, vault_place
from senderproxy.config.model import Config
from senderproxy.delivery.handshake import is_full_name
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address
from senderproxy.routing.provider_names import preset_names
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
    parser.add_argument("--answers", type=Path, metavar="FILE", help=_("answers in a TOML file; asks nothing"))
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help=_("such as ionos, one of {names}, a submission server, or a name of your choice with --host").format(
            names=", ".join(preset_names())
        ),
    )
    parser.add_argument("--host", help=_("submission server of a provider that is not built in"))
    parser.add_argument("--port", type=int, help=_("its port (default: 465, then 587)"))
    parser.add_argument(
        "--security", choices=("tls", "starttls"), help=_("TLS from the start or STARTTLS (default: by the port)")
    )
    parser.add_argument("--ca-file", metavar="FILE", help=_("certificate authority of the server, if it is private"))
    parser.add_argument(
        "--mailbox", action="append", metavar="ADDRESS", help=_("address of a mailbox; may be given several times")
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help=_("table of mailboxes, as for account import"))
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
        help=_("address of the listener (default: that towards --allow, with port {port})").format(port=DEFAULT_PORT),
    )
    parser.add_argument(
        "--allow",
        action="append",
        metavar="NETWORK",
        help=_("mail server, scanner or network that may connect, beside this machine; may be given several times"),
    )
    parser.add_argument(
        "--alerts-to",
        action="append",
        metavar="ADDRESS",
        help=_("recipient of alerts, best at another provider; may be given several times"),
    )
    parser.add_argument("--hostname", help=_("full name of this machine, for EHLO"))
    parser.add_argument(
        "--key",
        metavar="WAY",
        help=_(
            "unlock of the vault: key-file (a new one, the default), key-file:PATH (an existing one), passphrase,"
            " keyring:SERVICE"
        ),
    )
    parser.add_argument("--folder", type=Path, help=_("create every file in this folder"))
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument(
        "--password-stdin",
        action="store_true",
        help=_("read the password of each mailbox, then a passphrase, from lines of standard input"),
    )
    secrets.add_argument(
        "--password-file", type=Path, metavar="FILE", help=_("read the password of each mailbox from lines of a file")
    )
    parser.add_argument("--no-verify", action="store_true", help=_("do not try the logins"))
    parser.add_argument("--no-start", action="store_true", help=_("do not start the service"))
    parser.add_argument(
        "--test-to",
        metavar="ADDRESS",
        help=_("send a test message to this address if anything was changed ({none}: send none)").format(
            none=NO_TEST_MESSAGE
        ),
    )
    parser.add_argument("--yes", "--non-interactive", action="store_true", help=_("ask nothing, use the options"))
    parser.add_argument("--force", action="store_true", help=_("rename existing files and start over"))
    parser.add_argument("--dry-run", action="store_true", help=_("print the changes, and change nothing"))
    parser.add_argument("--json", action="store_true", help=_("JSON output of what was changed; asks nothing"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if everything is set up; 1 if the check or the test message failed, or a login was refused."""
    if chosen.backup is not None:
        return rebuild(chosen)
    if not chosen.json:
        return _run(chosen).code
    chosen.yes = True
    with redirect_stdout(sys.stderr):
        result = _run(chosen)
    print_json({"changed": result.changed, "running": result.running, "ok": result.code == EX_OK})
    return result.code


@dataclass(frozen=True, slots=True)
class _Result:
    """Exit code, the changes in words, and True if the service runs."""

    code: int
    changed: list[str]
    running: bool


def _run(chosen: argparse.Namespace) -> _Result:
    paths, given = setup_paths(chosen), given_answers(chosen)
    existing, asking = read_existing(paths, chosen), may_ask(chosen)
    if asking:
        _print_introduction(existing, paths)
    if existing.config is None:
        given = replace(given, key=choose_key(given.key or NEW_KEY, may_ask=asking))
    answers = ask_missing(given, existing, paths) if asking else given
    plan = make_plan(answers, existing, paths)
    if chosen.dry_run:
        return _dry_run(answers, plan, existing, paths)
    if not asking:
        _require_usable(plan, answers, existing, paths)
    changed = plan.changes(existing)
    if changed:
        _write(chosen, plan, existing, paths)
    _print_changes(changed, plan, paths)
    try:
        return _finish(answers, plan, existing, paths, asking=asking)
    except KeyboardInterrupt:
        print_error(
            _("The files are complete. To go on from here: {command} setup").format(command=command(paths.config))
        )
        raise


def _dry_run(answers: Answers, plan: Plan, existing: Existing, paths: SetupPaths) -> _Result:
    """Print the changes; no login is tried, and nothing is written."""
    changed, running = plan.changes(existing), is_running(plan.config)
    if answers.start and not running and may_manage(paths.config):
        changed.append(_("service (started)"))
    print(_("These would be changed (--dry-run):") if changed else _("Nothing would be changed (--dry-run)."))
    for text in changed:
        print(f"  {text}")
    return _Result(EX_OK, changed, running)


def _print_introduction(existing: Existing, paths: SetupPaths) -> None:
    if existing.config is None:
        print_paragraph(
            _(
                "This sets up senderproxy in six questions. Nothing is written before the last one; Ctrl-C ends"
                " it and changes nothing. The value in brackets is taken with Enter."
            )
        )
    else:
        print_paragraph(
            _(
                "senderproxy is set up already ({path}). Enter keeps each value; Ctrl-C ends this and changes nothing."
            ).format(path=paths.config)
        )
    print()


def _require_usable(plan: Plan, answers: Answers, existing: Existing, paths: SetupPaths) -> None:
    """Try the listener's address and the changed logins, as the dialogue does while it asks."""
    listeners = {listener.address for listener in existing.config.listeners} if existing.config else set()
    if answers.start and may_manage(paths.config) and plan.config.listeners[0].address not in listeners:
        require_free(plan.config.listeners[0].address)
    if answers.verify:
        for stored in plan.accounts:
            try:
                require_login(plan.config, stored)
            except LoginFailed as error:
                kind = LoginRejected if isinstance(error, LoginRejected) else LoginFailed
                raise kind(
                    f"{stored.account.id}: {error.reason}",
                    hint=_("Try again, or set up without a login test: --no-verify"),
                ) from error


# ---- writing ----


def _write(chosen: argparse.Namespace, plan: Plan, existing: Existing, paths: SetupPaths) -> None:
    """Write all changes, or nothing if a step fails."""
    with rolled_back_on_failure() as created:
        unlock = existing.unlock
        if existing.config is None:
            created.write(paths.config, plan.text)
        elif plan.text != existing.text:
            created.replace(paths.config, plan.text)
            reload_configuration(plan.config)
        if unlock is None:
            unlock = _create_vault(chosen, plan.config, created)
        if plan.accounts:
            with open_editor(plan.config, unlock) as editor:
                editor.put_all(plan.accounts)
                editor.save()
        give_to_service(paths)


def _create_vault(chosen: argparse.Namespace, config: Config, created: CreatedFiles) -> UnlockMethod:
    """Create the vault, and its key if there is none."""
    vault, key = vault_place(config), _key_file(config)
    if config.vault.in_database:
        created.create_folder(files_of(vault).parent)
    else:
        path = files_of(vault)
        for each in (path, *(path.with_name(f"{path.name}.{ending}") for ending in ("bak", "lock"))):
            created.reserve(each)
    if key is not None and config.vault.in_database:
        created.create_folder(key.parent)  # the key stays if the vault does
    elif key is not None and (chosen.key in (None, NEW_KEY) and (chosen.force or not key.exists())):
        created.reserve(key)
    created.create_folder(Path(config.service.control_socket).parent)
    new = vault_admin.new_unlock_method(
        config.vault.unlock,
        lambda: ask_new_passphrase(_("Passphrase of the vault"), from_stdin=chosen.password_stdin),
        passphrase_prompt(),
        may_reuse=may_reuse_key,
    )
    created.call_on_failure(lambda: None if may_need_key(vault) else new.discard())
    AccountEditor.create(vault, new.method)
    return new.method


def _key_file(config: Config) -> Path | None:
    kind, _colon, path = config.vault.unlock.partition(":")
    return Path(path) if kind == "key-file" else None


# ---- output, and what follows ----


def _print_changes(changed: list[str], plan: Plan, paths: SetupPaths) -> None:
    print()
    if not changed:
        print_paragraph(
            _("Nothing was changed: {path} and the vault have these answers already.").format(path=paths.config)
        )
        return
    print(_("Changed:"))
    for text in changed:
        print(f"  {text}")
    print_field(_("configuration"), str(paths.config))
    print_field(_("vault"), plan.config.vault_name)
    if key := _key_file(plan.config):
        print_field(_("key"), str(key))
        print_field("", _("Without it the vault cannot be opened: keep a copy,"))
        print_field("", _("apart from the vault's backup."))
    if not is_full_name(plan.config.identity.hostname):
        print_field(_("name"), _("{hostname} is not a full name").format(hostname=plan.config.identity.hostname))
        print_field("", _("EHLO uses the address literal. Better set hostname under"))
        print_field("", _("[identity], such as mail.firma.example."))


def _finish(answers: Answers, plan: Plan, existing: Existing, paths: SetupPaths, *, asking: bool) -> _Result:
    """Start the service, check, send the test message and print the settings for the mail server."""
    changed = plan.changes(existing)
    managed = answers.start and may_manage(paths.config)
    if managed and bring_up(restart=existing.config is None):
        changed.append(_("service (started)"))
    running = is_running(plan.config)
    if running and plan.accounts:
        pickup_note(plan.config)
        for stored in plan.accounts:
            try_resume(plan.config, stored.account.id)
    code = EX_OK
    if not running:
        _print_start(answers, plan, paths)
    else:
        print_field(_("service"), _("it runs, and is started at each boot") if managed else _("it runs"))
    if running and changed:
        print()
        code = run_without_logins(plan.config, paths.config)
        code = max(code, _test(answers, plan, existing, paths, asking=asking))
    if changed:
        _print_instructions(plan.config)
        print_field(_("more accounts"), _("{command} account add ADDRESS").format(command=command(paths.config)))
    return _Result(code, changed, running)


def _print_start(answers: Answers, plan: Plan, paths: SetupPaths) -> None:
    print()
    print_field(_("start"), start_command(paths.config))
    print_field(_("then check"), f"{command(paths.config)} check")
    author = _author(plan, answers)
    if author is not None:
        recipient = answers.test_to or author
        print_field(_("and test"), f"{command(paths.config)} send --from {author} --to {recipient}")


def _author(plan: Plan, answers: Answers) -> Address | None:
    if answers.mailboxes:
        return answers.mailboxes[0].address
    return plan.accounts[0].account.address if plan.accounts else None


def _test(answers: Answers, plan: Plan, existing: Existing, paths: SetupPaths, *, asking: bool) -> int:
    """Send the test message; on a terminal again to another recipient until it is accepted or none is named."""
    stored = next(iter(existing.stored.values()), None)
    author = _author(plan, answers) or (stored.account.address if stored else None)
    recipient = None if answers.no_test else answers.test_to
    code = EX_OK
    while author is not None and recipient is not None:
        print()
        print_paragraph(_("Test message from {author} to {recipient}:").format(author=author, recipient=recipient))
        try:
            code = send_test_message(plan.config, author, recipient)
        except SenderproxyError as error:
            print_error(error.message, error.hint)
            code = EX_FAILED
        if code == EX_OK:
            history = f"{command(paths.config)} track --to {recipient}"
            print_paragraph(_("Look into the mailbox. History of the message: {command}").format(command=history))
        if code == EX_OK or not asking:
            break
        print_paragraph(_("Reasons and accounts: {command}").format(command=f"{command(paths.config)} status"))
        recipient = ask_test_recipient()
    return code


def _print_instructions(config: Config) -> None:
    clients = current_clients(config)
    print()
    print(mail_server_instructions(config.listeners[0].address, _reachable(clients)))


def _reachable(clients: tuple[str, ...]) -> str | None:
    """An address of this machine towards the first client, for a listener on every address."""
    own = own_address_for(clients[:1])
    return None if own in ("127.0.0.1", "0.0.0.0", "::") else own
