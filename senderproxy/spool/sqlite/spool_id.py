"""Id of a spool, in a file beside its database.

Guarantees: a spool that has an id had a database. If the database is gone, no empty one takes its place: only a person
decides that (spool.sqlite.reset).
Not here: the check at the opening (spool.sqlite.database).
"""

import os
import uuid
from contextlib import suppress
from typing import Final

from senderproxy.spool.sqlite.spool_folder import DISK_FULL, SpoolFolder

NAME: Final = "spool.id"
_NEW: Final = f"{NAME}.new"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE: Final = 0o600  # mode: readable and writable for the service's user only


def ensure_id(folder: SpoolFolder) -> None:
    """Give the spool an id, if it has none. On a full disk, the next opening does so. Raises OSError."""
    if NAME in folder.names():
        return
    with suppress(FileNotFoundError):
        os.unlink(_NEW, dir_fd=folder.fd)
    try:
        _write(folder)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        with suppress(OSError):
            os.unlink(_NEW, dir_fd=folder.fd)


def _write(folder: SpoolFolder) -> None:
    file = os.open(_NEW, _FLAGS, _PRIVATE, dir_fd=folder.fd)
    try:
        os.fchmod(file, _PRIVATE)  # independent of the umask
        folder.give_to_owner(file)
        os.write(file, f"{uuid.uuid4()}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(_NEW, NAME, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    folder.sync()
