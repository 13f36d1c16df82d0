"""Sealed files: octets under a passphrase, with the errors of the vault library translated for the operator.

Guarantees: every octet that is read is authentic; the end of the file is only reached if it is complete.
Not here: the meaning of the octets (backup.archive), the format (vault).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from senderproxy.accounts.errors import AccountsError, accounts_error
from senderproxy.errors import InvalidFile
from senderproxy.translation import _
from vault import Damaged, Passphrase, StreamReader, StreamWriter, TooNew, VaultError, WrongKey


class SealedFileDamaged(InvalidFile):
    """The file is not as it was written, or it is another kind of file."""


class SealedFileTooNew(InvalidFile):
    """The file was written by a later version of senderproxy."""


class WrongPassphrase(AccountsError):
    """The file is intact, and was sealed with another passphrase."""


class SealedWriter:
    """A sealed file in the making. Without `finish` it cannot be read."""

    def __init__(self, out: BinaryIO, passphrase: str) -> None:
        """Write the header. Raises AccountsError, OSError."""
        with _errors_of("it"):
            self._stream = StreamWriter(out, Passphrase(passphrase))

    def write(self, octets: bytes) -> None:
        """Add octets. Raises OSError."""
        self._stream.write(octets)

    def finish(self) -> None:
        """Write the end. Raises OSError."""
        self._stream.finish()


class SealedReader:
    """The octets of a sealed file."""

    def __init__(self, source: BinaryIO, passphrase: str, name: str) -> None:
        """Read the header. `name`: for errors. Raises InvalidFile, AccountsError, OSError."""
        self._name = name
        with _errors_of(name):
            self._stream = StreamReader(source, Passphrase(passphrase))

    def read(self, size: int) -> bytes:
        """Return so many octets, fewer only at the end. Raises InvalidFile, OSError."""
        with _errors_of(self._name):
            return self._stream.read(size)


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise SealedFileDamaged(
            _("{name} is damaged: {error}.").format(name=name, error=error), hint=_("Use another backup.")
        ) from error
    except TooNew as error:
        raise SealedFileTooNew(
            _("{name} was written by a later version of senderproxy: {error}.").format(name=name, error=error),
            hint=_("Install that version."),
        ) from error
    except WrongKey as error:
        raise WrongPassphrase(
            _("This passphrase does not open {name}.").format(name=name),
            hint=_("Try again with the passphrase that sealed it. The file itself is intact so far."),
        ) from error
    except VaultError as error:
        translated: AccountsError = accounts_error(error)
        raise translated from error
