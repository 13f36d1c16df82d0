"""A reload puts every setting in force, or refuses the configuration and names the setting."""

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import trustme
from pydantic import BaseModel

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config, LogSettings, MetricsSettings
from senderproxy.config.restart import RESTART_ONLY
from senderproxy.config.values import VAULT_IN_DATABASE
from senderproxy.errors import SenderproxyError
from senderproxy.listener.client_auth import hash_password
from senderproxy.spool.sqlite.store import SqliteSpool

# Another valid value for each setting; the configuration is that of `base`.
OTHER: dict[str, Any] = {
    "identity.hostname": "neu.firma.example",
    "vault.path": "moved.vault",
    "vault.directory": "notes",
    "vault.unlock": "passphrase",
    "listeners.name": "devices",
    "listeners.address": "127.0.0.2:0",
    "listeners.tls": "implicit",
    "listeners.certificate": "second.pem",
    "listeners.key": "second.key",
    "listeners.allow": ["127.0.0.0/8", "192.168.1.0/24"],
    "listeners.auth": "required",
    "listeners.proxy_from": ["127.0.0.9"],
    "listeners.sender": "scanner@firma.example",
    "listeners.lenient": True,
    "listeners.old_tls": True,
    "listeners.accept_hidden_clients": True,
    "listeners.bare_lf": "reject",
    "listeners.mode": "queue",
    "listeners.on_deferral": "queue",
    "listeners.patience_seconds": 20,
    "listeners.max_connections": 30,
    "listeners.max_connections_per_client": 4,
    "listeners.reserved_connections": 5,
    "listeners.max_connections_per_minute": 31,
    "listeners.max_messages_per_minute": 32,
    "listeners.max_recipients_per_minute": 33,
    "listeners.max_recipients": 50,
    "listeners.max_message_size": "20 MB",
    "listeners.max_header_size": "100 kB",
    "listeners.max_header_fields": 200,
    "listeners.idle_seconds": 60,
    "listeners.idle_before_mail_seconds": 10,
    "listeners.spill_bytes": "1 MB",
    "clients.user": "other",
    "clients.password": hash_password("geheim-other"),
    "clients.networks": ["192.168.7.0/24"],
    "clients.default": True,
    "clients.senders": ["@firma.example"],
    "mx.public_address": ["203.0.113.9"],
    "routing.author_order": ["from"],
    "routing.default_account": "info",
    "routes.recipients": ["@partner.example"],
    "routes.via": "internal 192.168.1.20:25",
    "smarthosts.account": "info",
    "smarthosts.host": "other.example",
    "smarthosts.port": 2525,
    "smarthosts.security": "tls",
    "smarthosts.ca_file": "second.pem",
    "smarthosts.certificate": "second.pem",
    "smarthosts.key": "second.key",
    "smarthosts.connections": 7,
    "smarthosts.messages_per_connection": 8,
    "smarthosts.idle_seconds": 9,
    "smarthosts.recipients_per_message": 10,
    "smarthosts.message_size": "13 MB",
    "senders.foreign_author": "account info",
    "senders.foreign_account": "info",
    "senders.srs": True,
    "senders.bounce_account": "info",
    "senders.automatic_per_hour": 3,
    "senders.remove_bcc": True,
    "footers.senders": ["info@firma.example"],
    "footers.text": "Firma GmbH, Bonn",
    "footers.html": "<p>Firma GmbH, Bonn</p>",
    "senders.map": {"root@server.local": "it@firma.example"},
    "providers.preset": "gmx",
    "providers.host": "smtp.other.example",
    "providers.port": 587,
    "providers.security": "starttls",
    "providers.ca_file": "second.pem",
    "providers.mechanisms": ["PLAIN"],
    "providers.login_form": "local-part",
    "providers.sender_rule": "any",
    "providers.from_rule": "any",
    "providers.takes_sub_addresses": True,
    "providers.takes_null_reverse_path": True,
    "providers.on_null_reverse_path": "discard",
    "providers.signs": False,
    "providers.imap_host": "imap.other.example",
    "providers.imap_port": 143,
    "providers.imap_security": "starttls",
    "providers.stores_sent": True,
    "providers.connections": 7,
    "providers.messages_per_connection": 8,
    "providers.idle_seconds": 9,
    "providers.recipients_per_message": 10,
    "providers.messages_per_hour": 11,
    "providers.recipients_per_hour": 12,
    "providers.message_size": "13 MB",
    "delivery.connect_seconds": 11,
    "delivery.greeting_seconds": 12,
    "delivery.ehlo_seconds": 13,
    "delivery.auth_seconds": 14,
    "delivery.mail_seconds": 15,
    "delivery.rcpt_seconds": 16,
    "delivery.data_seconds": 17,
    "delivery.block_seconds": 18,
    "delivery.final_dot_seconds": 19,
    "delivery.quit_seconds": 20,
    "delivery.free_session_seconds": 21,
    "delivery.straight_path": False,
    "spool.engine": "postgresql://senderproxy@localhost/mail",
    "spool.engine_password": "credential:database",
    "spool.engine_ca_file": "second.pem",
    "spool.directory": "elsewhere",
    "spool.first_retry_seconds": 11,
    "spool.longest_retry_seconds": 4000,
    "spool.give_up_hours": 13,
    "spool.report_delay_hours": 5,
    "spool.reports_to": "192.168.1.20:25",
    "spool.returned_size": "15 kB",
    "spool.history_days": 16,
    "spool.keep_subjects": True,
    "spool.history_size": "17 MB",
    "spool.min_free": "18 MB",
    "spool.reserve_size": "2 MB",
    "alerts.to": ["chef@privat.example"],
    "alerts.language": "de",
    "alerts.level": "error",
    "alerts.error_delay_seconds": 31,
    "alerts.warning_delay_seconds": 32,
    "alerts.over_delay_seconds": 33,
    "alerts.max_at_once": 34,
    "alerts.max_per_hour": 35,
    "alerts.reminder_hours": 36,
    "alerts.weekly": "monday 08:00",
    "alerts.webhook": "file:/etc/senderproxy/webhook",
    "alerts.webhook_format": "slack",
    "alerts.webhook_secret": "credential:webhook-secret",
    "alerts.ping": "file:/etc/senderproxy/ping",
    "alerts.ping_minutes": 7,
    "alerts.ping_fail": True,
    "alerts.ca_file": "ca.pem",
    "service.control_socket": "other.sock",
    "service.stop_seconds": 3,
    "metrics.listen": "127.0.0.2:0",
    "metrics.allow": ["127.0.0.3"],
    "metrics.addresses": True,
    "web.role": "operate",
    "web.url": "https://relay.firma.example/page/",
    "web.hosts": ["192.168.1.10"],
    "web.certificate": "second.pem",
    "web.key": "second.key",
    "web.sockets": "other",
    "watch.dns": False,
    "watch.no_mail": False,
    "watch.no_mail_hours": 4,
    "log.level": "debug",
    "log.format": "json",
}
SCANNER = hash_password("geheim-scan")
ALONE = {"clients.default"}  # needs an entry without `user` and `networks`
WITH_ENGINE = {"spool.engine_password", "spool.engine_ca_file"}  # refused with SQLite
IN_DATABASE = {"vault.directory"}  # refused with a vault in a file
IN_PLACE = {"smarthosts.account"}  # in place of all other settings


