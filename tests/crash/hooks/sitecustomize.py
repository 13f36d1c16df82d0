"""Read by every Python that has this folder in PYTHONPATH: makes a service suffer what a test cannot do to it.

DISK_HANGS_WHILE names a file: as long as it is there, no commit of a database and no sync of a file comes back.
DIES_OF is a text: whoever sends it over TLS aborts, as by a fault in a library that is not written in Python.
"""

import asyncio.sslproto
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

_hangs_while = os.environ.get("DISK_HANGS_WHILE")
_connect, _fsync = sqlite3.connect, os.fsync


def _hang() -> None:
    while _hangs_while and Path(_hangs_while).exists():
        time.sleep(0.02)


class _Hanging(sqlite3.Connection):
    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            _hang()
        return super().execute(sql, *parameters)


def _hanging_fsync(fd: Any) -> None:
    _hang()
    _fsync(fd)


if _hangs_while:
    sqlite3.connect = lambda *args, **kwargs: _connect(*args, **{"factory": _Hanging, **kwargs})
    os.fsync = _hanging_fsync


_dies_of = os.environ.get("DIES_OF", "").encode()
_write = asyncio.sslproto._SSLProtocolTransport.write


def _deadly_write(self: Any, data: Any) -> None:
    if _dies_of in bytes(data):
        os.abort()
    _write(self, data)


if _dies_of:
    asyncio.sslproto._SSLProtocolTransport.write = _deadly_write  # type: ignore[method-assign]  # the fault
