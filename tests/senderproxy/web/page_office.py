"""An office with a page: the service, a simulated provider, the folders of the page, mail of all kinds.

The service runs on the loop of the test; the page's application is that of the program, over the real sockets.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.clock import SystemClock
from senderproxy.config.load import load_config
from senderproxy.control.protocol import Role
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.simulator.provider_replies import ServerReply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.web.boundary import Boundary
from senderproxy.web.server import load_settings
from senderproxy.web.service_client import ServiceClient
from senderproxy.web.site import Site
from senderproxy.web.store import Store
from senderproxy.web.views import new_app
from tests.peers.mail_client import MailClient

HOST = "127.0.0.1:8525"
ORIGIN = f"http://{HOST}"
PASSWORD = "geheim-1"
NEW = "dora@firma.example"  # a mailbox at the provider that the vault does not have
NEW_PASSWORD = "geheim-dora-17"
HOSTILE = "<script>alert(1)</script>\"'&\u202egnp.exe\u202c\x1b[31m\x07"
HOSTILE_REPLY = "<img src=x onerror=alert(1)>"


@dataclass
class PageOffice:
    """The running parts."""

    folder: Path
    service: Service
    store: Store

    @property
    def sockets(self) -> Path:
        """The folder of the sockets."""
        return self.folder / "web"

    @property
    def port(self) -> int:
        """The listener that queues."""
        return self.service.listeners[0].port

    async def send(self, author: str, to: str, subject: str = "Angebot", **fields: str) -> None:
        """Send a message into the queue."""
        lines = [f"From: {author}", f"To: {to}", f"Subject: {subject}", *(f"{n}: {v}" for n, v in fields.items())]
        text = "\r\n".join([*lines, f"Message-ID: <{SystemClock().new_id()}@firma.example>", "", "Guten Tag"])
        await asyncio.to_thread(self._send, author.rpartition("<")[2].rstrip(">"), to, text.encode())

    def _send(self, path: str, to: str, text: bytes) -> None:
        with MailClient("127.0.0.1", self.port, local_hostname="exchange.firma.example", timeout=30) as client:
            client.sendmail(path, [to], text)


def _config(folder: Path, simulator: Simulator, role: str, url: str, more: str, listener: str) -> str:
    quoted = json.dumps
    return f"""\
[identity]
hostname = "relay.firma.example"
[vault]
path = {quoted(str(folder / "accounts.vault"))}
unlock = {quoted(f"key-file:{folder / 'vault.key'}")}
[[listeners]]
name = "office"
address = "127.0.0.1:0"
mode = "queue"
{listener}
[providers.hoster]
host = {quoted(simulator.host)}
port = {simulator.port_tls}
security = "tls"
sender_rule = "domain"
ca_file = {quoted(str(simulator.ca_file))}
messages_per_hour = 500
[providers.away]
host = "127.0.0.1"
port = 1
security = "tls"
[service]
control_socket = {quoted(str(folder / "control.sock"))}
stop_seconds = 1
[web]
role = {quoted(role)}
url = {quoted(url)}
sockets = {quoted(str(folder / "web"))}
{more}
"""


@asynccontextmanager
async def page_office(
    folder: Path,
    *,
    role: str = "operate",
    url: str = f"{ORIGIN}/",
    more: str = "",
    listener: str = "",
    with_sockets: bool = True,
) -> AsyncIterator[PageOffice]:
    """An office from its start to its stop: anna can send, bert's password is refused."""
    async with simulated_provider() as simulator:
        file = prepare(folder, simulator, role=role, url=url, more=more, listener=listener, with_sockets=with_sockets)
        config = load_config(file)
        accounts = VaultAccounts.open(config.vault.path, unlock_method(config.vault.unlock, None))
        service = Service(config, accounts, load=lambda: load_config(file))
        await service.start()
        try:
            yield PageOffice(folder, service, Store(folder / "state"))
        finally:
            await service.stop()
            accounts.close()


@asynccontextmanager
async def simulated_provider() -> AsyncIterator[Simulator]:
    """The provider of the office: bert's password there is another than in the vault, dora is not in the vault."""
    mailboxes = {f"{name}@firma.example": SimulatedMailbox(PASSWORD) for name in ("anna", "carla")}
    mailboxes["bert@firma.example"] = SimulatedMailbox("another")
    mailboxes[NEW] = SimulatedMailbox(NEW_PASSWORD)
    answers = {
        "later@kunde.example": ServerReply(451, (f"4.7.1 greylisted, try later {HOSTILE_REPLY}",)),
        "nobody@kunde.example": ServerReply(550, ("5.1.1 no such user here",)),
    }
    settings = replace(SimulatorSettings(mailboxes=mailboxes, raise_violations=False), recipient_replies=answers)
    async with Simulator(settings) as simulator:
        yield simulator


def prepare(
    folder: Path,
    simulator: Simulator,
    *,
    role: str,
    url: str = f"{ORIGIN}/",
    more: str = "",
    listener: str = "",
    with_sockets: bool = True,
) -> Path:
    """Write the configuration, the vault and the folders of the page; return the configuration's path."""
    for name in ("web", "state") if with_sockets else ("state",):
        (folder / name).mkdir()
    file = folder / "senderproxy.toml"
    file.write_text(_config(folder, simulator, role, url, more, listener), encoding="utf-8")
    make_key_file(folder / "vault.key")
    path, unlock = folder / "accounts.vault", unlock_method(f"key-file:{folder / 'vault.key'}", None)
    AccountEditor.create(path, unlock)
    with AccountEditor.open(path, unlock) as editor:
        for name in ("anna", "carla", "bert"):
            editor.put(stored(f"{name}@firma.example"))
        editor.save()
    return file


def stored(address: str, secret: str = PASSWORD) -> StoredAccount:
    """An account of the office, with its local part as id."""
    own = parse_address(address)
    return StoredAccount(Account(own.local_part, address, "hoster", own, own_first(address, [])), secret)


def editor_of(folder: Path) -> AccountEditor:
    """The vault of the office, opened for writing as the command line does."""
    return AccountEditor.open(folder / "accounts.vault", unlock_method(f"key-file:{folder / 'vault.key'}", None))


class Browser(httpx.AsyncClient):
    """A browser: sends the page's own origin with a form, keeps cookies."""

    async def submit(self, path: str, fields: Mapping[str, object] | None = None, **more: object) -> httpx.Response:
        """Submit a form of the page."""
        headers = {"Origin": str(self.base_url).rstrip("/"), **more.pop("headers", {})}  # type: ignore[dict-item]
        return await self.post(path, data=fields, headers=headers, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def browser(office: PageOffice, role: Role | None = Role.OPERATE, **settings: object) -> AsyncIterator[Browser]:
    """A browser with a session of that role; without one if it is None."""
    page = await asyncio.to_thread(load_settings, office.sockets, office.store)
    clock = SystemClock()
    service = ServiceClient(office.sockets, clock)
    site = Site(page, service, office.store, clock)
    app = Boundary(new_app(site), page, lambda change: None)
    transport = httpx.ASGITransport(app=app)
    async with Browser(transport=transport, base_url=ORIGIN, **settings) as client:  # type: ignore[arg-type]
        if role is not None:
            token = office.store.new_link(role, clock.now())
            answer = await client.submit("/login/link", {"token": token})
            assert answer.status_code == 303
        yield client
    service.close()
