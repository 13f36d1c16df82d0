"""Authors of a message: read from the header section, or rejected if two programs could read them differently."""

import email
import email.policy
import email.utils
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.mail.author import (
    AuthorFields,
    LocalName,
    MailboxError,
    UnreadableAuthor,
    read_authors,
    read_mailboxes,
)
from senderproxy.mail.header import HeaderSection

A = "a@b.example"


def read(*lines: bytes) -> AuthorFields | UnreadableAuthor:
    return read_authors(HeaderSection(b"\r\n".join(lines) + b"\r\n\r\n"))


def read_from(value: bytes) -> AuthorFields | UnreadableAuthor:
    return read(b"Received: from x by y", b"From: " + value, b"To: c@d.example")


# Fields written by real programs: a name for the case, the field, the address, the display name.
NORMAL = [
    ("bare, as scripts do", b"a@b.example", A, None),
    ("in brackets only", b"<a@b.example>", A, None),
    ("name and brackets", b"Anna Muster <a@b.example>", A, "Anna Muster"),
    ("Outlook, quoted", b'"Anna Muster" <a@b.example>', A, "Anna Muster"),
    ("Exchange, last name first", b'"Muster, Anna" <a@b.example>', A, "Muster, Anna"),
    ("Exchange, with a department", b'"Muster, Anna (Sales, EMEA)" <a@b.example>', A, "Muster, Anna (Sales, EMEA)"),
    ("Outlook, the address as a name", b'"a@b.example" <a@b.example>', A, "a@b.example"),
    ("Outlook, the address as a name, in apostrophes", b"\"'a@b.example'\" <a@b.example>", A, "'a@b.example'"),
    ("Exchange, encoded umlaut", b"=?iso-8859-1?Q?M=FCller=2C_Anna?= <a@b.example>", A, "Müller, Anna"),
    ("Thunderbird, encoded umlaut", b"=?UTF-8?Q?Anna_M=C3=BCller?= <a@b.example>", A, "Anna Müller"),
    ("PHP, encoded and quoted", b'"=?UTF-8?B?w4RubmE=?=" <a@b.example>', A, "Änna"),
    ("Gmail, encoded in two", b"=?UTF-8?Q?Anna?= =?UTF-8?Q?bell?= <a@b.example>", A, "Annabell"),
    ("Japanese", b"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?= <a@b.example>", A, "日本"),
    ("folded by Exchange", b"=?utf-8?B?w4Ru?=\r\n\t=?utf-8?B?bmE=?=\r\n <a@b.example>", A, "Änna"),
    ("folded at once", b"\r\n Anna <a@b.example>", A, "Anna"),
    ("folded at the end", b"Anna <a@b.example>\r\n ", A, "Anna"),
    ("JavaMail, raw UTF-8", "Änna Müller <a@b.example>".encode(), A, "Änna Müller"),
    ("old scanner, raw Latin-1", b"M\xfcller <a@b.example>", A, "Müller"),
    ("scanner, no blank", b"Scanner<a@b.example>", A, "Scanner"),
    ("scanner, blanks", b"   Scanner   <a@b.example>  ", A, "Scanner"),
    ("initials with dots", b"Dr. A. B. Muster <a@b.example>", A, "Dr. A. B. Muster"),
    ("company & sons", b"Muster & Sons / Sales - EU <a@b.example>", A, "Muster & Sons / Sales - EU"),
    ("apostrophe", b"Anna O'Neill <a@b.example>", A, "Anna O'Neill"),
    ("quoted nickname", b'Anna "Nana" Muster <a@b.example>', A, "Anna Nana Muster"),
    ("escaped quotation marks", rb'"Anna \"Nana\" Muster" <a@b.example>', A, 'Anna "Nana" Muster'),
    ("empty quoted name", b'"" <a@b.example>', A, None),
    ("cron, name in a comment", b"a@b.example (Cron Daemon)", A, "Cron Daemon"),
    ("comment before", b"(System) a@b.example", A, "System"),
    ("comment in comment", b"a@b.example (Cron (root) Daemon)", A, "Cron (root) Daemon"),
    ("comment with an escaped bracket", rb"a@b.example (Cron \) Daemon)", A, r"Cron \) Daemon"),
    ("name and comment", b"Anna (Sales) <a@b.example> (EMEA)", A, "Anna"),
    ("encoded brackets", b"=?utf-8?Q?Anna_(Sales)?= <a@b.example>", A, "Anna (Sales)"),
    ("encoded comma left as it is", b"=?utf-8?Q?Muster,_Anna?= <a@b.example>", A, "Muster, Anna"),
    ("an encoded line end in the name", b"=?utf-8?q?x=0D=0ABcc:_v=40x=2Ede?= <a@b.example>", A, "x Bcc: v@x.de"),
    ("plus tag", b"Anna <anna+shop@b.example>", "anna+shop@b.example", "Anna"),
    ("upper case", b"ANNA <ANNA@B.EXAMPLE>", "ANNA@b.example", "ANNA"),
    ("IDN, raw", "Anna <anna@büro.example>".encode(), "anna@xn--bro-hoa.example", "Anna"),
    ("IDN, A-label", b"Anna <anna@xn--bro-hoa.example>", "anna@xn--bro-hoa.example", "Anna"),
    ("IDN, sharp s", "anna@straße.example".encode(), "anna@xn--strae-oqa.example", None),
    ("quoted local part", b'Anna <"anna muster"@b.example>', '"anna muster"@b.example', "Anna"),
    ("quoted local part, bare", b'"anna muster"@b.example', '"anna muster"@b.example', None),
    ("quoted without need", b'<"a"@b.example>', A, None),
    ("dots as some phones make them", b"anna..x.@b.example", "anna..x.@b.example", None),
    ("address literal", b"Scanner <scan@[192.0.2.7]>", "scan@[192.0.2.7]", "Scanner"),
    ("one label", b"root@server (root)", "root@server", "root"),
    ("dot behind the domain", b"a@b.example.", A, None),
    ("dot behind the domain, in brackets", b"Anna <a@B.example.>", A, "Anna"),
    ("long local part", b"a" * 300 + b"@b.example", "a" * 300 + "@b.example", None),
]


