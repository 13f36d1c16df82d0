"""Servers of providers that differ from the simulator in more than a reply: connection limits, old TLS.

Guarantees: free ports on loopback; every connection ends with its context.
Not here: the usual provider (simulator).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trustme

LOOPBACK: Final = "127.0.0.1"
_MOST_CONNECTIONS: Final = 10
_REPLIES: Final = {b"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n", b"AUTH": b"235 ok\r\n", b"DATA": b"354 go\r\n"}
# The prime of RFC 2409 section 6.2: 1024 bits, too small for a TLS client of today.
_SMALL_DH: Final = """\
-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
"""


@dataclass(slots=True)
class Upstream:
    """A running server, and the number of messages it took."""

    port: int = 0
    security: str = "tls"
    ca_file: Path | None = None
    taken: int = 0
    _open: int = field(default=0, repr=False)

    async def serve_ten(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A hoster that accepts ten connections from one address."""
        if self._open >= _MOST_CONNECTIONS:
            writer.write(b"421 4.7.0 hoster.example Error: too many connections from 192.0.2.7\r\n")
            await _close(writer)
            return
        self._open += 1
        try:
            writer.write(b"220 hoster.example ESMTP\r\n")
            await self._converse(reader, writer)
        finally:
            self._open -= 1
            await _close(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        in_data = False
        while line := await reader.readline():
            verb = line[:4].upper()
            if in_data:
                if line == b".\r\n":
                    in_data = False
                    self.taken += 1
                    writer.write(b"250 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                in_data = verb == b"DATA"
                writer.write(_REPLIES.get(verb, b"250 ok\r\n"))


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server whose greeting is all that a client ever gets."""
    writer.write(b"220 old.example ESMTP\r\n")
    with suppress(OSError):
        await reader.read()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _no_change(_context: ssl.SSLContext, _folder: Path) -> None:
    """TLS 1.2 as of today."""


def _only_rsa(context: ssl.SSLContext, _folder: Path) -> None:
    """RSA key exchange alone."""
    context.set_ciphers("kRSA:@SECLEVEL=0")


def _small_dh(context: ssl.SSLContext, folder: Path) -> None:
    """Diffie-Hellman with 1024 bits alone."""
    file = folder / "dh.pem"
    file.write_text(_SMALL_DH)
    context.set_ciphers("DHE:@SECLEVEL=0")
    context.load_dh_params(str(file))


_TLS_SERVERS: Final[dict[str, Callable[[ssl.SSLContext, Path], None]]] = {
    "tls-only-rsa": _only_rsa,
    "tls-small-dh": _small_dh,
    "tls-plain-good": _no_change,
}


def write_certificate(folder: Path) -> None:
    """Write ca.pem, own.pem and own.key (RSA, valid for loopback) to the folder."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    issued = authority.issue_cert(LOOPBACK, "localhost", key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
    key = folder / "own.key"
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)


@asynccontextmanager
async def open_upstream(name: str, folder: Path) -> AsyncIterator[Upstream]:
    """Serve as the server of that name. Raises KeyError if there is none."""
    upstream = Upstream()
    if name == "ten-connections":
        upstream.security = "none"
        server = await asyncio.start_server(upstream.serve_ten, LOOPBACK, 0)
    else:
        change = _TLS_SERVERS[name]
        write_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(folder / "own.pem")
        change(context, folder)
        upstream.ca_file = folder / "ca.pem"
        server = await asyncio.start_server(_greet, LOOPBACK, 0, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