def settings_of(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """The fields of a section; of a list or table of sections the section."""
    return {name: _section(field.annotation) for name, field in model.model_fields.items()}


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)


def _settings_of(way: object) -> object:
    values = vars(way)
    return values["settings"] if "settings" in values else values["_settings"]


def all_settings() -> set[str]:
    """The names of all settings of the model."""
    return {
        f"{section}.{name}"
        for section, model in settings_of(Config).items()
        if model is not None
        for name in settings_of(model)
    }


class Office:
    """A folder with all files that the configurations name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_key_file(folder / "vault.key")
        self.unlock = f"key-file:{folder / 'vault.key'}"
        AccountEditor.create(folder / "accounts.vault", unlock_method(self.unlock, None))
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "first.key")
        for part in issued.cert_chain_pems:
            part.write_to_path(folder / "first.pem", append=True)
        for kind in ("key", "pem"):
            shutil.copy(folder / f"first.{kind}", folder / f"second.{kind}")
        (folder / "spool").mkdir(mode=0o700)
        (folder / "more-spool").mkdir(mode=0o700)
        self.log: LogSettings | None = None

    def base(self) -> dict[str, Any]:
        """A configuration in which each setting can be changed alone."""
        return {
            "identity": {"hostname": "mail.firma.example"},
            "vault": {"path": self._file("accounts.vault"), "unlock": self.unlock},
            "listeners": [
                {
                    "address": "127.0.0.1:0",
                    "tls": "starttls",
                    "certificate": self._file("first.pem"),
                    "key": self._file("first.key"),
                    "auth": "optional",
                }
            ],
            "clients": [
                {"user": "scanner", "password": SCANNER},
                {"networks": ["192.168.5.0/24"], "senders": ["anna@firma.example"]},
            ],
            "footers": [{"senders": ["@firma.example"], "text": "Firma GmbH"}],
            "providers": {
                "ionos": {
                    "preset": "ionos-de",
                    "host": "smtp.firma.example",
                    "port": 465,
                    "security": "tls",
                    "imap_host": "imap.firma.example",
                }
            },
            "routes": [{"recipients": ["@kunde.example"], "via": "smarthost relay"}],
            "smarthosts": {
                "relay": {
                    "host": "relay.example",
                    "certificate": self._file("first.pem"),
                    "key": self._file("first.key"),
                }
            },
            "senders": {"foreign_author": "rewrite"},
            "spool": {"directory": self._file("spool"), "min_free": "1 MB", "reserve_size": "1 MB"},
            "alerts": {"to": "it@dienst.example"},
            "service": {"control_socket": self._file("control.sock")},
            "metrics": {"listen": "127.0.0.1:0"},
            "web": {
                "role": "read",
                "url": "https://relay.firma.example/",
                "certificate": self._file("first.pem"),
                "key": self._file("first.key"),
                "sockets": self._file("page"),
            },
        }

    def with_other(self, *names: str) -> Config:
        """The configuration with another value for each of these settings."""
        settings = self.base()
        for name in names:
            section, _, setting = name.partition(".")
            value = OTHER[name]
            if setting in (
                "path",
                "certificate",
                "key",
                "ca_file",
                "engine_ca_file",
                "directory",
                "control_socket",
                "sockets",
            ):
                value = self._file(value)
            if name in ALONE:
                settings[section].append({setting: value, "senders": ["info@firma.example"]})
                continue
            place = settings.setdefault(section, {})
            if section == "clients":
                place = place[1 if setting in ("networks", "senders") else 0]
            elif section in ("listeners", "routes", "footers"):
                place = place[0]
            elif section == "smarthosts":
                place = place["relay"]
            elif section == "providers":
                place = place["ionos"]
            if name in IN_PLACE:
                place.clear()
            if name in (*WITH_ENGINE, "spool.engine"):
                place.clear()
                place["engine"] = OTHER["spool.engine"]
            if name in IN_DATABASE:
                place["path"] = VAULT_IN_DATABASE
                settings["spool"] = {"engine": OTHER["spool.engine"]}
            place[setting] = value
        return Config.model_validate(settings)

    def service(self, config: Config) -> Service:
        """A service with that configuration, not started."""
        accounts = VaultAccounts.open(config.vault.path, unlock_method(self.unlock, None))
        self.log = config.log

        def set_up_log(settings: LogSettings) -> None:
            self.log = settings

        return Service(config, accounts, load=lambda: self.loaded, set_up_log=set_up_log)

    loaded: Config

    def in_force(self, service: Service) -> dict[str, object]:
        """The settings as the running objects have them."""
        components, (listener,), alerts = service._components, service.listeners, service._alerts.sender
        metrics = service._metrics
        assert metrics is not None
        assert metrics._server is not None
        assert service._page is not None
        spool, auth = components.runner.spool, listener._state.auth
        assert isinstance(spool, SqliteSpool)
        free_space = spool._writer.free_space
        return {
            "listener": (listener.settings, listener._state.hostname, listener._state.timeouts),
            "clients": (list(auth._networks), auth._default, dict(auth._users)),
            "handling": dict(components.intake.handling),
            "rules": components.relay.rules,
            "mx": (components.mx.settings.ourselves, components.spf_gate.addresses),
            "sessions": (components.courier._opener.timeouts, components.courier._opener.hostname),
            "straight path": components.straight.is_on,
            "direct transactions": components.courier.is_direct,
            "retry": components.runner.policy,
            "spool": (
                spool._history.limits,
                spool._incoming.keeps_subjects,
                free_space.min_free,
                free_space.reserve.size,
            ),
            "alerts": (alerts.policy.rules, alerts.weekly.time, [_settings_of(way) for way in alerts._ways]),
            "ping": _settings_of(service._alerts._http.ping),
            "stop": service._config.service.stop_seconds,
            "metrics": (metrics._server.listen, metrics._server.allow),
            "web": service._page.settings(),
            "watch": service._surroundings.config.watch,
            "log": self.log,
        }

    def _file(self, name: str) -> str:
        return str(self.folder / name)


def test_there_is_another_value_for_every_setting() -> None:
    assert set(OTHER) == all_settings()
    assert set(RESTART_ONLY) < all_settings()


def test_the_description_of_a_setting_says_that_a_change_needs_a_restart() -> None:
    described = {
        f"{section}.{name}"
        for section, model in settings_of(Config).items()
        if model is not None
        for name, field in model.model_fields.items()
        if "A change needs a restart." in (field.description or "")
    }
    assert described == set(RESTART_ONLY)


async def test_each_setting_is_in_force_after_a_reload_and_its_former_value_after_the_next(tmp_path: Path) -> None:
    office = Office(tmp_path)
    service = office.service(office.with_other())
    await service.start()
    try:
        before = office.in_force(service)
        for name in sorted(set(OTHER) - set(RESTART_ONLY)):
            office.loaded = office.with_other(name)
            await service.reload()
            assert office.in_force(service) != before, f"{name} is not in force"
            office.loaded = office.with_other()
            await service.reload()
            assert office.in_force(service) == before, f"{name} is not in force again"
    finally:
        await service.stop()


async def test_a_setting_that_needs_a_restart_is_refused_by_name(tmp_path: Path) -> None:
    office = Office(tmp_path)
    service = office.service(office.with_other())
    await service.start()
    try:
        before = office.in_force(service)
        for name in RESTART_ONLY:
            office.loaded = office.with_other(name)
            with pytest.raises(SenderproxyError) as caught:
                await service.reload()
            named = f"spool.engine, {name}" if name in WITH_ENGINE else name
            if name in IN_DATABASE:
                named = f"vault.path, {name}, spool.engine, spool.directory"
            assert caught.value.message == f"{named} cannot change while the service runs: needs a restart."
            assert caught.value.hint == "systemctl restart senderproxy"
            assert office.in_force(service) == before
    finally:
        await service.stop()


@pytest.mark.parametrize("switched_on", [True, False])
async def test_metrics_are_not_switched_on_or_off_by_a_reload(tmp_path: Path, *, switched_on: bool) -> None:
    office = Office(tmp_path)
    on = office.with_other()
    off = on.model_copy(update={"metrics": MetricsSettings()})
    service = office.service(off if switched_on else on)
    await service.start()
    try:
        office.loaded = on if switched_on else off
        with pytest.raises(SenderproxyError, match=r"^metrics\.listen cannot change while .*: needs a restart\.$"):
            await service.reload()
        assert (service._metrics is None) is switched_on
    finally:
        await service.stop()


async def test_all_settings_after_a_reload_are_as_after_a_restart(tmp_path: Path) -> None:
    office = Office(tmp_path)
    names = set(OTHER) - set(RESTART_ONLY) - IN_PLACE
    service = office.service(office.with_other())
    await service.start()
    try:
        office.loaded = office.with_other(*names)
        await service.reload()
        reloaded = office.in_force(service)
    finally:
        await service.stop()
    restarted = office.service(office.with_other(*names))
    await restarted.start()
    try:
        assert office.in_force(restarted) == reloaded
    finally:
        await restarted.stop()


async def test_a_configuration_with_one_setting_that_needs_a_restart_changes_nothing(tmp_path: Path) -> None:
    office = Office(tmp_path)
    service = office.service(office.with_other())
    await service.start()
    try:
        before = office.in_force(service)
        office.loaded = office.with_other("spool.directory", "vault.path", "identity.hostname", "log.level")
        with pytest.raises(SenderproxyError, match=r"vault\.path, spool\.directory cannot change"):
            await service.reload()
        assert office.in_force(service) == before
    finally:
        await service.stop()
