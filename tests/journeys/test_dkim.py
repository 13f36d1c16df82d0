"""Signed mail, held against three verifiers, after real servers have passed it on; and a domain's way to its key."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.accounts.dkim_key import StoredDkimKey, new_dkim_key
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.control.systemd import SystemdNotifier
from senderproxy.domain_records.own_key import record_text
from senderproxy.mail.header import Edit
from senderproxy.mail.outcome import Delivered
from senderproxy.relay.decide import Decision
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.dkim_verifiers import COMMANDS, verify
from tests.journeys.test_watched_domains import MovedClock
from tests.peers.bench import Bench
from tests.peers.exim import Exim
from tests.peers.letters import hand_over
from tests.peers.mail_client import MailClient
from tests.peers.office import PostfixOffice
from tests.peers.process import wait_until, why_not_here
from tests.senderproxy.dkim.signing import corpus, ring, signing_key, split, verified
from tests.senderproxy.domain_records.name_server import NameServer, name_server
from tests.senderproxy.relay.office import relay_office
from tests.senderproxy.relay.test_dkim_signing import buffer, submission
from tests.senderproxy.test_app import office_in

pytestmark = pytest.mark.slow

FIRMA = "firma.example"
MISSING = why_not_here(*COMMANDS, root=True)
KEY = signing_key()
PATIENCE = 150  # seconds of the real clock; the next look after a failed one is a minute later


# ---- three verifiers ----


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The messages of the corpus as they left, repaired and signed; all of them by an author of the firm."""
    return asyncio.run(_send_all(tmp_path_factory.mktemp("relay")))


async def _send_all(folder: Path) -> list[bytes]:
    async with relay_office(folder) as office:
        office.relay.dkim.ring = ring(KEY)
        for _name, raw in corpus():
            header, body = split(raw)
            has_bare_cr = b"\r" in raw.replace(b"\r\n", b"")  # the listener takes them out, or refuses them
            if header.rest != b"\r\n" or header.values("DKIM-Signature") or has_bare_cr:
                continue
            edits = [Edit("From", None, index) for index in header.indexes().get("from", ())]
            header = header.with_edits([*edits, Edit("From", b"Anna <anna@firma.example>")])
            stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
            offered = submission(office, header.raw, buffer(stuffed))
            decision = office.relay.decide(offered)
            if isinstance(decision, Decision):
                (outcome,) = (await office.relay.deliver(offered, decision)).values()
                assert isinstance(outcome, Delivered), outcome
        return [received.content for received in office.simulator.received]


def assert_all_verify(folder: Path, messages: Sequence[bytes]) -> None:
    said = verify(folder, messages, {KEY.name: record_text(KEY.public)}, FIRMA)
    wrong = [(found, raw[:1500]) for found, raw in zip(said, messages, strict=True) if not all(found.values())]
    assert wrong == []
    assert [raw[:1500] for raw in messages if not verified(raw)] == []


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_three_verifiers_accept_every_message_of_the_corpus(letters: list[bytes], tmp_path: Path) -> None:
    assert len(letters) >= 50
    assert sum(not raw.isascii() for raw in letters) <= 3  # only what has a signature of its own
    assert_all_verify(tmp_path / "mail", letters)


