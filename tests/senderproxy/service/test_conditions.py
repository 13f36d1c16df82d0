"""The conditions of a running service: what is found, logged, shown and remembered."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from senderproxy.accounts.oauth_application import Flow
from senderproxy.control.protocol import Verb
from senderproxy.control.run_marker import RunMarker
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.learned import Instant
from senderproxy.log_events import Severity
from senderproxy.monitoring.conditions import find_conditions
from senderproxy.monitoring.facts import ApplicationFacts, ClockFacts, DrainFacts, Facts, SpoolFacts, SpoolState
from senderproxy.service.condition_facts import FactCollector, application_facts
from senderproxy.service.conditions import ServiceConditions
from senderproxy.signing.rsa_key import load_certificate
from senderproxy.tracking.record import RecipientState, RecipientStatus
from tests.fakes.arrivals import arrival
from tests.senderproxy.accounts.test_access_tokens import an_office
from tests.senderproxy.signing.keys import certified_key
from tests.senderproxy.test_app import Office, office_in

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LATER = RecipientState(RecipientStatus.WAITING, timedelta(hours=1))
FULL = SpoolFacts(SpoolState.FULL, "Too little space.", "Free some.")


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000)

    def monotonic(self) -> float:
        return self.seconds


class SetFacts:
    """Facts that the test sets; counts the looks, and those at the disk."""

    def __init__(self, clock: SetClock) -> None:
        self.facts: dict[str, Any] = {}
        self.looks: list[bool] = []
        self._clock = clock

    def signature(self) -> tuple[object, ...]:
        return tuple(self.facts.values())

    async def collect(self, *, ask_disk: bool) -> Facts:
        self.looks.append(ask_disk)
        await asyncio.sleep(0)
        return Facts(self._clock.now(), **self.facts)


class Watched:
    """Conditions with a clock, facts and a log that the test sees."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.clock = SetClock()
        self.facts = SetFacts(self.clock)
        self.shown = 0
        self.conditions = self.again()
        self._caplog = caplog

    def again(self) -> ServiceConditions:
        return ServiceConditions(cast("FactCollector", self.facts), cast("Any", self.clock), self._show)

    def _show(self) -> None:
        self.shown += 1

    async def tick(self, seconds: float) -> None:
        """The housekeeping, after so many seconds."""
        self.clock.seconds += seconds
        if self.conditions.is_due:
            await self.conditions.look()

    def log(self) -> list[tuple[str, str]]:
        """The log events since the last call: key, and key of the condition."""
        found = [
            (record.__dict__["senderproxy_event"], record.__dict__["senderproxy_fields"]["condition"])
            for record in self._caplog.records
        ]
        self._caplog.clear()
        return found


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Watched:
    caplog.set_level(logging.INFO, "senderproxy.service")
    return Watched(caplog)


async def test_a_look_happens_after_a_change_else_once_a_minute(watched: Watched) -> None:
    await watched.tick(10)
    for _ in range(12):
        await watched.tick(10)
    assert watched.facts.looks == [True, True, True]
    watched.facts.facts = {"spool": FULL}
    await watched.tick(10)
    assert watched.facts.looks == [True, True, True, False]
    assert [one.key for one in watched.conditions.current] == ["disk_full"]


async def test_a_command_gets_the_state_of_now_and_two_at_once_cost_one_look(watched: Watched) -> None:
    assert await watched.conditions.ask() == ()
    watched.facts.facts = {"spool": FULL}
    first, second = await asyncio.gather(watched.conditions.ask(), watched.conditions.ask())
    assert [one.key for one in first] == [one.key for one in second] == ["disk_full"]
    assert watched.facts.looks == [True, True]


async def test_a_condition_is_logged_and_shown_when_it_begins_changes_and_ends(watched: Watched) -> None:
    watched.facts.facts = {"crash": None, "clock": ClockFacts(90, NOW), "spool": FULL}
    await watched.tick(10)
    assert watched.log() == [("condition_began", "disk_full"), ("condition_began", "clock_stepped")]
    await watched.tick(61)
    assert (watched.log(), watched.shown) == ([], 1)
    watched.facts.facts = {"spool": SpoolFacts()}
    await watched.tick(61)
    assert sorted(watched.log()) == [("condition_ended", "clock_stepped"), ("condition_ended", "disk_full")]
    assert (watched.shown, watched.conditions.current) == (2, ())


