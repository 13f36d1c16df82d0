"""The straight path with real sockets: a listener, the simulator, and clients in pieces and in a hurry."""

import asyncio
import errno
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest

from senderproxy.delivery.courier import BegunAttempt
from senderproxy.delivery.direct_transaction import DirectTransaction
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.listener.server import Listener
from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.submission import Client
from senderproxy.relay.intake import Handling
from senderproxy.simulator.faults import Fault, FaultScript, FaultStage, Hold
from senderproxy.straight.message import StraightMessage
from senderproxy.straight.path import StraightPath
from senderproxy.straight.patience import PatienceSweeper
from tests.senderproxy.dkim.signing import ring, signing_key
from tests.senderproxy.listener.smtp_client import HOSTNAME, SmtpClient, settings, until
from tests.senderproxy.relay.office import RelayOffice, relay_office
from tests.senderproxy.straight.virtual_loop import run_virtually

MESSAGE = (
    b"From: Anna <anna@firma.example>\r\nTo: <bert@kunde.example>\r\nSubject: Angebot\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMessage-ID: <1@firma.example>\r\n\r\nGuten Tag\r\n..\r\n"
)
COMMANDS = (b"MAIL FROM:<anna@firma.example>\r\n", b"RCPT TO:<bert@kunde.example>\r\n", b"DATA\r\n")


class Noted:
    """A message whose end of patience is noted."""

    def __init__(self, note: Callable[[], object]) -> None:
        self._note = note

    def on_over(self) -> None:
        self._note()


@dataclass
class Straight:
    """A relay with the path, and one client whose account has a session."""

    office: RelayOffice
    listener: Listener
    path: StraightPath
    client: SmtpClient

    @property
    def finished(self) -> int:
        """Messages that took the path to its end."""
        return self.path.counts.taken - self.path.counts.handed_over

    async def begin(self) -> None:
        for command in COMMANDS:
            answer = await self.client.ask(command)
        assert answer.code == 354


@asynccontextmanager
async def straight_office(
    folder: Path, script: FaultScript | None = None, *, at: str = "office"
) -> AsyncIterator[Straight]:
    async with relay_office(folder, script=script) as office:
        path = StraightPath(office.drawer, office.courier, office.relay, office.intake, office.clock)
        listener = Listener(settings(name=at), (), HOSTNAME, office.intake, office.clock, straight=path)
        await listener.start()
        client = await SmtpClient.greeted(listener)
        try:
            assert (await client.mail(MESSAGE)).code == 250
            assert path.counts.taken == (at == "devices"), "there was no session; the queue needs none"
            yield Straight(office, listener, path, client)
        finally:
            await client.close()
            await listener.stop(5)