@pytest.mark.parametrize(("value", "address", "name"), [row[1:] for row in NORMAL], ids=[row[0] for row in NORMAL])
def test_what_real_programs_write_is_read(value: bytes, address: str, name: str | None) -> None:
    authors = read_from(value)
    assert isinstance(authors, AuthorFields), authors
    (mailbox,) = authors.from_
    assert (str(mailbox.address), mailbox.display_name) == (address, name)


REFUSED = [
    ("an address as a name, not quoted", b"boss@corp.example <a@b.example>", "two addresses, or an @ outside"),
    ("two addresses in brackets", b"<boss@corp.example> <a@b.example>", "two addresses"),
    ("name with an @ in it", b"Anna @ Firma <a@b.example>", "an @ outside quotation marks"),
    ("two names, one address", b"boss@corp.example Anna <a@b.example>", "it has text after the address"),
    ("encoded address", b"=?utf-8?q?a=40b=2Eexample?=", "the address is inside an encoded word"),
    ("encoded name and address", b"=?utf-8?q?Anna_<a@b.example>?=", "the address is inside an encoded word"),
    ("encoded with blanks", b"=?utf-8?q?Anna <a@b.example>?=", "the address is inside an encoded word"),
    (
        "encoded in two words",
        b"=?utf-8?q?Anna?= =?utf-8?b?IDxhQGIuZXhhbXBsZT4=?=",
        "the address is inside an encoded word",
    ),
    ("encoded, wide @", b"=?utf-8?q?a=EF=BC=A0b?=", "the address is inside an encoded word"),
    ("encoded in an unknown charset", b"=?x-unknown?q?a=40b?=", "an encoded word that cannot be decoded"),
    ("a wide @", "a\uff20b.example".encode(), "no address with an @"),
    ("encoded local part", b"=?utf-8?q?a?=@b.example", "encoded word in the address"),
    ("encoded local part in brackets", b"Anna <=?utf-8?q?boss=40corp.example=00?=@b.example>", "encoded word"),
    ("encoded brackets", b"=?utf-8?q?=3Ca=40b.example=3E?=", "the address is inside an encoded word"),
    ("two dots behind the domain", b"a@b.example..", "is not a domain name"),
    ("group", b"Team: a@b.example, c@d.example;", "has a group"),
    ("empty group", b"undisclosed-recipients:;", "has a group"),
    ("group in a list", b"a@b.example, Team: c@d.example;", "has a group"),
    ("raw 8-bit before the @", "änna@b.example".encode(), "outside ASCII before the @"),
    ("raw Latin-1 domain", b"anna@b\xfcro.example", "neither ASCII nor UTF-8"),
    ("NUL in the address", b"a@b\x00.example", "control characters"),
    ("escape in the name", b"Anna \x1b[2J <a@b.example>", "control characters"),
    ("DEL", b"Anna\x7f <a@b.example>", "control characters"),
    ("vertical tab", b"Anna\x0b<a@b.example>", "control characters"),
    ("junk behind the bracket", b"Anna <a@b.example> x", "it has text after the address"),
    ("second bracket behind", b"Anna <a@b.example>>", "it has text after the address"),
    ("semicolon behind", b"Anna <a@b.example>;", "it has text after the address"),
    ("at behind the bracket", b"Anna <a@b.example>@c.example", "it has text after the address"),
    ("bracket not closed", b"Anna <a@b.example", "before the closing bracket"),
    ("bracket not opened", b"Anna a@b.example>", "an @ outside quotation marks"),
    ("bare, bracket closed", b"a@b.example>", "it has text after the address"),
    ("bracket in bracket", b"<<a@b.example>>", "the text in the brackets is not an address"),
    ("two names, no @", b"root, www-data", "a comma outside quotation marks"),
    ("two names in brackets", b"<root> <www-data>", "the text in the brackets is not an address"),
    ("two words in brackets", b"<root wheel>", "the text in the brackets is not an address"),
    ("text behind a name in brackets", b"<root> x", "the text in the brackets is not an address"),
    ("a name without closing bracket", b"root <root", "the text in the brackets is not an address"),
    ("no domain", b"anna@", "not a domain"),
    ("no local part", b"@b.example", "an @ outside quotation marks"),
    ("two @", b"a@b@c.example", "it has text after the address"),
    ("comma in a name", b"Muster, Anna <a@b.example>", "a comma outside quotation marks"),
    ("comma behind", b"a@b.example,", "an address is missing"),
    ("comma before", b", a@b.example", "an address is missing"),
    ("blank before the @", b"a @b.example", "a blank in the address"),
    ("blank behind the @", b"a@ b.example", "not a domain"),
    ("blanks inside the brackets", b"<a @ b.example>", "the text in the brackets is not an address"),
    ("comment before the @", b"a(x)@b.example", "a blank in the address"),
    ("comment behind the @", b"a@(x)b.example", "not a domain"),
    ("comment in the brackets", b"<(x)a@b.example>", "the text in the brackets is not an address"),
    ("address in a comment", b"(boss@corp.example) a@b.example", "a comment with an address"),
    ("address in a comment behind", b"a@b.example (boss@corp.example)", "a comment with an address"),
    ("bracket in a comment", b"(<) a@b.example", "a comment with an address"),
    ("comment not closed", b"a@b.example (Anna", "it has an unclosed comment"),
    ("comment not opened", b"a@b.example Anna)", "a closing bracket without a comment"),
    ("comments far too deep", b"(" * 9 + b"x" + b")" * 9 + b" a@b.example", "too many nested comments"),
    ("quotation not closed", b'"Anna <a@b.example>', "it has an unclosed quotation mark"),
    ("backslash outside", b"Anna\\ <a@b.example>", "it has a \\ outside quotation marks"),
    ("square brackets in a name", b"[Sales] Anna <a@b.example>", "it has a [ outside quotation marks"),
    ("square bracket alone", b"Anna ] <a@b.example>", "it has a ] outside quotation marks"),
    ("quoted local part with an @", b'<"boss@corp.example"@b.example>', "has punctuation"),
    ("quoted local part with brackets", b'"a> <boss@corp.example"@b.example', "has punctuation"),
    ("word and quoted local part", b'"a".b@c.example', "an @ outside quotation marks"),
    ("apostrophes around the address", b"'a@b.example'", "is not a domain name"),
    ("bad address literal", b"a@[300.1.1.1]", "is not an address literal"),
    ("route without colon", b"<@x.example a@b.example>", "a source route before the address"),
    (
        "route with an address",
        b"<@x.example,boss@corp.example:a@b.example>",
        "a source route before the address",
    ),
    ("route only", b"<@x.example:>", "a source route before the address"),
    ("source route", b"Anna <@x.example,@y.example:a@b.example>", "a source route before the address"),
    ("source route of one", b"<@x.example:a@b.example>", "a source route before the address"),
    ("a line of blanks inside", b"Anna\r\n \r\n <a@b.example>", "a blank line"),
    ("a quotation folded before an address", b'"x\r\n boss@corp.example" <a@b.example>', "a line ends inside"),
    (
        "comma in an encoded word, address quoted",
        b'"boss@corp.example" =?utf-8?q?x,y?= <a@b.example>',
        "a comma or semi",
    ),
    ("far too long", b"Anna " * 1000 + b"<a@b.example>", "longer than 4096"),
]


