"""`senderproxy vault`: the vault and its unlocks.

Guarantees: a key file made for a command that fails afterwards is removed again.
Not here: the operations on the vault (accounts.vault_admin).
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from senderproxy.accounts import vault_admin
from senderproxy.accounts.database_store import DatabaseStore
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.srs_key import make_srs_key
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import VaultPlace, files_of, has_vault
from senderproxy.cli import vault_seal
from senderproxy.cli.account_oauth import print_missing_consents
from senderproxy.cli.common import (
    SYSTEM_CONFIG,
    add_passphrase_options,
    config_path,
    open_accounts,
    open_editor,
    pickup_note,
    read_config,
    user_config,
    vault_unlock,
)
from senderproxy.cli.errors import FileInTheWay, InputError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.new_unlock import new_unlock
from senderproxy.cli.setup_files import CreatedFiles, SetupPaths, give_to_service, rolled_back_on_failure
from senderproxy.cli.terminal import (
    ask_passphrase,
    confirm,
    passphrase_prompt,
    print_field,
    print_json,
    print_progress,
    print_table,
    progress,
)
from senderproxy.cli.vault_place import vault_place
from senderproxy.config.load import load_config
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.translation import N_, _, ngettext

_METHODS: Final = N_("passphrase, key-file:PATH (created if missing), keyring:SERVICE, credential:NAME")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy vault`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser("create", help=_("create an empty vault at vault.path"))
    add_passphrase_options(create)
    create.set_defaults(run=run_create)

    for name, run, words in (
        ("status", run_status, _("facts about the vault that need no key")),
        ("unlocks", run_unlocks, _("list the unlocks")),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("--json", action="store_true", help=_("JSON output"))
        action.set_defaults(run=run)

    verify = actions.add_parser("verify", help=_("open the vault and read every account"))
    verify.set_defaults(run=run_verify)

    add = actions.add_parser("add-unlock", help=_("add an unlock"))
    add.add_argument("way", metavar="WAY", help=_(_METHODS))
    add.add_argument("--label", help=_("name of the unlock"))
    add_passphrase_options(add)
    add.set_defaults(run=run_add_unlock)

    remove = actions.add_parser("remove-unlock", help=_("remove an unlock"))
    remove.add_argument("label", help=_("label, as in `senderproxy vault unlocks`"))
    remove.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    remove.set_defaults(run=run_remove_unlock)

    rekey = actions.add_parser("rekey", help=_("seal the vault under a new key"))
    rekey.add_argument(
        "--with", dest="others", action="append", default=[], metavar="WAY", help=_("another unlock that stays valid")
    )
    rekey.add_argument("--drop", action="append", default=[], metavar="LABEL", help=_("an unlock to remove"))
    rekey.set_defaults(run=run_rekey)

    upgrade = actions.add_parser("upgrade", help=_("write all records in the format of this version"))
    upgrade.set_defaults(run=run_upgrade)

    seal = actions.add_parser("seal", help=_("seal the key to this machine, for the service of systemd"))
    add_passphrase_options(seal)
    vault_seal.add_arguments(seal)

    accept = actions.add_parser("accept-rollback", help=_("accept an older vault that was restored on purpose"))
    accept.set_defaults(run=run_accept_rollback)

    srs = actions.add_parser("make-srs-key", help=_("make the key of SRS addresses, or replace it"))
    srs.set_defaults(run=run_make_srs_key)

    export = actions.add_parser("export", help=_("write a sealed copy for a backup or another machine"))
    export.add_argument("file", type=Path, help=_("file to write"))
    export.add_argument(
        "--opens-with",
        default="passphrase",
        metavar="WAY",
        help=_("unlock of the copy: {methods} (default: passphrase)").format(methods=_(_METHODS)),
    )
    add_passphrase_options(export)
    export.set_defaults(run=run_export)

    restore = actions.add_parser("import", help=_("create the vault from a sealed copy"))
    restore.add_argument("file", type=Path, help=_("the sealed copy"))
    restore.add_argument(
        "--opens-with", default="passphrase", metavar="WAY", help=_("unlock of the copy (default: passphrase)")
    )
    add_passphrase_options(restore)
    restore.set_defaults(run=run_import)


def run_create(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    place = vault_place(config)
    _require_empty_database(place)
    with new_unlock(config.vault.unlock, place) as new:
        AccountEditor.create(place, new)
    print(_("Created the empty vault {path}.").format(path=place))
    print(_("Next step: senderproxy account add ADDRESS --provider NAME"))
    return EX_OK


def run_status(chosen: argparse.Namespace) -> int:
    facts = vault_admin.inspect(vault_place(read_config(chosen)))
    if chosen.json:
        print_json({"path": facts.path, "id": facts.vault_id, "saved": facts.generation, "unlocks": _entries(facts)})
        return EX_OK
    saves = ngettext("{count} time", "{count} times", facts.generation).format(count=facts.generation)
    unlocks = ", ".join(f"{kind} {label}" if kind != label else kind for kind, label in facts.unlocks)
    for name, value in (
        (_("vault"), facts.path),
        (_("id"), facts.vault_id),
        (_("saved"), saves),
        (_("unlocks"), unlocks),
    ):
        print_field(name, value)
    return EX_OK


def run_unlocks(chosen: argparse.Namespace) -> int:
    facts = vault_admin.inspect(vault_place(read_config(chosen)))
    if chosen.json:
        print_json(_entries(facts))
    else:
        print_table((_("label"), _("kind")), [[label, kind] for kind, label in facts.unlocks])
    return EX_OK


def _entries(facts: vault_admin.VaultFacts) -> list[dict[str, str]]:
    return [{"label": label, "kind": kind} for kind, label in facts.unlocks]


def run_verify(chosen: argparse.Namespace) -> int:
    """0 if every account can be read, else 1."""
    config = read_config(chosen)
    accounts = open_accounts(config)
    for problem in accounts.unreadable:
        print(problem)
    for record in accounts.unknown:
        print(record.describe())
    count = len(accounts.directory().accounts)
    text = ngettext("{path}: {count} account is readable.", "{path}: {count} accounts are readable.", count)
    print(text.format(path=config.vault_name, count=count))
    return EX_FAILED if accounts.unreadable else EX_OK


def run_add_unlock(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_unlock(config)
    with new_unlock(chosen.way) as new:
        label = vault_admin.add_unlock(vault_place(config), current, new, chosen.label)
    print(_("Added the unlock {label}.").format(label=label), pickup_note(config))
    return EX_OK


def run_remove_unlock(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_unlock(config)
    _require_other_start(chosen, config, current, [chosen.label])
    question = _("Remove the unlock {label}, and the backup of the previous generation?").format(label=chosen.label)
    if not chosen.yes and not confirm(question):
        print(_("Nothing was changed."))
        return EX_FAILED
    vault_admin.remove_unlock(vault_place(config), current, chosen.label)
    print(_("Removed the unlock {label}.").format(label=chosen.label), pickup_note(config))
    print(
        _(
            "Anyone who had it may have read the passwords. If that matters: senderproxy vault rekey,"
            " and change the passwords at the provider."
        )
    )
    return EX_OK


def run_rekey(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_unlock(config)
    _require_other_start(chosen, config, current, chosen.drop)
    others = [unlock_method(way, passphrase_prompt()) for way in chosen.others]
    with progress():
        print_progress(_("Sealing the vault under a new key ..."))
        vault_admin.rekey(vault_place(config), current, others, chosen.drop)
    print(_("The vault is sealed under a new key."), pickup_note(config))
    print(_("Older copies still open with their old unlocks."))
    return EX_OK


def run_upgrade(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    count = vault_admin.upgrade(vault_place(config), vault_unlock(config))
    if not count:
        print(_("All records have the format of this version; nothing was changed."))
        return EX_OK
    text = ngettext("Rewrote {count} record.", "Rewrote {count} records.", count).format(count=count)
    print(text, pickup_note(config))
    return EX_OK


def _require_other_start(
    chosen: argparse.Namespace, config: Config, current: UnlockMethod, removed: Sequence[str]
) -> None:
    """Raise UnlockInUse if the configuration could not open the vault without the unlocks to be removed."""
    path = config_path(chosen)
    setting = load_config(path).vault.unlock
    unlocks = vault_admin.inspect(vault_place(config)).unlocks
    if not {label for _kind, label in unlocks} - set(removed):
        return  # all of them: refused by the vault itself
    needed: set[str]
    if setting == config.vault.unlock:
        needed = set(vault_admin.labels_opened_by(vault_place(config), current, current))
    else:
        try:
            needed = set(vault_admin.labels_opened_by(vault_place(config), current, unlock_method(setting, None)))
        except SenderproxyError:  # it is not available here: any of its kind may be the one
            kind = setting.partition(":")[0].replace("credential", "key-file")
            needed = {label for known, label in unlocks if known == kind}
    if needed and needed <= set(removed):
        raise vault_admin.UnlockInUse(
            _("The service starts with this unlock ({setting} in {path}): without it the next start fails.").format(
                setting=setting, path=path
            ),
            hint=_(
                "Name another unlock of the vault in that file (senderproxy vault add-unlock adds one), restart the"
                " service, then remove this one."
            ),
        )


def run_accept_rollback(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    generation, older = vault_admin.accept_rollback(vault_place(config), vault_unlock(config))
    if not older:
        print(_("The vault is not older than the one used before; nothing was to be accepted."))
        return EX_OK
    print(_("Accepted generation {generation} of the vault.").format(generation=generation), pickup_note(config))
    print(_("If the service was not restarted since, do it now: systemctl restart senderproxy"))
    return EX_OK


def run_make_srs_key(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    with open_editor(config) as editor:
        replaced = make_srs_key(editor)
        editor.save()
    text = _("Replaced the SRS key; the previous one still verifies.") if replaced else _("Made the SRS key.")
    print(text, pickup_note(config))
    if not config.senders.srs:
        print(_("Next step: srs = true under [senders] in the configuration."))
    return EX_OK


def run_export(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_unlock(config)
    with new_unlock(chosen.opens_with) as new:
        vault_admin.export(vault_place(config), current, chosen.file, new)
    print(_("Wrote the sealed copy {path}.").format(path=chosen.file))
    print(
        _("To move to another machine: copy {config} beside it, then there: senderproxy vault import {name}").format(
            config=config_path(chosen), name=chosen.file.name
        )
    )
    return EX_OK


def run_import(chosen: argparse.Namespace) -> int:
    """The copy stays unchanged; the new vault has the unlock that the configuration names.

    A machine without a configuration gets the one beside the copy. If a step fails, nothing is left behind.
    """
    with rolled_back_on_failure() as created:
        chosen.config = str(_config_for_import(chosen, created))
        config = read_config(chosen)
        vault, (kind, _colon, named) = vault_place(config), config.vault.unlock.partition(":")
        _require_empty_database(vault)
        if has_vault(vault):
            raise FileInTheWay(_("{path} exists already; nothing was changed.").format(path=vault))
        if config.vault.in_database:
            created.create_folder(files_of(vault).parent)
        else:
            created.reserve(files_of(vault))
        if kind == "credential":
            vault_seal.require_systemd()
        if kind == "key-file":
            created.create_folder(Path(named).parent)
        secret: list[str] = []
        opens = unlock_method(chosen.opens_with, lambda _prompt: _noted(secret))
        with new_unlock(config.vault.unlock, vault) as new:
            vault_admin.restore(chosen.file, opens, vault, new)
            if kind == "credential":
                created.call_on_failure(vault_seal.install_drop_in(named))
                if secret:  # a vault without a passphrase is lost with the machine
                    vault_admin.add_unlock(
                        vault, new, unlock_method("passphrase", lambda _prompt: secret[0]), "recovery"
                    )
        files = files_of(vault)
        key = Path(named) if kind == "key-file" else files
        give_to_service(SetupPaths(Path(chosen.config), files, key, Path(config.service.control_socket)))
    accounts = VaultAccounts.open(vault, new)
    count = len(accounts.directory().accounts)
    text = ngettext("Created {path} with {count} account.", "Created {path} with {count} accounts.", count)
    print(text.format(path=vault, count=count), pickup_note(config))
    print_missing_consents(accounts, "senderproxy")
    if Path(chosen.config) == SYSTEM_CONFIG:
        print(_("Next step: {command}").format(command="systemctl enable --now senderproxy && senderproxy check"))
    return EX_OK


def _require_empty_database(place: VaultPlace) -> None:
    """Raises FileInTheWay, AccountsError. Asked before a key is made: it would stay."""
    if isinstance(place, DatabaseStore) and has_vault(place):
        raise FileInTheWay(
            _("The database has a vault already; nothing was changed."),
            hint=_("To give this machine a key for it: senderproxy --unlock passphrase vault add-unlock key-file:PATH"),
        )


def _noted(secrets: list[str]) -> str:
    secrets.append(ask_passphrase(_("Passphrase of the copy")))
    return secrets[0]


def _config_for_import(chosen: argparse.Namespace, created: CreatedFiles) -> Path:
    """The configuration of this machine; if it has none, the one beside the copy, installed. Raises InputError."""
    try:
        path = config_path(chosen)
    except InputError as error:
        beside = chosen.file.with_name(SYSTEM_CONFIG.name)
        if not beside.exists():
            raise InputError(
                error.message,
                hint=_("Put the other machine's {name} beside the copy: {path}").format(
                    name=SYSTEM_CONFIG.name, path=beside
                ),
            ) from error
        path = SYSTEM_CONFIG if os.geteuid() == 0 else user_config()
        created.write(path, beside.read_text(encoding="utf-8-sig"))
        print(_("Installed the configuration {path}.").format(path=path))
    return path
