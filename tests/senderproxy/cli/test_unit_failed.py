"""`senderproxy alert unit-failed`: its credential, one alert an hour, and failures in words."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from senderproxy.cli.main import main
from senderproxy.cli.unit_failed import report
from senderproxy.clock import SystemClock
from senderproxy.errors import InvalidFile, SenderproxyError
from tests.fakes.http_server import HttpServer, answer, http_server
from tests.peers.certificates import Authority

UNIT = "senderproxy.service"


class MovedClock(SystemClock):
    """The system's clock, moved."""

    moved = timedelta()
    passed = 0.0  # seconds

    def now(self):
        return super().now() + self.moved

    def monotonic(self):
        return super().monotonic() + self.passed


@dataclass
class Place:
    folder: Path
    server: HttpServer
    authority: Authority
    clock: MovedClock = field(default_factory=MovedClock)
    environment: dict[str, str] = field(default_factory=dict)

    def credential(self, *lines: str) -> None:
        (self.folder / "senderproxy-alert").write_text("\n".join(lines))

    def webhook(self, *lines: str) -> None:
        url = f"https://localhost:{self.server.port}/geheim-token"
        self.credential(f'webhook = "{url}"', f'ca_file = "{self.authority.ca_file}"', *lines)

    async def report(self, unit: str = UNIT) -> int:
        with patch("subprocess.run", side_effect=FileNotFoundError):
            return await asyncio.to_thread(report, unit, self.environment, self.clock)

    async def refused(self, kind: type[SenderproxyError] = SenderproxyError) -> str:
        with pytest.raises(kind) as caught:
            await self.report()
        assert "geheim" not in f"{caught.value.message}{caught.value.hint}"
        return caught.value.message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@asynccontextmanager
async def a_place(folder: Path) -> AsyncIterator[Place]:
    authority = Authority(folder)
    async with http_server(authority) as server:
        server.behaviours = [answer("200 OK")]
        environment = {
            "CREDENTIALS_DIRECTORY": str(folder),
            "STATE_DIRECTORY": str(folder),
            "MONITOR_SERVICE_RESULT": "exit-code",
            "MONITOR_EXIT_STATUS": "77",
        }
        yield Place(folder, server, authority, environment=environment)


async def test_without_a_credential_nothing_is_sent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_place(folder) as place:
        assert await place.report() == 0
        assert "there is no credential senderproxy-alert" in capsys.readouterr().out
        assert not (folder / f"{UNIT}.json").exists()


async def test_one_alert_an_hour_for_each_unit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_place(folder) as place:
        place.webhook('webhook_secret = "geheim-key"')
        assert await place.report() == 0
        (request,) = place.server.requests
        body = json.loads(request.body)
        assert (body["kind"], body["unit"], body["cause"]) == ("unit_failed", UNIT, "the vault cannot be opened")
        assert body["log"] == ["The log cannot be read: journalctl failed."]
        assert request.headers["webhook-id"] == body["id"]
        assert request.headers["webhook-signature"].startswith("v1,")
        place.clock.moved = timedelta(minutes=59)
        assert await place.report() == 0
        assert await place.report() == 0
        assert len(place.server.requests) == 1
        assert await place.report("other.service") == 0
        assert len(place.server.requests) == 2
        assert json.loads((folder / f"{UNIT}.json").read_text())["suppressed"] == 2
        place.clock.moved = timedelta(minutes=61)
        place.webhook('webhook_format = "slack"')
        assert await place.report() == 0
        assert "senderproxy.service does not run any more" in json.loads(place.server.requests[-1].body)["text"]
        assert json.loads((folder / f"{UNIT}.json").read_text())["suppressed"] == 0
        place.clock.moved = -timedelta(days=1)  # the clock was set back
        assert await place.report() == 0
        assert len(place.server.requests) == 4
    assert "geheim" not in capsys.readouterr().out


