"""The simulator as the provider of a service: on an event loop of its own, and as a section of the configuration."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.peers.senderproxy import VaultAccount


@contextmanager
def running_simulator(*accounts: VaultAccount) -> Iterator[Simulator]:
    """A provider with these mailboxes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    simulator = Simulator(
        SimulatorSettings(mailboxes={each.login: SimulatedMailbox(each.password) for each in accounts})
    )
    try:
        asyncio.run_coroutine_threadsafe(simulator.__aenter__(), loop).result(30)
        try:
            yield simulator
        finally:
            asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def provider_settings(simulator: Simulator) -> str:
    """The settings of the provider; others may follow."""
    return f"""
host = "{simulator.host}"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "domain"
"""
