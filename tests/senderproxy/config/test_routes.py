"""A route in the configuration names a way that exists and is safe; each mistake has its fix."""

from pathlib import Path
from typing import Any

import pytest

from senderproxy.config.load import ConfigError, find_warnings, parse_config
from senderproxy.config.model import Config
from senderproxy.config.restart import needs_restart
from senderproxy.mail.address import parse_address
from senderproxy.routing.hops import ClientCertificate, InternalHop, SmarthostHop
from senderproxy.routing.provider import Limits, Security, Smarthost
from senderproxy.routing.recipient_routes import AccountVia, ServerVia
from tests.senderproxy.config.test_model import config

HEAD = '[identity]\nhostname = "mail.firma.example"\n[vault]\nunlock = "passphrase"\n'
RELAY = '[smarthosts.relay]\nhost = "relay.example"\n'


def problems(text: str, folder: Path = Path("/etc/senderproxy")) -> list[str]:
    try:
        parse_config(folder / "senderproxy.toml", HEAD + text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def via(settings: Config, recipient: str) -> object:
    found = settings.recipient_routes().find(parse_address(recipient))
    return None if found is None else found.via


def routed(way: str, **smarthost: Any) -> object:
    smarthosts = {"relay": {"host": "relay.example"} | smarthost}
    return via(config(routes=[{"recipients": ["*"], "via": way}], smarthosts=smarthosts), "a@kunde.example")


@pytest.mark.parametrize(
    ("settings", "server"),
    [
        ({}, Smarthost("relay.example", 25, Security.STARTTLS)),
        ({"port": 465}, Smarthost("relay.example", 465, Security.IMPLICIT_TLS)),
        ({"port": 587}, Smarthost("relay.example", 587, Security.STARTTLS)),
        ({"security": "tls"}, Smarthost("relay.example", 465, Security.IMPLICIT_TLS)),
        ({"security": "none", "host": "192.168.1.9"}, Smarthost("192.168.1.9", 25, Security.NONE)),
        ({"security": "none", "host": "relay.lan.example"}, Smarthost("relay.lan.example", 25, Security.NONE)),
        ({"ca_file": "/ca.pem"}, Smarthost("relay.example", 25, Security.STARTTLS, "/ca.pem")),
    ],
)
def test_the_server_of_a_smarthost(settings: dict[str, Any], server: Smarthost) -> None:
    found = routed("smarthost relay", **settings)
    assert isinstance(found, ServerVia)
    assert found.hop.server == server


def test_the_ways() -> None:
    assert routed("Account  anna") == AccountVia("anna")
    assert routed("internal 192.168.1.20:25") == ServerVia(InternalHop(Smarthost("192.168.1.20", 25, Security.NONE)))
    assert routed("internal [fd00::20]:25") == ServerVia(InternalHop(Smarthost("fd00::20", 25, Security.NONE)))
    limits = Limits(connections=2, messages_per_connection=None, idle_seconds=30, recipients_per_message=None)
    assert routed(
        "smarthost relay", connections=2, recipients_per_message=0, certificate="/c.pem", key="/k.pem"
    ) == ServerVia(
        SmarthostHop(
            "relay", Smarthost("relay.example", 25, Security.STARTTLS), ClientCertificate("/c.pem", "/k.pem"), limits
        )
    )


def test_a_smarthost_with_a_login_is_its_account() -> None:
    settings = config(
        routes=[{"recipients": ["*"], "via": "smarthost relay"}], smarthosts={"relay": {"account": "anna"}}
    )
    assert via(settings, "a@kunde.example") == AccountVia("anna")
    assert list(settings.named_accounts()) == [("smarthosts.relay.account", "anna")]
    assert not settings.hops()
    settings = config(routes=[{"recipients": ["*"], "via": "account bert"}])
    assert list(settings.named_accounts()) == [("routes[0].via", "bert")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[routes]]\nrecipients = ["@k.example"]\n', "routes[0].via: is missing"),
        ('[[routes]]\nvia = "account a"\n', "routes[0].recipients: is missing"),
        ('[[routes]]\nrecipients = []\nvia = "account a"\n', "routes[0].recipients: is empty"),
        ('[[routes]]\nrecipients = ["kunde"]\nvia = "account a"\n', "routes[0].recipients[0]: kunde has no @"),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "acount a"\n', 'routes[0].via: "acount a" is unknown'),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "account"\n', 'routes[0].via: "account" has no name after it'),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = 5\n', "routes[0].via: 5 is unknown"),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "mx"\n',
            'mx.public_address: is missing, but via = "mx" needs it',
        ),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "provider-mx"\n',
            'mx.public_address: is missing, but via = "provider-mx" needs it',
        ),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "mx k.example"\n', 'routes[0].via: "mx k.example" is unknown'),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "smarthost rely"\n' + RELAY,
            'there is no smarthost "rely". To fix: did you mean "smarthost relay"?',
        ),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "smarthost x"\n', "To fix: add a section [smarthosts.x]"),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "internal 8.8.8.8:25"\n',
            '"8.8.8.8" is no address of the own network',
        ),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "internal 192.168.1.20"\n',
            "is not an IP address with a port",
        ),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "internal 192.168.1.20:0"\n', "has no port"),
        ('[[routes]]\nrecipients = ["@k.example"]\nvia = "internal mail.lan:25"\n', '"mail.lan" is not an IP address'),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "internal 127.0.0.1:2525"\n',
            "routes[0].via: is a listener of this service",
        ),
        (
            '[[routes]]\nrecipients = ["@k.example"]\nvia = "account a"\n[[routes]]\nrecipients = ["a@k.example", "@K.example"]\nvia = "account b"\n',
            'routes[1].recipients: "@k.example" is never used: routes[0] has it already',
        ),
        (
            '[[routes]]\nrecipients = ["*"]\nvia = "account a"\n[[routes]]\nrecipients = ["a@k.example"]\nvia = "account b"\n',
            'routes[1].recipients: "a@k.example" is never used',
        ),
        ("[smarthosts.relay]\nport = 25\n", "smarthosts.relay.host: is missing"),
        (
            '[smarthosts.relay]\naccount = "a"\nhost = "h.example"\n',
            "smarthosts.relay.host: has no effect with an account",
        ),
        (RELAY + 'security = "none"\ncertificate = "c"\nkey = "k"\n', 'is "none", but a client certificate needs TLS'),
        (
            '[smarthosts.relay]\nhost = "8.8.8.8"\nsecurity = "none"\n',
            'is "none": the mail for 8.8.8.8 would be sent in the clear',
        ),
        (RELAY + 'password = "geheim"\n', "smarthosts.relay.password: is not a setting"),
        ("[routes]\n", "routes: is a single section. To fix: write [[routes]]"),
    ],
)
def test_a_mistake_is_refused_with_its_fix(text: str, problem: str, tmp_path: Path) -> None:
    for name in ("c", "k"):
        (tmp_path / name).touch(mode=0o600)
    found = problems(text, tmp_path)
    assert len(found) == 1, found
    assert problem in found[0]
    assert "geheim" not in found[0]


