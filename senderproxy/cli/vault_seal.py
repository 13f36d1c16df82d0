"""`senderproxy vault seal`: the vault's key sealed to this machine, for the service of systemd.

Guarantees: nothing is removed before a unit of systemd has opened the vault with the sealed key as the service's user.
If a step fails, credential, drop-in, unlocks and configuration are as before. The vault has a passphrase afterwards:
without one it would be lost with the machine.
Not here: systemd-creds (accounts.sealed_credential), the vault (accounts.vault_admin).
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from senderproxy.accounts import sealed_credential, vault_admin
from senderproxy.accounts.errors import AccountsError
from senderproxy.accounts.unlock import UnlockMethod, new_passphrase, unlock_method
from senderproxy.cli.common import SERVICE_USER, config_path, read_config, vault_unlock
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.terminal import ask_new_passphrase, confirm, is_interactive, print_field
from senderproxy.cli.vault_place import vault_place
from senderproxy.config.load import load_config
from senderproxy.config.model import Config
from senderproxy.config.toml_edit import with_settings
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

UNIT: Final = "senderproxy.service"
_LABEL: Final = "sealed"  # of the credential's unlock
_RECOVERY: Final = "recovery"  # label of the passphrase
_UNITS: Final = Path("/etc/systemd/system")
_CHECK_UNIT: Final = "senderproxy-vault-check.service"
_CHECK_OUTPUT: Final = Path("/run/senderproxy-vault-check.log")
_TIMEOUT: Final = 120.0  # seconds for systemctl; a restart waits for stop_seconds at most


class SealFailed(SenderproxyError):
    """systemd did not open the vault with the sealed key; nothing was changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy vault seal`."""
    parser.add_argument(
        "--name", default="vault-key", metavar="NAME", help=_("name of the credential (default: vault-key)")
    )
    parser.add_argument(
        "--with-key",
        choices=("auto", "host", "tpm2", "host+tpm2"),
        default="auto",
        help=_("what seals it: the TPM, the host key, or both (default: as systemd-creds chooses)"),
    )
    parser.add_argument("--yes", action="store_true", help=_("remove the key file without a question"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if the service opens the vault with the sealed key."""
    require_systemd()
    path = config_path(chosen)
    config, configured = read_config(chosen), load_config(path)
    setting = f"credential:{chosen.name}"
    before = path.read_text(encoding="utf-8-sig")
    after = with_settings(before, {("vault", "unlock"): setting})
    current = vault_unlock(config)
    recovery = _recovery_passphrase(config)
    restarted = False
    with ExitStack() as undo:
        undo.callback(lambda: restarted and _systemctl("restart", UNIT, check=False))
        sealed = _seal(chosen, config, current, recovery, undo)
        _install_drop_in(chosen.name, undo)
        _verify(path, setting, config)
        undo.enter_context(_Restored(path))
        if after != before:
            path.write_text(after, encoding="utf-8")
            restarted = _is_active()
        if restarted:
            _systemctl("restart", UNIT)
        undo.pop_all()
    print_field(_("sealed key"), str(sealed_credential.sealed_file(chosen.name)))
    print_field(_("unit"), str(_drop_in()))
    print_field(_("configuration"), f'{path}: unlock = "{setting}"')
    print(_("A unit of systemd has opened the vault with the sealed key, as the service's user."))
    if restarted:
        print(_("The service was restarted with it."))
    print(_("Root can decrypt it on this machine: account, check and vault ask for no passphrase with sudo."))
    _remove_key_file(chosen, configured, sealed)
    return EX_OK


# ---- conditions ----


def require_systemd() -> None:
    """Raise an error if the key cannot be sealed here."""
    if os.geteuid() != 0:
        raise UsageError(_("Only root can seal the key to this machine."), hint=_("Use sudo."))
    if not Path("/run/systemd/system").is_dir():
        raise InputError(
            _("systemd does not run here, so no unit can get the sealed key."),
            hint=_("In a container use a key file, mounted as a secret: docs/vault.md"),
        )
    sealed_credential.require_program()


def _recovery_passphrase(config: Config) -> str | None:
    """A passphrase to add; None if the vault has one already."""
    facts = vault_admin.inspect(vault_place(config))
    if labels := [label for kind, label in facts.unlocks if kind == "passphrase"]:
        print(
            _("The vault has a passphrase: {labels}. It opens the vault if this machine is lost.").format(
                labels=", ".join(labels)
            )
        )
        return None
    print(_("The vault needs a recovery passphrase: without it, it is lost with this machine. Keep it in a safe."))
    return ask_new_passphrase(_("Recovery passphrase"))


# ---- the steps ----


def _seal(
    chosen: argparse.Namespace, config: Config, current: UnlockMethod, recovery: str | None, undo: ExitStack
) -> UnlockMethod:
    """Make the credential, and add it and the recovery passphrase to the vault. Returns the new unlock."""
    vault = vault_place(config)
    file = sealed_credential.sealed_file(chosen.name)
    if file.exists():
        existing = unlock_method(f"credential:{chosen.name}", None)
        if not vault_admin.labels_opened_by(vault, current, existing):
            raise AccountsError(
                _("{path} exists already and does not open this vault.").format(path=file),
                hint=_("Use another --name, or move it away: mv {path} {path}.old").format(path=file),
            )
        if recovery is not None:
            vault_admin.add_unlock(vault, current, new_passphrase(recovery), _RECOVERY)
        return existing
    new = vault_admin.new_unlock_method(f"credential:{chosen.name}", str, None, with_key=chosen.with_key)
    undo.callback(new.discard)
    before = {label for _kind, label in vault_admin.inspect(vault).unlocks}
    added = [(new.method, _unused(_LABEL, before))]
    if recovery is not None:
        added.append((new_passphrase(recovery), _unused(_RECOVERY, before)))
    vault_admin.add_unlocks(vault, current, added)
    undo.callback(vault_admin.remove_unlocks, vault, current, [label for _method, label in added])
    return new.method


def _unused(label: str, taken: set[str]) -> str:
    numbered = (f"{label}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (label, *numbered) if name not in taken)


def _drop_in() -> Path:
    return _UNITS / f"{UNIT}.d" / "vault-key.conf"


def install_drop_in(name: str) -> Callable[[], None]:
    """Let the unit pass the credential to the service. Returns the way back. Raises SealFailed, OSError."""
    undo = ExitStack()
    try:
        _install_drop_in(name, undo)
    except BaseException:
        undo.close()
        raise
    return undo.close


def _install_drop_in(name: str, undo: ExitStack) -> None:
    file = _drop_in()
    file.parent.mkdir(parents=True, exist_ok=True)
    undo.callback(_systemctl, "daemon-reload", check=False)
    undo.enter_context(_Restored(file))
    file.write_text(
        "# Written by `senderproxy vault seal`: systemd decrypts the vault's key for the service.\n"
        f"[Service]\nLoadCredentialEncrypted={name}:{sealed_credential.sealed_file(name)}\n",
        encoding="utf-8",
    )
    file.chmod(0o644)
    _systemctl("daemon-reload")


def _verify(path: Path, setting: str, config: Config) -> None:
    """Let systemd decrypt the key for the service's user, who opens the vault with it. Raises SealFailed."""
    program = shutil.which("senderproxy")
    command = [program] if program else [sys.executable, "-m", "senderproxy"]
    command += ["--config", str(path), "--unlock", setting, "vault", "verify"]
    unit = Path("/run/systemd/system") / _CHECK_UNIT
    unit.parent.mkdir(parents=True, exist_ok=True)
    _CHECK_OUTPUT.unlink(missing_ok=True)
    unit.write_text(
        f"[Service]\nType=oneshot\nUser={SERVICE_USER}\nExecStart={shlex.join(command)}\n"
        f"{_loaded_credentials(setting, config)}"
        f"StandardOutput=null\nStandardError=file:{_CHECK_OUTPUT}\n",
        encoding="utf-8",
    )
    try:
        _systemctl("daemon-reload")
        _systemctl("start", _CHECK_UNIT)
    except SealFailed as error:
        words = _CHECK_OUTPUT.read_text(errors="replace").strip() if _CHECK_OUTPUT.exists() else ""
        raise SealFailed(
            _("The service's user cannot open the vault with the sealed key: {reason}").format(
                reason=words or error.message
            ),
            hint=_("Nothing was changed. The log has more: journalctl -u {unit}").format(unit=_CHECK_UNIT),
        ) from error
    finally:
        unit.unlink(missing_ok=True)
        _CHECK_OUTPUT.unlink(missing_ok=True)
        _systemctl("reset-failed", _CHECK_UNIT, check=False)
        _systemctl("daemon-reload", check=False)


def _loaded_credentials(setting: str, config: Config) -> str:
    """The lines of a unit that opens the vault: its key, and the password of a database that has it."""
    places = [setting, (config.vault.in_database and config.spool.engine_password) or ""]
    names = [name for kind, _colon, name in (place.partition(":") for place in places) if kind == "credential"]
    files = [(name, sealed_credential.sealed_file(name)) for name in names]
    return "".join(f"LoadCredentialEncrypted={name}:{file}\n" for name, file in files if file.exists())


def _remove_key_file(chosen: argparse.Namespace, before: Config, sealed: UnlockMethod) -> None:
    """Remove the key file that the configuration named before, with its unlock, after a question."""
    kind, _colon, place = before.vault.unlock.partition(":")
    file = Path(place)
    if kind != "key-file" or not file.exists():
        return
    labels = vault_admin.labels_opened_by(vault_place(before), sealed, unlock_method(before.vault.unlock, None))
    question = _("Remove the key file {path} and its unlock? The sealed key replaces it.").format(path=file)
    if not chosen.yes and not (is_interactive() and confirm(question)):
        print(_("The key file {path} still opens the vault. To remove it:").format(path=file))
        for label in labels:
            print_field("", f"senderproxy vault remove-unlock {label}")
        print_field("", f"rm {file}")
        return
    vault_admin.remove_unlocks(vault_place(before), sealed, labels)
    file.unlink()
    print(_("Removed the key file {path}. A copy of it still opens older copies of the vault.").format(path=file))


# ---- files and systemd ----


class _Restored:
    """A file that gets its content back, or is removed again, if the block around it is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes() if path.exists() else None

    def __enter__(self) -> None:
        """Nothing: the content was read when this was made."""

    def __exit__(self, *_error: object) -> None:
        if self._content is None:
            self._path.unlink(missing_ok=True)
        else:
            self._path.write_bytes(self._content)


def _is_active() -> bool:
    return _systemctl("is-active", "--quiet", UNIT, check=False) == 0


def _systemctl(*words: str, check: bool = True) -> int:
    """The exit code of systemctl. Raises SealFailed if `check` and it is not 0."""
    done = subprocess.run(  # noqa: S603  a fixed program, without a shell
        ["systemctl", *words],  # noqa: S607  as the operator's shell finds it
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    if check and done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"systemctl {' '.join(words)}: {done.returncode}"
        raise SealFailed(
            _("systemd reports: {reason}").format(reason=reason),
            hint=_("Nothing was changed. The log has more: journalctl -u {unit} -e").format(unit=UNIT),
        )
    return done.returncode
