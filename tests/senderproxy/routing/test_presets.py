"""Presets of known providers: permitted values."""

import pytest

from senderproxy.mail.address import parse_domain
from senderproxy.routing.presets import PRESETS, smarthosts
from senderproxy.routing.provider import ImapServer, LoginForm, Provider, Security, SenderRule, Smarthost

PROMISED = {
    *("ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr", "1und1", "gmx", "web.de", "strato", "t-online"),
    *("hetzner", "domainfactory", "ovh", "gmail", "m365", "generic"),
}


def test_every_provider_that_was_promised_is_there() -> None:
    assert set(PRESETS) >= PROMISED


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_no_preset_can_make_things_worse(preset: Provider) -> None:
    assert PRESETS[preset.name] is preset
    assert preset.limits.connections <= 2
    assert preset.limits.idle_seconds <= 30
    assert not preset.takes_null_reverse_path
    assert preset.from_rule is preset.sender_rule
    assert preset.sender_rule is not SenderRule.ANY
    assert preset.mechanisms == ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5")
    assert bool(preset.smarthosts) == (preset.name != "generic")
    for server in preset.smarthosts:
        assert parse_domain(server.host) == server.host
        assert server.ca_file is None
        assert (server.port, server.security) in {(465, Security.IMPLICIT_TLS), (587, Security.STARTTLS)}
    assert (preset.imap is None) == (preset.name in ("generic", "ionos-exchange"))
    if preset.imap is not None:
        assert parse_domain(preset.imap.host) == preset.imap.host
        assert preset.imap == ImapServer(preset.imap.host, 993, Security.IMPLICIT_TLS)


def test_only_google_and_microsoft_are_known_to_store_what_is_submitted() -> None:
    assert {name for name, preset in PRESETS.items() if preset.stores_sent} == {"gmail", "m365"}


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ionos-de", "smtp.ionos.de"),
        ("ionos-com", "smtp.ionos.com"),
        ("ionos-uk", "smtp.ionos.co.uk"),
        ("ionos-es", "smtp.ionos.es"),
        ("ionos-fr", "smtp.ionos.fr"),
        ("1und1", "smtp.1und1.de"),
    ],
)
def test_ionos_takes_any_address_of_the_mailboxs_domain(name: str, host: str) -> None:
    preset = PRESETS[name]
    assert preset.smarthosts == (Smarthost(host, 465, Security.IMPLICIT_TLS), Smarthost(host, 587, Security.STARTTLS))
    assert preset.imap == ImapServer(host.replace("smtp", "imap"), 993, Security.IMPLICIT_TLS)
    assert preset.sender_rule is SenderRule.DOMAIN
    assert preset.limits.recipients_per_message == 200
    assert preset.limits.recipients_per_hour == 400
    assert preset.limits.messages_per_hour is None, "its page counts recipients"


def test_only_ionos_is_said_to_take_a_whole_domain() -> None:
    domain = {name for name, preset in PRESETS.items() if preset.sender_rule is SenderRule.DOMAIN}
    assert domain == {"ionos-de", "ionos-com", "ionos-uk", "ionos-es", "ionos-fr", "1und1"}


def test_what_is_odd_about_some() -> None:
    assert PRESETS["web.de"].login_form is LoginForm.LOCAL_PART
    assert [server.port for server in PRESETS["m365"].smarthosts] == [587]
    assert PRESETS["gmail"].limits.recipients_per_message == 100


def test_the_presets_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["gmx"]  # type: ignore[index]


def test_port_465_speaks_tls_from_the_first_octet_and_others_after_starttls() -> None:
    assert [server.security for server in smarthosts("h.example", 465, 587, 25)] == [
        Security.IMPLICIT_TLS,
        Security.STARTTLS,
        Security.STARTTLS,
    ]