def changes(raw: bytes) -> dict[str, bytes]:
    """The message with one change each, in whose presence no signature may be valid."""
    head, _empty, body = raw.partition(b"\r\n\r\n")
    after_signature = head.index(b"\r\nFrom: ")
    return {
        "another author": raw.replace(b"\r\nFrom: Anna <anna@", b"\r\nFrom: Anna <bert@", 1),
        "a second author": raw[:after_signature] + b"\r\nFrom: <bert@firma.example>" + raw[after_signature:],
        "a second subject": raw[:after_signature] + b"\r\nSubject: Gewonnen" + raw[after_signature:],
        "a second recipient": raw[:after_signature] + b"\r\nTo: bert@kunde.example" + raw[after_signature:],
        "a second date": raw[:after_signature] + b"\r\nDate: Sat, 31 Jan 2026 08:15:00 +0100" + raw[after_signature:],
        "more text": raw + b"Bitte an ein anderes Konto.\r\n",
        "other text": head + b"\r\n\r\nx" + body,
        "another time": raw.replace(b" t=", b" t=1", 1),
    }


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_three_verifiers_refuse_every_changed_message(letters: list[bytes], tmp_path: Path) -> None:
    some = [(what, changed) for raw in letters for what, changed in changes(raw).items()]
    said = verify(tmp_path / "mail", [raw for _what, raw in some], {KEY.name: record_text(KEY.public)}, FIRMA)
    assert [
        (found, what, raw[:1500]) for found, (what, raw) in zip(said, some, strict=True) if any(found.values())
    ] == []
    assert [(what, raw[:1500]) for what, raw in some if verified(raw)] == []


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_signatures_are_valid_after_exim_and_postfix_have_passed_them_on(
    letters: list[bytes], tmp_path: Path, bench: Bench
) -> None:
    last = bench.start(PostfixOffice(bench.port(), ["kunde.test"]))
    first = bench.start(Exim(last.port, []))
    for raw in letters:
        assert hand_over(first.port, "anna@firma.example", "x@kunde.test", raw)[0] == 250
    first.send_queue()
    last.wait_until(lambda: len(last.mailbox()) == len(letters), "all are there", 120)
    arrived = [delivery.content for delivery in last.mailbox()]
    assert all(b"by exim.test" in raw for raw in arrived)
    assert_all_verify(tmp_path / "mail", arrived)


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_signatures_are_valid_after_postfix_and_exim_have_passed_them_on(
    letters: list[bytes], tmp_path: Path, bench: Bench
) -> None:
    last = bench.start(Exim(bench.port(), ["kunde.test"]))
    first = bench.start(PostfixOffice(last.port, ["other.test"]))
    for raw in letters:
        assert hand_over(first.port, "anna@firma.example", "x@kunde.test", raw)[0] == 250
    first.wait_until_nothing_waits(120)
    last.send_queue()
    folder = last.folder / "mailbox" / "new"
    wait_until(lambda: len(list(folder.glob("*"))) == len(letters), "all are there")
    arrived = [file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for file in sorted(folder.glob("*"))]
    assert all(b"(Postfix)" in raw for raw in arrived)
    assert_all_verify(tmp_path / "mail", arrived)


# ---- from the key to the signature ----


