"""The DNS records of an office change while its service runs: a condition begins, and ends when they are repaired."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.systemd import SystemdNotifier
from tests.senderproxy.domain_records.name_server import NameServer, name_server
from tests.senderproxy.domain_records.test_judgements import FIRMA, GOOD
from tests.senderproxy.test_app import office_in

PATIENCE = 60  # seconds of the real clock


class MovedClock(SystemClock):
    """The system's clock, moved by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.moved.total_seconds()

    def chance(self) -> float:
        return 0.5


class Office:
    """A service with one account at anna@firma.example, a name server, and a clock."""

    def __init__(self, folder: Path, server: NameServer) -> None:
        self.folder, self.server, self.clock = folder, server, MovedClock()
        made = office_in(folder)
        made.add(f"anna@{FIRMA}")
        self.config = made.service._config.model_copy(update={"providers": self._providers()})
        self.service = self.again()

    def _providers(self) -> Any:
        settings = {"ionos": {"preset": "ionos-de", "host": "127.0.0.1"}}
        whole = {
            "identity": {"hostname": "mail.firma.example"},
            "vault": {"unlock": "passphrase"},
            "providers": settings,
        }
        return Config.model_validate(whole).providers

    def again(self) -> Service:
        unlock = unlock_method(f"key-file:{self.folder / 'vault.key'}", None)
        return Service(
            self.config,
            VaultAccounts.open(self.folder / "accounts.vault", unlock),
            clock=self.clock,
            notifier=SystemdNotifier(None, 0.1),  # the housekeeping runs twice as often
            new_dns_client=self.server.client,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.service = self.again()
        await self.service.start()
        try:
            yield
        finally:
            await self.service.stop()

    async def keys(self) -> list[str]:
        answer = await self.service._status.conditions()
        return [one["key"] for one in answer["conditions"]]

    async def condition(self, key: str) -> dict[str, Any]:
        answer = await self.service._status.conditions()
        (found,) = [one for one in answer["conditions"] if one["key"] == key]
        return dict(found)

    async def look(self, passed: timedelta) -> None:
        """Let time pass until the next look at the domain, and wait for it."""
        watched = self.service._surroundings.domains
        await self._until(lambda: bool(watched._watched))
        before = watched.changes
        self.clock.moved += passed
        await self._until(lambda: watched.changes > before)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)


@contextmanager
def silence(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The name server answers nothing meanwhile, and each query waits for it only briefly."""
    with monkeypatch.context() as patch:
        patch.setattr("senderproxy.dns_client.client._TIMEOUT", 0.2)
        server.is_silent = True
        yield
        server.is_silent = False


FIRST, DAY, HOUR = timedelta(minutes=30), timedelta(hours=25), timedelta(minutes=70)


@pytest.fixture
def office(tmp_path: Path) -> Any:
    with name_server(GOOD) as server:
        yield Office(tmp_path, server)


async def test_a_removed_include_is_a_condition_and_ends_when_it_is_back(office: Office) -> None:
    async with office.running():
        await office.look(FIRST)
        assert "spf_wrong" not in await office.keys()
        office.server.records = GOOD | {(FIRMA, "TXT"): ["v=spf1 -all"]}
        await office.look(DAY)
        assert "spf_wrong" not in await office.keys()
        await office.look(HOUR)
        found = await office.condition("spf_wrong")
        assert found["subject"] == FIRMA
        assert "does not include the servers of ionos. It was right at " in found["cause"]
        assert found["cause"].endswith(": v=spf1 include:_spf-eu.ionos.com ~all; now: v=spf1 -all.")
        assert found["affected"] == {"kind": "domains", "count": 1, "names": [FIRMA]}
        office.server.records = GOOD
        await office.look(HOUR)
        assert "spf_wrong" not in await office.keys()


async def test_a_condition_goes_on_over_a_restart_and_what_was_right_is_not_forgotten(office: Office) -> None:
    async with office.running():
        await office.look(FIRST)
        office.server.records = {**GOOD, ("s1.dkim.ionos.com", "TXT"): ["v=DKIM1; p="], (f"_dmarc.{FIRMA}", "TXT"): []}
        await office.look(DAY)
    async with office.running():
        await office.look(HOUR)
        assert {"dkim_wrong", "dmarc_wrong"} <= set(await office.keys())
        before = await office.condition("dkim_wrong")
    asked = office.server.asked.total()
    async with office.running():
        after = await office.condition("dkim_wrong")
        same = ("key", "subject", "severity", "hint", "affected")  # times in it may be a second off: they are ages
        assert [after[name] for name in same] == [before[name] for name in same]
        assert " is revoked: " in after["cause"]
        assert " It was right at " in after["cause"]
        assert office.server.asked.total() == asked
        office.server.records = GOOD
        await office.look(HOUR)
        assert not {"dkim_wrong", "dmarc_wrong"} & set(await office.keys())


async def test_a_name_server_that_fails_begins_and_ends_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office.running():
        await office.look(FIRST)
        office.server.failing = {FIRMA, f"_dmarc.{FIRMA}", "s1.dkim.ionos.com", f"s1-ionos._domainkey.{FIRMA}"}
        await office.look(DAY)
        await office.look(HOUR)
        with silence(office.server, monkeypatch):
            await office.look(HOUR)
            await office.look(HOUR)
        assert not {"spf_wrong", "dkim_wrong", "dmarc_wrong", "mx_wrong"} & set(await office.keys())
        office.server.failing = set()
        office.server.records = GOOD | {(FIRMA, "MX"): ["0 ."]}
        await office.look(HOUR)
        await office.look(HOUR)
        assert (await office.condition("mx_wrong"))["subject"] == FIRMA
        with silence(office.server, monkeypatch):
            await office.look(HOUR)
        assert "mx_wrong" in await office.keys()


async def test_a_reload_switches_the_watch_off_and_its_conditions_end(office: Office) -> None:
    async with office.running():
        office.server.records = GOOD | {(FIRMA, "TXT"): []}
        await office.look(FIRST)
        await office.look(HOUR)
        assert "spf_wrong" in await office.keys()
        watch = office.config.watch.model_copy(update={"dns": False})
        await office.service._apply(office.config.model_copy(update={"watch": watch}))
        await office._until(lambda: not office.service._surroundings.domains._watched)
        assert "spf_wrong" not in await office.keys()


async def test_a_stop_does_not_wait_for_a_look_at_a_silent_name_server(office: Office) -> None:
    async with office.running():
        await office.look(FIRST)
        office.server.is_silent = True
        asked = office.server.asked.total()
        office.clock.moved += DAY
        watched = office.service._surroundings.domains
        await office._until(lambda: watched._look is not None)
        look = watched._look
        assert look is not None
        assert office.server.asked.total() == asked
        await office.service.stop()
        assert look.cancelled()  # before it had an answer, or had waited for one long enough


async def test_a_service_without_mail_for_longer_than_a_fixed_time_has_a_condition(office: Office) -> None:
    watch = office.config.watch.model_copy(update={"no_mail_hours": 4.0})
    office.config = office.config.model_copy(update={"watch": watch})
    async with office.running():
        await office._until(lambda: office.service._surroundings.gaps._last is not None)
        office.clock.moved += timedelta(hours=5)
        found = await office.condition("no_mail")
        assert found["cause"].startswith("No message was accepted since ")
        counters = office.service.listeners[0]._state.counters
        counters.accepted += 1
        await office._until(lambda: office.service._surroundings.gaps._count == 1)
        office.clock.moved += timedelta(minutes=1)
        assert "no_mail" not in await office.keys()
