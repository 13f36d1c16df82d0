"""A new unlock of a vault: its key file, keyring entry, credential or passphrase.

Guarantees: what was made for a command that fails afterwards is removed again. An existing entry of the keyring is used
only after a question. A setting with which no service can start is named as such before anything is made.
Not here: the unlock methods (accounts.vault_admin), the questions on the terminal (cli.terminal).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from senderproxy.accounts.sealed_credential import sealed_file
from senderproxy.accounts.unlock import UnlockMethod, starts_alone
from senderproxy.accounts.vault_admin import new_unlock_method
from senderproxy.accounts.vault_place import VaultPlace
from senderproxy.cli.terminal import ask_new_passphrase, confirm, is_interactive, is_yes, passphrase_prompt
from senderproxy.cli.vault_place import may_need_key
from senderproxy.translation import _


@contextmanager
def new_unlock(setting: str, vault: VaultPlace = "", *, passphrase_from_stdin: bool = False) -> Iterator[UnlockMethod]:
    """An unlock method that the setting names; what was made for it is removed again if the block fails.

    `vault`: the place of one that the block creates. One in a database may be there after a failure, and keeps its key.
    `passphrase_from_stdin`: a new passphrase is the next line of standard input. Raises AccountsError, UsageError.
    """
    new = new_unlock_method(
        setting,
        lambda: ask_new_passphrase(_("New passphrase"), from_stdin=passphrase_from_stdin),
        passphrase_prompt(),
        may_reuse=may_reuse_key,
    )
    try:
        yield new.method
    except BaseException:
        if not may_need_key(vault):
            new.discard()
        raise
    kind, _colon, place = new.created.partition(":")
    if kind == "key-file":
        print(_("Created the key file {path}. Keep a copy apart from the vault's backup.").format(path=place))
    elif kind == "keyring":
        print(_("Stored a new key in the keyring, for the service name {name}.").format(name=place))
    elif kind == "credential":
        print(_("Sealed a new key to this machine: {path}").format(path=sealed_file(place)))


def choose_key(setting: str, *, may_ask: bool) -> str:
    """The setting, or `key-file` if the operator prefers it to an unlock by hand."""
    if starts_alone(setting):
        return setting
    if setting.startswith("keyring"):
        print(_("A service has no keyring: it is open only while its user is logged in."))
    else:
        print(_("A service cannot ask for a passphrase: it starts without a person."))
    if may_ask:
        answer = input(_("Use a key file instead?") + " [Y/n] ")
        return setting if answer.strip() and not is_yes(answer) else "key-file"
    print(_("For a service: --key key-file. It can be added later: senderproxy vault add-unlock key-file:PATH"))
    return setting


def may_reuse_key(service: str) -> bool:
    """True if the operator wants to use the keyring's existing key for that service name."""
    question = _("The keyring has a key for {name} already. Use it for this vault, too?").format(name=service)
    return is_interactive() and confirm(question)
