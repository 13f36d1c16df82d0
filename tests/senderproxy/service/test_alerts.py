"""Alerts of a whole service with real sessions to two providers, on a clock that the test moves."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.record import StoredAccount, own_first
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.client import ask
from senderproxy.control.protocol import Answer, Verb, new_request
from senderproxy.mail.address import parse_address
from senderproxy.monitoring.facts import SpoolFacts, SpoolState
from senderproxy.routing.account import Account
from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from senderproxy.spool.sqlite.store import SqliteSpool
from tests.crash.disks import small_disk
from tests.fakes.clock_jumps import between_writes
from tests.fakes.http_server import answer, http_server
from tests.peers.letters import hand_over

SECRET = "geheim-postfach"
TO = ("it@dienst.example", "chef@privat.example")
ANNA, BERT, LAGER = "anna@firma.example", "bert@firma.example", "lager@versand.example"


NO_RETRY = {"first_retry_seconds": 86400, "longest_retry_seconds": 86400}  # whatever the clock does


class AheadClock(SystemClock):
    """The system's clock, ahead by as much as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.ahead


class Office:
    """A running service, its two providers, and the alerts that the operator has got by now."""

    def __init__(self, folder: Path, ionos: Simulator, hoster: Simulator) -> None:
        self.folder = folder
        self.providers = {"ionos": ionos, "hoster": hoster}
        self.clock = AheadClock()
        self.service: Service
        self._accounts: VaultAccounts

    def new_service(self, alerts: Mapping[str, Any]) -> None:
        """A service that is not started."""
        config = Config.model_validate(
            {
                "identity": {"hostname": "mail.firma.example"},
                "vault": {"path": str(self.folder / "accounts.vault"), "unlock": self._unlock},
                "service": {"control_socket": str(self.folder / "control.sock"), "stop_seconds": 1},
                "spool": {"directory": str(self.folder / "spool"), "min_free": "1 MB", "reserve_size": "1 MB"}
                | NO_RETRY,
                "listeners": [
                    {"address": "127.0.0.1:0"},
                    {"name": "devices", "address": "127.0.0.1:0", "mode": "queue"},
                ],
                "delivery": {"connect_seconds": 30},
                "alerts": {"to": list(TO), "language": "en", **alerts},
                "providers": {
                    name: {
                        "host": simulator.host,
                        "port": simulator.port_tls,
                        "security": "tls",
                        "ca_file": str(simulator.ca_file),
                        "sender_rule": "domain",
                        "takes_null_reverse_path": simulator.settings.null_reverse_path_accepted,
                    }
                    for name, simulator in self.providers.items()
                },
            }
        )
        self._accounts = VaultAccounts.open(config.vault.path, unlock_method(self._unlock, None))
        self.service = Service(config, self._accounts, clock=self.clock)

    @property
    def _unlock(self) -> str:
        return f"key-file:{self.folder / 'vault.key'}"

    def make_vault(self, accounts: Mapping[str, str]) -> None:
        """A vault with these mailboxes, each with the name of its provider."""
        make_key_file(self.folder / "vault.key")
        unlock = unlock_method(self._unlock, None)
        AccountEditor.create(self.folder / "accounts.vault", unlock)
        with AccountEditor.open(self.folder / "accounts.vault", unlock) as editor:
            for address, provider in accounts.items():
                own = parse_address(address)
                account = Account(own.local_part, address, provider, own, own_first(address, []))
                editor.put(StoredAccount(account, SECRET))
            editor.save()

    def set_mailboxes(self, provider: str, *, password: str = SECRET) -> None:
        """Give all mailboxes of a provider this password there."""
        simulator = self.providers[provider]
        mailboxes = {login: SimulatedMailbox(password) for login in simulator.settings.mailboxes}
        simulator.settings = replace(simulator.settings, mailboxes=mailboxes)

    async def submit(self, author: str, listener: int = 0) -> int:
        """Hand in a message of this author; the code of the reply."""
        content = f"From: {author}\r\nTo: kunde@x.example\r\nSubject: Angebot\r\n\r\nGuten Tag\r\n"
        port = self.service.listeners[listener].port
        code, _text = await asyncio.to_thread(hand_over, port, author, "kunde@x.example", content.encode("ascii"))
        return code

    async def pass_time(self, seconds: float) -> list[str]:
        """So many seconds pass, with a look before and after; the subjects of the alerts that came."""
        before = len(self.alerts())
        for step in (0.0, seconds):
            await self._step(step)
            await self.service._conditions.ask()
            for _ in range(2):  # the housekeeping may have begun a look before these conditions were found
                self.service._alerts.sender.check()
                if (task := self.service._alerts.sender._task) is not None:
                    await asyncio.wait((task,))
        return [
            message["Subject"].removeprefix("senderproxy mail.firma.example: ") for message in self.alerts()[before:]
        ]

    async def _step(self, seconds: float) -> None:
        """Advance the clock."""
        spool = self.service._components.runner.spool
        assert isinstance(spool, SqliteSpool)

        def jump() -> None:
            self.clock.ahead += seconds

        await between_writes(spool, jump)

    async def wait_for_deferral(self, account: str) -> None:
        """Return when an attempt of this account has ended with a 4xx reply."""
        courier, providers = self.service._components.courier, self.service._components.relay.rules.providers
        async with asyncio.timeout(60):
            while not any(one.deferred for one in courier.status(providers) if one.account == account):
                await asyncio.sleep(0.01)
            while not any(one.waiting for one in await self.service._components.runner.spool.totals()):
                await asyncio.sleep(0.01)

    async def empty_queue(self) -> None:
        """Let all messages be tried now; return when none waits."""
        spool = self.service._components.runner.spool
        for message in (await self.ask(Verb.QUEUE_LIST))["messages"]:
            request = new_request(Verb.QUEUE_CHANGE, act="retry", ids=[message["id"]], by="test", report=False)
            await asyncio.to_thread(ask, self.folder / "control.sock", request)
        async with asyncio.timeout(60):
            while any(one.waiting for one in await spool.totals()):
                await asyncio.sleep(0.01)

    def received(self) -> list[ReceivedMessage]:
        """What the providers accepted for the operator."""
        every = [one for simulator in self.providers.values() for one in simulator.received]
        return sorted((one for one in every if TO[0] in one.recipients), key=lambda one: one.at)

    def alerts(self) -> list[EmailMessage]:
        """The same as messages."""
        found = [message_from_bytes(one.content, policy=default) for one in self.received()]
        assert all(isinstance(message, EmailMessage) for message in found)
        return found

    async def ask(self, verb: Verb) -> Answer:
        """A request of a command."""
        return await asyncio.to_thread(ask, self.folder / "control.sock", new_request(verb))


