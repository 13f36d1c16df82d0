"""Paths of an installation, and the files that `senderproxy setup` creates.

Guarantees: an existing file is never overwritten but renamed; a run that fails removes what it created and restores
what it renamed.
Not here: the contents (config.example, accounts.editor).
"""

import argparse
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from senderproxy.cli.common import SERVICE_USER, SYSTEM_CONFIG, user_config

_SYSTEM_STATE: Final = Path("/var/lib/senderproxy")
_SYSTEM_SOCKET: Final = Path("/run/senderproxy/control.sock")


@dataclass(frozen=True, slots=True)
class SetupPaths:
    """The paths of an installation: the system's for root, the user's for others, or all in one folder."""

    config: Path
    vault: Path
    key: Path
    control_socket: Path


def setup_paths(chosen: argparse.Namespace) -> SetupPaths:
    """The paths that `--config`, `--folder` and the user decide."""
    named = Path(chosen.config).absolute() if chosen.config else None
    if chosen.folder is not None:
        folder = chosen.folder.absolute()
        config = named or folder / "senderproxy.toml"
        return SetupPaths(config, folder / "accounts.vault", folder / "vault.key", folder / "control.sock")
    if os.geteuid() == 0:
        config, state, control_socket = named or SYSTEM_CONFIG, _SYSTEM_STATE, _SYSTEM_SOCKET
    else:
        config = named or user_config()
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "senderproxy"
        control_socket = state / "control.sock"
    return SetupPaths(config, state / "accounts.vault", config.parent / "vault.key", control_socket)


class CreatedFiles:
    """The files and folders that this run created or renamed, for a rollback."""

    def __init__(self) -> None:
        self._created: list[Path] = []
        self._folders: list[Path] = []
        self._renamed: list[tuple[Path, Path]] = []
        self._replaced: list[tuple[Path, Path]] = []  # each with the copy of its former content
        self._on_failure: list[Callable[[], None]] = []

    def call_on_failure(self, undo: Callable[[], None]) -> None:
        """Call this at a rollback, for changes other than files."""
        self._on_failure.append(undo)

    def write(self, path: Path, text: str) -> None:
        """Write a new file; an existing one is renamed."""
        self.reserve(path)
        with path.open("x", encoding="utf-8") as out:
            out.write(text)

    def replace(self, path: Path, text: str) -> None:
        """Change an existing file in one step; its owner and mode stay."""
        status = path.stat()
        former = path.with_name(f".{path.name}.former")
        former.unlink(missing_ok=True)
        os.link(path, former)
        self._replaced.append((path, former))
        new = path.with_name(f".{path.name}.new")
        self._created.append(new)
        with new.open("w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), stat.S_IMODE(status.st_mode))
            if os.geteuid() == 0:
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        new.rename(path)

    def complete(self) -> None:
        """Remove the copies made for a rollback."""
        for _path, former in self._replaced:
            former.unlink(missing_ok=True)

    def reserve(self, path: Path) -> None:
        """Make sure that a file can be created at the path, which counts as created from now on."""
        self.create_folder(path.parent)
        if path.exists():
            old = next(p for n in range(1, 1000) if not (p := path.with_name(f"{path.name}.before-{n}")).exists())
            path.rename(old)
            self._renamed.append((path, old))
        self._created.append(path)

    def create_folder(self, folder: Path) -> None:
        """Create a folder and its parents, for the owner only; others may enter that of the system's configuration."""
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(mode=0o755 if each.is_relative_to(SYSTEM_CONFIG.parent) or each != folder else 0o700)
            self._folders.append(each)

    def roll_back(self) -> None:
        """Remove created files and restore renamed or replaced ones."""
        for undo in self._on_failure:
            undo()
        for path in self._created:
            path.unlink(missing_ok=True)
        for path, former in self._replaced:
            former.rename(path)
        for path, old in self._renamed:
            old.rename(path)
        for folder in reversed(self._folders):
            if not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def rolled_back_on_failure() -> Iterator[CreatedFiles]:
    """Roll back if the block ends with an exception, Ctrl-C included."""
    created = CreatedFiles()
    try:
        yield created
    except BaseException:
        created.roll_back()
        raise
    created.complete()


def give_to_service(paths: SetupPaths) -> None:
    """Make the service's user the owner of what root created for it, except the configuration, which it only reads."""
    if os.geteuid() != 0 or paths.vault.parent != _SYSTEM_STATE:
        return
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return  # the unit changes the owner at the first start
    beside = [paths.vault.with_name(f"{paths.vault.name}.{ending}") for ending in ("lock", "bak")]
    for path in (paths.vault.parent, paths.vault, *beside, paths.key):
        if path.exists():
            os.chown(path, user.pw_uid, user.pw_gid)
