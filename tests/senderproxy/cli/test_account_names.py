"""The account that a typed name means."""

import pytest

from senderproxy.cli.account_names import AccountName, account_id
from senderproxy.cli.errors import UsageError
from tests.senderproxy.cli.conftest import Office

NAMES = [
    AccountName("anna", "anna@firma.example", "anna@firma.example"),
    AccountName("dora@verein.example", "kasse@verein.example", "dora"),  # its address was changed since
    AccountName("dora-new", "dora@verein.example", "dora2"),
    AccountName("web", "web@shop.example", "ws12345"),
    AccountName("web2", "web2@shop.example", "ws12345"),  # the same user at another provider
]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("anna", "anna"),
        ("anna@firma.example", "anna"),
        ("Anna@Firma.Example", "anna"),
        ("anna@firma.example.", "anna"),  # a dot behind the domain is the same domain
        ("dora@verein.example", "dora@verein.example"),  # an id comes before an address
        ("kasse@verein.example", "dora@verein.example"),
        ("dora2", "dora-new"),  # the login
        ("web2@shop.example", "web2"),
        ("Anna", None),  # an id is taken as it is
        ("ana", None),
        ("info@firma.example", None),
        ("@firma.example", None),
        ("", None),
        ("\x00", None),
    ],
)
def test_names(typed: str, expected: str | None) -> None:
    assert account_id(typed, NAMES) == expected


def test_a_login_of_two_accounts_is_ambiguous() -> None:
    with pytest.raises(UsageError, match="may be several accounts: web, web2"):
        account_id("ws12345", NAMES)


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("edit", "--messages-per-hour", "5"),
        ("verify",),
        ("set-password", "--no-verify", "--password-stdin"),
        ("remove", "--yes"),
    ],
)
def test_each_command_takes_the_address_of_the_mailbox_but_no_alias(office: Office, words: tuple[str, ...]) -> None:
    office.add("anna@firma.example", "--id", "anna", "--also", "info@firma.example")
    action, *options = words
    ended = office.type("account", action, "info@firma.example", *options, stdin="geheim-anna\n")
    assert ended.code in (64, 65)
    assert ended.err == (
        "There is no account info@firma.example.\n"
        "To fix: Account anna carries this address: senderproxy account show anna\n"
    )
    ended = office.type("account", action, "anna@firma.example", *options, stdin="geheim-anna\n")
    assert ended.code == 0, ended.err
    if action not in ("show", "verify"):
        assert "ccount anna" in ended.out


def test_probe_takes_an_address(office: Office) -> None:
    office.add("anna@firma.example", "--id", "anna")
    ended = office.type("check", "--probe", "--yes", "anna@firma.example")
    assert "ok       account anna: the login works" in ended.out
    assert office.type("check", "--probe", "--yes", "ana").code == 64