@asynccontextmanager
async def office_with(
    folder: Path, accounts: Mapping[str, str], *, takes_null: bool = True, **alerts: Any
) -> AsyncIterator[Office]:
    """An office with these mailboxes, running."""
    async with AsyncExitStack() as stack:
        simulators = []
        for name in ("ionos", "hoster"):
            mailboxes = {login: SimulatedMailbox(SECRET) for login, provider in accounts.items() if provider == name}
            settings = SimulatorSettings(mailboxes=mailboxes, null_reverse_path_accepted=takes_null)
            simulators.append(await stack.enter_async_context(Simulator(settings)))
        office = Office(folder, *simulators)
        office.make_vault(accounts)
        office.new_service(alerts)
        await office.service.start()
        try:
            yield office
        finally:
            await office.service.stop()


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
BOTH = {ANNA: "ionos", BERT: "ionos", LAGER: "hoster"}


async def test_a_wrong_password_is_one_mail_through_the_other_provider_and_one_when_it_is_over(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH) as office:
        office.set_mailboxes("ionos", password="geheim-neu")
        assert await office.submit(ANNA) // 100 == 4
        assert await office.pass_time(60) == [f"{ANNA} cannot send: password refused"]
        assert await office.pass_time(3600) == []
        (received,) = office.received()
        assert (received.login, received.reverse_path, received.recipients) == (LAGER, "", TO)
        (mail,) = office.alerts()
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["From"].addresses[0].addr_spec == LAGER
        assert "senderproxy account set-password anna" in mail.get_content()
        office.set_mailboxes("ionos")
        office.service._components.courier.resume("anna")
        assert await office.submit(ANNA) == 250
        assert await office.pass_time(400) == [f"over: {ANNA} cannot send: password refused"]
        assert await office.pass_time(3600) == []


