"""The vault as a file: what it shows, who may open it, a new key, a copy for another machine.

Guarantees: each change is one atomic step; where it fails, what was in force stays in force. No way in is taken away
without another one left.
Not here: the accounts inside (accounts.vault_accounts), asking a person (cli).
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from senderproxy.accounts.vault_accounts import (
    EXIT_USAGE,
    KEYRING_NAME,
    AccountsError,
    Prompt,
    Way,
    told,
    unlock_way,
)
from vault import Exists, KeyFile, Keyring, Passphrase, Vault, VaultError


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """What a vault shows without being opened."""

    path: str
    vault_id: str
    generation: int  # counts the saves
    ways_in: tuple[tuple[str, str], ...]  # kind and label of each way to open it


def inspect(path: Path | str) -> VaultFacts:
    """See what the file shows to whoever may read it. Raises AccountsError."""
    with _in_our_words():
        outside = Vault.inspect(path)
    ways = tuple((way.kind, way.label) for way in outside.unlocks)
    return VaultFacts(str(path), outside.vault_id, outside.generation, ways)


def new_way(unlock: str, ask_new: Callable[[], str], prompt: Prompt | None) -> Way:
    """A way to open a vault from now on: a key file or keyring entry that is not there yet is made.

    `ask_new` asks a person for a new passphrase. Raises AccountsError.
    """
    kind, _, argument = unlock.partition(":")
    with _in_our_words():
        if kind == "key-file" and argument and not Path(argument).exists():
            return KeyFile.generate(argument)
        if kind == "keyring" and argument:
            try:
                return Keyring.generate(KEYRING_NAME, service=argument)
            except Exists:
                return Keyring(KEYRING_NAME, service=argument)
        if kind == "passphrase":
            return Passphrase(ask_new())
    return unlock_way(unlock, prompt)


def add_way(path: Path | str, current: Way, new: Way, label: str | None) -> str:
    """Let one more way open the vault; the label it got. Raises AccountsError."""
    with _in_our_words(), Vault.open(path, unlock=current, write=True) as box:
        given = box.add_unlock(new, label=label)
        box.save()
        return given


def remove_way(path: Path | str, current: Way, label: str) -> None:
    """Let that way open the vault no longer. Raises AccountsError, also where it is the only one."""
    with _in_our_words(), Vault.open(path, unlock=current, write=True) as box:
        box.remove_unlock(label)
        box.save()


def rekey(path: Path | str, current: Way, others: Collection[Way], drop: Collection[str]) -> None:
    """Seal everything under a new key, for the ways given and no others. Raises AccountsError.

    A way that is neither given nor named in `drop` would be left outside: that is refused.
    """
    with _in_our_words(), Vault.open(path, unlock=current, write=True) as box:
        box.rekey(current, *others, drop=drop)
        box.save()


def export(path: Path | str, current: Way, copy: Path | str, new: Way) -> None:
    """Write a sealed copy that only `new` opens. Overwrites nothing. Raises AccountsError."""
    with _in_our_words(), Vault.open(path, unlock=current) as box:
        box.export(copy, unlock=new)


def restore(copy: Path | str, opens: Way, path: Path | str, new: Way) -> None:
    """Make this machine's vault of a sealed copy. Overwrites nothing. Raises AccountsError."""
    with _in_our_words():
        Vault.restore(copy, path, unlock=opens, new=new)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        raise told(error) from error
    except ValueError as error:  # a label that is none or is taken, one way too many
        raise AccountsError(f"That cannot be done to the vault: {error}.", exit_code=EXIT_USAGE) from error
