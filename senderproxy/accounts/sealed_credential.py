"""The key of the vault as a systemd credential, encrypted to this machine: `credential:NAME`.

A unit gets it with LoadCredentialEncrypted=. Outside the unit root decrypts it with systemd-creds(1), as systemd does
for the unit; so `check`, `account` and `vault` work for root while the key is sealed.

Guarantees: the key is in memory and in a pipe, never in a file in plain text. No function waits longer than 60 s.
Not here: the unit, the vault (accounts.vault_admin).
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from senderproxy.accounts.errors import AccountsError, InvalidVaultRequest
from senderproxy.translation import _
from vault import KeyFile, NoBackend, SuppliedKey, Unlock

STORE: Final = Path("/etc/credstore.encrypted")  # systemd.exec(5); the directory is missing on Debian 12
_PROGRAM: Final = "systemd-creds"
_TIMEOUT: Final = 60.0  # seconds; a TPM needs one or two


def credential_unlock(name: str) -> Unlock:
    """The unlock method `credential:NAME`.

    Raises InvalidVaultRequest for an invalid name, NoBackend if the credential is not available here.
    """
    if not name or "/" in name or name in (".", ".."):
        raise InvalidVaultRequest(_("{name} is not the name of a credential.").format(name=repr(name)))
    if _passed_by_systemd(name):
        return KeyFile.from_credential(name)
    if is_available(name):
        return SuppliedKey(lambda: decrypt(name), source=sealed_file(name))
    if os.geteuid() == 0:
        raise NoBackend(
            f"no credential {name!r}: there is no {sealed_file(name)}", hint=_("Make it: senderproxy vault seal.")
        )
    raise NoBackend(
        f"no credential {name!r}: only the service and root have it",
        hint=_("Use sudo. If the service itself logs this, its unit does not pass it: sudo senderproxy vault seal."),
    )


def is_available(name: str) -> bool:
    """True if this process has the credential from systemd, or may decrypt it."""
    return _passed_by_systemd(name) or (os.geteuid() == 0 and sealed_file(name).exists())


def _passed_by_systemd(name: str) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return directory is not None and Path(directory, name).exists()


def sealed_file(name: str) -> Path:
    """The file with the encrypted credential."""
    return STORE / name


def decrypt(name: str) -> bytes:
    """The content of the credential, for root. Raises AccountsError."""
    return _run(["decrypt", f"--name={name}", str(sealed_file(name)), "-"], b"")


def seal(name: str, content: bytes, with_key: str) -> None:
    """Encrypt the content to this machine and write it to `sealed_file`, readable by root only.

    `with_key` as for `systemd-creds --with-key=`: auto, host, tpm2, host+tpm2. An existing file is replaced. Raises
    AccountsError or OSError.
    """
    sealed = _run(["encrypt", f"--name={name}", f"--with-key={with_key}", "-", "-"], content)
    file = sealed_file(name)
    STORE.mkdir(mode=0o700, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        out.write(sealed)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def require_program() -> None:
    """Raise AccountsError if systemd-creds is missing."""
    if shutil.which(_PROGRAM) is None:
        raise AccountsError(
            _("This machine has no systemd-creds, which seals the key: it needs systemd 250 or later."),
            hint=_("Use a key file instead: senderproxy vault add-unlock key-file:PATH"),
        )


def _run(arguments: list[str], content: bytes) -> bytes:
    require_program()
    try:
        done = subprocess.run(  # noqa: S603  a fixed program, without a shell
            [_PROGRAM, *arguments], input=content, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise AccountsError(_("systemd-creds did not answer within {seconds:g} s.").format(seconds=_TIMEOUT)) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split()) or str(done.returncode)
        raise AccountsError(
            _("systemd-creds failed: {reason}").format(reason=words),
            hint=_(
                "After a move of the disk to other hardware, open the vault with the recovery passphrase and seal it"
                " again: senderproxy --unlock passphrase vault seal"
            ),
        )
    return done.stdout
