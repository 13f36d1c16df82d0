"""`senderproxy restore`: the installation of a backup, on a machine with a stopped service or none.

Guarantees: nothing is overwritten; with --replace it is moved aside. The output ends with the next command.
Not here: the restore itself (backup.restore), the whole of a new machine (cli.setup).
"""

import argparse
from pathlib import Path

from senderproxy.accounts.errors import VaultDiskError, VaultUnreadable
from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.backup.restore import Restored, RestoreRequest, check_restore, restore_backup
from senderproxy.cli.account_oauth import print_missing_consents
from senderproxy.cli.backup import existing_backup, print_inventory
from senderproxy.cli.common import add_passphrase_options
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.setup_service import command, start_command
from senderproxy.cli.terminal import ask_passphrase, print_error, print_field, print_progress, progress
from senderproxy.cli.vault_place import vault_place
from senderproxy.clock import SystemClock
from senderproxy.config.load import load_config
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _, ngettext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy restore`."""
    parser.add_argument("file", type=Path, metavar="FILE", help=_("the backup"))
    parser.add_argument("--dry-run", action="store_true", help=_("read and check the backup, and change nothing"))
    parser.add_argument(
        "--replace", action="store_true", help=_("move an existing installation aside, under other names")
    )
    parser.add_argument("--without-queue", action="store_true", help=_("leave the spool of this machine as it is"))
    parser.add_argument("--folder", type=Path, help=_("restore every file into this folder, for a drill"))
    add_passphrase_options(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if everything was restored; otherwise nothing was. Raises SenderproxyError, OSError."""
    request = restore_request(chosen, chosen.file, replace=chosen.replace, with_queue=not chosen.without_queue)
    if chosen.dry_run:
        print_inventory(check_restore(request))
        print("\n" + _("The backup can be restored here. Nothing was changed."))
        return EX_OK
    restored = restore(request)
    print()
    print_next_step(restored)
    return EX_OK


def restore_request(chosen: argparse.Namespace, backup: Path, *, replace: bool, with_queue: bool) -> RestoreRequest:
    """The wishes in the options; the passphrase is asked for. Raises UsageError, InputError."""
    return RestoreRequest(
        existing_backup(backup),
        ask_passphrase(_("Passphrase of the backup")),
        config=Path(chosen.config) if chosen.config else None,
        folder=chosen.folder,
        replace=replace,
        with_queue=with_queue,
    )


def restore(request: RestoreRequest) -> Restored:
    """Restore, and print the result. Raises SenderproxyError, OSError."""
    with progress():
        print_progress(_("Reading the backup ..."))
        restored = restore_backup(request, SystemClock().now())
    print_inventory(restored.inventory)
    print()
    print_field(_("configuration"), restored.config)
    print_field(_("vault"), restored.paths.vault)
    if restored.new_key is not None:
        print_field(_("key"), restored.new_key)
        print_field("", _("It is new, and the only unlock of the vault. Keep a copy, apart from the backups."))
        if restored.was_sealed:
            print_field("", _("To seal it to this machine again: senderproxy vault seal"))
    if restored.held is None:
        print_field(_("queue"), _("left as it was"))
    else:
        text = ngettext("{count} message, held", "{count} messages, held", restored.held)
        print_field(_("queue"), text.format(count=restored.held))
    for path in restored.aside:
        print_field(_("moved aside"), path)
    for remark in restored.remarks:
        print(_("Note: {text}").format(text=remark))
    return restored


def print_next_step(restored: Restored) -> None:
    """The next commands after a restore; the last lines of the output."""
    word = command(restored.config)
    if not restored.is_openable:
        ways = ", ".join(kind for kind, _label in restored.inventory.vault_unlocks)
        text = _("The vault does not open with {setting} on this machine; it opens with: {ways}.")
        print(text.format(setting=restored.paths.unlock, ways=ways))
        key = restored.config.parent / "vault.key"
        text = _("Give it a key: {command} --unlock passphrase vault add-unlock key-file:{key}")
        print(text.format(command=word, key=key))
        print(
            _('Then set unlock = "key-file:{key}" under [vault] in {config}.').format(key=key, config=restored.config)
        )
    elif (accounts := _opened(restored.paths.vault, restored.paths.unlock)) is not None:
        print_missing_consents(accounts, word)
    if (problem := problem_in_database(restored)) is not None:
        print_error(problem.message, problem.hint)
        if isinstance(problem, VaultUnreadable | VaultDiskError):
            text = _("Then, if the database has no vault: {command} vault import {path} --opens-with {unlock}")
            print(text.format(command=word, path=restored.paths.vault, unlock=restored.paths.unlock))
    print_held(restored)
    print(_("Next: {command}").format(command=start_command(restored.config)))


def problem_in_database(restored: Restored) -> SenderproxyError | None:
    """The reason against a start with the vault in a database; None without one, or if the vault is a file."""
    if not restored.paths.vault_in_database:
        return None
    try:
        config = load_config(restored.config)
        _open(vault_place(config), config.vault.unlock)
    except SenderproxyError as error:
        return error
    return None


def _opened(place: VaultPlace, unlock: str) -> VaultAccounts | None:
    """The restored accounts; None if the vault does not open after all."""
    try:
        return _open(place, unlock)
    except SenderproxyError:
        return None


def _open(place: VaultPlace, unlock: str) -> VaultAccounts:
    return VaultAccounts.open(place, unlock_method(unlock, None))


def print_held(restored: Restored) -> None:
    """The commands for the held messages, if there are any."""
    if restored.held:
        word = command(restored.config)
        print(_("The held messages may have been sent since the backup. When the service runs, look at them first:"))
        print(_("To list them: {command} queue list --held").format(command=word))
        print(_("To send them: {command} queue release --all").format(command=word))
