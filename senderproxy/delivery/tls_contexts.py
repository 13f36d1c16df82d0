"""TLS contexts for connections to upstreams, cached until their CA certificates change.

Guarantees: TLS 1.2 or newer; certificate chain and host name are always verified: no setting disables that, `ca_file`
may name other authorities than the system's. Changed files are read again for the next session, the system's included.
Files are examined and read on threads of their own, once for all sessions that are opened at the same time; while the
disk does not respond, the last context is used.
Not here: contexts of sessions without a login (delivery.hops.tls), connections and handshakes (delivery.connect,
delivery.handshake). RFC 8314 section 4, RFC 9325.
"""

import asyncio
import errno
import logging
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.log import event
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_log: Final = logging.getLogger("senderproxy.delivery")

_READERS: Final = 4  # threads; a file on a disk that hangs occupies one
_CHECK_TIMEOUT: Final = 1.0  # seconds for a check of the files before the last context is used; usually 1 ms
_BUILD_TIMEOUT: Final = 30.0  # seconds without a last context; usually 20 ms, on a slow machine 1 s

# For TLS 1.2, RFC 9325 section 4.1 and 4.2: key exchange with forward secrecy, no SHA-1. CPython's own list; Debian's
# Python uses that of OpenSSL instead, which also has RSA key exchange.
_CIPHERS: Final = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.\d+")  # the files that OpenSSL looks for in a directory

K = TypeVar("K")
FilesRead: TypeAlias = tuple[str | None, tuple[str, ...]]  # of authorities (None: the system's), and others
_Stamp: TypeAlias = tuple[int, int, int] | None  # inode, modification time in ns, size in octets; None: no such file


@dataclass(frozen=True, slots=True)
class _CachedContext:
    stamps: tuple[_Stamp, ...]  # of the files, before they were read
    context: ssl.SSLContext
    has_authorities: bool


class ContextCache(Generic[K]):
    """Cache of TLS contexts by the files that each is made from."""

    def __init__(self, name: str, build: Callable[[K], ssl.SSLContext], files: Callable[[K], FilesRead]) -> None:
        """`build` reads the files, and may block; `files`: those of authorities, and the others."""
        self._threads = WorkerThreads(name, _READERS)
        self._build = build
        self._files = files
        self._cached: dict[K, _CachedContext] = {}
        self._checks: dict[K, asyncio.Future[_CachedContext]] = {}

    async def context_for(self, key: K) -> ssl.SSLContext:
        """Return the context for these files.

        Raises OSError (also ssl.SSLError, one of its subclasses) if a file cannot be used.
        """
        check = self._checks.get(key) or self._start_check(key)
        cached = self._cached.get(key)
        await wait_done(check, _BUILD_TIMEOUT if cached is None else _CHECK_TIMEOUT)
        if check.done():
            return check.result().context
        if cached is None:
            raise OSError(errno.ETIMEDOUT, "the disk does not respond")
        return cached.context

    def has_authorities(self, key: K) -> bool:
        """True if the last context for these files has certificates of authorities."""
        cached = self._cached.get(key)
        return cached is None or cached.has_authorities

    def close(self) -> None:
        """Read no more files."""
        self._threads.stop()

    def _start_check(self, key: K) -> "asyncio.Future[_CachedContext]":
        try:
            check = self._threads.do(self._current, key, self._cached.get(key))
        except WorkerThreadsError as fault:
            raise OSError(errno.EAGAIN, "too many files wait to be read") from fault
        self._checks[key] = check
        check.add_done_callback(lambda check: self._end_check(key, check))
        return check

    def _end_check(self, key: K, check: "asyncio.Future[_CachedContext]") -> None:
        del self._checks[key]
        if check.cancelled() or check.exception() is not None:
            return
        before, self._cached[key] = self._cached.get(key), check.result()
        if before is not None and before is not check.result():
            authorities, others = self._files(key)
            event(_log, log_events.CA_CERTIFICATES_RELOADED, file=", ".join((authorities or "system", *others)))

    def _current(self, key: K, cached: _CachedContext | None) -> _CachedContext:
        """Return the cached context if the files are unchanged, else a new one. May block."""
        authorities, others = self._files(key)
        # A named file has to exist. The system's store may lack one of both, and the other is used.
        stamps = tuple(map(_stamp, _system_paths())) if authorities is None else (_stamp_of(authorities),)
        stamps += tuple(map(_stamp_of, others))
        if cached is not None and cached.stamps == stamps:
            return cached
        context = self._build(key)
        return _CachedContext(stamps, context, authorities is not None or _has_authorities(context))


class TlsContexts(ContextCache[str | None]):
    """Cache of the contexts for servers with a login, by `ca_file`."""

    def __init__(self) -> None:
        super().__init__("ca-certificates", verified_context, lambda ca_file: (ca_file, ()))

    async def context(self, ca_file: str | None) -> ssl.SSLContext:
        """Return the context for this file of authorities; None: the system's. Raises OSError as `context_for`."""
        return await self.context_for(ca_file)


def verified_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a new context that verifies chain and host name. May block. Raises OSError, also ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context


def _has_authorities(context: ssl.SSLContext) -> bool:
    """True if the system's store is not empty. Certificates in its directories are read when they are needed."""
    if context.cert_store_stats()["x509_ca"]:
        return True
    return any(any(_HASHED.fullmatch(entry.name) for entry in _entries(path)) for path in _system_paths()[1:])


def _entries(path: str) -> list[Path]:
    try:
        return list(Path(path).iterdir()) if path else []
    except OSError:
        return []


def _system_paths() -> list[str]:
    """Return the file and the directories of the system's authorities, for OpenSSL."""
    paths = ssl.get_default_verify_paths()
    directories = os.environ.get(paths.openssl_capath_env, paths.openssl_capath)
    return [os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile), *directories.split(os.pathsep)]


def _stamp(path: str) -> _Stamp:
    try:
        return _stamp_of(path)
    except OSError:
        return None


def _stamp_of(path: str) -> _Stamp:
    """Raises OSError."""
    status = Path(path).stat()
    return (status.st_ino, status.st_mtime_ns, status.st_size)
