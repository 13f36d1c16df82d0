"""`senderproxy demo`: the main job with make-believe providers, from the vault to the last reply, on loopback.

Guarantees: needs no account, no network and no root; every password is made up for this run; whatever was made is gone
at the end, also after Ctrl-C. `--once` says with its exit code whether every message left on the right login, judged
by what the providers saw.
Not here: everything that is shown (app, simulator).
"""

import argparse
import asyncio
import json
import logging
import os
import re
import shutil
import signal
import smtplib
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.cli.exit_codes import EX_FAILED, EX_INTERRUPTED, EX_OK
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.load import load_config
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.log import TextFormatter
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.simulator.headers import authors_of
from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings, postfix_like

_CUSTOMER: Final = "kunde@customer.example"
_OUR_ID: Final = re.compile(r" \(senderproxy \w+\)$")  # what we add to the upstream's words
_PATIENCE: Final = 30.0  # seconds for any one reply; everything here answers within milliseconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end by itself; 0 if every message left on the right login")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    return demo(chosen.once)


def demo(once: bool) -> int:
    """The whole demo, until Ctrl-C unless `once`; the exit code."""
    page = Page.for_stdout()
    try:
        with _quiet_log():
            return asyncio.run(_until_told(page, once=once))
    except KeyboardInterrupt:
        page.line()
        return EX_INTERRUPTED if once else EX_OK


class DemoError(SenderproxyError):
    """The demo could not be played to its end."""


# What is played


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """A mailbox at one of the two providers, as it goes into the vault."""

    id: str
    address: str
    provider: str
    carries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """One message the office sends, and the account it must leave on; None where it must not leave at all."""

    author: str
    account: str | None
    shows: str = ""
    reverse_path: str | None = None  # as the mail server says it, where that is not the author; "" is the null one

    @property
    def envelope_from(self) -> str:
        return self.author if self.reverse_path is None else self.reverse_path


IONOS, HOSTER = "ionos", "hoster"

ACCOUNTS: Final = (
    DemoAccount("anna", "anna@firma.example", IONOS),
    DemoAccount("bert", "bert@firma.example", IONOS),
    DemoAccount("carla", "carla@firma.example", IONOS, ("info@firma.example",)),
    DemoAccount("shop", "post@laden.example", IONOS, ("@laden.example",)),
    DemoAccount("dora", "dora@verein.example", HOSTER),
)

