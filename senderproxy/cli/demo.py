"""`senderproxy demo`: the whole program with simulated providers on loopback.

Guarantees: needs no account, no network and no root; every password is random; everything it creates is removed at the
end, also after Ctrl-C. The exit code of `--once` says whether the providers received every message on the right
login.
Not here: the messages (cli.demo_messages), the output (cli.demo_page), the service (app), the providers (simulator).
"""

import argparse
import asyncio
import json
import logging
import re
import signal
import smtplib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from senderproxy.cli.demo_messages import (
    ACCOUNTS,
    HOSTER,
    IONOS,
    MESSAGES,
    RECIPIENT,
    ArrivedMessage,
    DemoAccount,
    DemoMessage,
    SentMessage,
    faults_in,
    find_arrivals,
)
from senderproxy.cli.demo_page import Page
from senderproxy.cli.exit_codes import EX_FAILED, EX_INTERRUPTED, EX_OK
from senderproxy.cli.screen import Style, printable
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.load import load_config
from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.log import TextFormatter
from senderproxy.mail.address import parse_address
from senderproxy.routing.account import Account
from senderproxy.simulator.headers import authors_of
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings, postfix_like
from senderproxy.translation import _, ngettext

_QUEUE_ID: Final = re.compile(r" \(senderproxy \w+\)$")  # added by senderproxy to the upstream's reply
_TIMEOUT: Final = 30.0  # seconds for any one reply; everything here replies within milliseconds


