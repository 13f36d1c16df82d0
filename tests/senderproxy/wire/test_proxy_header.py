"""The PROXY header of a proxy, version 1 and 2."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.wire.proxy_header import (
    SIGNATURE,
    V1_LIMIT,
    V2_LIMIT,
    InvalidProxyHeader,
    ProxyHeader,
    ProxyHeaderReader,
)

CLIENT = IPv4Address("203.0.113.7")
CLIENT6 = IPv6Address("2001:db8::7")
NO_CLIENT = ProxyHeader(None)
PORTS = b"\xc3\x50\x00\x19"
MARK = b"EHLO client.example\r\n"  # behind the header: not for its reader


def v2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + rest


def tcp4(source: IPv4Address = CLIENT, tlv: bytes = b"") -> bytes:
    return v2(0x21, 0x11, source.packed + IPv4Address("192.0.2.1").packed + PORTS + tlv)


def tcp6(source: IPv6Address = CLIENT6) -> bytes:
    return v2(0x21, 0x21, source.packed + IPv6Address("2001:db8::1").packed + PORTS)


def read(octets: bytes, piece: int = 1 << 16) -> tuple[ProxyHeader | InvalidProxyHeader | None, bytes]:
    """The result for these octets, which arrive in pieces of this size, and what is left for the conversation."""
    reader = ProxyHeaderReader()
    at = 0
    while reader.wanted and at < len(octets):
        size = min(reader.wanted, piece, len(octets) - at)
        reader.feed(octets[at : at + size])
        at += size
    assert (reader.result is None) == (reader.wanted > 0)
    return reader.result, octets[at:]


VALID = [
    (tcp4(), ProxyHeader(CLIENT)),
    (tcp4(tlv=b"\x04\x00\x02ab"), ProxyHeader(CLIENT)),
    (tcp4(tlv=bytes(V2_LIMIT - 12)), ProxyHeader(CLIENT)),
    (tcp6(), ProxyHeader(CLIENT6)),
    (tcp6(IPv6Address("::ffff:203.0.113.7")), ProxyHeader(CLIENT)),  # an IPv4 client at a proxy's IPv6 socket
    (v2(0x20, 0x00, b""), NO_CLIENT),  # LOCAL: a health check
    (v2(0x20, 0x11, CLIENT.packed + bytes(8)), NO_CLIENT),  # its addresses have no meaning
    (v2(0x20, 0xFF, b"whatever"), NO_CLIENT),
    (v2(0x21, 0x00, b""), NO_CLIENT),
    (v2(0x21, 0x31, bytes(216)), NO_CLIENT),  # a Unix socket
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 25\r\n", ProxyHeader(CLIENT)),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n", ProxyHeader(CLIENT)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 25\r\n", ProxyHeader(CLIENT6)),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 1 1\r\n", ProxyHeader(CLIENT6)),
    (b"PROXY UNKNOWN\r\n", NO_CLIENT),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NO_CLIENT),
]
INVALID = [
    (b"EHLO client.example\r\n", "does not begin"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "does not begin"),  # TLS
    (b"GET / HTTP/1.1\r\n", "does not begin"),
    (b"\r\n\r\n\0\r\nQUIX\n", "does not begin"),
    (b"proxy TCP4 203.0.113.7 192.0.2.1 50000 25\r\n", "does not begin"),
    (v2(0x11, 0x11, bytes(12)), "version or command"),  # version 1 in the form of version 2
    (v2(0x22, 0x11, bytes(12)), "version or command"),
    (v2(0x21, 0x12, bytes(12)), "no TCP address"),  # UDP
    (v2(0x21, 0x44, bytes(12)), "no TCP address"),
    (v2(0x21, 0x11, bytes(11)), "too short"),
    (v2(0x21, 0x21, bytes(35)), "too short"),
    (v2(0x21, 0x31, bytes(215)), "too short"),
    (v2(0x21, 0x11, b"", length=V2_LIMIT + 1), "too long"),  # nothing of it is waited for
    (v2(0x20, 0x00, b"", length=0xFFFF), "too long"),
    (tcp4(IPv4Address("0.0.0.0")), "not that of a host"),
    (tcp4(IPv4Address("224.0.0.1")), "not that of a host"),
    (tcp4(IPv4Address("255.255.255.255")), "not that of a host"),
    (tcp6(IPv6Address("::")), "not that of a host"),
    (tcp6(IPv6Address("ff02::1")), "not that of a host"),
    (tcp6(IPv6Address("::ffff:0.0.0.0")), "not that of a host"),
    (b"PROXY \r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 25\n", "malformed"),
    (b"PROXY TCP4  203.0.113.7 192.0.2.1 50000 25\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 25 \r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.07 192.0.2.1 50000 25\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113 192.0.2.1 50000 25\r\n", "malformed"),
    (b"PROXY TCP4 2001:db8::7 2001:db8::1 50000 25\r\n", "malformed"),
    (b"PROXY TCP6 203.0.113.7 192.0.2.1 50000 25\r\n", "malformed"),
    (b"PROXY TCP6 fe80::1%eth0 fe80::2 50000 25\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 65536\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 050 25\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 25\r\n", "malformed"),
    (b"PROXY UDP4 203.0.113.7 192.0.2.1 50000 25\r\n", "malformed"),
    (b"PROXY UNKNOWNX\r\n", "malformed"),
    (b"PROXY TCP4 0.0.0.0 192.0.2.1 50000 25\r\n", "not that of a host"),
    (b"PROXY " + b"x" * V1_LIMIT, "too long"),
]


@pytest.mark.parametrize("piece", [1, 5, 1 << 16])
@pytest.mark.parametrize(("octets", "expected"), VALID)
def test_a_header_names_the_client_and_nothing_behind_it_is_read(
    octets: bytes, expected: ProxyHeader, piece: int
) -> None:
    assert read(octets + MARK, piece) == (expected, MARK)


@pytest.mark.parametrize("piece", [1, 5, 1 << 16])
@pytest.mark.parametrize(("octets", "why"), INVALID)
def test_what_is_no_header_is_refused_with_a_fixed_text(octets: bytes, why: str, piece: int) -> None:
    result, _rest = read(octets, piece)
    assert isinstance(result, InvalidProxyHeader)
    assert why in result.why
    assert not any(text in result.why for text in ("203", "xxx", "GET", "EHLO"))


@pytest.mark.parametrize("octets", [octets for octets, _ in VALID])
def test_an_incomplete_header_has_no_result(octets: bytes) -> None:
    for end in range(len(octets)):
        assert read(octets[:end])[0] is None


@given(st.binary(max_size=300))
def test_any_octets_have_a_bounded_end(octets: bytes) -> None:
    for start in (b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 "):
        result, _ = read(start + octets + bytes(V2_LIMIT + 16))
        assert result is not None


@given(st.binary(max_size=300), st.integers(1, 40))
def test_the_size_of_the_pieces_does_not_matter(octets: bytes, piece: int) -> None:
    for start in (b"", SIGNATURE, SIGNATURE + b"\x21\x11\x00", b"PROXY ", b"PROXY TCP4 1.2.3.4 "):
        whole, pieces = read(start + octets), read(start + octets, piece)
        if isinstance(whole[0], InvalidProxyHeader):
            assert isinstance(pieces[0], InvalidProxyHeader | None)
        else:
            assert pieces == whole


@given(st.ip_addresses(), st.integers(0, 0xFFFF), st.binary(max_size=V2_LIMIT - 36))
def test_each_address_is_read_as_it_was_written(address: IPv4Address | IPv6Address, port: int, tlv: bytes) -> None:
    other = ip_address("192.0.2.1" if address.version == 4 else "2001:db8::1")
    family = 0x11 if address.version == 4 else 0x21
    binary = v2(0x21, family, address.packed + other.packed + port.to_bytes(2, "big") + b"\x00\x19" + tlv)
    text = f"PROXY TCP{address.version} {address} {other} {port} 25\r\n".encode()
    first, second = read(binary + MARK), read(text + MARK)
    assert first == second
    assert first[1] == MARK
    if isinstance(first[0], ProxyHeader):
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert first[0].client == (mapped or address)
