"""What the service has learned is in force after a restart of the real process, also after kill -9."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senderproxy.simulator.rules import SimulatedMailbox
from tests.senderproxy.cli.conftest import DEADLINE, Office

pytestmark = pytest.mark.slow

ANNA = "anna@firma.example"
SEND = ("send", "--from", ANNA, "--to", "kunde@customer.example")
RESTARTS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])


@contextmanager
def running(office: Office, number: int = signal.SIGTERM) -> Iterator[None]:
    """The real process, until the signal of this number."""
    service = subprocess.Popen(
        [sys.executable, "-m", "senderproxy", "--config", str(office.config), "run"],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert service.stderr is not None
    log: list[bytes] = []
    try:
        for line in service.stderr:
            log.append(line)
            if b"listening address=" in line:
                break
        else:
            pytest.fail(f"it did not start: {log}")
        yield
    finally:
        service.send_signal(number)
        log.append(service.stderr.read())
        code = service.wait(DEADLINE)
        service.stderr.close()
    assert code == (0 if number == signal.SIGTERM else -number), log
    assert b"Traceback" not in b"".join(log)


def stored(office: Office, key: str) -> Any:
    """The fact of this key in the spool's database; None if there is none."""
    uri = f"file:{office.folder / 'spool' / 'spool.db'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        row = connection.execute("SELECT value FROM learned WHERE key = ?", (key,)).fetchone()
    return None if row is None else json.loads(row[0])


def health(office: Office) -> Any:
    """The stored health of the account; None if it can send. A login that worked may be stored, too."""
    fact = stored(office, f"account/{ANNA}")
    return None if fact is None else fact.get("health")


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def account(office: Office) -> Any:
    (entry,) = office.type("status", "--json").json["accounts"]
    return entry


@RESTARTS
def test_an_hourly_limit_goes_on_after_a_restart(office: Office, number: int) -> None:
    office.add(ANNA)
    assert office.type("account", "edit", ANNA, "--messages-per-hour", "2").code == 0
    with running(office, number):
        for _ in range(2):
            assert office.type(*SEND).code == 0
        if number == signal.SIGKILL:
            key = f"hourly-use/{ANNA}"
            until(lambda: (fact := stored(office, key)) and sum(slot[1] for slot in fact["slots"]) == 2)
    with running(office):
        assert account(office)["messages_left"] == 0
        refused = office.type(*SEND)
        assert "Deferred: 451" in refused.out
        assert "has reached its limit of 2 messages an hour" in refused.out
    assert len(office.simulator.received) == 2


@RESTARTS
def test_a_refused_password_is_not_tried_again_after_a_restart(office: Office, number: int) -> None:
    office.add(ANNA)
    set_password = ("account", "set-password", ANNA, "--password-stdin")
    office.type(*set_password, "--no-verify", stdin="geheim-falsch\n")
    with running(office, number):
        assert "Deferred: 451" in office.type(*SEND).out
        until(lambda: health(office))
    with running(office, number):
        assert account(office)["state"] == "suspended"
        assert account(office)["since"]
        assert "Deferred: 451" in office.type(*SEND).out
        assert office.simulator.failed_logins() == 1
    # A new password while no service runs lifts it.
    assert office.type(*set_password, "--no-verify", stdin="geheim-anna\n").code == 0
    with running(office):
        assert account(office)["state"] == "healthy"
        assert office.type(*SEND).code == 0
        assert office.simulator.failed_logins() == 1
        until(lambda: health(office) is None)


@pytest.mark.parametrize("while_running", [True, False])
def test_a_verified_account_is_lifted_in_the_table_too(office: Office, while_running: bool) -> None:
    office.add(ANNA)
    good = office.simulator.settings
    office.simulator.settings = replace(good, mailboxes={ANNA: SimulatedMailbox("geheim-other")})
    with running(office, signal.SIGKILL):
        assert "Deferred: 451" in office.type(*SEND).out
        until(lambda: health(office))
        office.simulator.settings = good  # the provider accepts the same password again
        if while_running:
            assert office.type("account", "verify").code == 0
            until(lambda: health(office) is None)
    if not while_running:
        assert stored(office, f"account/{ANNA}")
        assert office.type("account", "verify").code == 0
        assert stored(office, f"account/{ANNA}") is None
    with running(office):
        assert account(office)["state"] == "healthy"
        assert office.type(*SEND).code == 0


def test_a_pause_goes_on_after_a_restart(office: Office) -> None:
    office.add(ANNA)
    office.simulator.settings = replace(office.simulator.settings, recipients_per_hour=1)
    with running(office, signal.SIGKILL):
        assert office.type(*SEND).code == 0
        assert office.type(*SEND).code == 1
        until(lambda: health(office))
    sessions = len(office.simulator.sessions)
    with running(office):
        assert account(office)["state"] == "paused"
        refused = office.type(*SEND)
        assert "is paused for another" in refused.out
        assert "Mail send limit exceeded" in refused.out
    assert len(office.simulator.sessions) == sessions
