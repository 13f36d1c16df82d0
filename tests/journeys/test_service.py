"""The whole service as its users meet it: the real process, the real commands, the simulator as the provider."""

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
import trustme

from senderproxy import log_events
from senderproxy.simulator.provider_replies import ServerReply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.peers.mail_client import MailClient

pytestmark = pytest.mark.slow

PASSWORDS = {
    "anna@firma.example": "geheim-anna",
    "bert@firma.example": "geheim-bert",
    "post@laden.example": "geheim-laden",
}
DEADLINE = 120.0  # seconds for one thing that normally takes one or two

RELOADED = log_events.CONFIG_RELOADED.sentence
REFUSED = log_events.CONFIG_REFUSED.sentence


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Office:
    """A folder with a configuration and a vault, and the service that runs on them."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder = folder
        self.config = folder / "senderproxy.toml"
        self.simulator = simulator
        self.process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.log: list[str] = []
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()

    def write_config(self, more: str = "", *, ca_file: Path | None = None) -> None:
        self.config.write_text(
            f"""
[identity]
hostname = "proxy.firma.example"
[vault]
path = "accounts.vault"
unlock = "key-file:vault.key"
[[listeners]]
address = "127.0.0.1:0"
[providers.ionos]
host = "127.0.0.1"
port = {self.simulator.port_tls}
security = "tls"
ca_file = "{ca_file or self.simulator.ca_file}"
sender_rule = "domain"
[service]
control_socket = "control.sock"
stop_seconds = 5
{more}
"""
        )

    async def command(self, *words: str, stdin: str = "") -> Ended:
        """Run `senderproxy` as a person does; its arguments and its output never hold a secret."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "senderproxy",
            "--config",
            str(self.config),
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), DEADLINE)
        ended = Ended(process.returncode or 0, out.decode(), err.decode())
        assert "geheim-" not in ended.out + ended.err
        assert "Traceback" not in ended.err
        return ended

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "senderproxy",
            "--config",
            str(self.config),
            "run",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read_log())
        line = await self.wait_for_log("listening address=")
        self.port = int(line.partition("address=")[2].split()[0].rpartition(":")[2])

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        assert self._reader is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self.process.wait(), DEADLINE)
        await self._reader
        assert not [line for line in self.log if "geheim-" in line]
        return code

    async def reload(self) -> str:
        """SIGHUP, and what the service says of the configuration it read."""
        assert self.process is not None
        before = len(self.log)
        self.process.send_signal(signal.SIGHUP)
        verdicts = (RELOADED, REFUSED)
        async with asyncio.timeout(DEADLINE), self._news:
            while True:
                for line in self.log[before:]:
                    for verdict in verdicts:
                        if verdict in line:
                            return verdict
                await self._news.wait()

    async def wait_for_log(self, words: str) -> str:
        async with asyncio.timeout(DEADLINE), self._news:
            while not (found := [line for line in self.log if words in line]):
                await self._news.wait()
            return found[-1]

    async def _read_log(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.log.append(line.decode())
                self._news.notify_all()

    async def send(self, author: str, recipients: tuple[str, ...] = ("kunde@customer.example",)) -> tuple[int, str]:
        """One message by a plain client; the answer to it."""
        return await asyncio.to_thread(self._send, author, recipients)

    def _send(self, author: str, recipients: tuple[str, ...]) -> tuple[int, str]:
        letter = EmailMessage(policy=SMTP)
        letter["From"], letter["To"], letter["Subject"] = author, ", ".join(recipients), "Angebot"
        letter["Date"], letter["Message-ID"] = "Sat, 31 Jan 2026 08:15:00 +0100", "<1@firma.example>"
        letter.set_content("Guten Tag\n.\nmit Punkt\n")
        with MailClient("127.0.0.1", self.port, timeout=DEADLINE) as client:
            client.ehlo("exchange.firma.local")
            client.mail(author)
            for recipient in recipients:
                client.rcpt(recipient)
            code, text = client.data(letter.as_bytes())
            return code, text.decode()


@asynccontextmanager
async def office(folder: Path, settings: SimulatorSettings | None = None) -> AsyncIterator[Office]:
    simulator = Simulator(
        settings
        or SimulatorSettings(mailboxes={login: SimulatedMailbox(secret) for login, secret in PASSWORDS.items()})
    )
    async with simulator:
        place = Office(folder, simulator)
        place.write_config()
        (folder / "vault.key").touch(0o600)
        (folder / "vault.key").write_bytes(os.urandom(32))
        assert (await place.command("vault", "create")).code == 0
        for login, secret in PASSWORDS.items():
            more = ["--catch-all", "laden.example"] if login.startswith("post") else []
            added = await place.command(
                "account", "add", login, "--provider", "ionos", "--password-stdin", "--no-verify", *more, stdin=secret
            )
            assert added.code == 0, added.err
        try:
            await place.start()
            yield place
        finally:
            assert await place.stop() == 0, place.log


async def test_each_author_leaves_on_its_own_login(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        for author in ("anna@firma.example", "bert@firma.example", "anyone@laden.example", "anna+news@firma.example"):
            code, text = await place.send(author)
            assert (code, "completed: id=" in text) == (250, True), text
        assert [r.login for r in place.simulator.received] == [
            "anna@firma.example",
            "bert@firma.example",
            "post@laden.example",
            "anna@firma.example",
        ]
        assert place.simulator.clear_text_logins == []


async def test_a_stranger_is_refused_with_the_command_that_would_help(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        code, text = await place.send("ana@firma.example")
        assert code == 550
        assert "senderproxy account add ana@firma.example" in text
        assert place.simulator.received == []


async def test_a_wrong_password_is_tried_once_and_works_again_once_it_is_set(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        changed = await place.command(
            "account", "set-password", "anna@firma.example", "--password-stdin", "--no-verify", stdin="geheim-falsch"
        )
        assert changed.code == 0
        for _ in range(3):
            code, text = await place.send("anna@firma.example")
            assert code // 100 == 4
            assert "senderproxy account set-password anna@firma.example" in text
        assert place.simulator.failed_logins("anna@firma.example") == 1
        assert (await place.send("bert@firma.example"))[0] == 250
        status = await place.command("status")
        assert status.code == 1
        assert "suspended" in status.out
        mended = await place.command(
            "account", "set-password", "anna@firma.example", "--password-stdin", stdin="geheim-anna"
        )
        assert mended.code == 0, mended.err
        assert (await place.send("anna@firma.example"))[0] == 250
        assert "suspended" not in (await place.command("status")).out


async def test_an_account_taken_away_stops_sending_without_a_restart(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        assert (await place.send("bert@firma.example"))[0] == 250
        assert (await place.command("account", "remove", "bert@firma.example", "--yes")).code == 0
        assert (await place.send("bert@firma.example"))[0] == 550


async def test_a_broken_configuration_changes_nothing_and_a_good_one_counts_at_once(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        place.write_config('[routing]\ndefault_acount = "x"\n')
        assert await place.reload() == REFUSED
        assert "default_account" in await place.wait_for_log(REFUSED)
        assert (await place.send("anna@firma.example"))[0] == 250
        assert (await place.send("gast@elsewhere.example"))[0] == 550
        place.write_config('[routing]\ndefault_account = "anna@firma.example"\n')
        assert await place.reload() == RELOADED
        code, text = await place.send("gast@elsewhere.example")
        assert code == 550
        assert "anna@firma.example" in text  # found by default, but its provider takes its own senders only


async def test_one_refused_recipient_of_two_is_reported_to_the_author_and_the_other_has_the_message(
    tmp_path: Path,
) -> None:
    mailboxes = {login: SimulatedMailbox(secret) for login, secret in PASSWORDS.items()}
    unknown = ServerReply(550, ("Requested action not taken: mailbox unavailable", "Unknown User"))
    settings = SimulatorSettings(mailboxes=mailboxes, recipient_replies={"weg@customer.example": unknown})
    async with office(tmp_path, settings) as place:
        code, text = await place.send("anna@firma.example", ("kunde@customer.example", "weg@customer.example"))
        assert (code, "1 refused and reported to the author" in text) == (250, True)
        await place.simulator.wait_for(2, DEADLINE)
        letter, report = place.simulator.received
        assert letter.recipients == ("kunde@customer.example",)
        assert (report.login, report.recipients) == ("anna@firma.example", ("anna@firma.example",))
        assert b"weg@customer.example" in report.content


async def test_an_upstream_that_is_away_makes_the_client_keep_the_message(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        await place.simulator.go_offline()
        code, text = await place.send("anna@firma.example")
        assert code // 100 == 4, text
        await place.simulator.go_online()
        assert (await place.send("anna@firma.example"))[0] == 250


async def test_no_secret_is_in_the_process_list(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        assert place.process is not None
        proc = Path("/proc") / str(place.process.pid)
        assert b"geheim-" not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()


async def test_a_second_service_on_the_same_socket_is_refused(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        second = await place.command("run")
        assert second.code == 69
        assert "already running" in second.err
        assert (await place.send("anna@firma.example"))[0] == 250


async def test_mail_goes_on_while_accounts_and_configuration_change(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        assert place.process is not None
        stop = asyncio.Event()
        answers: list[tuple[int, str]] = []

        async def client(author: str) -> None:
            while not stop.is_set():
                answers.append(await place.send(author))

        clients = [asyncio.create_task(client(author)) for author in PASSWORDS]
        for number in range(6):
            place.write_config(f'[log]\nlevel = "{"debug" if number % 2 else "info"}"\n')
            place.process.send_signal(signal.SIGHUP)
            name = f"neu{number}@laden.example"
            added = await place.command(
                "account", "add", name, "--provider", "ionos", "--password-stdin", "--no-verify", stdin="geheim-neu"
            )
            assert added.code == 0, added.err
            if number % 2:
                assert (await place.command("account", "remove", name, "--yes")).code == 0
        stop.set()
        await asyncio.gather(*clients)
        assert {code for code, _ in answers} == {250}
        assert len(place.simulator.received) == len(answers) > 20


async def test_an_older_vault_in_place_of_the_newer_one_is_said_loudly(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        vault = tmp_path / "accounts.vault"
        yesterday = vault.read_bytes()
        seen = tmp_path / "accounts.vault.seen"
        async with asyncio.timeout(DEADLINE):
            while not seen.exists():  # written beside the mail, soon after the start
                await asyncio.sleep(0.01)
        noted = seen.read_bytes()
        assert (await place.command("account", "remove", "bert@firma.example", "--yes")).code == 0
        assert (await place.send("bert@firma.example"))[0] == 550
        async with asyncio.timeout(DEADLINE):
            while seen.read_bytes() == noted:  # the housekeeper's next round
                await asyncio.sleep(0.1)
        assert await place.stop() == 0
        vault.write_bytes(yesterday)
        place.log.clear()
        await place.start()
        await place.wait_for_log("older than the one used last")


async def test_what_is_written_in_the_configuration_counts_after_a_reload(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        text = place.config.read_text().replace("proxy.firma.example", "neu.firma.example")
        place.config.write_text(text + '[log]\nformat = "json"\n')
        assert await place.reload() == RELOADED
        assert json.loads(await place.wait_for_log(RELOADED))["event"] == "config_reloaded"
        assert (await place.send("anna@firma.example"))[0] == 250
        assert place.simulator.sessions[-1].ehlo_names == ["neu.firma.example"]
        assert b"by neu.firma.example" in place.simulator.received[-1].content


async def test_a_renewed_certificate_is_shown_after_a_reload_and_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    chain, key = tmp_path / "door.pem", tmp_path / "door.key"
    authority = trustme.CA()

    def renew() -> bytes:
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(chain)
        issued.private_key_pem.write_to_path(key)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def shown(port: int) -> bytes:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with (
            socket.create_connection(("127.0.0.2", port), DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""

    first = renew()
    async with office(tmp_path) as place:
        listener = (
            f'[[listeners]]\nname = "tls"\naddress = "127.0.0.2:0"\ntls = "implicit"\n'
            f'certificate = "{chain}"\nkey = "{key}"\n'
        )
        place.write_config(listener + '[log]\nformat = "json"\n')
        assert await place.reload() == RELOADED
        status = json.loads((await place.command("status", "--json")).out)
        port = int(next(door for door in status["listeners"] if door["name"] == "tls")["address"].rpartition(":")[2])
        assert await asyncio.to_thread(shown, port) == first
        second = renew()
        assert await place.reload() == RELOADED
        assert await asyncio.to_thread(shown, port) == second != first
        key.write_text("no key any more")
        assert await place.reload() == REFUSED
        assert await asyncio.to_thread(shown, port) == second
