"""Hosts and origins that the page accepts."""

import pytest

from senderproxy.web.settings import PageSettings
from senderproxy.web.site import harmless, preferred

PUBLIC = PageSettings(url="https://mail.firma.example/relay/", hosts=("192.168.1.10", "Relay"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8525", "localhost", "LOCALHOST:9", "[::1]:8525", "mail.firma.example", "Mail.Firma.Example:443",
     "mail.firma.example.", "192.168.1.10:80", "relay"],
)  # fmt: skip
def test_its_own_names_and_loopback_are_accepted_at_any_port(host: str) -> None:
    assert PUBLIC.accepts_host(host)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8525", "127.0.0.1.evil.example", "127.0.0.2", "localhost.evil.example",
     "user@127.0.0.1", "127.0.0.1/x", "127.0.0.1:port", "127.0.0.1,evil.example", "127.0.0.1 evil", "[::1", "0.0.0.0",
     "mail.firma.example%00", "mäil.firma.example", "firma.example", "x" * 5000],
)  # fmt: skip
def test_any_other_host_is_refused(host: str | None) -> None:
    assert not PUBLIC.accepts_host(host)


@pytest.mark.parametrize(
    ("origin", "host", "accepted"),
    [
        ("https://mail.firma.example", "mail.firma.example", True),
        ("https://mail.firma.example:443", "127.0.0.1:8525", True),
        ("http://127.0.0.1:8525", "127.0.0.1:8525", True),
        ("http://localhost:8525", "localhost:8525", True),
        ("http://127.0.0.1:3000", "127.0.0.1:8525", False),
        ("http://localhost:8525", "127.0.0.1:8525", False),
        ("http://mail.firma.example", "mail.firma.example:443", False),
        ("https://evil.example", "mail.firma.example", False),
        ("https://mail.firma.example.evil.example", "mail.firma.example", False),
        ("null", "127.0.0.1:8525", False),
        ("", "127.0.0.1:8525", False),
        (None, "127.0.0.1:8525", False),
        ("ftp://127.0.0.1:8525", "127.0.0.1:8525", False),
        ("http://[::1", "[::1", False),
    ],
)
def test_a_change_comes_from_the_page_itself(origin: str | None, host: str, accepted: bool) -> None:
    assert PUBLIC.accepts_origin(origin, host) is accepted


def test_with_its_own_certificate_the_origin_is_encrypted() -> None:
    own = PageSettings(url="https://relay:8525/", certificate="x.pem", key="x.key")
    assert own.accepts_origin("https://relay:8525", "relay:8525")
    assert not own.accepts_origin("http://relay:8525", "relay:8525")


def test_the_cookie_is_bound_to_the_host_where_tls_is() -> None:
    assert PUBLIC.cookie.startswith("__Host-")
    assert PUBLIC.prefix == "/relay"
    assert not PageSettings().cookie.startswith("__")
    assert PageSettings().prefix == ""


@pytest.mark.parametrize(
    ("accepted", "code"),
    [("", "en"), ("de", "de"), ("de-AT,en;q=0.5", "de"), ("fr,en;q=0.3,de;q=0.8", "de"), ("de;q=0.1,en", "en"),
     ("fr", "en"), ("de;q=x", "en"), ("de;q=9", "en"), ("," * 9000, "en"), ("xx," * 9000 + "de", "en")],
)  # fmt: skip
def test_the_language_is_that_of_the_browser(accepted: str, code: str) -> None:
    assert preferred(accepted) == code


def test_control_and_direction_characters_are_shown_as_text() -> None:
    assert harmless("a\u202eb\x1b[31m\u200b\x00") == "a\\u202eb\\x1b[31m\\u200b\\x00"
    assert harmless("Käse\nzwei") == "Käse\nzwei"
    assert harmless(5) == 5
