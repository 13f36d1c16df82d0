"""`senderproxy drain` with a running service."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.cli.drain import QUIET, QuietTime
from tests.fakes.still_clock import StillClock
from tests.senderproxy.cli.conftest import DEADLINE, Office
from tests.senderproxy.cli.test_service import running
from tests.senderproxy.cli.waiting import NO_DELAY_REPORTS, QUEUE, fill
from tests.senderproxy.wire.test_proxy_header import v2

PROXIED = 'address = "127.0.0.1:0"\nproxy_from = ["127.0.0.1"]\nallow = ["192.168.1.0/24"]'
CLIENT = b"PROXY TCP4 192.168.1.20 192.168.1.5 50000 25\r\n"
CHECK = v2(0x20, 0x00, b"")


@pytest.fixture
def proxied(office: Office) -> Office:
    office.add("anna@firma.example")
    office.write_config(NO_DELAY_REPORTS, listener=PROXIED)
    return office


@contextmanager
def connected(office: Office, header: bytes) -> Iterator[bytes]:
    """A connection behind the proxy; the greeting."""
    [listener] = office.type("status", "--json").json["listeners"]
    host, _colon, port = listener["address"].rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as client, client.makefile("rb") as lines:
        client.sendall(header)
        yield lines.readline()


@contextmanager
def waiting(office: Office) -> Iterator[subprocess.Popen[str]]:
    """`senderproxy drain --wait` in a process of its own."""
    words = [sys.executable, "-m", "senderproxy", "--config", str(office.config), "drain", "--wait"]
    wait = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONUNBUFFERED": "1", "LC_ALL": "C"},
    )
    try:
        yield wait
    finally:
        wait.kill()
        wait.communicate()


def state(**changed: Any) -> dict[str, Any]:
    nothing = {"clients": 0, "messages": 0, "attempts": 0, "due": False, "copies": 0, "arrived": 7, "shared": False}
    return nothing | changed


def test_quiet_time_begins_again_with_a_client_and_with_work() -> None:
    clock = StillClock()
    quiet = QuietTime(clock)
    assert quiet.seconds(state()) == 0
    clock.pass_by(timedelta(seconds=9))
    assert quiet.seconds(state()) == 9
    assert quiet.seconds(state(arrived=8)) == 0  # came and left between two looks
    clock.pass_by(timedelta(seconds=9))
    assert quiet.seconds(state(arrived=8)) == 9
    for name, value in (("clients", 1), ("messages", 1), ("attempts", 1), ("due", True), ("copies", 1)):
        assert quiet.seconds(state(arrived=8, **{name: value})) == 0
        clock.pass_by(timedelta(seconds=QUIET))
        assert quiet.seconds(state(arrived=8)) == QUIET


def test_what_is_in_a_shared_queue_is_the_work_of_the_others_too() -> None:
    clock = StillClock()
    quiet = QuietTime(clock)
    shared = state(shared=True, attempts=3, due=True)
    assert quiet.seconds(shared) == 0
    clock.pass_by(timedelta(seconds=QUIET))
    assert quiet.seconds(shared) == QUIET
    for name in ("clients", "messages", "copies"):
        assert quiet.seconds(shared | {name: 1}) == 0


@pytest.mark.slow
def test_a_drain_is_shown_and_undone(proxied: Office) -> None:
    office = proxied
    stopped = office.type("drain")
    assert (stopped.code, "senderproxy is not running" in stopped.err) == (69, True)
    with running(office):
        assert office.type("status", "--json").json["draining_since"] is None
        assert office.type("drain", "--undo").out == "It was not draining.\n"
        begun = office.type("drain")
        assert (begun.code, begun.err) == (0, "")
        assert begun.out.startswith("Draining: health checks are refused at ")
        with connected(office, CHECK) as answer:
            assert answer == b"421 4.3.2 proxy.firma.example draining; use another server\r\n"
        with connected(office, CLIENT) as answer:
            assert answer.startswith(b"220 ")
        assert office.type("drain").out.startswith("It is draining already, since ")
        assert "Draining since " in office.type("status").out
        shown = office.type("status", "--json").json
        assert shown["draining_since"] >= shown["started_at"]
        assert office.type("reload").code == 0
        assert office.type("status", "--json").json["draining_since"] == shown["draining_since"]
        assert office.type("drain", "--undo").out == "Back in service: health checks succeed again.\n"
        with connected(office, CHECK) as answer:
            assert answer.startswith(b"220 ")
        assert office.type("drain").code == 0
    log = (office.folder / "service.log").read_text()
    assert log.count("draining: health checks are refused, clients are served listeners=") == 2
    assert log.count("not draining any more seconds=") == 1
    with running(office):  # a restart ends it
        assert office.type("status", "--json").json["draining_since"] is None


@pytest.mark.slow
def test_without_a_listener_behind_a_proxy_it_is_refused(office: Office) -> None:
    office.add("anna@firma.example")
    with running(office):
        refused = office.type("drain", "--wait")
        assert refused.code == 69
        assert "no proxy would see the drain" in refused.err
        assert office.type("status", "--json").json["draining_since"] is None


@pytest.mark.slow
def test_the_wait_ends_when_nothing_is_under_way(proxied: Office) -> None:
    office = proxied
    fill(office.folder / "spool", *QUEUE)
    with running(office):
        with connected(office, CLIENT) as answer:
            assert answer.startswith(b"220 ")
            over = office.type("drain", "--wait", "0.1")
            assert over.code == 1
            assert "Not ended within 0.1 s: 1 client is connected." in over.err
            assert office.type("status", "--json").json["draining_since"] is not None
        with waiting(office) as wait:
            out, err = wait.communicate(timeout=DEADLINE + QUIET)
        assert (wait.returncode, err) == (0, "")
        assert "\nNothing is under way any more: the service can be stopped.\n" in out
        assert "\nQueue: 2 messages waiting, 1 message held; the oldest received " in out
        assert "\nQueued messages stay on this machine, and are tried again at their times" in out


@pytest.mark.slow
def test_a_drain_that_ends_meanwhile_ends_the_wait(proxied: Office) -> None:
    office = proxied
    with running(office), connected(office, CLIENT), waiting(office) as wait:
        assert wait.stdout is not None
        assert wait.stdout.readline().startswith("Draining: ")
        assert office.type("drain", "--undo").code == 0
        _out, err = wait.communicate(timeout=DEADLINE)
        assert wait.returncode == 1
        assert "The drain has ended meanwhile" in err


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_and_not_the_drain(proxied: Office) -> None:
    office = proxied
    with running(office), connected(office, CLIENT), waiting(office) as wait:
        assert wait.stdout is not None
        assert wait.stdout.readline().startswith("Draining: ")
        wait.send_signal(signal.SIGINT)
        wait.communicate(timeout=DEADLINE)
        assert wait.returncode == 130
        assert office.type("status", "--json").json["draining_since"] is not None
