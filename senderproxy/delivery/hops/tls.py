"""TLS contexts for sessions without a login.

Guarantees: a HopContext is no ssl.SSLContext, and its cache no TlsContexts: no session with a login can use it, and it
is the only place where a certificate need not be verified. A client certificate is sent to the server that it is for.
Not here: contexts of sessions with a login (delivery.tls_contexts). RFC 3207, RFC 7435, RFC 8314.
"""

import ssl
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from senderproxy.delivery.tls_contexts import ContextCache, verified_context
from senderproxy.routing.hops import ClientCertificate


class HopTls(Enum):
    """TLS to a server without a login."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS if the server offers it, with any certificate (RFC 7435): for MX hosts
    STARTTLS = "starttls"  # required and verified
    IMPLICIT = "implicit"  # from the first octet, verified


@dataclass(frozen=True, slots=True)
class HopFiles:
    """The files that a context is made from. `is_verified`: the server's certificate is verified."""

    ca_file: str | None  # of authorities; None: the system's
    client: ClientCertificate | None
    is_verified: bool


class HopContext:
    """A TLS context that only a session without a login can use."""

    __slots__ = ("__context",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self.__context = context

    def for_hop(self) -> ssl.SSLContext:
        """The context, for delivery.hops.opening only."""
        return self.__context


class HopContexts:
    """Cache of contexts by their files."""

    def __init__(self) -> None:
        self._cache = ContextCache[HopFiles]("hop-certificates", _build, _files)

    async def context(self, files: HopFiles) -> HopContext:
        """Return the context. Raises OSError, also ssl.SSLError, if a file cannot be used."""
        return HopContext(await self._cache.context_for(files))

    def has_authorities(self, files: HopFiles) -> bool:
        """True if the last context has certificates of authorities, or needs none."""
        return not files.is_verified or self._cache.has_authorities(files)

    def close(self) -> None:
        """Read no more files."""
        self._cache.close()


def _build(files: HopFiles) -> ssl.SSLContext:
    context = verified_context(files.ca_file)
    if not files.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.client is not None:
        context.load_cert_chain(files.client.certificate, files.client.key, _no_passphrase)
    return context


def _no_passphrase() -> NoReturn:
    """OpenSSL would ask for it at the terminal."""
    raise OSError("the private key has a passphrase")


def _files(files: HopFiles) -> tuple[str | None, tuple[str, ...]]:
    client = files.client
    return files.ca_file, () if client is None else (client.certificate, client.key)