@pytest.mark.parametrize(("value", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_two_programs_could_read_differently_is_refused(value: bytes, reason: str) -> None:
    refused = read_from(value)
    assert isinstance(refused, UnreadableAuthor), refused
    assert refused.field == "From"
    assert reason in refused.reason


LOCAL = [
    ("user and comment", b"root (Cron Daemon)", "root", "root"),
    ("user", b"root", "root", "root"),
    ("user in capitals", b"Root", "root", "Root"),
    ("user in brackets", b"<root>", "root", None),
    ("user in brackets, name", b"Mail Delivery Subsystem <MAILER-DAEMON>", "mailer-daemon", "Mail Delivery Subsystem"),
    ("user in brackets, quoted name", b'"Cron, Daemon" <root>', "root", "Cron, Daemon"),
    ("user in brackets, comment", b"<root> (Cron Daemon)", "root", "Cron Daemon"),
    ("name, empty brackets", b"MAILER-DAEMON <>", None, "MAILER-DAEMON"),
    ("empty brackets", b"<>", None, None),
    ("empty brackets with a blank", b"< >", None, None),
    ("empty", b"", None, None),
    ("blanks", b" \t ", None, None),
    ("device", b"Scan Station", None, "Scan Station"),
    ("device, quoted", b'"Kyocera TASKalfa"', None, "Kyocera TASKalfa"),
    ("encoded name", b"=?utf-8?q?M=C3=BCller?=", None, "Müller"),
    ("raw name", "Büro".encode(), None, "Büro"),
    ("folded", b"root\r\n (Cron Daemon)", "root", "root"),
    ("comment alone", b"(Cron Daemon)", None, "Cron Daemon"),
]


@pytest.mark.parametrize(("value", "name", "display"), [row[1:] for row in LOCAL], ids=[row[0] for row in LOCAL])
def test_a_from_field_without_an_address_is_a_local_name(value: bytes, name: str | None, display: str | None) -> None:
    assert read_from(value) == AuthorFields((), local=LocalName(name, display))


def test_a_local_part_outside_ascii_has_its_own_status() -> None:
    refused = read_from("änna@b.example".encode())
    assert isinstance(refused, UnreadableAuthor)
    assert refused.status == "5.6.7"


def addresses(authors: AuthorFields | UnreadableAuthor) -> list[str]:
    assert isinstance(authors, AuthorFields), authors
    return [str(mailbox.address) for mailbox in authors.from_]


def test_several_authors_are_all_read() -> None:
    both = read_from(b'"Muster, Anna" <a@b.example>, (x) c@d.example, <e@f.example>')
    assert addresses(both) == [A, "c@d.example", "e@f.example"]


def test_no_from_field_at_all_is_no_author() -> None:
    assert read(b"To: x@y.example") == AuthorFields(())
    assert read_authors(HeaderSection(b"")) == AuthorFields(())
    assert read_authors(HeaderSection(b"\r\n")) == AuthorFields(())


@pytest.mark.parametrize(
    "other", [b"a@b.example", b"A@B.Example", b"Anna <a@b.example>", b"<a@b.example.>", b"a@b.example (Anna)"]
)
def test_several_from_fields_with_the_same_author_count_as_one(other: bytes) -> None:
    assert addresses(read(b"From: Anna <a@b.example>", b"FROM: " + other)) == [A]
    assert [text.lower() for text in addresses(read(b"From: " + other, b"From: a@b.example"))] == [A]


@pytest.mark.parametrize(
    "other", [b"root", b"", b"a@b.example, c@d.example", b"a+b@b.example", b"a@b.example.org", b"x a@b.example", b"<>"]
)
def test_from_fields_that_differ_are_refused(other: bytes) -> None:
    for lines in ((b"From: a@b.example", b"From: " + other), (b"From: " + other, b"From: a@b.example")):
        assert isinstance(read(*lines), UnreadableAuthor)
    assert read(b"From: a@b.example", b"From : boss@corp.example") == UnreadableAuthor("From", "there are 2 of them")


@pytest.mark.parametrize("name", [b"From:", b"from:", b"FROM :", b"From\t :"])
def test_the_field_is_found_however_its_name_is_written(name: bytes) -> None:
    assert addresses(read(name + b" a@b.example")) == [A]


@pytest.mark.parametrize(
    "lines",
    [
        (b"garbage", b"From: a@b.example"),
        (b"From: boss@corp.example", b"garbage", b"From: a@b.example"),
        (b"From anna Thu Jan  1 08:00:00 2026", b"From: a@b.example"),
        (b"garbage", b" From: a@b.example"),
        (b"From\x00: a@b.example",),
        (b"Subject: x\nFrom: boss@corp.example", b"From: a@b.example"),
        (b"Subject: x\rFrom: boss@corp.example",),
        (b"garbage", b"fRoM\t: a@b.example"),
    ],
)
def test_a_from_field_below_what_is_no_field_is_refused(lines: tuple[bytes, ...]) -> None:
    refused = read(*lines)
    assert isinstance(refused, UnreadableAuthor)
    assert "below a line that is not a header field" in refused.reason


def test_garbage_without_a_from_field_below_it_disturbs_nobody() -> None:
    assert addresses(read(b"From: a@b.example", b"garbage", b"X-From: boss@corp.example")) == [A]


def test_other_fields_whose_names_look_alike_are_no_from_fields() -> None:
    assert addresses(read(b"X-From: x@y.example", b"From: a@b.example", b"From-Name: x@y.example")) == [A]


def test_from_in_a_folded_field_is_no_from_field() -> None:
    assert addresses(read(b"DKIM-Signature: h=to:\r\n from:subject", b"From: a@b.example")) == [A]


def test_the_sender_is_read_as_strictly() -> None:
    authors = read(b"From: a@b.example, c@d.example", b"Sender: Bert <bert@b.example>")
    assert isinstance(authors, AuthorFields)
    assert authors.sender is not None
    assert (str(authors.sender.address), authors.sender.display_name) == ("bert@b.example", "Bert")
    assert read(b"From: a@b.example", b"Sender: x@y.example, z@y.example") == UnreadableAuthor(
        "Sender", "it names more than one mailbox"
    )
    assert read(b"Sender: x@y.example", b"Sender: x@y.example") == UnreadableAuthor("Sender", "there are 2 of them")
    assert read(b"From: a@b.example", b"Sender: root") == UnreadableAuthor("Sender", "it has no address with an @")


def test_an_empty_sender_field_is_none() -> None:
    authors = read(b"From: a@b.example", b"Sender:")
    assert isinstance(authors, AuthorFields)
    assert authors.sender is None


def test_the_topmost_resent_from_counts() -> None:
    authors = read(b"Resent-From: new@b.example", b"Resent-From: old@b.example", b"From: a@b.example")
    assert isinstance(authors, AuthorFields)
    assert [str(mailbox.address) for mailbox in authors.resent_from] == ["new@b.example"]


def test_a_resent_from_that_cannot_be_read_counts_as_none() -> None:
    authors = read(b"Resent-From: boss@corp.example <a@b.example>", b"From: a@b.example")
    assert isinstance(authors, AuthorFields)
    assert authors.resent_from == ()


# ---- readers of the standard library ----


def _parse_one(message: email.message.Message) -> list[str]:
    return [email.utils.parseaddr(str(message["From"]))[1]]


def _parse_all(message: email.message.Message) -> list[str]:
    return [address for _, address in email.utils.getaddresses([str(message["From"])])]


def _parse_structured(message: email.message.Message) -> list[str]:
    field: Any = message["From"]
    return [address.addr_spec for address in field.addresses]


OTHERS: dict[str, tuple[email.policy.Policy, Callable[[email.message.Message], list[str]]]] = {
    "parseaddr": (email.policy.compat32, _parse_one),
    "getaddresses": (email.policy.compat32, _parse_all),
    "policy.SMTP": (email.policy.SMTP, _parse_structured),
    "policy.default": (email.policy.default, _parse_structured),
}


def mailboxes_of_other_readers(value: bytes) -> Iterator[tuple[str, str]]:
    """Each mailbox that one of the standard library's four readers finds, and the name of the reader.

    What it cannot read, or reads as something with nothing before an @, names nobody.
    """
    raw = b"From: " + value + b"\r\nSubject: x\r\n\r\nhello\r\n"
    for name, (policy, parse) in OTHERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = parse(email.message_from_bytes(raw, policy=policy))
            except Exception:
                continue  # RecursionError, ValueError, IndexError: known faults of its parsers
        yield from ((name, address) for address in found if address.find("@") > 0)


def is_undecoded(address: str) -> bool:
    """True if raw UTF-8 was read as the replacement character or a surrogate."""
    return any(c == "\ufffd" or "\udc80" <= c <= "\udcff" for c in address)


def same(address: str) -> str:
    """The address without quotation marks and without a dot at its end, in lower case."""
    local_part, _, domain = address.rpartition("@")
    return f"{local_part.strip(chr(34))}@{domain.removesuffix(chr(46))}".lower()


def assert_no_reader_differs(value: bytes) -> None:
    """No reader finds another mailbox, except for a domain in raw UTF-8, which the standard library does not decode."""
    try:
        ours = {same(str(mailbox.address)) for mailbox in read_mailboxes(value)}
    except MailboxError:
        return
    decoded = any("@xn--" in address or ".xn--" in address for address in ours)
    for name, address in mailboxes_of_other_readers(value):
        if decoded and is_undecoded(address):
            continue
        assert same(address) in ours, f"{name} reads {address} where we read {ours} in {value!r}"


@pytest.mark.parametrize("value", [row[1] for row in NORMAL + REFUSED], ids=[row[0] for row in NORMAL + REFUSED])
def test_no_mailbox_that_is_taken_is_another_one_to_the_standard_library(value: bytes) -> None:
    assert_no_reader_differs(value)


PIECES = [
    *(b"a", b"boss", b"Anna", b"b.example", b"corp.example", b"@", b"@", b"<", b">", b" ", b" ", b"\t", b"\r\n "),
    *(b",", b";", b":", b"(", b")", b'"', b"\\", b".", b"[", b"]", b"'", b"+", b"\xc3\xa4", b"\xe4", b"\x0b", b"\x00"),
    *(b"a@b.example", b"<a@b.example>", b"boss@corp.example", b'"boss@corp.example"', b"(x)", b"@x.example:"),
    *(b"=?utf-8?q?a=40b.example?=", b"=?utf-8?q?x,y;z:?=", b"=?utf-8?q?x_(y)?=", b"=?utf-8?b?IA==?=", b"=?", b"?="),
]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))
def test_however_it_is_put_together_nobody_sees_another_mailbox(value: bytes) -> None:
    assert_no_reader_differs(value)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_no_octets_whatever_are_more_than_read_or_refused(raw: bytes) -> None:
    assert isinstance(read_authors(HeaderSection(raw)), AuthorFields | UnreadableAuthor)
    assert isinstance(read_from(raw), AuthorFields | UnreadableAuthor)


SHAPES = [
    *(
        b" ",
        b"(",
        b")",
        b"()",
        b"(\\",
        b'"',
        b'"\\',
        b"<",
        b">",
        b"@",
        b"a@",
        b"a",
        b"a ",
        b"a.",
        b",",
        b"\\",
        b"[",
        b"[]",
    ),
    *(
        b"\r\n ",
        b"\n",
        b"\n ",
        b"\r",
        b"\x00",
        b"From",
        b"\r\nFrom",
        b"=?",
        b"=?utf-8?q?",
        b"=?utf-8?q?a?= ",
        b"a@b.c,",
        b"\xff",
    ),
]


@pytest.mark.parametrize("around", [(b"", b""), (b"x", b" <a@b.example>"), (b'"', b'"'), (b"<", b">")])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_attack_takes_long(shape: bytes, around: tuple[bytes, bytes]) -> None:
    before, behind = around
    for length in (3900, 100_000):
        value = before + shape * (length // len(shape)) + behind
        began = time.process_time()
        read_from(value)
        assert time.process_time() - began < 2  # CPU seconds; a careless expression takes minutes
