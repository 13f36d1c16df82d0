"""Parsers of single values and their refusals."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from senderproxy.config import values
from senderproxy.mail.address import Address, AddressPattern


@pytest.mark.parametrize(
    ("read", "written", "parsed"),
    [
        (values.read_address, "127.0.0.1:2525", "127.0.0.1:2525"),
        (values.read_address, "0.0.0.0:025", "0.0.0.0:25"),
        (values.read_address, "[::1]:2525", "[::1]:2525"),
        (values.read_address, "[0:0:0:0:0:0:0:1]:2525", "[::1]:2525"),
        (values.read_address, "127.0.0.1:0", "127.0.0.1:0"),
        (values.read_network, "192.168.1.0/24", ip_network("192.168.1.0/24")),
        (values.read_network, "192.168.1.5", ip_network("192.168.1.5/32")),
        (values.read_network, "fd00::/8", ip_network("fd00::/8")),
        (values.read_network, ip_network("10.0.0.0/8"), ip_network("10.0.0.0/8")),
        (values.read_size, "150 MB", 150_000_000),
        (values.read_size, "150MB", 150_000_000),
        (values.read_size, "1 MiB", 1_048_576),
        (values.read_size, "2 gib", 2_147_483_648),
        (values.read_size, "10 kB", 10_000),
        (values.read_size, "1000", 1000),
        (values.read_size, 1000, 1000),
        (values.read_hostname, "Mail.Firma.Example", "mail.firma.example"),
        (values.read_hostname, "mail.büro.example.", "mail.xn--bro-hoa.example"),
        (values.read_hostname, "[192.0.2.7]", "[192.0.2.7]"),
        (values.read_host, "SMTP.ionos.de", "smtp.ionos.de"),
        (values.read_host, "192.0.2.7", "192.0.2.7"),
        (values.read_host, "[::1]", "::1"),
        (values.read_unlock, "key-file:/etc/senderproxy/vault.key", "key-file:/etc/senderproxy/vault.key"),
        (values.read_unlock, "credential:vault-key", "credential:vault-key"),
        (values.read_unlock, "keyring:senderproxy", "keyring:senderproxy"),
        (values.read_unlock, "passphrase", "passphrase"),
        (values.read_pattern, "@Firma.example", AddressPattern(None, "firma.example")),
        (values.read_mailbox, "scanner@Firma.example", Address("scanner", "firma.example")),
        (values.read_mailbox, Address("scanner", "firma.example"), Address("scanner", "firma.example")),
        (values.read_mechanism, "plain", "PLAIN"),
        (values.read_flag, True, True),
        (values.one_of("none", "starttls"), "STARTTLS", "starttls"),
        (values.integer(0, 5), 5, 5),
        (values.duration(0, 5), 3, 3.0),
        (values.read_socket_path, "/run/x.sock", "/run/x.sock"),
        (values.read_account, "anna@firma.example", "anna@firma.example"),
    ],
)
def test_a_value_is_read(read: Callable[[Any], Any], written: object, parsed: object) -> None:
    assert read(written) == parsed


ENDPOINT = 'write it like "127.0.0.1:2525" or "[::1]:2525"'
PORT_ONLY = 'write "127.0.0.1:2525", or another address of this machine instead of 127.0.0.1'
UNLOCK = 'write "key-file:/etc/senderproxy/vault.key", "credential:NAME", "keyring:SERVICE" or "passphrase"'
HASH = "write the output of: senderproxy client hash-password"


@pytest.mark.parametrize(
    ("read", "written", "expected"),
    [
        (values.read_text, 5, '5 is not text. To fix: put it in quotation marks: "5"'),
        (values.read_text, " ", "is empty. To fix: write some text"),
        (values.read_text, "a\nb", "contains control characters. To fix: write printable text"),
        (values.read_address, "office", f'"office" is not an IP address with a port. To fix: {ENDPOINT}'),
        (
            values.read_address,
            "2525",
            f'"2525" is not an IP address with a port. To fix: {PORT_ONLY}',
        ),
        (values.read_address, "localhost:25", '"localhost" is not an IP address. To fix: write "127.0.0.1:25"'),
        (values.read_address, ":25", '"" is not an IP address. To fix: write "0.0.0.0:25" for all IPv4 addresses'),
        (values.read_address, "*:25", '"*" is not an IP address. To fix: write "0.0.0.0:25" for all IPv4 addresses'),
        (
            values.read_address,
            "192.168.1.5",
            '"192.168.1.5" is not an IP address with a port. To fix: write "192.168.1.5:2525"',
        ),
        (values.read_address, "::1", '"::1" is not an IP address with a port. To fix: write "[::1]:2525"'),
        (values.read_address, "mail.x.example:25", f'"mail.x.example" is not an IP address. To fix: {ENDPOINT}'),
        (
            values.read_address,
            "[127.0.0.1]:25",
            f'"[127.0.0.1]:25" mixes the notations of IPv4 and IPv6. To fix: {ENDPOINT}',
        ),
        (
            values.read_address,
            "127.0.0.1:70000",
            "70000 is not a port. To fix: write a port from 1 to 65535, or 0 for any free one",
        ),
        (
            values.read_network,
            "office",
            '"office" is not a network. To fix: write a network like "192.168.1.0/24", or one address',
        ),
        (
            values.read_network,
            "192.168.1.5/24",
            '"192.168.1.5/24" is the address of a host with the size of a network. To fix: write "192.168.1.0/24", or "192.168.1.5" for one host',
        ),
        (values.read_network, 10, '10 is not text. To fix: put it in quotation marks: "10"'),
        (
            values.read_size,
            "150 megs",
            '"150 megs" is not a size. To fix: write it like "150 MB", "1 MiB" or 150000000',
        ),
        (values.read_size, "1.5 MB", '"1.5 MB" is not a size. To fix: write it like "150 MB", "1 MiB" or 150000000'),
        (values.read_size, True, 'true is not a size. To fix: write it like "150 MB", "1 MiB" or 150000000'),
        (values.read_size, 0, '0 is not a size. To fix: write it like "150 MB", "1 MiB" or 150000000'),
        (
            values.read_hostname,
            "mail firma",
            'mail firma is not a domain name. To fix: write the name of this machine, like "mail.firma.example"',
        ),
        (
            values.read_hostname,
            "my_pc",
            '"my_pc" has an underscore. To fix: write a host name: it has letters, digits and hyphens only',
        ),
        (
            values.read_host,
            "smtp.x.example:25",
            '"smtp.x.example:25" has a port in it. To fix: write host = "smtp.x.example" and port = 25',
        ),
        (
            values.read_host,
            "smtp://x.example",
            '"smtp://x.example" is not a host name. To fix: write the name alone, like "smtp.ionos.de"',
        ),
        (values.read_unlock, 5, f"is not text. To fix: {UNLOCK}"),
        (values.read_unlock, "keyfile:/x", f"is not a known way to unlock the vault. To fix: {UNLOCK}"),
        (values.read_unlock, "key-file", f'"key-file" names no key. To fix: {UNLOCK}'),
        (values.read_unlock, "keyring: ", f'"keyring" names no key. To fix: {UNLOCK}'),
        (
            values.read_unlock,
            "passphrase:geheim-1",
            'has text after the word passphrase. To fix: write "passphrase" alone: the passphrase is asked for at the start and never stored here',
        ),
        (
            values.read_unlock,
            "credential:/run/x",
            '"/run/x" is not the name of a credential. To fix: write the name from LoadCredential=, without a path',
        ),
        (
            values.read_hash,
            "geheim-1",
            f"is not a password hash (never write the password itself here). To fix: {HASH}",
        ),
        (values.read_hash, 5, f"is not text. To fix: {HASH}"),
        (
            values.read_pattern,
            "anna",
            'anna has no @. To fix: write "anna@firma.example", or "@firma.example" for the whole domain',
        ),
        (values.read_mailbox, "scanner", 'scanner has no @. To fix: write one address, like "scanner@firma.example"'),
        (
            values.read_mailbox,
            "@firma.example",
            '@firma.example has nothing before the @. To fix: write one address, like "scanner@firma.example"',
        ),
        (
            values.read_mechanism,
            "XOAUTH2",
            '"XOAUTH2" is not supported. To fix: write "PLAIN", "LOGIN", "SCRAM-SHA-256" or "CRAM-MD5"',
        ),
        (
            values.read_name,
            "my office",
            '"my office" is not a name. To fix: write letters, digits, ".", "_" and "-", at most 40',
        ),
        (
            values.read_account,
            "a b",
            '"a b" is not an account id. To fix: write an id from: senderproxy account list',
        ),
        (
            values.read_socket_path,
            "/" + "x" * 107,
            "is longer than 107 octets. To fix: write a shorter path: the operating system does not accept a longer one",
        ),
        (
            values.one_of("none", "starttls", "implicit"),
            "startls",
            '"startls" is unknown. To fix: did you mean "starttls"? Write "none", "starttls" or "implicit"',
        ),
        (values.one_of("none", "starttls"), "ssl", '"ssl" is unknown. To fix: write "none" or "starttls"'),
        (values.one_of("none"), 5, '5 is unknown. To fix: write "none"'),
        (
            values.integer(1, 9),
            "5",
            '"5" is not an integer. To fix: write an integer from 1 to 9, without quotation marks',
        ),
        (
            values.integer(1, 9),
            1.5,
            "1.5 is not an integer. To fix: write an integer from 1 to 9, without quotation marks",
        ),
        (
            values.integer(1, 9),
            True,
            "true is not an integer. To fix: write an integer from 1 to 9, without quotation marks",
        ),
        (values.integer(1, 9), 0, "0 is too small. To fix: write 1 to 9"),
        (values.integer(1, 9), 10, "10 is too large. To fix: write 1 to 9"),
        (
            values.duration(1, 9),
            "5s",
            '"5s" is not a number. To fix: write seconds from 1 to 9, without quotation marks',
        ),
        (
            values.duration(1, 9),
            float("nan"),
            "nan is not a number. To fix: write seconds from 1 to 9, without quotation marks",
        ),
        (values.duration(1, 9), float("inf"), "inf is too large. To fix: write 1 to 9"),
        (values.duration(1, 9), 0.5, "0.5 is too small. To fix: write 1 to 9"),
        (
            values.read_flag,
            "yes",
            '"yes" is neither true nor false. To fix: write true or false, without quotation marks',
        ),
        (values.read_flag, 1, "1 is neither true nor false. To fix: write true or false, without quotation marks"),
    ],
)
def test_an_invalid_value_is_refused_with_a_hint(read: Callable[[Any], Any], written: object, expected: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        read(written)
    assert refused.value.type == values.INVALID_VALUE
    assert str(refused.value.message()) == expected


def test_a_hash_from_the_program_is_accepted() -> None:
    written = "scrypt$32768$8$1$c2FsdHNhbHRzYWx0c2FsdA$" + "A" * 43
    assert values.read_hash(written) == written


def test_a_long_value_is_shortened() -> None:
    assert len(values.quoted("x" * 500)) <= 80
    assert values.quoted("a\r\nb\x1b") == '"a\\r\\nb\\x1b"'


def test_alternatives_are_joined_with_or() -> None:
    assert values.alternatives(["a"]) == '"a"'
    assert values.alternatives(["a", "b"]) == '"a" or "b"'
    assert values.alternatives(["a", "b", "c"]) == '"a", "b" or "c"'
