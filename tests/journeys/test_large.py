"""A 150 MB message costs no memory, whichever way it goes, and arrives whole."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.peers.process import LOOPBACK, reserved_ports
from tests.peers.senderproxy import Senderproxy, VaultAccount

pytestmark = pytest.mark.slow

ANNA = "anna@firma.example"
SECRET = "geheim-gross"
SIZE = 145_000_000
DEADLINE = 180.0  # seconds for all of it over TLS, on a busy machine
ROOM = 24 * 1024  # kB that the peak may rise; the message itself would be six times that

HEADER = (
    b"From: <anna@firma.example>\r\nTo: x@kunde.example\r\nSubject: gross\r\nMessage-ID: <gross@firma.example>\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\n"
)


def lines() -> Iterator[bytes]:
    block = b"".join(b"%08d " % number + b"x" * 65 + b"\r\n" for number in range(800))
    for _ in range(SIZE // len(block)):
        yield block


def submit(port: int) -> str:
    """Send it block by block; what was said to the final dot."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=DEADLINE) as connection,
        connection.makefile("rb") as answers,
    ):

        def say(words: bytes) -> bytes:
            connection.sendall(words)
            return answers.readline()

        answers.readline()
        connection.sendall(b"EHLO pc\r\n")
        while answers.readline()[3:4] == b"-":
            pass
        for words in (b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<x@kunde.example>\r\n", b"DATA\r\n"):
            assert say(words)[:1] in b"23"
        connection.sendall(HEADER)
        for block in lines():
            connection.sendall(block)
        return say(b".\r\n").decode()


def peak(pid: int) -> int:
    """The most memory it ever had, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("mode", ["pass-through", "queue"])
async def test_a_message_of_150_mb_goes_through_in_flat_memory(mode: str) -> None:
    settings = SimulatorSettings(
        mailboxes={ANNA: SimulatedMailbox(SECRET)}, record_content=False, size_limit=200_000_000
    )
    async with Simulator(settings) as simulator:
        with reserved_ports(1) as [port]:
            section = f"""
host = "127.0.0.1"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "domain"

[[listeners]]
name = "large"
address = "{LOOPBACK}:{port}"
mode = "{mode}"
max_message_size = "160 MB"
"""
            service = Senderproxy([VaultAccount(ANNA, SECRET)], section)
            await asyncio.to_thread(service.__enter__)
            try:
                before = peak(service.pid)
                assert (await asyncio.to_thread(submit, port)).startswith("250 2.0.0")
                await simulator.wait_for(1, DEADLINE)
                [taken] = simulator.received
                whole = len(HEADER) + sum(map(len, lines()))
                assert whole < taken.size < whole + 500  # and our Received field
                assert peak(service.pid) - before < ROOM
                if mode == "queue":
                    folder = service.folder / "spool" / "content"
                    async with asyncio.timeout(DEADLINE):
                        while list(folder.iterdir()):
                            await asyncio.sleep(0.05)
            finally:
                await asyncio.to_thread(service.__exit__, None, None, None)
