"""Unlock methods: the setting `vault.unlock`, turned into an object that opens the vault.

Guarantees: a secret is read only when the vault is opened with it. Every error names a method that works instead.
Not here: adding and removing unlocks of a vault (accounts.vault_admin), the prompt on the terminal (cli).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from senderproxy.accounts.errors import AccountsError, InvalidVaultRequest, accounts_error
from senderproxy.accounts.passphrases import passphrase_problem
from senderproxy.accounts.sealed_credential import credential_unlock
from senderproxy.translation import _, joined
from vault import KeyFile, Keyring, NoBackend, Passphrase, SuppliedKey, Unlock, VaultError

KEYRING_NAME: Final = "vault-key"
MOUNTED_KEY: Final = "mounted-key"  # a secret of a container: the runtime decides about its owner and mode
_MOUNTED_LIMIT: Final = 64 * 1024  # octets; a key has 56
Prompt: TypeAlias = Callable[[str], str]
UnlockMethod: TypeAlias = Unlock  # callers pass it on and do not look inside


def unlock_method(setting: str, prompt: Prompt | None) -> UnlockMethod:
    """Create the unlock method that the setting names.

    `setting` is `passphrase`, `key-file:PATH`, `credential:NAME` or `keyring:SERVICE`. `prompt` asks for the
    passphrase on the terminal; None where there is no terminal. Raises AccountsError.
    """
    kind, _colon, argument = setting.partition(":")
    try:
        match kind:
            case "key-file":
                return KeyFile(argument)
            case "mounted-key":
                return SuppliedKey(lambda: _read_mounted(Path(argument)), source=Path(argument))
            case "credential":
                return credential_unlock(argument)
            case "keyring":
                return Keyring(KEYRING_NAME, service=argument)
            case "passphrase":
                return _passphrase(prompt)
            case unknown:
                raise InvalidVaultRequest(
                    _("{kind} is not an unlock method.").format(kind=unknown),
                    hint=_("Use one of: passphrase, key-file:PATH, credential:NAME, keyring:SERVICE"),
                )
    except NoBackend as error:
        once = _("To use another unlock method this time: senderproxy --unlock passphrase ...")
        raise AccountsError(
            _("The vault cannot be opened: {error}.").format(error=error), hint=joined(" ", (error.hint, once))
        ) from error
    except VaultError as error:
        raise accounts_error(error) from error


def new_passphrase(text: str) -> Passphrase:
    """A passphrase for a new unlock or a new copy. Raises InvalidVaultRequest if it is too short."""
    if problem := passphrase_problem(text):
        raise InvalidVaultRequest(problem)
    return Passphrase(text)


def starts_alone(setting: str) -> bool:
    """True if a service can open the vault with this setting at the start, without a person or a session."""
    return setting.partition(":")[0] in ("key-file", MOUNTED_KEY, "credential")


def make_key_file(path: Path) -> None:
    """Write a new random key, readable by its owner only. An existing file stays. Raises AccountsError."""
    try:
        KeyFile.generate(path)
    except VaultError as error:
        raise accounts_error(error) from error


def _read_mounted(path: Path) -> bytes:
    """The content of a mounted secret. Raises AccountsError."""
    try:
        with path.open("rb") as file:
            return file.read(_MOUNTED_LIMIT)
    except OSError as error:
        raise AccountsError(
            _("The key {path} cannot be read: {error}.").format(path=path, error=error.strerror),
            hint=_("Mount the secret for the user of the container (10025), or correct SENDERPROXY_VAULT_KEY_FILE."),
        ) from error


def _passphrase(prompt: Prompt | None) -> Passphrase:
    if prompt is None:
        raise AccountsError(
            _("The vault needs a passphrase, and there is no terminal to ask for it."),
            hint=_(
                "Use --passphrase-stdin or --passphrase-file FILE. For a service add a key file: senderproxy vault"
                " add-unlock key-file:PATH"
            ),
        )
    text = prompt(_("Passphrase of the vault: "))
    if not text:
        raise AccountsError(_("The passphrase is empty."))
    return Passphrase(text)
