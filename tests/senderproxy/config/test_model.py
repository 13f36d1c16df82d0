"""A Config is valid as a whole."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from senderproxy.config.model import SECTIONS, Config, ListenerSettings
from senderproxy.footer.rendered import render
from senderproxy.mail.address import parse_address
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import ImapServer, Limits, LoginForm, NullPolicy, Security, SenderRule, Smarthost
from senderproxy.routing.route import AddressSource, RoutingPolicy

HASH = "scrypt$32768$8$1$c2FsdHNhbHRzYWx0c2FsdA$" + "A" * 43
LEAST: dict[str, Any] = {"identity": {"hostname": "mail.firma.example"}, "vault": {"unlock": "passphrase"}}
TLS = {"tls": "starttls", "certificate": "/c.pem", "key": "/k.pem"}
USER = {"user": "scanner", "password": HASH}


def config(**settings: Any) -> Config:
    return Config.model_validate(LEAST | settings)


def test_the_defaults_are_small_and_safe() -> None:
    least = config()
    (listener,) = least.listeners
    assert (listener.name, listener.address, listener.auth, listener.tls) == ("office", "127.0.0.1:2525", "off", "none")
    assert listener.allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert listener.idle_seconds > 600, "Exchange keeps idle connections for ten minutes"
    assert listener.max_message_size > 141_557_760, "what IONOS takes"
    assert least.delivery.final_dot_seconds < 600, "the internal server gives up after ten minutes"
    assert least.clients == ()
    assert least.routing_policy() == RoutingPolicy()
    assert least.log.level == "info"


def test_a_configuration_is_immutable_and_its_listeners_can_be_compared() -> None:
    one, other = config(), config()
    assert one.listeners == other.listeners
    assert hash(one.listeners[0]) == hash(other.listeners[0])
    with pytest.raises(ValidationError):
        one.vault = other.vault


def test_every_setting_is_documented() -> None:
    for shape, section in SECTIONS.items():
        assert section.__doc__
        if shape:
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"
                assert field.description.endswith("."), f"{section.__name__}.{name}"


def test_repr_does_not_contain_a_hash() -> None:
    assert HASH not in repr(config(clients=[USER], listeners=[{"auth": "optional"}]))


def test_pydantic_does_not_quote_the_input() -> None:
    with pytest.raises(ValidationError) as refused:
        config(clients=[{"user": "x", "password": "geheim-typed-here"}])
    assert "geheim" not in str(refused.value)


# Providers


def test_every_preset_with_a_server_is_a_provider_without_a_section() -> None:
    table = config().provider_table()
    assert set(table) == set(PRESETS) - {"generic"}
    assert all(table[name] is PRESETS[name] for name in table)


def test_a_section_with_a_presets_name_changes_the_preset() -> None:
    table = config(providers={"ionos-de": {"messages_per_hour": 50}}).provider_table()
    assert table["ionos-de"].limits.messages_per_hour == 50
    assert table["ionos-de"].limits.recipients_per_message == 200
    assert table["ionos-de"].smarthosts == PRESETS["ionos-de"].smarthosts
    assert table["ionos-com"] is PRESETS["ionos-com"]


def test_a_provider_may_start_from_a_preset() -> None:
    named = config(providers={"young": {"preset": "ionos-de", "messages_per_hour": 0, "sender_rule": "address"}})
    young = named.provider_table()["young"]
    assert young.name == "young"
    assert young.limits.messages_per_hour is None, "0 is no limit"
    assert young.sender_rule is SenderRule.ADDRESS


def test_a_provider_without_a_preset_has_cautious_defaults() -> None:
    hoster = config(providers={"hoster": {"host": "smtp.hoster.example"}}).provider_table()["hoster"]
    assert hoster.smarthosts == (
        Smarthost("smtp.hoster.example", 465, Security.IMPLICIT_TLS),
        Smarthost("smtp.hoster.example", 587, Security.STARTTLS),
    )
    assert hoster.sender_rule is hoster.from_rule is SenderRule.ADDRESS
    assert (hoster.takes_null_reverse_path, hoster.null_policy) == (False, NullPolicy.REWRITE)


def test_every_property_of_a_provider_can_be_set() -> None:
    settings = {
        "host": "smtp.hoster.example",
        "port": 2465,
        "security": "tls",
        "ca_file": "/ca.pem",
        "mechanisms": ["login"],
        "login_form": "local-part",
        "sender_rule": "any",
        "from_rule": "domain",
        "takes_sub_addresses": True,
        "takes_null_reverse_path": True,
        "on_null_reverse_path": "account bounces",
        "signs": True,
        "imap_host": "imap.hoster.example",
        "imap_port": 1143,
        "imap_security": "starttls",
        "stores_sent": True,
        "connections": 4,
        "messages_per_connection": 10,
        "idle_seconds": 5,
        "recipients_per_message": 50,
        "messages_per_hour": 100,
        "recipients_per_hour": 1000,
        "message_size": "20 MB",
    }
    assert set(settings) == set(SECTIONS[("providers", "*")].model_fields) - {"preset"}
    hoster = config(providers={"hoster": settings}).provider_table()["hoster"]
    assert hoster.smarthosts == (Smarthost("smtp.hoster.example", 2465, Security.IMPLICIT_TLS, "/ca.pem"),)
    assert hoster.mechanisms == ("LOGIN",)
    assert hoster.login_form is LoginForm.LOCAL_PART
    assert (hoster.sender_rule, hoster.from_rule, hoster.takes_null_reverse_path) == (
        SenderRule.ANY,
        SenderRule.DOMAIN,
        True,
    )
    assert hoster.takes_sub_addresses
    assert hoster.signs
    assert hoster.imap == ImapServer("imap.hoster.example", 1143, Security.STARTTLS, "/ca.pem")
    assert hoster.stores_sent
    assert (hoster.null_policy, hoster.null_account) == (NullPolicy.ACCOUNT, "bounces")
    assert hoster.limits == Limits(4, 10, 5.0, 50, 100, 1000, 20_000_000)


@pytest.mark.parametrize(
    ("settings", "server"),
    [
        ({"host": "h"}, None),
        ({"host": "h", "imap_host": "i"}, ImapServer("i", 993, Security.IMPLICIT_TLS)),
        ({"host": "h", "imap_host": "i", "imap_port": 993}, ImapServer("i", 993, Security.IMPLICIT_TLS)),
        ({"host": "h", "imap_host": "i", "imap_port": 143}, ImapServer("i", 143, Security.STARTTLS)),
        ({"host": "h", "imap_host": "i", "imap_security": "starttls"}, ImapServer("i", 143, Security.STARTTLS)),
        ({"host": "h", "imap_host": "::1", "imap_security": "none"}, ImapServer("::1", 143, Security.NONE)),
        ({"preset": "ionos-de"}, ImapServer("imap.ionos.de", 993, Security.IMPLICIT_TLS)),
        ({"preset": "ionos-de", "port": 587}, ImapServer("imap.ionos.de", 993, Security.IMPLICIT_TLS)),
        (
            {"preset": "ionos-de", "ca_file": "/ca.pem"},
            ImapServer("imap.ionos.de", 993, Security.IMPLICIT_TLS, "/ca.pem"),
        ),
        ({"preset": "ionos-de", "imap_port": 143}, ImapServer("imap.ionos.de", 143, Security.STARTTLS)),
        ({"preset": "ionos-de", "host": "127.0.0.1"}, None),  # not that of the mailboxes behind another server
        ({"preset": "ionos-de", "host": "127.0.0.1", "imap_host": "i"}, ImapServer("i", 993, Security.IMPLICIT_TLS)),
    ],
)
def test_the_imap_server_of_a_provider(settings: dict[str, Any], server: ImapServer | None) -> None:
    assert config(providers={"own": settings}).provider_table()["own"].imap == server


@pytest.mark.parametrize(
    ("settings", "servers"),
    [
        ({"port": 465}, [("h", 465, Security.IMPLICIT_TLS)]),
        ({"port": 587}, [("h", 587, Security.STARTTLS)]),
        ({"port": 25}, [("h", 25, Security.STARTTLS)]),
        ({"security": "tls"}, [("h", 465, Security.IMPLICIT_TLS)]),
        ({"security": "starttls"}, [("h", 587, Security.STARTTLS)]),
        ({"port": 465, "security": "starttls"}, [("h", 465, Security.STARTTLS)]),
        ({"preset": "hetzner"}, [("h", 465, Security.IMPLICIT_TLS)]),
        ({"preset": "m365"}, [("h", 587, Security.STARTTLS)]),
        ({"host": "127.0.0.1", "security": "none"}, [("127.0.0.1", 25, Security.NONE)]),
        ({"host": "localhost", "port": 2525, "security": "none"}, [("localhost", 2525, Security.NONE)]),
        ({"host": "::1", "port": 2525, "security": "none"}, [("::1", 2525, Security.NONE)]),
    ],
)
def test_port_and_security_follow_from_each_other(
    settings: dict[str, Any], servers: list[tuple[str, int, Security]]
) -> None:
    provider = config(providers={"own": {"host": "h"} | settings}).provider_table()["own"]
    assert [(server.host, server.port, server.security) for server in provider.smarthosts] == servers


def test_an_own_authority_applies_to_all_servers_of_a_preset() -> None:
    provider = config(providers={"gmx": {"ca_file": "/ca.pem"}}).provider_table()["gmx"]
    assert [(server.port, server.ca_file) for server in provider.smarthosts] == [(465, "/ca.pem"), (587, "/ca.pem")]


def test_the_routing_policy_has_the_configured_values() -> None:
    settings = {"author_order": ["reverse-path", "from"], "default_account": "info"}
    assert config(routing=settings).routing_policy() == RoutingPolicy(
        (AddressSource.REVERSE_PATH, AddressSource.FROM), "info"
    )


# Conflicts


def conflicts(**settings: Any) -> list[str]:
    try:
        config(**settings)
    except ValidationError as error:
        found = error.errors()[0]["ctx"]["conflicts"]
        return [f"{'.'.join(map(str, each.path))}: {each.message}. To fix: {each.hint}" for each in found]
    return []


OPEN = (
    'allows every client: this would be an open relay. To fix: list your own networks only, or write auth = "required"'
)
USELESS = 'list your own networks, like allow = ["192.168.1.0/24"], or listen on 127.0.0.1'
CLEAR = "without TLS: passwords would be sent in the clear"
NO_USER = "but no client has a user name. To fix: add [[clients]] with a user and a password"
NOT_THIS_MACHINE = (
    "names no address of this machine, but 127.0.0.1:2525 is reached from this machine alone."
    ' To fix: write proxy_from = ["127.0.0.1"], or another address'
)
WITH_TLS = 'write tls = "starttls" with certificate and key'
NO_CLIENT = (
    "allows this machine only, but behind a proxy the clients have other addresses."
    ' To fix: list your own networks, like allow = ["192.168.1.0/24"]'
)
EVERYONE = (
    "names everyone: each client could claim any address."
    ' To fix: list the addresses of the proxies only, like proxy_from = ["192.168.1.5"]'
)
LAN = {"address": "192.168.1.2:2525", "allow": ["192.168.1.0/24"]}


def test_a_vault_in_the_database_needs_one_and_a_folder_needs_such_a_vault() -> None:
    engine = {"engine": "postgresql://senderproxy@localhost/mail"}
    needs = (
        "vault.path: needs a spool in a database server. To fix: write the database server to engine in section"
        " [spool], or the path of a file to path"
    )
    assert conflicts(vault={"path": "database", "unlock": "passphrase"}) == [needs]
    assert conflicts(vault={"path": "database", "directory": "/srv", "unlock": "passphrase"}, spool=engine) == []
    assert conflicts(vault={"path": "/x", "directory": "/srv", "unlock": "passphrase"}) == [
        "vault.directory: has no meaning with a vault in a file. To fix: remove it"
    ]


@pytest.mark.parametrize(
    ("listener", "clients", "expected"),
    [
        ({}, [], []),
        (LAN, [], []),
        ({"allow": ["0.0.0.0/0"]}, [], []),
        ({"address": "0.0.0.0:25", "allow": ["0.0.0.0/0"]}, [], [f"listeners.0.allow: {OPEN}"]),
        ({"address": "[::]:25", "allow": ["::/0"]}, [], [f"listeners.0.allow: {OPEN}"]),
        ({"address": "0.0.0.0:25", "allow": ["0.0.0.0/1", "128.0.0.0/1"]}, [], [f"listeners.0.allow: {OPEN}"]),
        (LAN | TLS | {"auth": "optional", "allow": ["0.0.0.0/0"]}, [USER], [f"listeners.0.allow: {OPEN}"]),
        (LAN | TLS | {"auth": "required", "allow": ["0.0.0.0/0"]}, [USER], []),
        ({"proxy_from": ["127.0.0.1"], "allow": ["192.168.1.0/24"]}, [], []),
        (LAN | {"proxy_from": ["192.168.1.5"]}, [], []),
        # Behind a proxy on this machine, the clients are on others.
        ({"proxy_from": ["127.0.0.1"], "allow": ["0.0.0.0/0"]}, [], [f"listeners.0.allow: {OPEN}"]),
        ({"proxy_from": ["127.0.0.1"]}, [], [f"listeners.0.allow: {NO_CLIENT}"]),
        (LAN | {"proxy_from": ["192.168.1.5"], "allow": ["127.0.0.0/8"]}, [], [f"listeners.0.allow: {NO_CLIENT}"]),
        (LAN | {"proxy_from": ["0.0.0.0/0"]}, [], [f"listeners.0.proxy_from: {EVERYONE}"]),
        (LAN | {"proxy_from": ["0.0.0.0/1", "128.0.0.0/1"]}, [], [f"listeners.0.proxy_from: {EVERYONE}"]),
        (LAN | {"proxy_from": ["::/0"]}, [], [f"listeners.0.proxy_from: {EVERYONE}"]),
        (
            {"proxy_from": ["192.168.1.5"], "allow": ["192.168.1.0/24"]},
            [],
            [
                f"listeners.0.proxy_from: {NOT_THIS_MACHINE}",
            ],
        ),
        (
            {"proxy_from": ["127.0.0.1"], "allow": ["192.168.1.0/24"], "auth": "optional"},
            [USER],
            [
                f'listeners.0.auth: is "optional" on 127.0.0.1:2525 {CLEAR}. To fix: {WITH_TLS}',
            ],
        ),
        (
            {"address": "0.0.0.0:25"},
            [],
            [f"listeners.0.allow: allows this machine only, but 0.0.0.0:25 is for other machines. To fix: {USELESS}"],
        ),
        (
            TLS | {"address": "0.0.0.0:25", "auth": "required"},
            [USER],
            [f"listeners.0.allow: allows this machine only, but 0.0.0.0:25 is for other machines. To fix: {USELESS}"],
        ),
        (TLS | {"address": "0.0.0.0:25", "auth": "optional"}, [USER], []),
        (
            {"allow": []},
            [],
            ['listeners.0.allow: is empty: no client could submit mail. To fix: write allow = ["192.168.1.0/24"]'],
        ),
        ({"allow": [], "auth": "optional"}, [USER], []),
        (
            LAN | {"auth": "required"},
            [USER],
            [
                f'listeners.0.auth: is "required" on 192.168.1.2:2525 {CLEAR}. To fix: write tls = "starttls" with certificate and key'
            ],
        ),
        (
            {"max_connections": 20, "reserved_connections": 20},
            [],
            [
                (
                    "listeners.0.reserved_connections: leaves no connection for other clients."
                    " To fix: write a smaller number, or raise max_connections"
                )
            ],
        ),
        ({"max_connections": 1}, [], []),
        ({"auth": "required"}, [USER], []),
        ({"auth": "required"}, [], [f'listeners.0.auth: is "required", {NO_USER}']),
        ({"auth": "optional"}, [{"networks": ["10.0.0.0/8"]}], [f'listeners.0.auth: is "optional", {NO_USER}']),
        (
            {"tls": "implicit"},
            [],
            [
                (
                    'listeners.0.certificate: is missing, but tls = "implicit" needs it. To fix:'
                    ' write certificate = "/etc/senderproxy/certificate.pem"'
                ),
                'listeners.0.key: is missing, but tls = "implicit" needs it. To fix: write key = "/etc/senderproxy/key.pem"',
            ],
        ),
        (
            {"certificate": "/c.pem"},
            [],
            ['listeners.0.certificate: is set, but this listener does not use TLS. To fix: write tls = "starttls"'],
        ),
        (
            {"old_tls": True},
            [],
            ['listeners.0.old_tls: is true, but tls is "none". To fix: remove it, or write tls = "starttls"'],
        ),
        (TLS | {"old_tls": True, "lenient": True, "sender": "scanner@firma.example"}, [], []),
        (
            {},
            [{}],
            [
                'clients.0: has neither a user nor networks. To fix: write user = "..." or networks = ["..."], or default = true'
            ],
        ),
        (
            {},
            [USER | {"networks": ["10.0.0.0/8"]}],
            [
                "clients.0: has a user and networks. To fix: make two clients of it, one with the user and one with the networks"
            ],
        ),
        (
            {},
            [{"user": "scanner"}],
            [
                "clients.0.password: is missing for user scanner. To fix: write the output of: senderproxy client hash-password"
            ],
        ),
        (
            {},
            [{"networks": ["10.0.0.0/8"], "password": HASH}],
            ['clients.0.password: has no user. To fix: write user = "..."'],
        ),
        ({}, [USER | {"senders": []}, {"default": True, "senders": []}], []),
        (
            {},
            [{"default": True, "networks": ["192.0.2.0/24"]}],
            [
                (
                    "clients.0.default: is for hosts without an entry, but this one names its own."
                    " To fix: make two clients of it, one with default = true alone"
                )
            ],
        ),
        (
            {},
            [{"default": True}, {"default": True}],
            ['clients.1.default: "True" is also used by clients[0]. To fix: remove one of the two'],
        ),
        ({}, [USER, USER], ['clients.1.user: "scanner" is also used by clients[0]. To fix: remove one of the two']),
        (
            {},
            [{"networks": ["10.0.0.0/8"]}, {"networks": ["10.1.0.0/16", "10.0.0.0/8"]}],
            ['clients.1.networks: "10.0.0.0/8" is also used by clients[0]. To fix: remove one of the two'],
        ),
    ],
)
def test_access_rules_without_sense_are_refused(
    listener: dict[str, Any], clients: list[Any], expected: list[str]
) -> None:
    assert conflicts(listeners=[listener], clients=clients) == expected


def test_two_listeners_need_two_names_and_two_addresses() -> None:
    assert conflicts(listeners=[{}, {}]) == [
        'listeners.1.name: "office" is also used by listeners[0]. To fix: give each listener its own name',
        'listeners.1.address: "127.0.0.1:2525" is also used by listeners[0]. To fix: give each listener its own address',
    ]
    assert conflicts(listeners=[{"address": "127.0.0.1:0"}, {"name": "b", "address": "127.0.0.1:0"}]) == []
    assert conflicts(listeners=[]) == ["listeners: is empty. To fix: remove it, or add [[listeners]]"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"preset": "ionos"},
            (
                'providers.own.preset: "ionos" is not a preset. To fix: did you mean'
                ' "ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr" or "ionos-exchange"?'
            ),
        ),
        ({"preset": "Hetznre"}, 'providers.own.preset: "Hetznre" is not a preset. To fix: did you mean "hetzner"?'),
        ({"preset": "zzz"}, f'providers.own.preset: "zzz" is not a preset. To fix: use one of {", ".join(PRESETS)}'),
        (
            {"port": 25},
            (
                'providers.own.host: is missing, and preset "generic" has no server. To fix:'
                ' write host = "smtp.example.com", or another preset'
            ),
        ),
        (
            {"host": "smtp.x.example", "security": "none"},
            (
                'providers.own.security: is "none": the password for smtp.x.example would be sent in the clear. To fix:'
                ' write security = "tls" or "starttls"'
            ),
        ),
        (
            {"preset": "gmx", "security": "none"},
            (
                'providers.own.security: is "none": the password for mail.gmx.net would be sent in the clear. To fix:'
                ' write security = "tls" or "starttls"'
            ),
        ),
        (
            {"host": "192.168.1.9", "security": "none"},
            (
                'providers.own.security: is "none": the password for 192.168.1.9 would be sent in the clear. To fix:'
                ' write security = "tls" or "starttls"'
            ),
        ),
        (
            {"host": "h", "imap_port": 993},
            ('providers.own.imap_port: has no effect without imap_host. To fix: write imap_host = "imap.example.com"'),
        ),
        (
            {"host": "h", "imap_security": "tls"},
            (
                "providers.own.imap_security: has no effect without imap_host. To fix:"
                ' write imap_host = "imap.example.com"'
            ),
        ),
        (
            {"host": "h", "imap_host": "i.example", "imap_security": "none"},
            (
                'providers.own.imap_security: is "none": the password for i.example would be sent in the clear. To fix:'
                ' write imap_security = "tls" or "starttls"'
            ),
        ),
        (
            {"host": "h", "mechanisms": []},
            "providers.own.mechanisms: is empty: no login would be possible. To fix: remove it",
        ),
    ],
)
def test_a_provider_must_be_reachable_and_safe(settings: dict[str, Any], expected: str) -> None:
    assert conflicts(providers={"own": settings}) == [expected]


def test_each_field_of_the_author_order_is_named_once() -> None:
    assert conflicts(routing={"author_order": ["From", "Sender", "from"]}) == [
        'routing.author_order: contains "From" more than once. To fix: write each field once'
    ]
    assert conflicts(senders={"foreign_account": "info"}) == [
        (
            'senders.foreign_account: has no effect with foreign_author = "reject".'
            ' To fix: write foreign_author = "rewrite", or remove it'
        )
    ]
    assert conflicts(senders={"foreign_account": "info", "foreign_author": "rewrite"}) == []
    assert conflicts(routing={"author_order": []}) == [
        (
            "routing.author_order: is empty: no message could have an author. To fix:"
            ' write at least one of "From", "reverse-path", "Sender" or "Resent-From"'
        )
    ]


def test_braces_in_a_value_are_not_placeholders() -> None:
    with pytest.raises(ValidationError, match="not a preset"):
        config(providers={"own": {"preset": "{wrong} {0} {"}})


def test_listener_settings_can_be_created_alone() -> None:
    assert ListenerSettings(address="127.0.0.1:0").address == "127.0.0.1:0"


FOOTER = {"senders": ["@firma.example"], "text": "\nFirma GmbH\n{name}\n"}


@pytest.mark.parametrize(
    ("footers", "expected"),
    [
        ([FOOTER, FOOTER | {"senders": ["anna@firma.example", "@laden.example"]}], []),
        (
            [FOOTER | {"senders": []}],
            ['footers.0.senders: is empty: no mail would get this footer. To fix: write senders = ["@firma.example"]'],
        ),
        (
            [FOOTER, FOOTER | {"senders": ["@Firma.example"]}],
            ['footers.1.senders: "@firma.example" is also used by footers[0]. To fix: remove one of the two'],
        ),
    ],
)
def test_footers_have_senders_and_each_sender_one_footer(footers: list[Any], expected: list[str]) -> None:
    assert conflicts(footers=footers) == expected


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": "\n--\n"}, "has no letter or digit"),
        ({"text": 5}, "5 is not text"),
        ({"text": "x\x07"}, "contains control characters"),
        ({"text": "Tel. {phone}"}, "{phone} is not known. To fix: write {name} or {address}"),
        ({"html": "<p>{vorname}</p>"}, "{vorname} is not known"),
        ({"html": "x" * 70_000}, "is too long"),
    ],
)
def test_a_footer_that_cannot_be_meant_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(footers=[FOOTER | changed])
    assert words in str(caught.value)


def test_a_footer_is_found_by_its_sender_and_has_its_lines() -> None:
    html = "<style>p {color: gray}</style><p>{address}</p>"
    whole = config(footers=[FOOTER, FOOTER | {"senders": ["anna@firma.example"], "text": "Anna", "html": html}])
    table = whole.footer_table()
    assert table is not None
    found = [
        table.find(parse_address(author)) for author in ("anna+x@firma.example", "Bert@firma.example", "x@y.example")
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[2] is None
    assert render(found[0], "A", "a@b.example").html == "<style>p {color: gray}</style><p>a@b.example</p>"
    assert render(found[1], "", "a@b.example").lines == ("Firma GmbH", "a@b.example")
    assert render(found[1], "B & C", "a@b.example").html == "<p>Firma GmbH<br>\r\nB &amp; C</p>"
    assert config().footer_table() is None