async def test_after_a_restart_a_condition_goes_on_with_its_beginning(watched: Watched) -> None:
    changed: list[str] = []
    watched.conditions.changed = changed.append
    watched.facts.facts = {"spool": FULL, "clock": ClockFacts(90, NOW)}
    await watched.tick(10)
    assert sorted(changed) == ["clock_stepped ", "disk_full "]
    written = Instant(watched.clock.now(), watched.clock.monotonic())
    rows = {subject: watched.conditions.fact(subject, written) for subject in changed}
    watched.log()

    watched.clock.seconds += 3000
    watched.facts.facts = {"spool": FULL}
    watched.conditions = watched.again()
    for subject, fact in rows.items():
        assert fact is not None
        assert watched.conditions.restore(subject, fact, written)
    assert not watched.conditions.restore("of_another_version x", {"age": 1.0}, written)
    await watched.tick(10)
    assert watched.log() == [("condition_ended", "clock_stepped")]
    (one,) = watched.conditions.current
    assert one.since == NOW + timedelta(seconds=10)
    assert watched.conditions.fact("clock_stepped ", written) is None


# ---- a real service ----


class Notices(SystemdNotifier):
    """Keeps the lines for `systemctl status`."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.lines: list[str] = []

    def status(self, status: str) -> None:
        self.lines.append(status)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Office]:
    office = office_in(folder, **settings)
    await office.service.start()
    try:
        yield office
    finally:
        await office.service.stop()


async def conditions(office: Office) -> dict[str, dict[str, Any]]:
    answer = await office.ask(Verb.CONDITIONS)
    return {entry["key"]: entry for entry in answer["conditions"]}


async def test_the_status_line_of_systemd_names_the_worst_condition(tmp_path: Path) -> None:
    notices = Notices()
    async with running(tmp_path, notifier=notices) as office:
        assert list(await conditions(office)) == ["no_account"]
        assert "conditions: 1, error: There is no account yet." in notices.lines[-1]
        office.add("anna@firma.example")
        await office.ask(Verb.READ_VAULT)
        assert list(await conditions(office)) == ["unknown_provider"]
        assert "error: 1 account (anna) is at provider ionos, which" in notices.lines[-1]


async def test_a_drain_is_in_the_status_line_and_a_condition_after_an_hour(tmp_path: Path) -> None:
    notices = Notices()
    async with running(tmp_path, notifier=notices) as office:
        with pytest.raises(SenderproxyError, match="No listener has `proxy_from`"):
            await office.ask(Verb.DRAIN, on=True)
        [listener] = office.service.listeners
        listener.settings = listener.settings.model_copy(update={"proxy_from": (ip_network("127.0.0.1"),)})
        with pytest.raises(SenderproxyError, match="true or false"):
            await office.ask(Verb.DRAIN, on="yes")
        assert (await office.ask(Verb.DRAIN, on=True))["changed"]
        assert notices.lines[-1].startswith("draining, listening on 127.0.0.1:")
        again = await office.ask(Verb.DRAIN, on=True)
        assert (again["changed"], again["checked"]) == (False, [listener.settings.name])
        assert "draining" not in await conditions(office)
        began = datetime.now(UTC) - timedelta(minutes=61)
        office.service._facts.drain = DrainFacts(began)
        entry = (await conditions(office))["draining"]
        assert (entry["severity"], entry["since"]) == ("warning", began.isoformat(timespec="seconds"))
        assert entry["hint"] == "Put it back: senderproxy drain --undo"
        assert (await office.ask(Verb.DRAIN))["draining_since"] is not None
        assert (await office.ask(Verb.DRAIN, on=False))["draining_since"] is None
        assert "draining" not in notices.lines[-1]
        assert "draining" not in await conditions(office)


async def test_a_refused_reload_is_a_condition_until_one_succeeds(tmp_path: Path) -> None:
    refusals: Iterator[bool] = iter([True, False])

    def load() -> Any:
        if next(refusals):
            raise SenderproxyError("port 99999 is no port.", hint="Use another.")
        return office.service._config

    async with running(tmp_path, load=load) as office:
        office.add("anna@firma.example")
        with pytest.raises(SenderproxyError):
            await office.ask(Verb.RELOAD)
        entry = (await conditions(office))["configuration_refused"]
        assert (entry["severity"], entry["hint"]) == ("error", "Use another.")
        assert "the old configuration is in force: port 99999 is no port." in entry["cause"]
        await office.ask(Verb.RELOAD)
        assert "configuration_refused" not in await conditions(office)


async def test_a_process_that_was_killed_is_a_condition_of_the_next_one(tmp_path: Path) -> None:
    RunMarker(tmp_path / "running").start(datetime.now(UTC))
    async with running(tmp_path) as office:
        office.add("anna@firma.example")
        await office.ask(Verb.READ_VAULT)
        assert "ended without a stop 1 time within a day" in (await conditions(office))["service_crashed"]["cause"]


async def test_the_certificate_of_a_listener_is_read_from_its_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    now, day, file = datetime.now(UTC), timedelta(days=1), tmp_path / "cert.pem"

    def issue(left: timedelta) -> None:
        issued = authority.issue_cert("mail.firma.example", not_before=now - day, not_after=now + left)
        issued.private_key_and_cert_chain_pem.write_to_path(file)

    def a_second_later() -> None:
        office.service._facts._disk_asked_at = office.service._conditions._found_at = -math.inf

    issue(timedelta(minutes=20))
    office = office_in(tmp_path)
    listener = {
        "address": "127.0.0.1:0",
        "name": "office",
        "tls": "starttls",
        "certificate": str(file),
        "key": str(file),
    }
    config = office.service._config
    changed = type(config).model_validate(config.model_dump(exclude_unset=True) | {"listeners": [listener]})
    office.service._config = office.service._facts.config = changed
    await office.service.start()
    try:
        office.add("anna@firma.example")
        await office.ask(Verb.READ_VAULT)
        entry = (await conditions(office))["listener_certificate"]
        assert (entry["subject"], entry["severity"]) == ("office", "error")
        issue(90 * day)
        a_second_later()
        entry = (await conditions(office))["listener_certificate"]
        assert entry["hint"] == f"{file} has a newer one: systemctl reload senderproxy"
        file.unlink()
        a_second_later()
        assert "No such file" in (await conditions(office))["listener_certificate"]["cause"]
    finally:
        await office.service.stop()


async def test_the_secret_or_certificate_of_an_application_that_ends_is_a_condition(tmp_path: Path) -> None:
    async with an_office(tmp_path, flow=Flow.APPLICATION) as office:
        assert application_facts(office.accounts) == []
        office.edit(flow=Flow.APPLICATION, expires="2028-06-30")
        assert office.accounts.check()
        end = datetime(2028, 6, 30, tzinfo=UTC)
        [secret] = application_facts(office.accounts)
        assert secret == ApplicationFacts("office", end, ["anna", "bert"])
        severities = {
            days: [one.severity for one in find_conditions(Facts(end - timedelta(days=days), applications=[secret]))]
            for days in (31, 30, 7, 1, 0)
        }
        assert severities == {
            31: [], 30: [Severity.INFO], 7: [Severity.WARNING], 1: [Severity.ERROR], 0: [Severity.CRITICAL]
        }  # fmt: skip
        key = certified_key()
        office.edit(flow=Flow.APPLICATION, secret="", expires="", certificate=key.certificate, key=key.key)
        assert office.accounts.check()
        [certificate] = application_facts(office.accounts)
        assert certificate.valid_until == load_certificate(key.certificate).valid_until


async def test_the_status_counts_a_message_that_was_queued_a_moment_ago(tmp_path: Path) -> None:
    office = office_in(tmp_path)
    await office.service.start()
    try:
        for number in range(3):
            assert (await office.ask(Verb.STATUS))["queue"]["waiting"] == number
            spool = office.service._spool._spool
            assert spool is not None
            await spool.accept(arrival(f"a{number}", account="", state=LATER))
    finally:
        await office.service.stop()