async def test_an_alert_is_in_no_queue_and_makes_no_report(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH) as office:
        office.set_mailboxes("ionos", password="geheim-neu")
        office.providers["hoster"].settings = replace(
            office.providers["hoster"].settings, null_reverse_path_accepted=False
        )
        await office.submit(ANNA)
        await office.pass_time(60)
        queue = (await office.ask(Verb.STATUS))["queue"]
        assert (queue["waiting"], queue["held"]) == (0, 0)
        assert office.providers["hoster"].received == []
        problem = (await office.ask(Verb.ALERTS))["ways"][0]["problem"]
        assert "it@dienst.example did not get it" in problem


async def test_a_provider_that_takes_no_null_reverse_path_gets_the_address_of_the_account(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH, takes_null=False) as office:
        office.set_mailboxes("ionos", password="geheim-neu")
        await office.submit(ANNA)
        assert len(await office.pass_time(60)) == 1
        assert [one.reverse_path for one in office.received()] == [LAGER]


async def test_another_account_of_the_same_provider_is_used_if_there_is_no_other_provider(tmp_path: Path) -> None:
    async with office_with(tmp_path, {ANNA: "ionos", BERT: "ionos"}) as office:
        ionos = office.providers["ionos"]
        mailboxes = {ANNA: SimulatedMailbox("geheim-neu"), BERT: SimulatedMailbox(SECRET)}
        ionos.settings = replace(ionos.settings, mailboxes=mailboxes)
        await office.submit(ANNA)
        assert len(await office.pass_time(60)) == 1
        assert [one.login for one in office.received()] == [BERT]


async def test_without_an_account_that_works_the_alert_is_sent_when_one_does(tmp_path: Path) -> None:
    async with office_with(tmp_path, {ANNA: "ionos", LAGER: "hoster"}) as office:
        for provider in ("ionos", "hoster"):
            office.set_mailboxes(provider, password="geheim-neu")
        await office.submit(ANNA)
        await office.submit(LAGER)
        assert await office.pass_time(60) == []
        conditions = (await office.ask(Verb.CONDITIONS))["conditions"]
        assert "alerts_failing" in {one["key"] for one in conditions}
        office.set_mailboxes("hoster")
        office.service._components.courier.resume("lager")
        assert await office.submit(LAGER) == 250
        assert f"{ANNA} cannot send: password refused" in await office.pass_time(240)
        assert await office.pass_time(0) == []


async def test_a_dead_provider_is_one_alert_through_the_other(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH) as office:
        await office.providers["ionos"].go_offline()
        assert await office.submit(ANNA) // 100 == 4
        assert await office.submit(BERT) // 100 == 4
        assert await office.pass_time(200) == ["2 accounts at ionos cannot send: no connection to the provider"]
        assert [one.login for one in office.received()] == [LAGER]
        await office.providers["ionos"].go_online()
        assert await office.submit(ANNA) == 250
        assert await office.submit(BERT) == 250
        assert await office.pass_time(400) == ["over: 2 accounts at ionos cannot send: no connection to the provider"]


async def test_an_expired_certificate_of_a_provider_is_one_alert_through_the_other(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH) as office:
        ionos = office.providers["ionos"]
        ionos.settings = replace(ionos.settings, certificate=CertificateKind.EXPIRED)
        assert await office.submit(ANNA) // 100 == 4
        (subject,) = await office.pass_time(60)
        assert "certificate" in subject
        ionos.settings = replace(ionos.settings, certificate=CertificateKind.GOOD)
        assert await office.submit(ANNA) == 250
        assert await office.pass_time(400) == [f"over: {subject}"]


