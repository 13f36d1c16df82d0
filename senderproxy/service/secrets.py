"""Secrets of the configuration that are no passwords of accounts: `file:PATH` or `credential:NAME`.

Guarantees: a secret is read on a thread when it is needed, so a new one is in force at once, and a disk that hangs
delays nothing else. No error contains it. A file that every user of the machine can read is refused.
Not here: the key of the vault (accounts.unlock), accounts (the vault).
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from senderproxy.accounts import sealed_credential
from senderproxy.aio import wait_done
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_LIMIT: Final = 16 * 1024  # octets; a URL has a few hundred
_SECONDS: Final = 10.0  # for a disk that sleeps
_WAITING: Final = 8  # reads that wait for the thread; more only wait for the same disk


class SecretUnreadable(SenderproxyError):
    """A secret is missing, empty, or readable for everybody."""


def read_secret(source: str, environment: Mapping[str, str] = os.environ) -> str:
    """The secret, without blanks around it. May block. Raises SecretUnreadable.

    `source`: as in the configuration. A credential is the one that systemd passed to this process; for root it is
    also decrypted from the folder of the sealed ones.
    """
    kind, _colon, name = source.partition(":")
    text = _credential(name, environment) if kind == "credential" else _file(Path(name), check_mode=True)
    if not (text := text.strip()):
        raise SecretUnreadable(_("{source} is empty.").format(source=source), hint=_("write the secret to it"))
    return text


def _credential(name: str, environment: Mapping[str, str]) -> str:
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory is not None and (path := Path(directory, name)).exists():
        return _file(path, check_mode=False)
    if os.geteuid() == 0 and sealed_credential.sealed_file(name).exists():
        return sealed_credential.decrypt(name).decode("utf-8", "replace")
    raise SecretUnreadable(
        _("There is no credential {name}.").format(name=name),
        hint=_("systemd passes it to the service alone: see LoadCredentialEncrypted= in systemd.exec(5)"),
    )


def _file(path: Path, *, check_mode: bool) -> str:
    try:
        with path.open("rb") as file:
            if check_mode and os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise SecretUnreadable(
                    _("Every user of this machine can read or change {path}.").format(path=path),
                    hint=f"chmod 600 {path}",
                )
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        raise SecretUnreadable(
            _("{path} cannot be read: {why}").format(path=path, why=error.strerror or type(error).__name__),
            hint=_("it must exist and belong to the user of the service: chown senderproxy: {path}").format(path=path),
        ) from error


class SecretReader:
    """Reads secrets on a thread."""

    def __init__(self) -> None:
        self._threads = WorkerThreads("secrets", queue_limit=_WAITING)

    async def read(self, source: str) -> str:
        """See `read_secret`."""
        try:
            reading = self._threads.do(read_secret, source)
        except WorkerThreadsError:
            raise _not_responding(source) from None
        try:
            await wait_done(reading, _SECONDS)
            if not reading.done():
                raise _not_responding(source)
            return reading.result()
        finally:
            reading.cancel()

    def close(self) -> None:
        """Read no more."""
        self._threads.stop()


def _not_responding(source: str) -> SecretUnreadable:
    return SecretUnreadable(_("{source} cannot be read: the disk does not respond.").format(source=source))
