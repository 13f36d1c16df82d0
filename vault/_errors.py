"""What can be wrong with a vault, each kind under a name of its own.

Guarantees: every error says what is wrong in its text and, in `hint`, what to do or type to mend it. Neither ever
carries a secret or a piece of a record.
Not here: how both are laid out on a terminal or a page.
"""

import shlex
from enum import Enum
from pathlib import Path


class VaultError(Exception):
    """The root of everything this library raises when the world, and not the caller's code, is at fault."""

    def __init__(self, message: str, *, hint: str, path: Path | None = None) -> None:
        super().__init__(message)
        self._hint = hint
        self.path = path
        """The file it is about, as soon as that is known."""

    def about(self, path: Path) -> None:
        """Name the file, unless the error already speaks of another one (a key file, a lock)."""
        self.path = self.path or path

    @property
    def hint(self) -> str:
        """What to do about it; where it names a command, the command can be typed as it stands."""
        return self._hint if self.path is None else self._hint.replace("PATH", shlex.quote(str(self.path)))

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.path is None else f"{self.path}: {message}"


class WrongKey(VaultError):
    """The file is as it was written, but what was offered does not unlock it."""


class Damage(Enum):
    """In which way a file is not what was written."""

    TRUNCATED = "truncated"
    TRAILING = "trailing bytes"
    MALFORMED = "malformed"
    ALTERED = "altered"
    EXCHANGED = "exchanged"


class Damaged(VaultError):
    """The file is not what was written; nothing in it is used."""

    def __init__(self, message: str, *, damage: Damage, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or _GENERATION_BEFORE)
        self.damage = damage


_GENERATION_BEFORE = (
    "The generation before lies beside it. To go back to that: mv PATH PATH.damaged && cp -p PATH.bak PATH"
)


class TooNew(VaultError):
    """The file is whole, but of a later version of the format than this program knows."""


class RolledBack(VaultError):
    """The file is whole and opens, but it is an older generation than the caller has already seen."""


class NoSuchRecord(VaultError):
    """No record of that name."""


class NoSuchUnlock(VaultError):
    """No way to unlock of that label."""


class WouldLockOut(VaultError):
    """Carried out, this would leave somebody who can open the vault today without a way in."""


class InUse(VaultError):
    """Another writer is at work."""


class Unsafe(VaultError):
    """Others than the owner can read or change the file, or it is not the plain file it should be."""


class NoBackend(VaultError):
    """The machine lacks what this way to unlock rests on: a keyring, a credential, an algorithm."""


class Missing(VaultError):
    """No such file, or no such entry in the keyring."""


class Exists(VaultError):
    """There is one already, and it is not overwritten."""


class DiskTrouble(VaultError):
    """The system refused to read or write; unless the text says otherwise, the file is as it was before."""
