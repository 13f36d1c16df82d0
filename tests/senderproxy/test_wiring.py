"""The objects of the relay have the values of the configuration."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config, DeliverySettings
from senderproxy.delivery.account_health import LimitReached
from senderproxy.mail.address import parse_address
from senderproxy.mail.outcome import RefusedSenderField
from senderproxy.mail.reply import reply
from senderproxy.relay.intake import Mode
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.relay.sender_rejected import RejectedSender
from senderproxy.routing.account import Account
from senderproxy.routing.directory import MatchTier
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.routing.route import AddressSource, Route
from senderproxy.wiring import (
    build_components,
    handling_of,
    report_server_of,
    rules_of,
    same_listener_environment,
    session_timeouts_of,
)
from tests.fakes.memory_learned import MemoryLearned

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
    names = [name for name in DeliverySettings.model_fields if name.endswith("_seconds")]
    wanted = {name: 10.0 + number for number, name in enumerate(names)}
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


# ---- learned facts ----

ANNA, CARL = parse_address("anna@firma.example"), parse_address("carl@kunde.example")


def office(folder: Path) -> tuple[Config, VaultAccounts]:
    """A vault with one account, and the configuration for it."""
    key = folder / "vault.key"
    unlock = f"key-file:{key}"
    if not key.exists():
        make_key_file(key)
        AccountEditor.create(folder / "accounts.vault", unlock_method(unlock, None))
        with AccountEditor.open(folder / "accounts.vault", unlock_method(unlock, None)) as editor:
            editor.put(StoredAccount(Account("anna", str(ANNA), "hoster", ANNA, own_first(str(ANNA), [])), "geheim-1"))
            editor.save()
    settings = config(
        vault={"path": str(folder / "accounts.vault"), "unlock": unlock},
        service={"control_socket": str(folder / "control.sock")},
        providers={"hoster": {"host": "smtp.hoster.example", "messages_per_hour": 5}},
    )
    return settings, VaultAccounts.open(folder / "accounts.vault", unlock_method(unlock, None))


async def test_every_component_that_learns_is_restored_in_the_next_process(tmp_path: Path) -> None:
    clock = SystemClock()
    store = MemoryLearned(clock)
    for is_next in (False, True):
        settings, accounts = office(tmp_path)
        components = build_components(settings, accounts, clock, str)
        await components.learned.open(store)
        courier, relay, guard = components.courier, components.relay, components.intake.loop_guard
        throttle, account = components.login_throttle, accounts.directory().accounts[0]
        route = Route(account, relay.rules.providers["hoster"], ANNA, AddressSource.FROM, MatchTier.EXACT)
        if not is_next:
            for _ in range(5):
                throttle.failed("192.0.2.1", "scanner", clock.monotonic())
            assert guard.check(ANNA, [CARL], 1, clock.monotonic()) is None
            rejected = RejectedSender(route, RefusedSenderField.REVERSE_PATH, CARL, reply(550, "5.7.1", "No."))
            relay.rejected_senders.note(rejected, clock.now())
            state = courier._state(account)
            credential = accounts.credential(account)
            assert credential is not None
            state.record(LimitReached(reply(450, "4.7.1", "Mail send limit exceeded"), credential.version))
            state.reserve(route.provider, 1)
        assert throttle.locked_for("192.0.2.1", "scanner", clock.monotonic()) > 0
        assert guard.check(ANNA, [CARL], 1, clock.monotonic()) is not None
        assert [entry.address for entry in relay.rejected_senders.entries()] == [str(CARL)]
        availability = courier.availability(account, route.provider)
        assert availability.reason is not None
        assert "paused" in str(availability.reason)
        (status,) = courier.status(relay.rules.providers)
        assert status.state == "paused"
        assert status.messages_left == 4
        await components.learned.close()
        components.crash_journal.close()
        await courier.close(1)
        accounts.close()
    kinds = {key.partition("/")[0] for key in store.rows}
    assert kinds == {"account", "client-login", "hourly-use", "loop", "sender-rule"}
    assert "scanner" not in str(store.rows)