async def test_a_usual_message_takes_the_path_and_arrives_as_the_one_before(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        assert (await office.client.mail(MESSAGE)).code == 250
        assert office.finished == 1
        first, second = (received.content.partition(b"From: ")[2] for received in office.office.simulator.received)
        assert first == second


async def test_a_message_in_single_octets_takes_it_too(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        await office.begin()
        for octet in MESSAGE + b".\r\n":
            await office.client.send(bytes([octet]))
            await asyncio.sleep(0)
        assert (await office.client.answer()).code == 250
        assert office.finished == 1


async def test_commands_behind_a_message_wait_for_its_reply(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        await office.begin()
        await office.client.send(MESSAGE + b".\r\nNOOP\r\n" + b"".join(COMMANDS))
        codes = [(await office.client.answer()).code for _ in range(5)]
        assert codes == [250, 250, 250, 250, 354]
        assert (await office.client.ask(MESSAGE + b".\r\n")).code == 250
        assert office.finished == 2


@pytest.mark.parametrize("size", [1_000, 40_000, 63_000, 100_000])
async def test_a_message_of_any_size_arrives_whole(tmp_path: Path, size: int) -> None:
    async with straight_office(tmp_path) as office:
        body = b"x" * 78 + b"\r\n"
        assert (await office.client.mail(MESSAGE + body * (size // len(body)))).code == 250
        assert len(office.office.simulator.received[1].content) > size - 100
        assert office.finished <= (size < 60_000)
        assert office.finished or size > 30_000, "what the client's buffer holds takes the path"


async def test_switched_off_it_takes_nothing(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        office.path.is_on = False
        assert (await office.client.mail(MESSAGE)).code == 250
        assert office.path.counts.taken == 0


async def test_a_usual_message_for_the_queue_takes_the_path_and_is_delivered(tmp_path: Path) -> None:
    async with straight_office(tmp_path, at="devices") as office:
        taken = office.path.counts.taken
        answer = await office.client.mail(MESSAGE)
        assert (answer.code, office.path.counts.taken) == (250, taken + 1)
        assert "Queued for delivery" in answer.text
        await office.office.until_all_is_done()
        first, second = (received.content.partition(b"From: ")[2] for received in office.office.simulator.received)
        assert first == second


async def test_accounts_that_change_before_a_message_is_stored_decide_who_sends_it(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        path = StraightPath(office.drawer, office.courier, office.relay, office.intake, office.clock)
        way = path.of_client("devices", Client("192.168.1.20", "pc", "ESMTP"))
        assert way is not None
        header, _, body = MESSAGE.partition(b"\r\n\r\n")
        answered = asyncio.get_running_loop().create_future()
        envelope = Envelope(parse_address("anna@firma.example"), (parse_address("bert@kunde.example"),))
        assert way.take(
            envelope, header + b"\r\n\r\n", body, 100, lambda: BodyBuffer(10_000, SpillDirectory()), answered.set_result
        )
        anna, bert = office.drawer.accounts["anna"], office.drawer.accounts["bert"]
        office.drawer.accounts["anna"] = replace(anna, address=bert.address, carries=bert.carries)
        office.drawer.accounts["bert"] = replace(bert, address=anna.address, carries=anna.carries)
        assert (await answered).code == 250
        await office.until_all_is_done()
        assert [received.login for received in office.simulator.received] == ["bert@firma.example"]


async def test_a_client_that_leaves_before_its_message_is_queued_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with straight_office(tmp_path, at="devices") as office:
        await office.begin()
        await office.client.send(MESSAGE + b".\r\n")
        await until(lambda: office.listener.in_progress == 1 or office.path.counts.taken == 2)
        office.client.reset()
        await until(lambda: office.listener.in_progress == 0)
        await until(lambda: len(office.office.simulator.received) == 2)


async def test_a_stop_waits_until_a_message_is_queued(tmp_path: Path) -> None:
    async with straight_office(tmp_path, at="devices") as office:
        await office.begin()
        await office.client.send(MESSAGE + b".\r\n")
        await until(lambda: office.listener.in_progress == 1 or office.path.counts.taken == 2)
        stop = asyncio.create_task(office.listener.stop(30))
        assert (await office.client.answer()).code == 250
        await stop


async def test_another_sender_or_author_gets_its_own_account(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        for name in ("anna", "bert", "anna", "bert", "carl", "anna"):
            text = MESSAGE.replace(b"Anna <anna@", f"{name} <{name}@".encode())
            assert (await office.client.mail(text, author=f"{name}@firma.example".encode())).code == 250
        logins = [received.login for received in office.office.simulator.received]
        assert logins == [f"{name}@firma.example" for name in ("anna", "anna", "bert", "anna", "bert", "carl", "anna")]
        assert office.finished >= 3


async def test_nothing_of_a_message_or_a_connection_waits_for_a_garbage_collection(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        gc.collect()
        gc.disable()
        try:
            assert (await office.client.mail(MESSAGE)).code == 250
            assert office.finished == 1
            kinds = (StraightMessage, DirectTransaction, BegunAttempt)
            await until(lambda: not any(issubclass(type(each), kinds) for each in gc.get_objects()))
            connection = weakref.ref(office.listener._state.all_connections()[0])
            await office.client.close()
            await until(lambda: connection() is None)
        finally:
            gc.enable()


async def test_a_client_that_resets_its_connection_leaves_nothing_in_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with straight_office(tmp_path) as office:
        await office.begin()
        await office.client.send(MESSAGE + b".\r\n")
        office.client.reset()
        await until(lambda: len(office.office.simulator.received) == 2 or "cut" in caplog.text)
        await until(lambda: office.listener.in_progress == 0)


async def test_a_stop_waits_for_the_message(tmp_path: Path) -> None:
    async with straight_office(tmp_path) as office:
        await office.begin()
        await office.client.send(MESSAGE + b".\r\n")
        await until(lambda: office.listener.in_progress == 1 or office.finished == 1)
        stop = asyncio.create_task(office.listener.stop(30))
        assert (await office.client.answer()).code == 250
        await stop
        assert office.listener.in_progress == 0


async def test_a_message_on_its_way_is_not_signed_by_a_key_that_came_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    released = asyncio.Event()
    script = FaultScript(Fault(FaultStage.DOT, Hold(released), after=1))
    async with straight_office(tmp_path, script) as office:
        office.office.intake.handling = {"office": Handling(timeout=0.2)}  # the first message may take longer
        await office.begin()
        await office.client.send(MESSAGE + b".\r\n")
        await until(lambda: office.path.counts.taken == 1)
        office.office.relay.dkim.ring = ring(signing_key())
        monkeypatch.setattr(office.office.relay.dkim, "signed", full)
        assert (await office.client.answer()).code == 250  # queued: the client has waited long enough
        assert office.path.counts.handed_over == 1
        released.set()
        await office.office.until_all_is_done()
        assert office.office.taken() == ["Angebot", "Angebot"]


def test_limits_of_time_end_in_their_order_with_one_timer() -> None:
    async def run() -> list[tuple[str, float]]:
        loop, sweeper, over = asyncio.get_running_loop(), PatienceSweeper(), list[tuple[str, float]]()
        start = loop.time()
        messages = {name: Noted(lambda name=name: over.append((name, round(loop.time() - start, 3)))) for name in "abc"}  # type: ignore[misc]
        for name, seconds in (("a", 5), ("b", 2), ("c", 3)):
            sweeper.add(messages[name], seconds)
        sweeper.remove(messages["c"])
        await asyncio.sleep(4)
        sweeper.add(messages["c"], 4)
        await asyncio.sleep(10)
        return over

    assert run_virtually(run()) == [("b", 2.0), ("a", 5.0), ("c", 8.0)]