class DemoError(SenderproxyError):
    """The demonstration ended early."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy demo`."""
    parser.add_argument(
        "--once", action="store_true", help=_("end by itself; exit code 0 if every message was sent on the right login")
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """See `run_demo`."""
    return run_demo(once=chosen.once)


def run_demo(*, once: bool) -> int:
    """Run until Ctrl-C, or once; returns the exit code. Raises DemoError."""
    page = Page.for_stdout()
    try:
        with _log_hidden():
            return asyncio.run(_until_sigterm(page, once=once))
    except KeyboardInterrupt:
        page.line()
        return EX_INTERRUPTED if once else EX_OK


@contextmanager
def _log_hidden() -> Iterator[None]:
    """Keep log lines out of the tables."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("senderproxy", "mail.log")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


async def _until_sigterm(page: Page, *, once: bool) -> int:
    """Run the demonstration; SIGTERM ends it in order, as asyncio itself does on Ctrl-C."""
    terminated = False
    task = asyncio.current_task()
    assert task is not None

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await _demonstrate(page, SystemClock(), once=once)
    except asyncio.CancelledError:
        if not terminated:
            raise
        return EX_INTERRUPTED if once else EX_OK


async def _demonstrate(page: Page, clock: Clock, *, once: bool) -> int:
    """Start two providers and the service, send every message, and show what arrives until cancelled."""
    passwords = {each.id: f"geheim-{clock.new_id()}" for each in ACCOUNTS}
    async with (
        Simulator(_simulator_settings(IONOS, passwords)) as ionos,
        Simulator(_simulator_settings(HOSTER, passwords), authority=ionos.authority) as hoster,
    ):
        with tempfile.TemporaryDirectory(prefix="senderproxy-demo-") as name:
            folder = Path(name)
            config_file = folder / "senderproxy.toml"
            config_file.write_text(_config_text(folder, ionos, hoster), encoding="utf-8")
            config = load_config(config_file)
            await asyncio.to_thread(_create_vault, config, folder / "vault.key", passwords)
            accounts = VaultAccounts.open(config.vault.path, unlock_method(config.vault.unlock, None))
            service = Service(config, accounts, clock=clock, load=lambda: load_config(config_file))
            try:
                await service.start()
                demonstration = _Demonstration(page, clock, ionos, hoster, service)
                right = await demonstration.send_all(passwords[ACCOUNTS[0].id])
                if not once:
                    demonstration.print_invitation(config_file)
                    await demonstration.watch()
                return EX_OK if right else EX_FAILED
            finally:
                await service.stop()
                accounts.close()


# ---- providers, configuration, vault ----


def _simulator_settings(provider: str, passwords: dict[str, str]) -> SimulatorSettings:
    """IONOS lets a mailbox send as its whole domain, the second provider as its own address only."""
    mailboxes = {each.address: SimulatedMailbox(passwords[each.id]) for each in ACCOUNTS if each.provider == provider}
    if provider == IONOS:
        return SimulatorSettings(mailboxes=mailboxes, raise_violations=False)
    return replace(postfix_like(mailboxes), raise_violations=False)


def _config_text(folder: Path, ionos: Simulator, hoster: Simulator) -> str:
    """The configuration as an operator would write it. JSON strings are TOML basic strings."""
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


def _create_vault(config: Config, key: Path, passwords: dict[str, str]) -> None:
    """Create a vault with every account."""
    make_key_file(key)
    unlock = unlock_method(config.vault.unlock, None)
    AccountEditor.create(config.vault.path, unlock)
    with AccountEditor.open(config.vault.path, unlock) as editor:
        for each in ACCOUNTS:
            carries = own_first(each.address, list(each.carries))
            account = Account(each.id, each.address, each.provider, parse_address(each.address), carries)
            editor.put(StoredAccount(account, passwords[each.id]))
        editor.save()


# ---- sending ----


def _compose(demo_message: DemoMessage, clock: Clock) -> tuple[EmailMessage, str]:
    """The message as a mail program would write it, and its Message-ID."""
    message = EmailMessage(policy=SMTP)
    name = demo_message.author.partition("@")[0].partition("+")[0].capitalize()
    message_id = f"<{clock.new_id()}@{demo_message.author.partition('@')[2]}>"
    message["From"] = f"{name} <{demo_message.author}>"
    message["To"] = RECIPIENT
    message["Subject"] = f"A message from {name}"
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = message_id
    message.set_content(f"Good day,\n\nthis is {demo_message.author}.\n")
    return message, message_id


def _send(client: smtplib.SMTP, demo_message: DemoMessage, clock: Clock) -> SentMessage:
    """Send one message over a connection that stays open."""
    message, message_id = _compose(demo_message, clock)
    code, text = client.mail(demo_message.envelope_from)
    if code == 250:
        code, text = client.rcpt(RECIPIENT)
    if code == 250:
        code, text = client.data(message.as_bytes())
    if code != 250:
        client.rset()
    return SentMessage(demo_message, message_id, code, tuple(text.decode("utf-8", "replace").split("\n")))


def _send_through_senderproxy(port: int, clock: Clock) -> list[SentMessage]:
    """Send every message over one connection to senderproxy, as the mail server of an office does."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="mail.firma.example", timeout=_TIMEOUT) as client:
        client.ehlo()
        return [_send(client, message, clock) for message in MESSAGES]


def _send_directly(simulator: Simulator, account: DemoAccount, password: str, clock: Clock) -> list[SentMessage]:
    """Send the same messages to the provider, all of them logged in as one mailbox."""
    client = smtplib.SMTP_SSL(
        simulator.host,
        simulator.port_tls,
        local_hostname="mail.firma.example",
        timeout=_TIMEOUT,
        context=simulator.client_context(),
    )
    with client:
        client.login(account.address, password)
        return [_send(client, message, clock) for message in MESSAGES]


class _Demonstration:
    """A mail server, its two providers and senderproxy between them."""

    def __init__(self, page: Page, clock: Clock, ionos: Simulator, hoster: Simulator, service: Service) -> None:
        self._page = page
        self._clock = clock
        self._simulators = {IONOS: ionos, HOSTER: hoster}
        self._port = service.listeners[0].port

    async def send_all(self, password: str) -> bool:
        """Send every message with and without senderproxy; returns True if each was sent on the right login.

        `password` is that of the first account. Raises DemoError.
        """
        self._print_accounts()
        try:
            faults = self._print_with(await asyncio.to_thread(_send_through_senderproxy, self._port, self._clock))
            await self._send_without(password)
        except (smtplib.SMTPException, OSError) as error:
            raise DemoError(_("The demonstration ended early: {error}.").format(error=error)) from error
        return not faults

    def _print_accounts(self) -> None:
        page = self._page
        page.title(_("One mail server, five mailboxes at two providers, one vault"))
        page.heading(_("mailbox"), _("provider"), _("carries"))
        for each in ACCOUNTS:
            rule = _("its domain") if each.provider == IONOS else _("its address")
            page.row(each.address, f"{each.provider} ({rule})", ", ".join(each.carries) or _("its own address"))
        page.line()
        page.line(" " + _("In brackets: the senders that the provider accepts from a mailbox."))

    def _print_with(self, sent: Sequence[SentMessage]) -> list[str]:
        page = self._page
        title = ngettext(
            "With senderproxy: {count} message over one connection to 127.0.0.1:{port}",
            "With senderproxy: {count} messages over one connection to 127.0.0.1:{port}",
            len(sent),
        )
        page.title(title.format(count=len(sent), port=self._port))
        self._print_heading()
        faults: list[str] = []
        for each in sent:
            faults += self._print_sent(each)
        faults += self._protocol_faults()
        page.line()
        if faults:
            text = ngettext("{count} fault: {faults}", "{count} faults: {faults}", len(faults))
            page.bad(text.format(count=len(faults), faults="; ".join(faults)))
        else:
            self._print_result(sent)
        return faults

    def _print_heading(self) -> None:
        self._page.heading(_("author"), "reverse-path", _("logged in as"))

    def _print_sent(self, sent: SentMessage) -> list[str]:
        """Print one message and its faults; returns the faults."""
        page, arrived = self._page, self._arrived()
        found = find_arrivals(sent, arrived)
        path = found[0].received.reverse_path or "<>" if found else "-"
        login = found[0].received.login or "-" if found else "-"
        page.row(sent.message.author, path, login, _(sent.message.note) if sent.message.note else "")
        page.reply([_QUEUE_ID.sub("", line) for line in sent.reply])
        faults = faults_in(sent, arrived, ACCOUNTS)
        for fault in faults:
            page.bad("   " + _("fault: {fault}").format(fault=fault))
        return faults

    def _arrived(self) -> list[ArrivedMessage]:
        return [
            ArrivedMessage(name, received)
            for name, simulator in self._simulators.items()
            for received in simulator.received
        ]

    def _protocol_faults(self) -> list[str]:
        """Violations of the SMTP protocol, and passwords sent without TLS."""
        faults: list[str] = []
        for name, simulator in self._simulators.items():
            faults += [f"{name}: {violation}" for violation in simulator.violations]
            if simulator.clear_text_logins:
                faults.append(_("{provider}: a password was sent without TLS").format(provider=name))
        return faults

    def _print_result(self, sent: Sequence[SentMessage]) -> None:
        logins = sum(len(simulator.logins()) for simulator in self._simulators.values())
        count = sum(1 for each in sent if each.message.account is not None)
        messages = ngettext("{count} message", "{count} messages", count).format(count=count)
        needed = ngettext("{count} login", "{count} logins", logins).format(count=logins)
        page = self._page
        page.good(_("Every message was sent once, logged in as the mailbox that owns its author."))
        page.line(" " + _("The message of the unknown author was refused: no mailbox owns it."))
        text = _("{messages} needed {logins}: the session of each mailbox stays open.")
        page.line(" " + text.format(messages=messages, logins=needed))

    async def _send_without(self, password: str) -> None:
        page, account = self._page, ACCOUNTS[0]
        sent = await asyncio.to_thread(_send_directly, self._simulators[IONOS], account, password, self._clock)
        page.title(
            _("Without senderproxy: the same messages directly to {provider}, one mailbox for all").format(
                provider=IONOS
            )
        )
        self._print_heading()
        for each in sent:
            page.row(each.message.author, each.message.envelope_from or "<>", account.address)
            page.reply(each.reply)
        refused = sum(1 for each in sent if each.code != 250)
        page.line()
        text = ngettext(
            "{refused} of {count} message was refused.", "{refused} of {count} messages were refused.", len(sent)
        )
        page.line(" " + text.format(refused=refused, count=len(sent)))

    # ---- until Ctrl-C ----

    def print_invitation(self, config_file: Path) -> None:
        """Print the listener's address and commands to try."""
        page, server = self._page, f"127.0.0.1:{self._port}"
        page.title(_("senderproxy listens on {address}. Try it from another terminal:").format(address=server))
        for command in _commands_to_try(server, config_file):
            page.line(f"  {command}")
        page.line()
        page.line("  " + _("Or with a mail program: that address as its outgoing server, no login, no encryption."))
        page.line("  " + _("Nothing leaves this machine. Each message that arrives is shown here; Ctrl-C ends it."))
        page.line()
        self._print_heading()

    async def watch(self) -> None:
        """Print each message that arrives, and the log line of each that is refused, until cancelled."""
        handler = _RefusalPrinter(self._page)
        relay_log = logging.getLogger("senderproxy.relay")
        relay_log.addHandler(handler)
        try:
            async with asyncio.TaskGroup() as watchers:
                for name, simulator in self._simulators.items():
                    watchers.create_task(self._watch(name, simulator))
        finally:
            relay_log.removeHandler(handler)

    async def _watch(self, name: str, simulator: Simulator) -> None:
        seen = len(simulator.received)

        def has_new(simulator: Simulator) -> bool:
            return len(simulator.received) > seen

        while True:
            await simulator.wait_until(has_new, deadline=None)
            for each in simulator.received[seen:]:
                author = printable(", ".join(authors_of(each.content)) or "-")
                self._page.row(author, each.reverse_path or "<>", each.login or "-", name)
                self._page.reply([f"250 {each.size} octets for {', '.join(each.recipients)}"])
            seen = len(simulator.received)


class _RefusalPrinter(logging.Handler):
    """Prints what senderproxy logs about messages that were not sent."""

    def __init__(self, page: Page) -> None:
        super().__init__(logging.WARNING)
        self._page = page
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._page.wrapped(self.format(record), Style.RED)


def _commands_to_try(server: str, config_file: Path) -> Iterator[str]:
    for author in ("anna@firma.example", "anything@laden.example", "nobody@other.example"):
        yield f"swaks --server {server} --from {author} --to {RECIPIENT}"
    yield f"{_program()} --config {config_file} explain anything@laden.example"
    yield f"{_program()} --config {config_file} status"


def _program() -> str:
    """The name under which this program was called."""
    return sys.argv[0] if Path(sys.argv[0]).name == "senderproxy" else "senderproxy"
