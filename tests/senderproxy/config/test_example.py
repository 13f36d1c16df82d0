"""The template of the configuration that setup writes."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senderproxy.config.example import render_config
from senderproxy.config.load import load_config, read_settings
from senderproxy.routing.provider import SenderRule


def test_it_can_be_loaded_and_has_the_given_values(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    text = render_config(
        hostname="mail.firma.example",
        vault="/srv/accounts.vault",
        unlock="key-file:/srv/vault.key",
        address="192.168.1.2:2525",
        allow=["192.168.1.0/24", "10.0.0.7"],
        providers={
            "ionos-de": {},
            "web.de": {"messages_per_hour": 100, "preset": None},
            "my-hoster": {"host": "smtp.hoster.example", "port": 587, "from_rule": "any"},
        },
        control_socket="/srv/control.sock",
    )
    file.write_text(text)
    config = load_config(file)
    assert config.identity.hostname == "mail.firma.example"
    assert (config.vault.path, config.vault.unlock) == ("/srv/accounts.vault", "key-file:/srv/vault.key")
    assert config.listeners[0].address == "192.168.1.2:2525"
    assert [str(network) for network in config.listeners[0].allow] == ["192.168.1.0/24", "10.0.0.7/32"]
    assert set(config.providers) == {"web.de", "my-hoster"}, "a preset needs no section"
    assert config.provider_table()["web.de"].limits.messages_per_hour == 100
    assert config.provider_table()["my-hoster"].from_rule is SenderRule.ANY
    assert config.service.control_socket == "/srv/control.sock"
    assert max(len(line) for line in text.splitlines()) <= 120


def test_without_optional_values_it_equals_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_text(render_config(hostname="mail.firma.example", vault="/v", unlock="passphrase"))
    written = load_config(file)
    file.write_text('[identity]\nhostname = "mail.firma.example"\n[vault]\npath = "/v"\nunlock = "passphrase"\n')
    assert written == load_config(file)


def test_the_commented_settings_can_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).touch()
    lines = render_config(
        hostname="mail.firma.example", vault="/v", unlock="passphrase", providers=["ionos-de"]
    ).splitlines()
    tried = [
        line.removeprefix("# ")
        if line.startswith("# [") or (" = " in line and '"' in line) or "= 300" in line
        else line
        for line in lines
    ]
    text = "\n".join(tried).replace("/etc/senderproxy/", "").replace('tls = "none"', 'tls = "starttls"')
    file.write_text(text)
    config = load_config(file)
    assert config.clients[0].senders is not None
    assert config.routing.default_account == "info"
    assert config.provider_table()["ionos-de"].limits.recipients_per_hour == 300


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(lambda text: text.isprintable() and text.strip() == text and "/" not in text))
def test_no_path_ends_its_quotation_marks(name: str) -> None:
    written = tomllib.loads(render_config(hostname="h.example", vault=f"/{name}", unlock="passphrase"))
    assert written["vault"]["path"] == f"/{name}"
    assert read_settings(written, Path("/"))[1] == []


@pytest.mark.parametrize("name", ["ionos-de", "web.de"])
def test_a_provider_with_a_preset_is_only_a_comment(name: str) -> None:
    text = render_config(hostname="h.example", vault="/v", unlock="passphrase", providers=[name])
    assert f"# Accounts at {name} need no section" in text