class LateJournal:
    """journalctl over a journal that has the last lines of systemd at the third look only."""

    def __init__(self) -> None:
        self.looks = 0

    def run(self, words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        self.looks += 1
        is_there = self.looks >= 3
        if "INVOCATION_ID=abc" in words:
            lines = ["Starting the alert"] if is_there else []
        else:
            lines = ["Main process exited", *(["Start request repeated too quickly."] if is_there else [])]
        return subprocess.CompletedProcess(words, 0, "\n".join(lines).encode())


async def test_the_log_is_read_when_the_journal_has_what_systemd_wrote_before(folder: Path) -> None:
    async with a_place(folder) as place:
        place.webhook()
        place.environment |= {"INVOCATION_ID": "abc", "MONITOR_SERVICE_RESULT": "signal"}
        with patch("subprocess.run", LateJournal().run):
            assert await asyncio.to_thread(report, UNIT, place.environment, place.clock) == 0
        body = json.loads(place.server.requests[0].body)
        assert body["log"] == ["Main process exited", "Start request repeated too quickly."]
        assert body["cause"] == "it ended too often in a row"


async def test_a_journal_without_systemds_lines_is_not_waited_for_without_an_end(folder: Path) -> None:
    async with a_place(folder) as place:
        place.webhook()
        place.environment["INVOCATION_ID"] = "xyz"

        def run(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
            place.clock.passed += 4
            return subprocess.CompletedProcess(words, 0, b"" if "INVOCATION_ID=xyz" in words else b"a line")

        with patch("subprocess.run", run):
            assert await asyncio.to_thread(report, UNIT, place.environment, place.clock) == 0
        assert json.loads(place.server.requests[0].body)["log"] == ["a line"]


async def test_an_alert_that_was_not_sent_does_not_count(folder: Path) -> None:
    async with a_place(folder) as place:
        place.webhook()
        place.server.behaviours = [answer("500 Broken"), answer("200 OK")]
        assert "answered 500 Broken" in await place.refused()
        assert await place.report() == 0
        assert len(place.server.requests) == 2


async def test_one_of_two_ways_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_place(folder) as place:
        mail = ('host = "127.0.0.1"', "port = 1", 'user = "a@b.example"', 'password = "geheim-x"', 'to = "c@d.example"')
        place.webhook(*mail)
        assert await place.report() == 0
        assert "127.0.0.1:1 did not take the mail: Connection refused" in capsys.readouterr().out
        place.credential(*mail)
        place.clock.moved = timedelta(hours=2)
        assert "Connection refused" in await place.refused()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["geheim"], "it is not TOML"),
        (['x = "geheim"'], "neither webhook nor host"),
        (["webhook = 5"], "webhook is missing, or not a text"),
        (['webhook = "geheim\\n"'], "webhook is missing, or not a text"),
        (['webhook = "geheim"'], "neither https:// nor http://"),
        (['webhook = "https://x.example"', 'webhook_format = "geheim"'], "webhook_format is not one of json, text"),
        (['host = "x.example"'], "user is missing"),
        (['host = "x.example"', 'security = "geheim"'], "security is not one of tls, starttls"),
        (['host = "x.example"', "port = 70000"], "port is not a number"),
        (['host = "x.example"', "port = true"], "port is not a number"),
        (['host = "x.example"', 'user = "a"', 'password = ""', 'to = "b"'], "password is missing"),
    ],
)
async def test_an_invalid_credential(folder: Path, lines: list[str], words: str) -> None:
    async with a_place(folder) as place:
        place.credential(*lines)
        assert words in await place.refused()


async def test_a_damaged_state_and_a_full_disk(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_place(folder) as place:
        place.webhook()
        for text in ("", "[]", '{"sent": 5}', '{"sent": "2026-11-29T12:00:00", "suppressed": 1}', "[" * 100_000):
            (folder / f"{UNIT}.json").write_text(text)
            assert await place.report() == 0
        assert len(place.server.requests) == 5
        place.environment["STATE_DIRECTORY"] = str(folder / "missing")
        assert await place.report() == 0
        assert "cannot be written" in capsys.readouterr().out


async def test_a_name_that_is_no_unit(folder: Path) -> None:
    async with a_place(folder) as place:
        with pytest.raises(InvalidFile):
            await place.report("../x.service")


def test_the_command_needs_no_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("SENDERPROXY_CONFIG", str(folder / "missing"))
    assert main(["alert", "unit-failed", UNIT]) == 0
    assert "no credential" in capsys.readouterr().out
