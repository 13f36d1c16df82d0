"""The webhook: order, repeated attempts, what is given up, the signature; with a server that has a certificate."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.alerts.record import Alert, AlertItem, AlertKind, AlertNotSent
from senderproxy.alerts.webhook_body import WebhookFormat
from senderproxy.clock import SystemClock
from senderproxy.http_client.client import HttpClient
from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey
from senderproxy.service.secrets import SecretReader
from senderproxy.service.webhook import WebhookSettings, WebhookWay
from tests.fakes.http_server import HttpServer, answer, http_server, octets
from tests.peers.certificates import Authority

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BUSY = answer("503 Service Unavailable")
TAKEN = answer("200 OK", b"ok")


def alert(number: int, kind: AlertKind = AlertKind.BEGUN, id_: str = "") -> Alert:
    condition = Condition(ConditionKey.QUEUE_LATE, f"account{number}", Severity.ERROR, NOW, "It waits.", "")
    items = () if kind is AlertKind.TEST else (AlertItem(kind, condition),)
    return Alert(id_ or f"id-{kind}-{number}", kind, "mail.firma.example", NOW, items)


class LaterClock(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0.0

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.moved


@dataclass
class Later:
    """The notes of the sender of alerts."""

    sent: list[str] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)

    def is_wanted(self, alert: Alert) -> bool:
        return alert.id not in self.unwanted

    def sent_later(self, way: str, alert: Alert) -> None:
        assert way == "webhook"
        self.sent.append(alert.id)


@dataclass
class Place:
    server: HttpServer
    way: WebhookWay
    url_file: Path
    later: "Later"
    clock: LaterClock = field(default_factory=LaterClock)

    @property
    def taken(self) -> list[str]:
        return [str(json.loads(request.body)["id"]) for request in self.server.requests]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def webhook(
    tmp_path: Path, first_pause: float = 0.01, form: WebhookFormat = WebhookFormat.JSON, secret: str = ""
) -> AsyncIterator[Place]:
    authority = Authority(tmp_path)
    url_file, secret_file = tmp_path / "url", tmp_path / "secret"
    secret_file.write_text(secret)
    secret_file.chmod(0o600)
    async with http_server(authority) as server:
        server.behaviours = [TAKEN]
        url_file.write_text(f"https://localhost:{server.port}/hook/geheim-token\n")
        url_file.chmod(0o600)
        clock, secrets, later = LaterClock(), SecretReader(), Later()
        client = HttpClient(clock, {})
        settings = WebhookSettings(
            f"file:{url_file}", form, f"file:{secret_file}" if secret else None, str(authority.ca_file)
        )
        way = WebhookWay(settings, client, secrets, clock, later, first_pause=first_pause)
        try:
            yield Place(server, way, url_file, later, clock)
        finally:
            way.close()
            client.close()
            secrets.close()


async def not_sent(way: WebhookWay, message: Alert) -> AlertNotSent:
    with pytest.raises(AlertNotSent) as caught:
        await way.send(message)
    assert "geheim" not in f"{caught.value.message}{caught.value.hint}"
    return caught.value


async def test_an_alert_is_posted_with_its_id(tmp_path: Path) -> None:
    async with webhook(tmp_path) as place:
        await place.way.send(alert(1))
        (request,) = place.server.requests
        assert (request.method, request.target) == ("POST", "/hook/geheim-token")
        assert request.headers["webhook-id"] == "id-begun-1"
        assert request.headers["content-type"] == "application/json"
        assert "webhook-signature" not in request.headers
        assert json.loads(request.body)["conditions"][0]["key"] == "queue_late"
        assert place.later.sent == []


@pytest.mark.parametrize(
    ("secret", "key"),
    [("geheim-key", b"geheim-key"), ("whsec_" + base64.b64encode(b"geheim-octets").decode(), b"geheim-octets")],
)
async def test_the_signature_is_that_of_standard_webhooks(tmp_path: Path, secret: str, key: bytes) -> None:
    async with webhook(tmp_path, secret=secret) as place:
        await place.way.send(alert(1))
        (request,) = place.server.requests
        signed = f"id-begun-1.{request.headers['webhook-timestamp']}.".encode() + request.body
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{expected}"


async def test_alerts_that_are_not_taken_arrive_later_in_their_order(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY]
        for number in range(3):
            assert "503 Service Unavailable" in (await not_sent(place.way, alert(number))).message
        assert set(place.taken) == {"id-begun-0"}
        place.server.behaviours = [TAKEN]
        place.server.requests.clear()
        await place.way.send(alert(3))
        assert place.taken == [f"id-begun-{number}" for number in range(4)]
        assert place.later.sent == [f"id-begun-{number}" for number in range(3)]


async def test_an_alert_that_says_nothing_any_more_is_not_sent_later(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY, TAKEN]
        await not_sent(place.way, alert(1))
        place.later.unwanted.add("id-begun-1")
        await place.way.send(alert(2))
        assert place.taken == ["id-begun-1", "id-begun-2"]
        assert place.later.sent == []


async def test_what_waits_is_sent_without_a_further_alert(tmp_path: Path) -> None:
    async with webhook(tmp_path) as place:
        place.server.behaviours = [BUSY, BUSY, octets(b""), BUSY, TAKEN]
        await not_sent(place.way, alert(1))
        await place.until(lambda: bool(place.later.sent))
        assert place.taken == ["id-begun-1"] * 5
        assert place.later.sent == ["id-begun-1"]


async def test_an_alert_that_is_sent_again_is_not_doubled(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY]
        await not_sent(place.way, alert(1))
        await not_sent(place.way, alert(1))
        other_id = alert(1, id_="later")  # the same news in an alert of its own, after no way had sent it
        await not_sent(place.way, other_id)
        place.server.behaviours = [TAKEN]
        place.server.requests.clear()
        await place.way.send(replace(alert(1, AlertKind.OVER), time=NOW + timedelta(hours=1)))
        assert place.taken == ["later", "id-over-1"]


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", "token"),
        ("404 Not Found", "new webhook"),
        ("410 Gone", "new webhook"),
        ("302 Found", "redirects"),
        ("400 Bad Request", "webhook_format"),
    ],
)
async def test_a_refused_alert_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: str, hint: str
) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [answer(status, b"", "Location: https://elsewhere.example/geheim"), TAKEN]
        error = await not_sent(place.way, alert(1))
        assert error.message == f"https://localhost:{place.server.port} answered {status}."
        assert hint in error.hint
        await place.way.send(alert(2))
        assert place.taken == ["id-begun-1", "id-begun-2"]
    assert [getattr(record, "senderproxy_event", "") for record in caplog.records] == ["alert_given_up"]


async def test_a_refusal_of_an_earlier_alert_does_not_stop_the_next(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY, answer("400 Bad Request"), TAKEN]
        await not_sent(place.way, alert(1))
        await place.way.send(alert(2))
        assert place.taken == ["id-begun-1", "id-begun-1", "id-begun-2"]


async def test_an_alert_of_a_day_ago_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY, TAKEN]
        await not_sent(place.way, alert(1))
        place.clock.moved = 86_500
        await place.way.send(alert(2))
        assert place.taken == ["id-begun-1", "id-begun-2"]
    assert "alert given up" in caplog.text


async def test_memory_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.url_file.unlink()
        for number in range(130):
            await not_sent(place.way, alert(number))
        assert len(place.way._waiting) == 100
    assert caplog.text.count("alert given up") == 30


async def test_the_pause_follows_retry_after_and_grows(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=10) as place:
        loop, pauses = asyncio.get_running_loop(), []
        for asked in (
            "Retry-After: 120",
            "Retry-After: 99999999",
            "Retry-After: Sun, 29 Nov 2026 12:00:00 GMT",
            "X: y",
        ):
            place.server.behaviours = [answer("429 Too Many Requests", b"", asked)]
            await not_sent(place.way, alert(1))
            assert place.way._timer is not None
            pauses.append(place.way._timer.when() - loop.time())
        assert pauses == pytest.approx([120, 600, 40, 80], abs=15)  # an answer takes its time


async def test_a_test_is_tried_once_and_does_not_wait(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.server.behaviours = [BUSY, TAKEN]
        await not_sent(place.way, alert(1, AlertKind.TEST))
        await place.way.send(alert(2, AlertKind.TEST))
        assert place.taken == ["id-test-1", "id-test-2"]
        assert not place.way._waiting


async def test_a_wrong_url_or_file_is_reported_without_its_content(tmp_path: Path) -> None:
    async with webhook(tmp_path, first_pause=3600) as place:
        place.url_file.write_text("geheim-no-url")
        assert "neither https:// nor http://" in (await not_sent(place.way, alert(1))).message
        place.url_file.chmod(0o644)
        assert "Every user of this machine" in (await not_sent(place.way, alert(1))).message
        place.way.settings = replace(place.way.settings, secret="credential:missing")
        place.url_file.chmod(0o600)
        place.url_file.write_text(f"https://localhost:{place.server.port}/geheim")
        assert "no credential missing" in (await not_sent(place.way, alert(1))).message
        place.way.settings = replace(place.way.settings, secret=f"file:{place.url_file}")
        await place.way.send(alert(1))


async def test_a_closed_way_sends_no_more(tmp_path: Path) -> None:
    async with webhook(tmp_path) as place:
        place.server.behaviours = [BUSY]
        await not_sent(place.way, alert(1))
        place.way.close()
        count = len(place.server.requests)
        await asyncio.sleep(0.1)
        assert len(place.server.requests) <= count + 1


async def test_no_secret_is_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with webhook(tmp_path) as place:
        place.server.behaviours = [octets(b"geheim"), TAKEN]
        await not_sent(place.way, alert(1))
        await place.until(lambda: bool(place.later.sent))
    assert "geheim" not in caplog.text