@dataclass
class Office:
    """A service with one account, a name server, and a provider that does not sign."""

    folder: Path
    server: NameServer
    simulator: Simulator
    clock: MovedClock
    config: Config
    service: Service

    def again(self) -> Service:
        return Service(
            self.config,
            VaultAccounts.open(self.folder / "accounts.vault", self.unlock),
            clock=self.clock,
            notifier=SystemdNotifier(None, 0.1),  # the housekeeping runs twice as often
            new_dns_client=self.server.client,
        )

    @property
    def unlock(self) -> Any:
        return unlock_method(f"key-file:{self.folder / 'vault.key'}", None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.service = self.again()
        await self.service.start()
        try:
            yield
        finally:
            await self.service.stop()

    def make_key(self, selector: str) -> StoredDkimKey:
        """As `senderproxy dkim setup` and `dkim rotate` do."""
        made = new_dkim_key(FIRMA, selector, self.clock.now())
        with AccountEditor.open(self.folder / "accounts.vault", self.unlock) as editor:
            editor.put_record(made.record)
            editor.save()
        return made

    async def send(self) -> bytes:
        """A message of anna as it arrives at the provider."""
        host, _colon, port = self.service.listeners[0].address.rpartition(":")
        text = "From: anna@firma.example\r\nTo: x@kunde.example\r\nSubject: Hallo\r\n\r\nGuten Tag\r\n"

        def submit() -> None:
            with MailClient(host, int(port), timeout=30) as client:
                client.sendmail("anna@firma.example", ["x@kunde.example"], text)

        await asyncio.to_thread(submit)
        return self.simulator.received[-1].content

    async def look(self, passed: timedelta = timedelta(0)) -> None:
        """Let time pass until the next look at the keys, and wait for it."""
        watch = self.service._surroundings.dkim
        before = {name: one.history.looked_at for name, one in watch._watched.items()}
        self.clock.moved += passed
        async with asyncio.timeout(PATIENCE):
            while not watch._watched or any(
                one.history.looked_at == before.get(name) for name, one in watch._watched.items()
            ):
                await asyncio.sleep(0.01)

    async def conditions(self) -> dict[str, str]:
        answer = await self.service._status.conditions()
        return {one["key"]: one["cause"] for one in answer["conditions"]}

    def publish(self, *keys: StoredDkimKey) -> None:
        self.server.records = {(one.key.name, "TXT"): [record_text(one.key.public)] for one in keys}


@asynccontextmanager
async def office_in_the_dns(tmp_path: Path) -> AsyncIterator[Office]:
    mailboxes = {"anna@firma.example": SimulatedMailbox("geheim-1")}
    with name_server({}) as server:
        async with Simulator(SimulatorSettings(mailboxes=mailboxes)) as simulator:
            made = office_in(tmp_path)
            made.add("anna@firma.example")
            hoster = {
                "host": "127.0.0.1",
                "port": simulator.port_tls,
                "security": "tls",
                "ca_file": str(simulator.ca_file),
                "sender_rule": "domain",
            }
            whole = {
                "identity": {"hostname": "mail.firma.example"},
                "vault": {"unlock": "passphrase"},
                "providers": {"ionos": hoster},
            }
            providers = Config.model_validate(whole).providers
            config = made.service._config.model_copy(update={"providers": providers})
            yield Office(tmp_path, server, simulator, MovedClock(), config, made.service)


def selector(raw: bytes) -> str:
    """That of the signature; dkimpy refuses one of tomorrow, as the moved clock makes it."""
    value = split(raw)[0].values("DKIM-Signature")[0]
    return value.partition(b" s=")[2].partition(b";")[0].decode()


SOON, DAY, HOUR = timedelta(seconds=90), timedelta(hours=28), timedelta(minutes=70)


async def test_a_domain_is_signed_for_from_the_moment_the_dns_has_its_key(tmp_path: Path) -> None:
    async with office_in_the_dns(tmp_path) as office:
        async with office.running():
            key = office.make_key("sp1")
            await office.look()
            assert b"DKIM-Signature" not in await office.send()
            office.publish(key)
            await office.look(SOON)
            assert verified(await office.send(), key.key)
            assert "dkim_record" not in await office.conditions()

            office.server.records = {}
            await office.look(DAY)
            await office.look(HOUR)
            assert "DKIM key sp1 of firma.example goes on signing" in (await office.conditions())["dkim_record"]
            assert selector(await office.send()) == "sp1"
        async with office.running():  # what was seen is not forgotten
            assert selector(await office.send()) == "sp1"
            assert "dkim_record" in await office.conditions()
            office.publish(key)
            await office.look(HOUR)
            assert "dkim_record" not in await office.conditions()


async def test_a_rotation_needs_no_restart_and_has_no_gap(tmp_path: Path) -> None:
    async with office_in_the_dns(tmp_path) as office, office.running():
        first = office.make_key("sp1")
        office.publish(first)
        await office.look()
        assert verified(await office.send(), first.key)
        second = office.make_key("sp2")
        await office.service._answer_dkim({"domain": FIRMA})
        assert verified(await office.send(), first.key)
        office.publish(first, second)
        answer = await office.service._answer_dkim({"domain": FIRMA})
        assert [(entry["selector"], entry["signs"]) for entry in answer["keys"]] == [("sp1", False), ("sp2", True)]
        assert verified(await office.send(), second.key)
        with AccountEditor.open(office.folder / "accounts.vault", office.unlock) as editor:
            for record in (first.record, second.record):
                editor.remove_record(record)
            editor.save()
        await office.service._answer_dkim({})
        assert b"DKIM-Signature" not in await office.send()


async def test_the_machines_clock_is_the_time_of_the_signature(tmp_path: Path) -> None:
    async with office_in_the_dns(tmp_path) as office, office.running():
        key = office.make_key("sp1")
        office.publish(key)
        await office.look()
        raw = await office.send()
        seconds = int(raw.partition(b" t=")[2].partition(b";")[0])
        assert abs(datetime.fromtimestamp(seconds, UTC) - office.clock.now()) < timedelta(minutes=5)
