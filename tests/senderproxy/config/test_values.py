"""Single values: what is read from them, and what is said about those that cannot be."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from senderproxy.config import values
from senderproxy.mail.address import Address, AddressPattern


@pytest.mark.parametrize(
    ("read", "written", "meant"),
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
        (values.whole(0, 5), 5, 5),
        (values.seconds(0, 5), 3, 3.0),
        (values.read_socket_path, "/run/x.sock", "/run/x.sock"),
        (values.read_account, "anna@firma.example", "anna@firma.example"),
    ],
)
def test_a_value_is_read(read: Callable[[Any], Any], written: object, meant: object) -> None:
    assert read(written) == meant


ENDPOINT = 'write it like "127.0.0.1:2525" or "[::1]:2525"'
PORT_ONLY = 'write "127.0.0.1:2525", or the address on which to listen instead of 127.0.0.1'
UNLOCK = 'write "key-file:/etc/senderproxy/vault.key", "credential:NAME", "keyring:SERVICE" or "passphrase"'
HASH = "write what this prints: senderproxy client hash-password"


@pytest.mark.parametrize(
    ("read", "written", "said"),
    [
        (values.read_text, 5, '5 is no text; put it in quotation marks: "5"'),
        (values.read_text, " ", "is empty; write some text"),
        (values.read_text, "a\nb", "contains control characters; write some text"),
        (values.read_address, "office", f'"office" is no address with a port; {ENDPOINT}'),
        (
            values.read_address,
            "2525",
            f'"2525" is no address with a port; {PORT_ONLY}',
        ),
        (values.read_address, "localhost:25", '"localhost" is no IP address; write "127.0.0.1:25"'),
        (values.read_address, ":25", '"" is no IP address; write "0.0.0.0:25" for all addresses of IPv4'),
        (values.read_address, "*:25", '"*" is no IP address; write "0.0.0.0:25" for all addresses of IPv4'),
        (values.read_address, "192.168.1.5", '"192.168.1.5" is no address with a port; write "192.168.1.5:2525"'),
        (values.read_address, "::1", '"::1" is no address with a port; write "[::1]:2525"'),
        (values.read_address, "mail.x.example:25", f'"mail.x.example" is no IP address; {ENDPOINT}'),
        (values.read_address, "[127.0.0.1]:25", f'"[127.0.0.1]:25" mixes the forms of IPv4 and IPv6; {ENDPOINT}'),
        (values.read_address, "127.0.0.1:70000", "70000 is no port; take one from 1 to 65535 (0: any that is free)"),
        (values.read_network, "office", '"office" is no network; write one like "192.168.1.0/24", or one address'),
        (
            values.read_network,
            "192.168.1.5/24",
            '"192.168.1.5/24" names a host and a network; write "192.168.1.0/24", or "192.168.1.5" for one host',
        ),
        (values.read_network, 10, '10 is no text; put it in quotation marks: "10"'),
        (values.read_size, "150 megs", '"150 megs" is no size; write it like "150 MB", "1 MiB" or 150000000'),
        (values.read_size, "1.5 MB", '"1.5 MB" is no size; write it like "150 MB", "1 MiB" or 150000000'),
        (values.read_size, True, 'true is no size; write it like "150 MB", "1 MiB" or 150000000'),
        (values.read_size, 0, '0 is no size; write it like "150 MB"'),
        (
            values.read_hostname,
            "mail firma",
            'mail firma is no domain name; write this machine\'s name, like "mail.firma.example"',
        ),
        (values.read_hostname, "my_pc", '"my_pc" has an underscore; host names have letters, digits and hyphens only'),
        (
            values.read_host,
            "smtp.x.example:25",
            '"smtp.x.example:25" has a port in it; write host = "smtp.x.example" and port = 25',
        ),
        (
            values.read_host,
            "smtp://x.example",
            '"smtp://x.example" is no host name; write the name alone, like "smtp.ionos.de"',
        ),
        (values.read_unlock, 5, f"is no text; {UNLOCK}"),
        (values.read_unlock, "keyfile:/x", f"names no way to unlock the vault that we know; {UNLOCK}"),
        (values.read_unlock, "key-file", f'"key-file" does not say which; {UNLOCK}'),
        (values.read_unlock, "keyring: ", f'"keyring" does not say which; {UNLOCK}'),
        (
            values.read_unlock,
            "passphrase:geheim-1",
            'says more than it should; write "passphrase" alone; it is asked for, and never written here',
        ),
        (
            values.read_unlock,
            "credential:/run/x",
            '"/run/x" is no credential\'s name; write the name that LoadCredential= gives it, without a path',
        ),
        (values.read_hash, "geheim-1", f"is no password hash (a password itself must not stand here); {HASH}"),
        (values.read_hash, 5, f"is no text; {HASH}"),
        (
            values.read_pattern,
            "anna",
            'anna has no @; write "anna@firma.example", or "@firma.example" for the whole domain',
        ),
        (values.read_mailbox, "scanner", 'scanner has no @; write one address, like "scanner@firma.example"'),
        (
            values.read_mailbox,
            "@firma.example",
            '@firma.example has nothing before the @; write one address, like "scanner@firma.example"',
        ),
        (values.read_mechanism, "CRAM-MD5", '"CRAM-MD5" is not spoken here; write "PLAIN" or "LOGIN"'),
        (values.read_name, "my office", '"my office" is no name; take letters, digits, ".", "_" and "-", at most 40'),
        (
            values.read_account,
            "a b",
            '"a b" is no account\'s id; write one of those that this lists: senderproxy account list',
        ),
        (
            values.read_socket_path,
            "/" + "x" * 107,
            "is longer than 107 characters; choose a shorter path, the operating system takes no longer one",
        ),
        (
            values.one_of("none", "starttls", "implicit"),
            "startls",
            '"startls" is not known; did you mean "starttls"? Write "none", "starttls" or "implicit"',
        ),
        (values.one_of("none", "starttls"), "ssl", '"ssl" is not known; write "none" or "starttls"'),
        (values.one_of("none"), 5, '5 is not known; write "none"'),
        (values.whole(1, 9), "5", '"5" is no whole number; write one from 1 to 9, without quotation marks'),
        (values.whole(1, 9), 1.5, "1.5 is no whole number; write one from 1 to 9, without quotation marks"),
        (values.whole(1, 9), True, "true is no whole number; write one from 1 to 9, without quotation marks"),
        (values.whole(1, 9), 0, "0 is less than it can be; write 1 to 9"),
        (values.whole(1, 9), 10, "10 is more than it can be; write 1 to 9"),
        (values.seconds(1, 9), "5s", '"5s" is no number; write seconds from 1 to 9, without quotation marks'),
        (values.seconds(1, 9), float("nan"), "nan is no number; write seconds from 1 to 9, without quotation marks"),
        (values.seconds(1, 9), float("inf"), "inf is more than it can be; write 1 to 9"),
        (values.seconds(1, 9), 0.5, "0.5 is less than it can be; write 1 to 9"),
        (values.read_flag, "yes", '"yes" is neither true nor false; write true or false, without quotation marks'),
        (values.read_flag, 1, "1 is neither true nor false; write true or false, without quotation marks"),
    ],
)
def test_what_cannot_be_read_is_answered_with_the_mend(read: Callable[[Any], Any], written: object, said: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        read(written)
    assert refused.value.type == values.COMPLAINT
    assert str(refused.value.message()) == said


def test_a_hash_as_the_program_prints_it_is_taken() -> None:
    written = "scrypt$32768$8$1$c2FsdHNhbHRzYWx0c2FsdA$" + "A" * 43
    assert values.read_hash(written) == written


def test_a_long_value_is_not_repeated_at_full_length() -> None:
    assert len(values.shown("x" * 500)) <= 80
    assert values.shown("a\r\nb\x1b") == '"a\\r\\nb\\x1b"'


def test_a_list_reads_like_a_sentence() -> None:
    assert values.listed(["a"]) == '"a"'
    assert values.listed(["a", "b"]) == '"a" or "b"'
    assert values.listed(["a", "b", "c"]) == '"a", "b" or "c"'
