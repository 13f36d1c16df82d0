"""Errors of the vault, one class for each kind.

Guarantees: the text of an error gives the problem, its `hint` the remedy. Neither contains a secret or a part of a
record.

Not here: the layout of both on a terminal or a page.
"""

import shlex
from enum import Enum
from pathlib import Path


class VaultError(Exception):
    """Base class of all errors that are not a mistake in the caller's code."""

    def __init__(self, message: str, *, hint: str, path: Path | None = None) -> None:
        super().__init__(message)
        self._hint = hint
        self.path = path
        """The file concerned, once it is known."""

    def set_path(self, path: Path | None) -> None:
        """Name the file concerned, unless the error already names one (a key file, a lock)."""
        self.path = self.path or path

    @property
    def hint(self) -> str:
        """The remedy. A command in it can be typed as printed."""
        return self._hint if self.path is None else self._hint.replace("PATH", shlex.quote(str(self.path)))

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.path is None else f"{self.path}: {message}"


class WrongKey(VaultError):
    """The file is intact, but the given secret does not unlock it."""


class Damage(Enum):
    """Kind of damage to a file."""

    TRUNCATED = "truncated"
    TRAILING = "trailing bytes"
    MALFORMED = "malformed"
    ALTERED = "altered"
    EXCHANGED = "exchanged"


class Damaged(VaultError):
    """The file is not as it was written. Nothing in it is used."""

    def __init__(self, message: str, *, damage: Damage, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or _PREVIOUS_GENERATION)
        self.damage = damage
        self._is_usual = hint is None

    @property
    def hint(self) -> str:
        """The remedy. Only a file has its previous generation beside it."""
        return _OTHER_BACKUP if self._is_usual and self.path is None else super().hint


_OTHER_BACKUP = "Use another backup."
_PREVIOUS_GENERATION = (
    "The previous generation is in PATH.bak. To restore it: mv PATH PATH.damaged && cp -p PATH.bak PATH"
)


class TooNew(VaultError):
    """The file is intact, but its format version is newer than this program supports."""


class RolledBack(VaultError):
    """The file is intact and opens, but is an older generation than the caller requires."""


class NoSuchRecord(VaultError):
    """No record of that name."""


class NoSuchUnlock(VaultError):
    """No unlock method with that label."""


class WouldLockOut(VaultError):
    """The change would lock out a holder of a current unlock method."""


class InUse(VaultError):
    """Another writer holds the lock or has changed the file."""


class UnsafeFile(VaultError):
    """Other users can read or change the file, or it is not a regular file."""


class NoBackend(VaultError):
    """The machine lacks something that this unlock method needs: a keyring, a credential, an algorithm."""


class KeyringLocked(NoBackend):
    """The keyring is locked, asks for a password, or does not respond."""


class Missing(VaultError):
    """No such file, or no such entry in the keyring."""


class MissingKey(Missing):
    """No key file at the path that was given, or no entry of that name in the keyring."""


class Exists(VaultError):
    """The file or the keyring entry exists already and is not overwritten."""


class DiskError(VaultError):
    """The system failed to read or write. Unless the text says otherwise, the file is unchanged."""
