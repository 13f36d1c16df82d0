"""Two services with one queue: each shows the other, and whether its proxy sends it no more clients."""

from contextlib import ExitStack

import pytest

from tests.journeys.test_postgresql import ANNA
from tests.journeys.test_vault_in_database import Machine
from tests.peers.packages import POSTGRESQL
from tests.peers.postgresql import running_database
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
from tests.peers.simulated_provider import provider_settings, running_simulator

reason = why_not_here(POSTGRESQL / "postgres")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

PROXY = "127.0.0.9"


def test_the_status_of_one_service_shows_that_another_one_drains() -> None:
    with (
        running_database() as server,
        running_simulator(ANNA) as simulator,
        reserved_ports(2) as ports,
        ExitStack() as things,
    ):
        machines: list[Machine] = []
        for port in ports:
            section = f"""{provider_settings(simulator)}
[spool]
engine = "{server.engine}"

[[listeners]]
name = "behind-a-proxy"
address = "{LOOPBACK}:{port}"
proxy_from = ["{PROXY}"]
allow = ["192.168.1.0/24"]
"""
            machine = Machine([ANNA], section)
            machine.is_first = not machines
            machines.append(things.enter_context(machine))
        first, second = machines

        def shows(machine: Machine, *words: str) -> bool:
            return all(word in machine.command("status", exit_code=None) for word in words)

        def drained(machine: Machine) -> str:
            return f"/{machine.pid} (drains)"

        wait_until(lambda: shows(second, f"/{first.pid}", "(this one)"), "each knows the other", peer=second)
        assert not shows(second, "drains")
        first.command("drain")
        wait_until(lambda: shows(second, drained(first)), "the other one shows the drain", peer=second)
        wait_until(lambda: shows(first, f"/{first.pid} (this one, drains)"), "it shows its own drain", peer=first)
        assert not shows(first, drained(second))
        first.command("drain", "--undo")
        wait_until(lambda: not shows(second, "drains"), "the other one shows its end", peer=second)
        second.command("drain")
        wait_until(lambda: shows(first, drained(second)), "it is shown the other way round", peer=first)
        second.restart()
        wait_until(
            lambda: shows(first, f"/{second.pid}") and not shows(first, "drains"), "a restart ends it", peer=first
        )
