"""The objects of the relay have the values of the configuration."""

from dataclasses import asdict
from typing import Any

import pytest

from senderproxy.config.model import Config, DeliverySettings
from senderproxy.relay.intake import Mode
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.wiring import (
    handling_of,
    report_server_of,
    rules_of,
    same_listener_environment,
    session_timeouts_of,
)

LEAST: dict[str, Any] = {"identity": {"hostname": "mail.firma.example"}, "vault": {"unlock": "passphrase"}}


def config(**settings: Any) -> Config:
    return Config.model_validate(LEAST | settings)


def test_the_rules_have_the_values_of_all_their_sections() -> None:
    settings = config(
        routing={"default_account": "info"},
        senders={"remove_bcc": True},
        providers={"hoster": {"host": "smtp.hoster.example"}},
        spool={"reports_to": "192.168.1.20:25", "returned_size": "10 kB"},
    )
    rules = rules_of(settings)
    assert rules.hostname == "mail.firma.example"
    assert "hoster" in rules.providers
    assert rules.routing.default_account == "info"
    assert rules.senders.remove_bcc
    assert rules.report_server == report_server_of(settings)
    assert rules.returned_size == 10_000


@pytest.mark.parametrize(
    ("reports_to", "server"),
    [
        ("192.168.1.20:25", Smarthost("192.168.1.20", 25, Security.NONE)),
        ("[fd00::20]:2525", Smarthost("fd00::20", 2525, Security.NONE)),
    ],
)
def test_the_report_server_is_the_configured_one(reports_to: str, server: Smarthost) -> None:
    assert report_server_of(config(spool={"reports_to": reports_to})) == server


def test_without_reports_to_there_is_no_report_server() -> None:
    assert report_server_of(config()) is None


def test_each_listener_has_its_own_handling() -> None:
    handling = handling_of(
        config(
            listeners=[
                {"name": "office", "on_deferral": "queue", "patience_seconds": 10},
                {"name": "devices", "address": "127.0.0.1:2526", "mode": "queue"},
            ]
        )
    )
    assert set(handling) == {"office", "devices"}
    assert (handling["office"].mode, handling["office"].on_deferral) == (Mode.PASS_THROUGH, OnDeferral.QUEUE)
    assert handling["devices"].mode is Mode.QUEUE


def test_every_timeout_of_a_session_is_a_setting() -> None:
    wanted = {name: 10.0 + number for number, name in enumerate(DeliverySettings.model_fields)}
    timeouts = asdict(session_timeouts_of(config(delivery=wanted)))
    assert {f"{stage}_seconds": seconds for stage, seconds in timeouts.items()} == wanted


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, True),
        ({"log": {"level": "debug"}}, True),
        ({"identity": {"hostname": "other.firma.example"}}, False),
        ({"clients": [{"networks": ["10.0.0.0/8"]}]}, False),
    ],
)
def test_a_listener_depends_on_the_clients_and_the_identity(settings: dict[str, Any], same: bool) -> None:
    assert same_listener_environment(config(), config(**settings)) is same
