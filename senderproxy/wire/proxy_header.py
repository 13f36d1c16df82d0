"""PROXY protocol header, version 1 and 2: the client's address, as a proxy in front of a listener reports it. PURE.

A reader is asked for the number of octets that it wants next and is fed at most so many: nothing behind the header is
read, so that a TLS handshake may follow at once.

Guarantees: a header takes bounded memory and linear time; octets that cannot become a header are refused with the
first read that shows it. A refusal has one of a few fixed texts: nothing that was received shows in it.
Not here: the addresses that may send a header (listener.proxy_peers), the fields after the addresses of version 2
(TLV), which are skipped.
haproxy.org/download/2.6/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from senderproxy.mail.host_group import IpAddress

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
V2_LIMIT: Final = 4096  # octets after the fixed part; the protocol advises 536 with it, certificates in TLVs need more
V1_LIMIT: Final = 107  # octets of the longest line of version 1, with CRLF

_V1_START: Final = b"PROXY "
_FIXED: Final = 16  # octets of version 2 before its addresses
_LOCAL: Final = 0x20  # version 2, a connection of the proxy itself
_PROXY: Final = 0x21  # version 2, a connection of a client
_TCP4: Final = 0x11  # family and transport in one octet
_TCP6: Final = 0x21  # the same
_WITHOUT_ADDRESS: Final = frozenset({0x00, 0x31})  # unspecified; a Unix socket
_ADDRESSES: Final = {_TCP4: 12, _TCP6: 36, 0x00: 0, 0x31: 216}  # octets of both addresses and ports

_PORT: Final = rb"(?:0|[1-9][0-9]{0,4})"
_V1_TCP: Final = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) (" + _PORT + rb") (" + _PORT + rb")\r\n"
)
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?\r\n")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A valid header. `client` None: a connection without a client's address, as a health check of the proxy is."""

    client: IpAddress | None


@dataclass(frozen=True, slots=True)
class InvalidProxyHeader:
    """Octets that are no valid header, with the reason for the log."""

    why: str


NOT_A_HEADER: Final = InvalidProxyHeader("it does not begin with a PROXY header")
_TOO_LONG: Final = InvalidProxyHeader("the PROXY header is too long")
_TOO_SHORT: Final = InvalidProxyHeader("the PROXY header is too short for its addresses")
_MALFORMED: Final = InvalidProxyHeader("the PROXY header of version 1 is malformed")
_UNKNOWN_VERSION: Final = InvalidProxyHeader("the PROXY header has an unknown version or command")
_UNKNOWN_FAMILY: Final = InvalidProxyHeader("the PROXY header has no TCP address")
_NO_HOST: Final = InvalidProxyHeader("the address in the PROXY header is not that of a host")


class ProxyHeaderReader:
    """Reader of one header. `result` is None until `wanted` is 0."""

    __slots__ = ("_received", "result", "wanted")

    def __init__(self) -> None:
        self.result: ProxyHeader | InvalidProxyHeader | None = None
        self.wanted = len(SIGNATURE)  # octets to feed next, at most; the shortest header has more
        self._received = bytearray()

    def feed(self, octets: bytes) -> None:
        """Add octets, at most as many as wanted."""
        assert 0 < len(octets) <= self.wanted
        self._received += octets
        received = self._received
        if received.startswith(_V1_START):
            # One octet at a time to the end of the line: what follows is not ours. The line is short.
            if b"\n" in octets:
                self._end(_read_v1(bytes(received)))
            elif len(received) >= V1_LIMIT:
                self._end(_TOO_LONG)
            else:
                self.wanted = max(1, len(SIGNATURE) - len(received))
        elif not SIGNATURE.startswith(received[: len(SIGNATURE)]):
            if _V1_START.startswith(received):
                self.wanted -= len(octets)
            else:
                self._end(NOT_A_HEADER)
        else:
            self._read_v2()

    def _read_v2(self) -> None:
        received = self._received
        length = _FIXED
        if len(received) >= _FIXED:
            length += int.from_bytes(received[14:16], "big")
            if (wrong := _check_fixed(received[12], received[13], length - _FIXED)) is not None:
                self._end(wrong)
                return
        elif len(received) < len(SIGNATURE):
            length = len(SIGNATURE)
        self.wanted = length - len(received)
        if self.wanted == 0 and len(received) >= _FIXED:
            self._end(_read_addresses(bytes(received)))

    def _end(self, result: ProxyHeader | InvalidProxyHeader) -> None:
        self.result = result
        self.wanted = 0
        self._received.clear()


def _check_fixed(command: int, family: int, length: int) -> InvalidProxyHeader | None:
    """The fault in the fixed part of version 2: nothing more is read then."""
    if command not in (_LOCAL, _PROXY):
        return _UNKNOWN_VERSION
    if length > V2_LIMIT:
        return _TOO_LONG
    if command == _LOCAL:
        return None  # the rest has no meaning
    if family not in _ADDRESSES:
        return _UNKNOWN_FAMILY
    return _TOO_SHORT if length < _ADDRESSES[family] else None


def _read_addresses(header: bytes) -> ProxyHeader | InvalidProxyHeader:
    command, family = header[12], header[13]
    if command == _LOCAL or family in _WITHOUT_ADDRESS:
        return ProxyHeader(None)
    source = header[_FIXED : _FIXED + (4 if family == _TCP4 else 16)]
    return _client(IPv4Address(source) if family == _TCP4 else IPv6Address(source))


def _read_v1(line: bytes) -> ProxyHeader | InvalidProxyHeader:
    if len(line) > V1_LIMIT:
        return _TOO_LONG
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(None)
    found = _V1_TCP.fullmatch(line)
    if found is None or int(found[4]) > 0xFFFF or int(found[5]) > 0xFFFF:
        return _MALFORMED
    kind = IPv4Address if found[1] == b"4" else IPv6Address
    try:
        source, _destination = kind(found[2].decode("ascii")), kind(found[3].decode("ascii"))
    except AddressValueError:
        return _MALFORMED
    return _client(source)


def _client(address: IPv4Address | IPv6Address) -> ProxyHeader | InvalidProxyHeader:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    client = mapped or address
    if client.is_unspecified or client.is_multicast or client == IPv4Address("255.255.255.255"):
        return _NO_HOST
    return ProxyHeader(client)