async def test_each_way_is_broken_in_turn_and_the_other_one_tells_of_it(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    async with http_server() as receiver:
        hook.write_text(f"http://127.0.0.1:{receiver.port}/geheim-hook", encoding="ascii")
        hook.chmod(0o600)

        def hooked() -> list[tuple[str, str]]:
            items = [item for request in receiver.requests for item in json.loads(request.body)["conditions"]]
            return [(item["key"], item["subject"]) for item in items]

        async with office_with(tmp_path, BOTH, webhook=f"file:{hook}") as office:
            receiver.behaviours = [answer("410 Gone")]
            office.set_mailboxes("ionos", password="geheim-neu")
            assert await office.submit(ANNA) // 100 == 4
            assert await office.pass_time(60) == [f"{ANNA} cannot send: password refused"]
            assert await office.pass_time(200) == ["alerts cannot be sent by webhook"]
            receiver.behaviours = [answer("204 No Content")]
            receiver.requests.clear()
            await office.providers["hoster"].go_offline()
            assert await office.submit(LAGER) // 100 == 4
            assert await office.pass_time(200) == []  # no account can send a mail
            assert ("no_session", "hoster") in hooked()
            assert await office.pass_time(200) == []
            assert ("alerts_failing", "mail") in hooked()


async def test_fifty_accounts_that_fail_together_are_one_alert(tmp_path: Path) -> None:
    logins = [f"konto{number}@firma.example" for number in range(50)]
    async with office_with(tmp_path, dict.fromkeys(logins, "ionos") | {LAGER: "hoster"}) as office:
        await office.providers["ionos"].go_offline()
        for login in logins:
            assert await office.submit(login) // 100 == 4
        assert await office.pass_time(200) == ["50 accounts at ionos cannot send: no connection to the provider"]
        assert await office.pass_time(3600) == []


async def test_a_full_disk_is_alerted_once_also_after_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    async with office_with(tmp_path, BOTH) as office:
        full = SpoolFacts(SpoolState.FULL, "Too little space.", "Free some space.")

        async def facts() -> SpoolFacts:
            return full

        monkeypatch.setattr(office.service._spool, "facts", facts)
        await office.service._conditions.ask()
        await office._step(61)  # the disk is asked every minute
        assert await office.pass_time(60) == ["the disk is full"]
        await office.service.stop()
        office.new_service({})
        await office.service.start()
        monkeypatch.setattr(office.service._spool, "facts", facts)
        assert await office.pass_time(120) == []
        assert await office.pass_time(3600) == []
        monkeypatch.undo()
        await office.pass_time(61)
        assert await office.pass_time(400) == ["over: the disk is full"]


async def test_a_full_tmpfs_is_one_alert_and_one_when_there_is_space_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool", "16m") as disk:
        async with office_with(tmp_path, BOTH) as office:
            space = os.statvfs(disk)
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 300_000))  # min_free is 1 MB
            assert await office.submit(ANNA, listener=1) == 452
            await office.pass_time(61)  # the disk is asked every minute
            assert await office.pass_time(60) == []
            assert [mail["Subject"] for mail in office.alerts()] == ["senderproxy mail.firma.example: the disk is full"]
            assert await office.pass_time(3600) == []
            ballast.unlink()
            await office.pass_time(61)
            assert await office.pass_time(400) == ["over: the disk is full"]
            assert await office.pass_time(3600) == []
            assert await office.submit(ANNA, listener=1) == 250


async def test_messages_that_wait_too_long_are_one_alert(tmp_path: Path) -> None:
    async with office_with(tmp_path, BOTH) as office:
        ionos = office.providers["ionos"]
        later = server_reply(450, "4.2.0 Greylisted")
        ionos.settings = replace(ionos.settings, recipient_replies={"kunde@x.example": later})
        assert await office.submit(ANNA, listener=1) == 250
        await office.wait_for_deferral("anna")
        assert await office.pass_time(60) == []
        assert await office.pass_time(3700) == []
        assert await office.pass_time(130) == ["messages wait too long"]
        assert "one message in the queue" in office.alerts()[0].get_content()
        assert await office.pass_time(60) == []
        ionos.settings = replace(ionos.settings, recipient_replies={})
        await office.empty_queue()
        assert await office.pass_time(61) == []  # the next look at the queue
        assert await office.pass_time(400) == ["over: messages wait too long"]
        assert await office.pass_time(3600) == []


async def test_the_test_and_the_weekly_alert_arrive(tmp_path: Path) -> None:
    day = DAYS[(datetime.now().astimezone().weekday() + 3) % 7]  # far from now
    async with office_with(tmp_path, BOTH, weekly=f"{day} 08:00") as office:
        result = await office.ask(Verb.ALERT_TEST)
        assert result["ways"] == [{"way": "mail", "why": "", "hint": "", "sent": True}]
        (mail,) = office.alerts()
        assert mail["Subject"] == "senderproxy mail.firma.example: test alert"
        assert await office.submit(ANNA) == 250
        await office.pass_time(60)
        assert await office.pass_time(7 * 86400) == ["all is well: 1 sent, 0 refused"]
