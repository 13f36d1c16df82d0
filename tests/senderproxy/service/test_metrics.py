"""Metrics of a running service: what is read at a scrape, how often, and what happens to the address."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import parse_address
from senderproxy.metrics.series import SERIES
from senderproxy.monitoring.record import ConditionKey
from senderproxy.routing.account import Account
from senderproxy.service.metrics import ServiceMetrics
from tests.peers.process import reserved_ports

DEADLINE = 60.0


class Office:
    """A folder with a vault of one account, and services over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_key_file(folder / "vault.key")
        self._unlock = f"key-file:{folder / 'vault.key'}"
        unlock, own = unlock_method(self._unlock, None), parse_address("anna@firma.example")
        AccountEditor.create(folder / "accounts.vault", unlock)
        with AccountEditor.open(folder / "accounts.vault", unlock) as editor:
            editor.put(StoredAccount(Account(str(own), str(own), "ionos", own, own_first(str(own), [])), "geheim-1"))
            editor.save()
        self.loaded = self.config()

    def config(self, **metrics: object) -> Config:
        return Config.model_validate(
            {
                "identity": {"hostname": "mail.firma.example"},
                "vault": {"path": str(self.folder / "accounts.vault"), "unlock": self._unlock},
                "service": {"control_socket": str(self.folder / "control.sock"), "stop_seconds": 1},
                "spool": {"directory": str(self.folder / "spool"), "min_free": "1 MB", "reserve_size": "1 MB"},
                "listeners": [{"address": "127.0.0.1:0"}],
                "metrics": metrics,
            }
        )

    @asynccontextmanager
    async def running(self, **metrics: object) -> AsyncIterator[Service]:
        accounts = VaultAccounts.open(self.folder / "accounts.vault", unlock_method(self._unlock, None))
        service = Service(self.config(**metrics), accounts, load=lambda: self.loaded)
        await service.start()
        try:
            yield service
        finally:
            await service.stop()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def metrics_of(service: Service) -> ServiceMetrics:
    assert service._metrics is not None
    return service._metrics


async def scrape(address: str) -> str:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    return body.decode()


