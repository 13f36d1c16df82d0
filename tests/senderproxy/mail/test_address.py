"""Addresses: valid and invalid ones, equality, reasons of a rejection."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import (
    NULL_PATH,
    Address,
    AddressError,
    AddressPattern,
    parse_address,
    parse_domain,
    parse_pattern,
)


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("anna@firma.example", "anna", "firma.example"),
        ("Anna.Muster@Firma.Example", "Anna.Muster", "firma.example"),
        ("anna+shop@firma.example", "anna+shop", "firma.example"),
        ("o'neill@firma.example", "o'neill", "firma.example"),
        ("root@localhost", "root", "localhost"),
        ("anna@xn--bro-hoa.example", "anna", "xn--bro-hoa.example"),
        ("anna@büro.example", "anna", "xn--bro-hoa.example"),
        ("anna@BÜRO.example", "anna", "xn--bro-hoa.example"),
        ("anna@straße.example", "anna", "xn--strae-oqa.example"),
        ("anna@a_b.example", "anna", "a_b.example"),
        ("anna.@docomo.example", "anna.", "docomo.example"),
        ("a..b@docomo.example", "a..b", "docomo.example"),
        ('"anna muster"@firma.example', "anna muster", "firma.example"),
        ('"anna"@firma.example', "anna", "firma.example"),
        (r'"a\"b"@firma.example', 'a"b', "firma.example"),
        ('"a@b"@firma.example', "a@b", "firma.example"),
        ("anna@[192.0.2.7]", "anna", "[192.0.2.7]"),
        ("anna@[IPv6:2001:DB8::1]", "anna", "[IPv6:2001:db8::1]"),
        ("anna@[ipv6:2001:db8:0::1]", "anna", "[IPv6:2001:db8::1]"),
        ("a" * 700 + "@firma.example", "a" * 700, "firma.example"),
        ("anna@firma.example.", "anna", "firma.example"),
        ("anna@büro.example\u3002", "anna", "xn--bro-hoa.example"),
        ("root@localhost.", "root", "localhost"),
    ],
)
def test_an_address_is_read(text: str, local_part: str, domain: str) -> None:
    assert parse_address(text) == Address(local_part, domain)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the address is empty"),
        ("anna", "anna has no @"),
        ("@firma.example", "@firma.example has nothing before the @"),
        ('""@firma.example', '""@firma.example has nothing before the @'),
        ("anna@", "the domain after the @ is missing"),
        ("anna@.example", ".example is not a domain name"),
        ("anna@firma..example", "firma..example is not a domain name"),
        ("anna@-firma.example", "-firma.example is not a domain name"),
        ("anna@firma example", "firma example is not a domain name"),
        (
            "anna muster@firma.example",
            "anna muster@firma.example has a character before the @ that needs quotation marks",
        ),
        ("a@b@firma.example", "a@b@firma.example has a character before the @ that needs quotation marks"),
        ("<anna@firma.example>", "<anna@firma.example> has a character before the @ that needs quotation marks"),
        (
            "änna@firma.example",
            "\\xe4nna@firma.example has a character outside ASCII before the @, which providers do not accept",
        ),
        ('"anna@firma.example', '"anna@firma.example has an unclosed quotation mark before the @'),
        ('"anna"x@firma.example', '"anna"x@firma.example has an unclosed quotation mark before the @'),
        ("a" * 701 + "@firma.example", "the part before the @ is longer than 700 characters"),
        ("anna@firma.example..", "firma.example.. is not a domain name"),
        ("anna@.", ". is not a domain name"),
        ("anna@" + "a." * 130 + "example", "the domain is longer than 255 characters"),
        ("anna@" + "a" * 64 + ".example", "a" * 64 + ".example is not a domain name"),
        ("anna@[300.0.2.7]", "[300.0.2.7] is not an address literal"),
        ("anna@[IPv6:zz]", "[IPv6:zz] is not an address literal"),
        ("anna@[192.0.2.7", "[192.0.2.7 is not an address literal"),
        (
            "anna@firma.example\r\nRCPT TO:<x@y>",
            "anna@firma.example\\x0d\\x0aRCPT TO:<x@y> has a character before the @",
        ),
        ("anna\0@firma.example", "anna\\x00@firma.example has a character before the @"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert str(refused.value).startswith(reason)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


def test_a_domain_that_is_no_idn_is_refused() -> None:
    with pytest.raises(AddressError, match="is not a domain name") as refused:
        parse_domain("b\u202eüro.example")
    assert str(refused.value).isascii()


def test_two_spellings_of_one_mailbox_have_one_key() -> None:
    assert parse_address("Anna@FIRMA.example").key == parse_address('"anna"@firma.example').key
    assert parse_address("anna@büro.example").key == parse_address("ANNA@XN--BRO-HOA.example").key
    assert parse_address("anna@straße.example").key != parse_address("anna@strasse.example").key


def test_the_tag_is_what_follows_the_first_plus() -> None:
    assert parse_address("anna+shop+x@firma.example").without_tag == Address("anna", "firma.example")
    assert parse_address("anna@firma.example").without_tag is None
    assert parse_address("+shop@firma.example").without_tag is None


def test_the_null_reverse_path_prints_as_nothing() -> None:
    assert str(NULL_PATH) == ""


@pytest.mark.parametrize(
    ("pattern", "shown", "inside", "outside"),
    [
        ("Anna@firma.example", "Anna@firma.example", "ANNA@firma.example", "bert@firma.example"),
        ("@Firma.Example", "@firma.example", "whoever@firma.example", "anna@sub.firma.example"),
        ("*@büro.example", "@xn--bro-hoa.example", "anna@büro.example", "anna@buero.example"),
        ("anna@firma.example", "anna@firma.example", "anna@firma.example", "anna+shop@firma.example"),
    ],
)
def test_a_pattern_is_an_address_or_a_domain(pattern: str, shown: str, inside: str, outside: str) -> None:
    read = parse_pattern(pattern)
    assert str(read) == shown
    assert read.matches(parse_address(inside))
    assert not read.matches(parse_address(outside))


@pytest.mark.parametrize("text", ["", "@", "*@", "anna", "@a@b.example", "*", "a*@firma.example@"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_pattern(text)


_quoted = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_plain = st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]{1,20}", fullmatch=True)
_domains = st.sampled_from(["firma.example", "BÜRO.example", "a.b.c.example", "[192.0.2.7]", "[IPv6:::1]"])


@given(st.one_of(_quoted, _plain), _domains)
def test_an_address_prints_as_one_that_reads_back_as_the_same(local_part: str, domain: str) -> None:
    address = parse_address(f"{local_part}@{domain}")
    assert parse_address(str(address)) == address


@given(st.one_of(st.text(max_size=60), st.text(min_size=1, max_size=20).map(lambda text: f"anna@{text}.example")))
def test_no_text_whatever_is_more_than_read_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError as error:
        refused: AddressError | None = error
    else:
        refused = None
        assert str(address).isascii()
        assert parse_address(str(address)).key == address.key
    assert refused is None or (str(refused).isascii() and str(refused).isprintable())


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "a@" + "ü" * 4000, "@" * 100_000, '"' + "\\" * 99_999, "a@" + "b." * 50_000]
)
def test_a_very_long_text_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(AddressError):
        parse_address(text)
    assert time.process_time() - began < 0.5


def test_a_pattern_of_a_domain_prints_as_one_that_reads_back() -> None:
    assert parse_pattern(str(AddressPattern(None, "firma.example"))) == AddressPattern(None, "firma.example")
