"""The dead-man's ping: only while the service works, at its interval, and silent when it is off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.alerts.record import Alert, AlertKind, AlertNotSent
from senderproxy.clock import SystemClock
from senderproxy.http_client.client import HttpClient
from senderproxy.service.ping import Ping, PingSettings
from senderproxy.service.secrets import SecretReader
from tests.fakes.http_server import HttpServer, answer, http_server
from tests.fakes.still_clock import StillClock
from tests.peers.certificates import Authority

MINUTE = timedelta(minutes=1)
TEST = Alert("id", AlertKind.TEST, "mail.firma.example", datetime(2026, 11, 29, tzinfo=UTC))


@dataclass
class Place:
    server: HttpServer
    ping: Ping
    settings: PingSettings
    clock: StillClock
    problem: str = ""

    async def check(self, after: timedelta = timedelta()) -> list[tuple[str, str, bytes]]:
        """The requests that a look of the housekeeping causes."""
        self.clock.pass_by(after)
        self.ping.check()
        if self.ping._task is not None:
            await asyncio.wait((self.ping._task,))
        found = [(one.method, one.target, one.body) for one in self.server.requests]
        self.server.requests.clear()
        return found


@asynccontextmanager
async def pinging(tmp_path: Path, signals_failures: bool = False) -> AsyncIterator[Place]:
    authority, file = Authority(tmp_path), tmp_path / "url"
    async with http_server(authority) as server:
        server.behaviours = [answer("200 OK", b"OK")]
        file.write_text(f"https://localhost:{server.port}/geheim-uuid?rid=1\n")
        file.chmod(0o600)
        clock, secrets, client = StillClock(), SecretReader(), HttpClient(SystemClock(), {})
        settings = PingSettings(f"file:{file}", 300, signals_failures, str(authority.ca_file))
        ping = Ping(client, secrets, clock, lambda: place.problem)
        place = Place(server, ping, settings, clock)
        try:
            yield place
        finally:
            await ping.stop()
            client.close()
            secrets.close()


GOOD = ("GET", "/geheim-uuid?rid=1", b"")
BAD = ("POST", "/geheim-uuid/fail?rid=1", b"listener office is closed")


async def test_without_the_setting_nothing_happens(tmp_path: Path) -> None:
    async with pinging(tmp_path) as place:
        assert await place.check() == []
        await place.ping.send(TEST)
        place.ping.apply(place.settings)
        place.ping.apply(None)
        assert await place.check(10 * MINUTE) == []


async def test_a_ping_at_each_interval(tmp_path: Path) -> None:
    async with pinging(tmp_path) as place:
        place.ping.apply(place.settings)
        assert await place.check() == [GOOD]
        place.ping.apply(place.settings)  # a reload without a change
        assert await place.check(4 * MINUTE) == []
        assert await place.check(MINUTE) == [GOOD]


async def test_no_ping_while_the_service_cannot_work(tmp_path: Path) -> None:
    async with pinging(tmp_path) as place:
        place.ping.apply(place.settings)
        place.problem = "listener office is closed"
        assert await place.check() == []
        assert await place.check(10 * MINUTE) == []
        place.problem = ""
        assert await place.check(5 * MINUTE) == [GOOD]


async def test_a_failure_is_signalled_at_once_where_the_receiver_knows_it(tmp_path: Path) -> None:
    async with pinging(tmp_path, signals_failures=True) as place:
        place.ping.apply(place.settings)
        assert await place.check() == [GOOD]
        place.problem = "listener office is closed"
        assert await place.check(MINUTE) == [BAD]
        assert await place.check(MINUTE) == []
        assert await place.check(4 * MINUTE) == [BAD]
        place.problem = ""
        assert await place.check(5 * MINUTE) == [GOOD]


async def test_a_ping_that_fails_is_logged_once_and_repeated_soon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with pinging(tmp_path) as place:
        place.ping.apply(place.settings)
        place.server.behaviours = [answer("404 Not Found")]
        assert await place.check() == [GOOD]
        assert await place.check(MINUTE) == [GOOD]
        place.server.behaviours = [answer("200 OK")]
        assert await place.check(MINUTE) == [GOOD]
        assert await place.check(4 * MINUTE) == []
    events = [getattr(record, "senderproxy_event", "") for record in caplog.records]
    assert events == ["ping_failed", "ping_recovered"]
    assert "geheim" not in caplog.text


async def test_the_test_says_what_is_wrong(tmp_path: Path) -> None:
    async with pinging(tmp_path) as place:
        place.ping.apply(place.settings)
        await place.ping.send(TEST)
        place.server.behaviours = [answer("404 Not Found")]
        with pytest.raises(AlertNotSent, match="answered 404 Not Found"):
            await place.ping.send(TEST)
        place.problem = "listener office is closed"
        with pytest.raises(AlertNotSent, match="listener office is closed"):
            await place.ping.send(TEST)
