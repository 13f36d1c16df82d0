"""Settings of delivery to mail servers of recipients: a public address where it is needed, and a name of this server."""

from pathlib import Path

import pytest

from senderproxy.config.load import ConfigError, parse_config
from senderproxy.config.model import Config
from senderproxy.mail.address import parse_address
from senderproxy.routing.recipient_routes import MxVia, ProviderMxVia
from senderproxy.wiring import mx_settings_of, mx_timeouts_of
from tests.senderproxy.config.test_model import config

HEAD = '[identity]\nhostname = "{name}"\n[vault]\nunlock = "passphrase"\n'
ROUTE = '[[routes]]\nrecipients = ["*"]\nvia = "{via}"\n'
ADDRESS = '[mx]\npublic_address = "203.0.113.7"\n'


def problems(text: str, name: str = "mail.firma.example") -> list[str]:
    try:
        parse_config(Path("/etc/senderproxy/senderproxy.toml"), HEAD.format(name=name) + text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("via", ["mx", "provider-mx"])
def test_a_way_to_mail_servers_needs_the_public_address_and_a_full_name(via: str) -> None:
    route = ROUTE.format(via=via)
    assert problems(route + ADDRESS) == []
    (problem,) = problems(route)
    fix = 'write public_address = ["203.0.113.7"] in [mx], with the address that others see; docs/mx.md'
    assert problem == f'mx.public_address: is missing, but via = "{via}" needs it. To fix: {fix}'
    (problem,) = problems(route + ADDRESS, name="mail")
    assert 'identity.hostname: "mail" is no full name, and mail servers refuse such clients' in problem


def test_without_such_a_way_nothing_is_needed() -> None:
    assert problems(ROUTE.format(via="account anna"), name="mail") == []
    assert problems(ADDRESS, name="mail") == []
    assert config().mx_vias == frozenset()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('"192.168.1.20"', '"192.168.1.20" is an address of the own network'),
        ('"127.0.0.1"', '"127.0.0.1" is an address of the own network'),
        ('"::1"', '"::1" is an address of the own network'),
        ('"::ffff:10.0.0.1"', '"::ffff:10.0.0.1" is an address of the own network'),
        ('"0.0.0.0"', '"0.0.0.0" is an address of the own network'),
        ('"224.0.0.1"', '"224.0.0.1" is an address of the own network'),
        ('"mail.firma.example"', '"mail.firma.example" is not an IP address'),
        ("[7]", "7 is not an IP address"),
        ('["203.0.113.7", "zzz"]', '"zzz" is not an IP address'),
    ],
)
def test_an_address_that_nobody_else_sees_is_refused(value: str, problem: str) -> None:
    (found,) = problems(f"[mx]\npublic_address = {value}\n")
    assert problem in found
    assert 'To fix: write the address that others see, like "203.0.113.7"' in found


def settings(*addresses: str) -> Config:
    return config(
        routes=[{"recipients": ["@kunde.example"], "via": "mx"}, {"recipients": ["*"], "via": "Provider-MX"}],
        mx={"public_address": list(addresses)},
        providers={"ionos": {"preset": "ionos-de"}, "own": {"host": "smtp.own.example"}},
    )


def test_the_settings_of_the_courier() -> None:
    found = settings(" 203.0.113.7 ", "2001:DB8::7", "::ffff:203.0.113.8")
    assert found.mx.public_address == ("203.0.113.7", "2001:db8::7", "203.0.113.8")
    assert found.mx_vias == {"mx", "provider-mx"}
    made = mx_settings_of(found)
    assert made.ourselves.versions == {4, 6}
    assert "mail.firma.example" in made.ourselves.names
    assert mx_settings_of(settings("203.0.113.7")).ourselves.versions == {4}
    assert made.ourselves.public_only
    assert mx_timeouts_of(found).connect <= 20
    routes = found.recipient_routes()
    vias = [routes.find(parse_address(address)) for address in ("a@kunde.example", "a@x.example")]
    assert [None if one is None else one.via for one in vias] == [MxVia(), ProviderMxVia()]


@pytest.mark.parametrize(
    ("host", "provider", "is_one"),
    [
        ("mx00.ionos.de", "ionos", True),
        ("mx01.kundenserver.de", "ionos", True),
        ("mx00.ionos.co.uk", "ionos", True),
        ("mx00.1and1.com", "ionos", True),
        ("mx00.ionos.de.evil.example", "ionos", False),
        ("notionos.de", "ionos", False),
        ("exchange.ionos.eu", "ionos", False),
        ("mx00.emig.gmx.net", "ionos", False),
        ("mx00.emig.gmx.net", "gmx", True),
        ("mx00.ionos.de", "own", False),
        ("mx00.ionos.de", "nobody", False),
    ],
)
def test_whose_servers_they_are(host: str, provider: str, is_one: bool) -> None:
    assert mx_settings_of(settings("203.0.113.7")).is_providers(host, provider) is is_one
