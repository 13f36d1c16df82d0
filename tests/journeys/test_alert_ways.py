"""Webhook and ping of a running service: its test, crashes that systemd repairs, a receiver that is away for a while."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.http_server import HttpServer, answer, http_server
from tests.journeys.test_service import RELOADED, Office, office
from tests.peers.certificates import Authority

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """The office, and the server that gets its alerts and pings."""

    office: Office
    server: HttpServer

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The alerts as a receiver knows them: a second one with the same id is dropped. None is about a busy machine."""
        found: dict[str, dict[str, Any]] = {}
        for request in self.server.requests:
            if request.target == "/geheim-hook":
                assert request.headers["webhook-id"] == json.loads(request.body)["id"]
                found.setdefault(request.headers["webhook-id"], json.loads(request.body))
        alerts = [one for one in found.values() if one["kind"] != "test"]
        return [one for one in alerts if {about["key"] for about in one["conditions"]} != {"loop_blocked"}]

    @property
    def pings(self) -> int:
        return sum((one.method, one.target) == ("GET", "/geheim-ping") for one in self.server.requests)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(120):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: {self.alerts}\n{''.join(self.office.log)}") from None

    async def crash(self) -> None:
        """Kill the service, and start it as systemd does."""
        process = self.office.process
        assert process is not None
        process.kill()
        await process.wait()
        self.office.log.clear()
        await self.office.start()


@asynccontextmanager
async def place_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")  # the housekeeping looks twice a second
    authority = Authority(folder)
    async with http_server(authority) as server, office(folder) as place:
        server.behaviours = [answer("200 OK")]
        for name in ("hook", "ping"):
            path = folder / name
            path.touch(0o600)
            path.write_text(f"https://localhost:{server.port}/geheim-{name}\n")
        place.write_config(
            f'[alerts]\nwebhook = "file:hook"\nping = "file:ping"\nca_file = "{authority.ca_file}"\n'
            "error_delay_seconds = 0\nwarning_delay_seconds = 0\nover_delay_seconds = 0\n"
        )
        assert await place.reload() == RELOADED
        yield Place(place, server)


async def test_a_crash_loop_is_told_once_and_a_test_names_each_broken_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place_in(tmp_path, monkeypatch) as place:
        await place.until(lambda: place.pings >= 1, "a ping")
        await place.crash()
        await place.until(lambda: len(place.alerts) == 1, "the crash is told")
        # A service that is killed before it has noted its alert sends the news again, with the severity of then.
        noted = tmp_path / "alerts"

        def is_noted() -> bool:
            facts = noted.read_text().splitlines() if noted.exists() else []
            return any("service_crashed" in fact and '"alerted":"WARNING"' in fact for fact in facts)

        await place.until(is_noted, "the alert is noted")
        for _ in range(4):
            await place.crash()
        await place.until(lambda: place.alerts[-1]["kind"] == "worse", "that it crashes again and again")
        tested = await place.office.command("alert", "test")
        assert (tested.code, tested.out.splitlines()[-2:]) == (0, ["webhook: sent", "ping: sent"]), tested
        keys = [(alert["kind"], alert["conditions"][0]["key"], alert["severity"]) for alert in place.alerts]
        assert keys == [("begun", "service_crashed", "warning"), ("worse", "service_crashed", "error")]

        # each way that is broken is named
        (tmp_path / "hook").chmod(0o644)
        place.server.behaviours = [answer("404 Not Found")]
        tested = await place.office.command("alert", "test")
        assert tested.code == 1
        assert f"webhook: failed. Every user of this machine can read or change {tmp_path}/hook." in tested.out
        assert f"ping: failed. https://localhost:{place.server.port} answered 404 Not Found." in tested.out


async def test_alerts_arrive_in_their_order_once_the_receiver_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place_in(tmp_path, monkeypatch) as place:
        await place.until(lambda: place.pings >= 1, "a ping")
        place.server.behaviours = [answer("503 Service Unavailable")]
        good = place.office.config.read_text()
        place.office.config.write_text("[[listeners\n")
        assert await place.office.reload() != RELOADED
        await place.until(lambda: len(place.alerts) == 1, "the first attempt")
        place.server.requests.clear()
        place.office.config.write_text(good)
        place.server.behaviours = [answer("200 OK")]
        await place.until(lambda: len(place.alerts) == 1, "the next attempt, without a further alert")
        assert await place.office.reload() == RELOADED
        await place.until(lambda: len(place.alerts) == 2, "the end of the condition")
        keys = [(alert["kind"], alert["conditions"][0]["key"]) for alert in place.alerts]
        assert keys == [("begun", "configuration_refused"), ("over", "configuration_refused")]