def test_a_certificate_needs_its_key_and_a_key_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "c").touch(mode=0o600)
    assert (
        "smarthosts.relay.key: is missing, but certificate needs it"
        in problems(RELAY + 'certificate = "c"\n', tmp_path)[0]
    )
    assert "smarthosts.relay.certificate: is missing, but key needs it" in problems(RELAY + 'key = "c"\n', tmp_path)[0]


def test_missing_files_and_a_readable_key_are_found(tmp_path: Path) -> None:
    text = RELAY + 'certificate = "c.pem"\nkey = "k.pem"\nca_file = "ca.pem"\n'
    assert len(problems(text, tmp_path)) == 3
    for name in ("c.pem", "k.pem", "ca.pem"):
        (tmp_path / name).touch(mode=0o644)
    path = tmp_path / "senderproxy.toml"
    path.write_text(HEAD + text)
    path.chmod(0o600)
    found = parse_config(path, HEAD + text)
    assert found.smarthosts["relay"].key == str(tmp_path / "k.pem")
    assert [str(warning.path) for warning in find_warnings(path, found)] == [str(("smarthosts", "relay", "key"))]
    (tmp_path / "k.pem").chmod(0o600)
    assert not find_warnings(path, found)


@pytest.mark.parametrize(
    ("listener", "server", "is_own"),
    [
        ("0.0.0.0:25", "127.0.0.1:25", True),
        ("0.0.0.0:25", "192.168.1.20:25", False),  # another machine, as far as the configuration tells
        ("192.168.1.2:25", "192.168.1.2:25", True),
        ("192.168.1.2:25", "127.0.0.1:25", False),
        ("127.0.0.1:2525", "127.0.0.1:25", False),
        ("[::1]:25", "[::1]:25", True),
        ("[::]:25", "[::1]:25", True),
    ],
)
def test_an_own_listener_is_no_internal_server(listener: str, server: str, is_own: bool) -> None:
    allow = "" if "127.0.0.1" in listener or "::1" in listener else 'allow = ["192.168.1.0/24"]\n'
    text = f'[[listeners]]\naddress = "{listener}"\n{allow}[[routes]]\nrecipients = ["*"]\nvia = "internal {server}"\n'
    assert any("listener of this service" in problem for problem in problems(text)) is is_own


def test_a_reload_changes_routes_without_a_restart() -> None:
    old = config()
    new = config(routes=[{"recipients": ["*"], "via": "account a"}], smarthosts={"relay": {"host": "h.example"}})
    assert not needs_restart(old, new)
