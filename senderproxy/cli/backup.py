"""`senderproxy backup`: a sealed file with configuration, vault, queue and learned state.

Guarantees: works while the service runs; overwrites nothing; a passphrase is never in the arguments.
Not here: the creation (backup.create), the restore (cli.restore).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from senderproxy.backup.create import create_backup
from senderproxy.backup.inventory import Inventory, read_inventory
from senderproxy.cli.common import add_passphrase_options, config_path, read_config
from senderproxy.cli.errors import InputError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import ask_new_passphrase, ask_passphrase, print_field, print_progress, progress
from senderproxy.cli.times import local_time
from senderproxy.cli.vault_place import vault_place
from senderproxy.clock import SystemClock
from senderproxy.tracking.timeline import size_in_words
from senderproxy.translation import _, ngettext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy backup`."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=_("file to write, or a folder, in which it gets a name of its own")
    )
    parser.add_argument("--verify", action="store_true", help=_("read an existing backup instead, and list its parts"))
    parser.add_argument("--without-queue", action="store_true", help=_("leave out the messages in the queue"))
    add_passphrase_options(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if the backup is complete; 1 if a message in it was unreadable already. Raises SenderproxyError, OSError."""
    if chosen.verify:
        backup, passphrase = existing_backup(chosen.file), ask_passphrase(_("Passphrase of the backup"))
        with progress():
            print_progress(_("Reading the backup ..."))
            inventory = read_inventory(backup, passphrase)
        print_inventory(inventory)
        print(
            "\n" + _("The backup is complete and can be restored: senderproxy restore {path}").format(path=chosen.file)
        )
        return EX_FAILED if inventory.unreadable else EX_OK
    config, path = read_config(chosen), config_path(chosen)
    passphrase = ask_new_passphrase(_("Passphrase of the backup"))
    with progress():
        print_progress(_("Writing the backup and reading it back ..."))
        now, vault = SystemClock().now(), vault_place(config)
        created = create_backup(chosen.file, passphrase, config, path, vault, now, with_queue=not chosen.without_queue)
    print_field(_("backup"), f"{created.path} ({size_in_words(created.size)})")
    print_inventory(created.inventory)
    for remark in created.remarks:
        print(_("Note: {text}").format(text=remark))
    print("\n" + _("The backup was read back. To see if it can be restored: senderproxy restore --dry-run FILE"))
    return EX_FAILED if created.inventory.unreadable else EX_OK


def existing_backup(path: Path) -> Path:
    """The path of a file. Raises InputError."""
    if not path.is_file():
        raise InputError(
            _("There is no backup {path}.").format(path=path), hint=_("Name the file that senderproxy backup wrote.")
        )
    return path


def print_inventory(inventory: Inventory) -> None:
    """The parts of a backup, each on a line."""
    for name, value in _fields(inventory):
        print_field(name, value)


def _fields(inventory: Inventory) -> Iterator[tuple[str, str]]:
    manifest, vault = inventory.manifest, inventory.vault
    assert vault is not None
    made = _("{time}, on {host}, by senderproxy {version}")
    yield (
        _("made"),
        made.format(time=local_time(manifest.created_at.isoformat()), host=manifest.host, version=manifest.program),
    )
    named = [str(file.path) for file in inventory.files if file.setting]
    yield _("configuration"), ", ".join([str(inventory.configuration.path), *named])
    ways = ", ".join(f"{kind} {label}" if kind != label else kind for kind, label in vault.unlocks)
    opens = _("opens with the passphrase of the backup") if vault.export is not None else _("opens with: {ways}")
    text = ngettext("saved {count} time, {opens}", "saved {count} times, {opens}", vault.generation)
    yield _("vault"), text.format(count=vault.generation, opens=opens.format(ways=ways))
    if inventory.messages is None:
        yield _("queue"), _("not in the backup")
    else:
        text = ngettext("{count} message, {size}", "{count} messages, {size}", inventory.messages)
        yield _("queue"), text.format(count=inventory.messages, size=size_in_words(inventory.message_octets))
    if inventory.learned is not None:
        text = ngettext("{count} record", "{count} records", inventory.learned)
        yield _("learned"), text.format(count=inventory.learned)
