"""Hosts that count as one client."""

import pytest

from senderproxy.mail.host_group import host_group


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),  # an IPv4 client on an IPv6 socket
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::1"),  # all hosts of a link have the same /64
        ("fe80::2%eth0", "fe80::2"),
    ],
)
def test_an_ipv6_host_is_known_by_its_network(host: str, group: str) -> None:
    assert host_group(host) == group