LETTERS: Final = (
    DemoMessage("anna@firma.example", "anna"),
    DemoMessage("bert@firma.example", "bert"),
    DemoMessage("dora@verein.example", "dora", "hoster"),
    DemoMessage("info@firma.example", "carla", "alias"),
    DemoMessage("shop@laden.example", "shop", "catch-all"),
    DemoMessage("returns@laden.example", "shop", "catch-all"),
    DemoMessage("anna+offer@firma.example", "anna", "+tag"),
    DemoMessage("bert@firma.example", "bert", "mended", reverse_path="bert@firma.lan"),
    DemoMessage("bert@firma.example", "bert", "absence", reverse_path=""),
    DemoMessage("dora@verein.example", "dora", "hoster"),
    DemoMessage("nobody@other.example", None, "stranger"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter and what the sending side was told in the end."""

    letter: DemoMessage
    message_id: str
    code: int
    lines: tuple[str, ...]

    @property
    def reply(self) -> tuple[str, ...]:
        """The reply as it stood on the wire."""
        *first, last = self.lines
        return (*(f"{self.code}-{line}" for line in first), f"{self.code} {last}")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as the provider got it."""

    provider: str
    received: ReceivedMessage


def find_arrivals(sent: Sent, arrived: Sequence[Arrived]) -> list[Arrived]:
    """Where this letter came out."""
    needle = f"Message-ID: {sent.message_id}\r\n".encode("ascii")
    return [each for each in arrived if needle in each.received.content]


def faults_in(sent: Sent, arrived: Sequence[Arrived], accounts: Sequence[DemoAccount]) -> list[str]:
    """What went wrong with this letter, in words; empty where all is as it must be."""
    account = next((each for each in accounts if each.id == sent.letter.account), None)
    found = find_arrivals(sent, arrived)
    if account is None:
        left = [f"left logged in as {each.received.login}, whose it is not" for each in found]
        return left + ([f"was answered with {sent.code}"] if sent.code < 500 else [])
    if len(found) != 1:
        return [f"arrived {len(found)} times, and the sender was told {sent.code}"]
    received = found[0].received
    wrong: list[str] = []
    if sent.code != 250:
        wrong.append(f"arrived, but the sender was told {sent.code}")
    if (received.login, found[0].provider) != (account.address, account.provider):
        wrong.append(f"left logged in as {received.login} at {found[0].provider}, not as {account.address}")
    if received.reverse_path != sent.letter.author:
        wrong.append(f"left with the reverse-path {received.reverse_path or '<>'}")
    if received.recipients != (_CUSTOMER,):
        wrong.append(f"went to {', '.join(received.recipients)}")
    return wrong


# How it looks


class Page:
    """Plain text for a terminal, with colour only where there is one."""

    def __init__(self, *, colour: bool, width: int) -> None:
        self._colour = colour
        self._width = width

    @classmethod
    def for_stdout(cls) -> "Page":
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        columns = shutil.get_terminal_size().columns
        return cls(colour=sys.stdout.isatty() and not plain, width=min(100, max(80, columns)))

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line()
        self.line(self._painted(text, "1"))
        self.line()

    def row(self, author: str, reverse_path: str, login: str, note: str = "") -> None:
        self.line(f" {author:<24} {reverse_path:<24} {login:<19} {self.dim(note)}".rstrip())

    def heading(self, author: str, reverse_path: str, login: str) -> None:
        text = f" {author:<24} {reverse_path:<24} {login}"
        self.line(self._painted(text, "4") if self._colour else text)
        if not self._colour:
            self.line(f" {'-' * 24} {'-' * 24} {'-' * 19}")

    def reply(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.folded(line, "32" if line.startswith("2") else "31")

    def folded(self, text: str, sign: str = "2") -> None:
        """A text of any length, below the row that it belongs to."""
        for line in textwrap.wrap(text, self._width - 4, subsequent_indent="  ", break_on_hyphens=False):
            self.line(f"    {self._painted(line, sign)}")

    def good(self, text: str) -> None:
        self.line(f" {self._painted(text, '32')}")

    def bad(self, text: str) -> None:
        self.line(f" {self._painted(text, '31')}")

    def dim(self, text: str) -> str:
        return self._painted(text, "2") if text else ""

    def _painted(self, text: str, sign: str) -> str:
        return f"\x1b[{sign}m{text}\x1b[0m" if self._colour else text


# The play itself


def _compose(letter: DemoMessage, clock: Clock) -> tuple[EmailMessage, str]:
    """One message as a mail program would write it, and its Message-ID to find it by."""
    message = EmailMessage(policy=SMTP)
    name = letter.author.partition("@")[0].partition("+")[0].capitalize()
    message_id = f"<{clock.new_id()}@{letter.author.partition('@')[2]}>"
    message["From"] = f"{name} <{letter.author}>"
    message["To"] = _CUSTOMER
    message["Subject"] = f"A letter from {name}"
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = message_id
    message.set_content(f"Good day,\n\nthis is {letter.author}.\n")
    return message, message_id


def _send(client: smtplib.SMTP, letter: DemoMessage, clock: Clock) -> Sent:
    """One message over a connection that stays open; the reply that settled it."""
    message, message_id = _compose(letter, clock)
    code, text = client.mail(letter.envelope_from)
    if code == 250:
        code, text = client.rcpt(_CUSTOMER)
    if code == 250:
        code, text = client.data(message.as_bytes())
    if code != 250:
        client.rset()
    return Sent(letter, message_id, code, tuple(text.decode("utf-8", "replace").split("\n")))


def _send_through(port: int, clock: Clock) -> list[Sent]:
    """Everybody's messages over one connection to senderproxy, as a mail server in the office sends them."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="mail.firma.example", timeout=_PATIENCE) as client:
        client.ehlo()
        return [_send(client, letter, clock) for letter in LETTERS]


def _send_straight(simulator: Simulator, account: DemoAccount, password: str, clock: Clock) -> list[Sent]:
    """The same messages to the provider, all of them logged in with one mailbox."""
    client = smtplib.SMTP_SSL(
        simulator.host,
        simulator.port_tls,
        local_hostname="mail.firma.example",
        timeout=_PATIENCE,
        context=simulator.client_context(),
    )
    with client:
        client.login(account.address, password)
        return [_send(client, letter, clock) for letter in LETTERS]


def _simulator_settings(provider: str, passwords: dict[str, str]) -> SimulatorSettings:
    """IONOS lets a mailbox send as its whole domain; the second provider as its own address only."""
    mailboxes = {each.address: SimulatedMailbox(passwords[each.id]) for each in ACCOUNTS if each.provider == provider}
    if provider == IONOS:
        return SimulatorSettings(mailboxes=mailboxes, raise_violations=False)
    return replace(postfix_like(mailboxes), raise_violations=False)


def _configuration(folder: Path, ionos: Simulator, hoster: Simulator) -> str:
    """A configuration as a person would write it. JSON's strings are TOML's basic strings."""
    quoted = json.dumps
    return f"""\
[identity]
hostname = "senderproxy.firma.example"

[vault]
path = {quoted(str(folder / "accounts.vault"))}
unlock = {quoted(f"key-file:{folder / 'vault.key'}")}

[[listeners]]
name = "office"
address = "127.0.0.1:0"

[providers.{IONOS}]
preset = "ionos-de"
host = {quoted(ionos.host)}
port = {ionos.port_tls}
security = "tls"
ca_file = {quoted(str(ionos.ca_file))}

[providers.{HOSTER}]
host = {quoted(hoster.host)}
port = {hoster.port_starttls}
security = "starttls"
sender_rule = "address"
takes_null_reverse_path = true
ca_file = {quoted(str(hoster.ca_file))}

[service]
control_socket = {quoted(str(folder / "control.sock"))}
stop_seconds = 5
"""


def _fill_vault(config: Config, key: Path, passwords: dict[str, str]) -> None:
    """A vault with everybody's mailbox in it, written at once."""
    make_key_file(key)
    unlock = unlock_method(config.vault.unlock, None)
    AccountEditor.create(config.vault.path, unlock)
    with AccountEditor.open(config.vault.path, unlock) as editor:
        for each in ACCOUNTS:
            carries = own_first(each.address, list(each.carries))
            account = Account(each.id, each.address, each.provider, parse_address(each.address), carries)
            editor.put(StoredAccount(account, passwords[each.id]))
        editor.save()


class _Demo:
    """The office, its two providers and senderproxy between them, for as long as the demo runs."""

    def __init__(self, page: Page, clock: Clock, ionos: Simulator, hoster: Simulator, service: Service) -> None:
        self._page = page
        self._clock = clock
        self._simulators = {IONOS: ionos, HOSTER: hoster}
        self._port = service.listeners[0].port

    async def play(self, straight_password: str) -> bool:
        """Everything once; whether every message left on the right login."""
        self._introduce()
        try:
            wrong = self._show_with(await asyncio.to_thread(_send_through, self._port, self._clock))
            await self._show_without(straight_password)
        except (smtplib.SMTPException, OSError) as fault:
            raise DemoError(f"The demo broke off: {fault}.") from fault
        return not wrong

    def _introduce(self) -> None:
        page = self._page
        page.title("One mail server, five mailboxes at two providers, one vault")
        page.heading("mailbox", "provider", "carries")
        for each in ACCOUNTS:
            rule = "its domain" if each.provider == IONOS else "its address"
            page.row(each.address, f"{each.provider} ({rule})", ", ".join(each.carries) or "itself")
        page.line()
        page.line(" In brackets: whom the provider lets a mailbox name as the sender.")

    def _arrived(self) -> list[Arrived]:
        return [
            Arrived(name, received) for name, simulator in self._simulators.items() for received in simulator.received
        ]

    def _show_with(self, sent: Sequence[Sent]) -> list[str]:
        page, arrived = self._page, self._arrived()
        page.title(f"With senderproxy: {len(sent)} messages over one connection to 127.0.0.1:{self._port}")
        page.heading("author", "reverse-path", "logged in as")
        wrong: list[str] = []
        for each in sent:
            found = find_arrivals(each, arrived)
            path = found[0].received.reverse_path or "<>" if found else "-"
            login = found[0].received.login or "nobody" if found else "-"
            page.row(each.letter.author, path, login, each.letter.shows)
            page.reply([_OUR_ID.sub("", line) for line in each.reply])
            faults = faults_in(each, arrived, ACCOUNTS)
            wrong += faults
            for fault in faults:
                page.bad(f"   wrong: {fault}")
        wrong += [
            f"{name}: {breach}" for name, simulator in self._simulators.items() for breach in simulator.violations
        ]
        wrong += [
            f"{name}: a password in clear text"
            for name, simulator in self._simulators.items()
            if simulator.clear_text_logins
        ]
        page.line()
        if wrong:
            page.bad(f"{len(wrong)} things went wrong: {'; '.join(wrong)}")
        else:
            logins = sum(len(simulator.logins()) for simulator in self._simulators.values())
            left = sum(1 for each in sent if each.letter.account is not None)
            page.good("Every message left once, logged in as the mailbox that owns its author.")
            page.line(" The stranger's did not leave: it has no mailbox here.")
            page.line(f" {left} messages needed {logins} logins: a session stays open for each mailbox.")
        return wrong

    async def _show_without(self, password: str) -> None:
        page, account = self._page, ACCOUNTS[0]
        ionos = self._simulators[IONOS]
        sent = await asyncio.to_thread(_send_straight, ionos, account, password, self._clock)
        page.title(f"Without senderproxy: the same messages straight to {IONOS}, one mailbox for all")
        page.heading("author", "reverse-path", "logged in as")
        for each in sent:
            page.row(each.letter.author, each.letter.envelope_from or "<>", account.address)
            page.reply(each.reply)
        refused = sum(1 for each in sent if each.code != 250)
        page.line()
        page.line(f" {refused} of {len(sent)} messages are refused.")

    def invite(self, configuration: Path) -> None:
        """Where it listens, and how to try it."""
        page, server = self._page, f"127.0.0.1:{self._port}"
        page.title(f"senderproxy listens on {server}. Try it from another terminal:")
        page.line(f"  swaks --server {server} --from anna@firma.example --to {_CUSTOMER}")
        page.line(f"  swaks --server {server} --from anything@laden.example --to {_CUSTOMER}")
        page.line(f"  swaks --server {server} --from nobody@other.example --to {_CUSTOMER}")
        page.line(f"  {_our_name()} --config {configuration} explain anything@laden.example")
        page.line(f"  {_our_name()} --config {configuration} status")
        page.line()
        page.line("  A mail program works as well: that address as its outgoing server, no login, no encryption.")
        page.line("  Nothing leaves this machine. Each message that arrives is shown here; Ctrl-C ends it.")
        page.line()
        page.heading("author", "reverse-path", "logged in as")

    async def watch(self) -> None:
        """A line for each message that arrives, and what senderproxy says of each that does not, until cancelled."""
        handler = _Refusals(self._page)
        relay = logging.getLogger("senderproxy.relay")
        relay.addHandler(handler)
        try:
            async with asyncio.TaskGroup() as watchers:
                for name, simulator in self._simulators.items():
                    watchers.create_task(self._watch(name, simulator))
        finally:
            relay.removeHandler(handler)

    async def _watch(self, name: str, simulator: Simulator) -> None:
        taken = len(simulator.received)

        def news(simulator: Simulator) -> bool:
            return len(simulator.received) > taken

        while True:
            await simulator.wait_until(news, deadline=None)
            for each in simulator.received[taken:]:
                author = _printable(", ".join(authors_of(each.content)) or "nobody")
                self._page.row(author, each.reverse_path or "<>", each.login or "nobody", name)
                self._page.reply([f"250 {each.size} octets for {', '.join(each.recipients)}"])
            taken = len(simulator.received)


class _Refusals(logging.Handler):
    """What senderproxy logs of messages that did not leave, in the terminal."""

    def __init__(self, page: Page) -> None:
        super().__init__(logging.WARNING)
        self._page = page
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._page.folded(self.format(record), "31")


def _printable(text: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _our_name() -> str:
    """How this program was called, to be typed again."""
    return sys.argv[0] if Path(sys.argv[0]).name == "senderproxy" else "senderproxy"


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Nothing of the log among the tables."""
    nowhere = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("senderproxy", "mail.log")]
    for logger in loggers:
        logger.addHandler(nowhere)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(nowhere)


async def _until_told(page: Page, *, once: bool) -> int:
    """The demo, ended tidily by SIGTERM as well; Ctrl-C is asyncio's own business."""
    told = False
    this = asyncio.current_task()
    assert this is not None

    def tell() -> None:
        nonlocal told
        told = True
        this.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tell)
    try:
        return await play(page, SystemClock(), once=once)
    except asyncio.CancelledError:
        if not told:
            raise
        return EX_INTERRUPTED if once else EX_OK


async def play(page: Page, clock: Clock, *, once: bool) -> int:
    """The whole demo; the exit code."""
    passwords = {each.id: f"geheim-{clock.new_id()}" for each in ACCOUNTS}
    async with (
        Simulator(_simulator_settings(IONOS, passwords)) as ionos,
        Simulator(_simulator_settings(HOSTER, passwords), authority=ionos.authority) as hoster,
    ):
        with tempfile.TemporaryDirectory(prefix="senderproxy-demo-") as name:
            folder = Path(name)
            configuration = folder / "senderproxy.toml"
            configuration.write_text(_configuration(folder, ionos, hoster), encoding="utf-8")
            config = load_config(configuration)
            await asyncio.to_thread(_fill_vault, config, folder / "vault.key", passwords)
            accounts = VaultAccounts.open(config.vault.path, unlock_method(config.vault.unlock, None))
            service = Service(config, accounts, clock=clock, load=lambda: load_config(configuration))
            try:
                await service.start()
                office = _Demo(page, clock, ionos, hoster, service)
                right = await office.play(passwords[ACCOUNTS[0].id])
                if not once:
                    office.invite(configuration)
                    await office.watch()
                return EX_OK if right else EX_FAILED
            finally:
                await service.stop()
                accounts.close()
