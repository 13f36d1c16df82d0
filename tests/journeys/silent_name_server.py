"""A name server that falls silent, and the mail, the logins and the stop of a service beside it.

As a program, in a mount and a network namespace of its own, it runs the same with the resolver of the C library.
"""

import asyncio
import os
import socket
import sys
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.delivery.resolver import AddressInfo, LookUp, look_up
from senderproxy.listener.client_auth import hash_password
from senderproxy.listener.server import Listener
from senderproxy.mail.address import AddressPattern, parse_address
from senderproxy.routing.account import Account
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.senderproxy.listener.smtp_client import HOSTNAME, SmtpClient

SECRET = "geheim-konto"
CLIENT_SECRET = "geheim-scanner"
KNOWN, DEAD, LOCAL = "smtp.known.example", "smtp.dead.example", "localhost"
DEAD_MESSAGES = 20
RESOLV_CONF = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"  # a look-up takes 150 s


class NoExecutor(ThreadPoolExecutor):
    """asyncio's default executor, which nothing may use."""

    def submit(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the default executor was used")


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """A name server with the address 127.0.0.1 for every name. While it is silent, queries wait."""

    silent: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    _waiting: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)
    _transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked[dns.message.from_wire(data).question[0].name.to_text(omit_final_dot=True)] += 1
        self._waiting.append((data, addr))
        if not self.silent:
            self.answer()

    def answer(self) -> None:
        """Answer all queries."""
        assert self._transport is not None
        for octets, peer in self._waiting:
            self._transport.sendto(_answer(octets), peer)
        self._waiting.clear()

    async def until_asked(self, name: str) -> None:
        while not self.asked[name]:
            await asyncio.sleep(0.005)


def _answer(octets: bytes) -> bytes:
    query = dns.message.from_wire(octets)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    if query.question[0].rdtype == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "127.0.0.1"))
    return response.to_wire()


def asks(port: int) -> LookUp:
    """A look-up that asks the name server on this port by UDP, and waits for its answer without a limit."""

    def ask(host: str, target: int) -> Sequence[AddressInfo]:
        if host == LOCAL:
            return look_up(host, target)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.send(dns.message.make_query(host, "A").to_wire())
            records = dns.message.from_wire(client.recv(4096)).answer[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (record.to_text(), target)) for record in records]

    return ask


def config_of(folder: Path, simulator: Simulator) -> Config:
    provider = {"security": "tls", "ca_file": str(simulator.ca_file), "messages_per_connection": 1}
    return Config.model_validate(
        {
            "identity": {"hostname": HOSTNAME},
            "vault": {"path": str(folder / "accounts.vault"), "unlock": f"key-file:{folder / 'vault.key'}"},
            "service": {"control_socket": str(folder / "control.sock"), "stop_seconds": 1},
            "spool": {"directory": str(folder / "spool")},
            "delivery": {"connect_seconds": 600},
            "listeners": [{"address": "127.0.0.1:0", "auth": "optional", "patience_seconds": 540}],
            "clients": [{"user": "scanner", "password": hash_password(CLIENT_SECRET)}],
            "providers": {
                "known": {"host": KNOWN, "port": simulator.port_tls, **provider},
                "dead": {"host": DEAD, "port": simulator.port_tls, **provider},
                "local": {"host": LOCAL, "port": simulator.port_tls, **provider},
            },
        }
    )


def accounts_of(config: Config) -> VaultAccounts:
    """One account at each provider: anna@known.example, anna@dead.example, anna@local.example."""
    vault, unlock = Path(config.vault.path), config.vault.unlock
    make_key_file(Path(unlock.removeprefix("key-file:")))
    AccountEditor.create(vault, unlock_method(unlock, None))
    with AccountEditor.open(vault, unlock_method(unlock, None)) as editor:
        for name in config.providers:
            address = parse_address(f"anna@{name}.example")
            pattern = AddressPattern(address.local_part, address.domain)
            editor.put(StoredAccount(Account(name, str(address), name, address, (pattern,)), SECRET))
        editor.save()
    return VaultAccounts.open(vault, unlock_method(unlock, None))


@asynccontextmanager
async def simulator_of_known() -> AsyncIterator[Simulator]:
    mailboxes = {f"anna@{name}.example": SimulatedMailbox(SECRET) for name in ("known", "dead", "local")}
    async with Simulator(SimulatorSettings(mailboxes=mailboxes, host=KNOWN)) as simulator:
        yield simulator


async def send(client: SmtpClient, name: str) -> int:
    """Send one message of the account with that name. Returns the code of the reply."""
    author = f"anna@{name}.example"
    message = f"From: {author}\r\nTo: bert@kunde.example\r\nSubject: Hello\r\n\r\nHello Bert\r\n"
    return (await client.mail(message.encode(), author=author.encode())).code


async def run(folder: Path, server_port: int = 0, look_up_of: Any = None) -> None:
    """Run the scenario. Raises AssertionError or TimeoutError if something waits for the name server."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(NoExecutor())
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", server_port))
    resolve = asks(transport.get_extra_info("sockname")[1]) if look_up_of is None else look_up_of
    try:
        async with asyncio.timeout(100), simulator_of_known() as simulator:
            config = config_of(folder, simulator)
            service = Service(config, accounts_of(config), look_up=resolve)
            await service.start()
            waiting: list[asyncio.Task[int]] = []
            try:
                await _scenario(service, server, waiting)
            finally:
                await service.stop()
            codes = await asyncio.gather(*waiting, return_exceptions=True)
            assert set(codes) <= {421, 451}
    finally:
        server.answer()
        transport.close()


async def _scenario(service: Service, server: NameServer, waiting: list[asyncio.Task[int]]) -> None:
    """Send mail, log in; afterwards the name server is still silent, and the messages in `waiting` wait for it."""
    (listener,) = service.listeners
    client = await SmtpClient.greeted(listener)
    assert await send(client, "known") == 250, "while the name server answers"
    server.silent = True
    waiting += [asyncio.create_task(_send_dead(listener)) for _ in range(DEAD_MESSAGES)]
    await server.until_asked(DEAD)

    assert await send(client, "known") == 250, "on the last good addresses"
    assert await send(client, "local") == 250, "with a name that needs no name server"
    login = b64encode(f"\0scanner\0{CLIENT_SECRET}".encode())
    assert (await client.ask(b"AUTH PLAIN " + login + b"\r\n")).code == 235
    wrong = await SmtpClient.greeted(listener)
    login = b64encode(b"\0scanner\0geheim-falsch")
    assert (await wrong.ask(b"AUTH PLAIN " + login + b"\r\n")).code == 535
    status = await service._status.answer()
    assert [entry["host"] for entry in status["reused_addresses"]] == [KNOWN]
    assert not any(task.done() for task in waiting)
    await client.close()
    await wrong.close()


async def _send_dead(listener: Listener) -> int:
    client = await SmtpClient.greeted(listener)
    try:
        return await send(client, "dead")
    finally:
        await client.close()


def main() -> None:
    """In a namespace of its own: bind the name server's port 53 and use the C library's resolver."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "resolv.conf")
        conf.write_text(RESOLV_CONF)
        for command in (("ip", "link", "set", "lo", "up"), ("mount", "--bind", str(conf), "/etc/resolv.conf")):
            if os.spawnvp(os.P_WAIT, command[0], command):
                sys.exit(f"failed: {' '.join(command)}")
        asyncio.run(run(Path(folder), 53, look_up))
    print("done")


if __name__ == "__main__":
    main()
