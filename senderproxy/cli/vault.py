"""`senderproxy vault`: the vault's file, and who may open it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from senderproxy.accounts import vault_admin
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.common import (
    EX_OK,
    EX_WRONG,
    Subparsers,
    agreed,
    counted,
    known_secret,
    new_secret,
    open_accounts,
    read_config,
    service_will_notice,
    show_json,
    show_table,
    terminal_prompt,
    vault_way,
)

_WAYS = "passphrase, key-file:PATH (made if it is not there), keyring:SERVICE, credential:NAME"


def add_parser(verbs: Subparsers) -> None:
    group = verbs.add_parser("vault", help="the vault's file, and who may open it")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser("create", help="make a new, empty vault where the configuration says")
    _passphrase_option(create)
    create.set_defaults(run=run_create)

    for name, run, words in (
        ("status", run_status, "what the file shows without being opened"),
        ("unlocks", run_unlocks, "the ways to open it"),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("--json", action="store_true", help="for programs")
        action.set_defaults(run=run)

    actions.add_parser("verify", help="open it and read every account").set_defaults(run=run_verify)

    add = actions.add_parser("add-unlock", help="one more way to open it")
    add.add_argument("way", metavar="WAY", help=_WAYS)
    add.add_argument("--label", help="what to call it")
    _passphrase_option(add)
    add.set_defaults(run=run_add_unlock)

    remove = actions.add_parser("remove-unlock", help="one way less to open it")
    remove.add_argument("label", help="as `senderproxy vault unlocks` shows it")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run=run_remove_unlock)

    rekey = actions.add_parser("rekey", help="seal everything under a new key")
    rekey.add_argument("--with", dest="others", action="append", default=[], metavar="WAY", help="another way to keep")
    rekey.add_argument("--drop", action="append", default=[], metavar="LABEL", help="a way to give up")
    rekey.set_defaults(run=run_rekey)

    export = actions.add_parser("export", help="a sealed copy for a backup or another machine")
    export.add_argument("file", type=Path)
    export.add_argument("--opens-with", default="passphrase", metavar="WAY", help=f"{_WAYS}; else passphrase")
    _passphrase_option(export)
    export.set_defaults(run=run_export)

    restore = actions.add_parser("import", help="make this machine's vault of a sealed copy")
    restore.add_argument("file", type=Path)
    restore.add_argument("--opens-with", default="passphrase", metavar="WAY", help="what opens the copy")
    _passphrase_option(restore)
    restore.set_defaults(run=run_import)


def _passphrase_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-stdin", action="store_true", help="read a passphrase from standard input")


def run_create(chosen: argparse.Namespace) -> int:
    settings = read_config(chosen).vault
    with _new_way(chosen, settings.unlock) as new:
        AccountEditor.create(settings.path, new)
    print(f"{settings.path} is there, empty. Add a mailbox: senderproxy account add ADDRESS --provider NAME")
    return EX_OK


def run_status(chosen: argparse.Namespace) -> int:
    facts = vault_admin.inspect(read_config(chosen).vault.path)
    if chosen.json:
        show_json({"path": facts.path, "id": facts.vault_id, "saved": facts.generation, "unlocks": _ways(facts)})
        return EX_OK
    print(f"vault       {facts.path}\nid          {facts.vault_id}\nsaved       {facts.generation} times")
    print("opens with  " + ", ".join(f"{kind} {label}" if kind != label else kind for kind, label in facts.unlocks))
    return EX_OK


def run_unlocks(chosen: argparse.Namespace) -> int:
    facts = vault_admin.inspect(read_config(chosen).vault.path)
    if chosen.json:
        show_json(_ways(facts))
    else:
        show_table(("label", "kind"), [[label, kind] for kind, label in facts.unlocks])
    return EX_OK


def _ways(facts: vault_admin.VaultFacts) -> list[dict[str, str]]:
    return [{"label": label, "kind": kind} for kind, label in facts.unlocks]


def run_verify(chosen: argparse.Namespace) -> int:
    """0 where every account can be read, 1 where one cannot."""
    config = read_config(chosen)
    accounts = open_accounts(config)
    for problem in accounts.unreadable:
        print(problem)
    print(f"{config.vault.path}: {counted(len(accounts.directory().accounts), 'account')} can be read.")
    return EX_WRONG if accounts.unreadable else EX_OK


def run_add_unlock(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_way(config)
    with _new_way(chosen, chosen.way) as new:
        label = vault_admin.add_unlock(config.vault.path, current, new, chosen.label)
    print(f"The vault opens with {label} as well. {service_will_notice(config)}")
    return EX_OK


def run_remove_unlock(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    question = f"Shall {chosen.label} open the vault no longer? The copy of the generation before goes, too."
    if not chosen.yes and not agreed(question):
        print("Nothing was changed.")
        return EX_WRONG
    vault_admin.remove_unlock(config.vault.path, vault_way(config), chosen.label)
    print(f"{chosen.label} opens the vault no longer. {service_will_notice(config)}")
    print("Whoever knew it may have read the passwords: if that matters, rekey, and change them at the provider.")
    return EX_OK


def run_rekey(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_way(config)
    others = [unlock_method(way, terminal_prompt()) for way in chosen.others]
    vault_admin.rekey(config.vault.path, current, others, chosen.drop)
    print(f"Everything in the vault is sealed under a new key. {service_will_notice(config)}")
    print("Copies made before still open with what opened them.")
    return EX_OK


def run_export(chosen: argparse.Namespace) -> int:
    config = read_config(chosen)
    current = vault_way(config)
    with _new_way(chosen, chosen.opens_with) as new:
        vault_admin.export(config.vault.path, current, chosen.file, new)
    print(f"{chosen.file} is a sealed copy. On the other machine: senderproxy vault import {chosen.file.name}")
    return EX_OK


def run_import(chosen: argparse.Namespace) -> int:
    """The copy stays as it is; the vault opens as the configuration says."""
    config = read_config(chosen)
    opens = unlock_method(
        chosen.opens_with, lambda _: known_secret("passphrase of the copy", from_stdin=_stdin(chosen))
    )
    with _new_way(chosen, config.vault.unlock) as new:
        vault_admin.restore(chosen.file, opens, config.vault.path, new)
    count = len(VaultAccounts.open(config.vault.path, new).directory().accounts)
    print(f"{config.vault.path} is there with {counted(count, 'account')}. {service_will_notice(config)}")
    return EX_OK


def _stdin(chosen: argparse.Namespace) -> bool:
    return bool(chosen.passphrase_stdin)


@contextmanager
def _new_way(chosen: argparse.Namespace, way: str) -> Iterator[UnlockMethod]:
    """A way to open a vault from now on; a key file that was made for it goes again where the rest fails."""
    made = _missing_key_file(way)
    new = vault_admin.new_unlock_method(
        way, lambda: new_secret("new passphrase", from_stdin=_stdin(chosen)), terminal_prompt()
    )
    try:
        yield new
    except BaseException:
        if made:
            made.unlink(missing_ok=True)
        raise
    if made:
        print(f"Key file {made} was made. Keep a copy of it apart from the vault's backup.")


def _missing_key_file(way: str) -> Path | None:
    kind, _, path = way.partition(":")
    return Path(path) if kind == "key-file" and path and not Path(path).exists() else None