def read(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The values by name and by the labels' values in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = tuple(one.labels[name] for name in sorted(one.labels))
            found.setdefault(one.name, {})[labels] = one.value
    return found


async def submit(service: Service, author: str = "anna@firma.example") -> str:
    """One message; the reply to its final dot."""
    (listener,) = service.listeners
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await reader.readline()
        answer = b""
        content = f"From: <{author}>\r\nTo: <x@kunde.example>\r\n\r\nHallo\r\n.\r\n"
        for line in ("HELO pc\r\n", f"MAIL FROM:<{author}>\r\n", "RCPT TO:<x@kunde.example>\r\n", "DATA\r\n", content):
            writer.write(line.encode())
            answer = await reader.readline()
        writer.write(b"QUIT\r\n")
        await reader.read()
        writer.close()
    return answer.decode()


async def test_without_the_section_nothing_is_counted_or_imported(office: Office) -> None:
    async with office.running() as service:
        assert service._metrics is None
        components = service._components
        assert components.intake.observer is None
        assert components.courier.observers.attempts is None
        spool: Any = components.runner.spool
        assert spool._observer is None
        assert spool._writer.on_commit is None
        answer = await service._status.answer()
        assert answer["metrics"] is None


async def test_a_scrape_has_the_series_of_the_list_and_no_others(office: Office) -> None:
    async with office.running(listen="127.0.0.1:0") as service:
        await submit(service, "nobody@firma.example")
        address = metrics_of(service).address
        assert address is not None
        text = await scrape(address)
    names = {family.name for family in text_string_to_metric_families(text)}
    listed = {one.name.removesuffix("_total") for one in SERIES}
    assert names <= listed
    assert "@" not in text
    found = read(text)
    assert found["senderproxy_messages_total"] == {("none", "office", "refused"): 1.0}
    assert found["senderproxy_recipients_total"] == {("none", "failed", "direct"): 1.0}
    assert found["senderproxy_accept_seconds_count"] == {("office",): 1.0}
    assert found["senderproxy_listener_connections_total"] == {("office",): 1.0}
    assert found["senderproxy_accounts"] == {(): 1.0}
    assert found["senderproxy_draining"] == {(): 0.0}
    assert found["senderproxy_spool_accepts_messages"] == {(): 1.0}
    assert found["senderproxy_clients_turned_away_total"][("login_failed",)] == 0.0
    assert found["process_resident_memory_bytes"][()] > 1_000_000
    assert found["process_start_time_seconds"][()] > 1_700_000_000


async def test_many_scrapes_within_a_second_cause_one_text(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with office.running(listen="127.0.0.1:0") as service:
        metrics = metrics_of(service)
        texts, render = [], metrics._render

        def counted(samples):
            texts.append(threading.get_ident())
            return render(samples)

        metrics._render = counted
        monkeypatch.setattr("senderproxy.service.metrics._FRESH", 3600.0)
        assert metrics.address is not None
        pages = await asyncio.gather(*(scrape(metrics.address) for _ in range(10)))
        assert len(set(pages)) == 1
        assert len(texts) == 1
        assert texts[0] != threading.get_ident()
        monkeypatch.setattr("senderproxy.service.metrics._FRESH", 0.0)
        await scrape(metrics.address)
        assert len(texts) == 2


async def test_a_disk_that_does_not_respond_delays_the_answer_by_a_bounded_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senderproxy.service.metrics._LOOK_TIMEOUT", 0.05)
    async with office.running(listen="127.0.0.1:0") as service:
        hanging = asyncio.Event()

        async def ask():
            await hanging.wait()

        monkeypatch.setattr(service._conditions, "ask", ask)
        address = metrics_of(service).address
        assert address is not None
        assert "senderproxy_accounts 1.0" in await scrape(address)


async def test_an_internal_error_in_a_text_is_logged_and_the_next_one_is_tried(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senderproxy.service.metrics._FRESH", 0.0)
    async with office.running(listen="127.0.0.1:0") as service:
        metrics = metrics_of(service)
        render = metrics._render

        def fail(_samples):
            raise ZeroDivisionError

        metrics._render = fail
        assert metrics.address is not None
        host, _, port = metrics.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        assert "internal error in an answer with metrics" in caplog.text
        metrics._render = render
        assert "senderproxy_accounts" in await scrape(metrics.address)


async def test_an_id_with_an_address_is_shown_if_it_is_wanted_and_translated_by_status_otherwise(
    office: Office,
) -> None:
    for addresses in (False, True):
        async with office.running(listen="127.0.0.1:0", addresses=addresses) as service:
            metrics = metrics_of(service)
            label = metrics._labels.label("anna@firma.example")
            answer = (await service._status.answer())["metrics"]
            assert answer["address"] == metrics.address
            assert answer["accounts"] == ({} if addresses else {label: "anna@firma.example"})
            assert (label == "anna@firma.example") is addresses


# ---- the address ----


async def test_a_reload_opens_another_address_and_closes_the_old_one(office: Office) -> None:
    with reserved_ports(1) as [port]:  # nobody else listens on it after the reload
        before = f"127.0.0.1:{port}"
        async with office.running(listen=before) as service:
            metrics = metrics_of(service)
            assert metrics.address == before
            office.loaded = office.config(listen=f"unix:{office.folder / 'metrics.sock'}")
            await service.reload()
            assert metrics.address == f"unix:{office.folder / 'metrics.sock'}"
            with pytest.raises(ConnectionRefusedError):
                await scrape(before)
            office.loaded = office.config(listen="127.0.0.2:0")
            await service.reload()
            assert metrics.address is not None
            assert metrics.address.startswith("127.0.0.2:")
            assert not (office.folder / "metrics.sock").exists()


async def test_a_reload_with_an_address_in_use_is_refused_and_the_old_one_stays(office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with office.running(listen="127.0.0.1:0") as service:
            before = metrics_of(service).address
            assert before is not None
            office.loaded = office.config(listen=f"127.0.0.1:{other.getsockname()[1]}")
            with pytest.raises(SenderproxyError, match="Address already in use"):
                await service.reload()
            assert metrics_of(service).address == before
            await scrape(before)


async def test_an_address_in_use_at_the_start_is_a_condition_until_it_is_free(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("senderproxy.service.metrics._REOPEN", 0.05)
    with reserved_ports(1) as [port], socket.create_server(("127.0.0.1", port)) as other:
        async with office.running(listen=f"127.0.0.1:{port}") as service:
            conditions = [one for one in await service._conditions.ask() if one.key is ConditionKey.METRICS_UNAVAILABLE]
            assert f"sport = :{port}" in conditions[0].hint
            assert (await submit(service, "nobody@firma.example")).startswith("550")
            other.close()
            async with asyncio.timeout(DEADLINE):
                while metrics_of(service).address is None:
                    await asyncio.sleep(0.01)
            keys = {one.key for one in await service._conditions.ask()}
            assert ConditionKey.METRICS_UNAVAILABLE not in keys
            await scrape(f"127.0.0.1:{port}")


async def test_without_the_library_the_start_names_it(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "senderproxy.metrics.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SenderproxyError, match="prometheus_client, which") as caught:
        async with office.running(listen="127.0.0.1:0"):
            pass
    assert "pip install prometheus-client" in caught.value.hint
    async with office.running():
        pass
